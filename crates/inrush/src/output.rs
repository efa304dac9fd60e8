//! What people see on standard output and standard error.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use inrush_log::ReadError;
use serde::Serialize;

/// Prints the version.
pub(crate) fn version(json: bool) -> anyhow::Result<ExitCode> {
    if json {
        let facts =
            serde_json::json!({ "name": "inrush", "version": crate::VERSION, "revision": crate::REVISION });
        line(&facts.to_string())?;
    } else {
        line(&format!("inrush {} ({})", crate::VERSION, crate::REVISION))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One line on standard output.
pub(crate) fn line(text: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// One JSON object on standard output.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, value)?;
    out.write_all(b"\n")?;
    Ok(())
}

/// The error with its causes, in one line on standard error.
pub(crate) fn complain(error: &anyhow::Error) {
    // Nobody may be there to read it.
    let _ = io::stderr().lock().write_all(format!("inrush: {error:#}\n").as_bytes());
}

/// Whether the reader of our standard output is gone.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
            || cause
                .downcast_ref::<serde_json::Error>()
                .is_some_and(|error| error.io_error_kind() == Some(io::ErrorKind::BrokenPipe))
            || matches!(
                cause.downcast_ref(),
                Some(ReadError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe
            )
    })
}

/// A progress bar over octets on a terminal; nothing elsewhere.
pub(crate) fn progress(octets: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(octets);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
    {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Text of a remote host as a person may see it: control characters, quotes and broken UTF-8 are escaped.
pub(crate) fn printable(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets)
        .chars()
        .flat_map(|c| {
            if c.is_control() || c == '\u{202e}' { c.escape_unicode().collect::<Vec<_>>() } else { vec![c] }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remote_text_cannot_steer_the_terminal() {
        assert_eq!(printable(b"a\x1b[2J\r\nb"), "a\\u{1b}[2J\\u{d}\\u{a}b");
        assert_eq!(printable("jörg".as_bytes()), "jörg");
        assert_eq!(printable(b"\xff"), "\u{fffd}");
    }
}
