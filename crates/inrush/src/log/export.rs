//! Messages out of the log: the trace header, then the mail data as it was sent.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context as _, bail};
use inrush_log::{MessageId, received};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::mail::{Mail, Messages, Taken};
use super::mbox::Mbox;
use super::target::{Partial, Stream, standard_output, sync_files};
use super::{code, logs_octets, ndjson, open};
use crate::cli::{DataDir, ExportFormat, Filter};
use crate::output;

/// Writes one message to standard output.
pub(super) fn cat(data: &DataDir, id: MessageId, trace: bool) -> anyhow::Result<ExitCode> {
    let mut readers = open(data)?;
    let mine = |reader: &&mut inrush_log::Reader| {
        (reader.identity().node, reader.identity().log) == (id.node, id.log)
    };
    let Some(reader) = readers.iter_mut().find(mine) else {
        bail!("{id}: no log of this data directory has this id");
    };
    let message = reader.message(id)?;
    let mut mail = Mail::new(reader, &message)?;
    mail.check_body()?;
    let mut out = standard_output()?;
    if trace {
        write_trace(&mail, &mut out)?;
    }
    mail.read_body(|part| out.write_all(part))?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Writes all messages that the filter lets through.
pub(super) fn run(
    data: &DataDir,
    format: ExportFormat,
    to: Option<&Path>,
    filter: &Filter,
) -> anyhow::Result<ExitCode> {
    let mut readers = open(data)?;
    let interrupted = Arc::new(AtomicBool::new(false));
    // What is half written is removed before the end.
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted)).context("signal handler")?;
    }
    let bar = output::progress(logs_octets(&readers));
    let mut messages = Messages::new(&mut readers, filter).until(interrupted);
    let passed = |octets| bar.inc(octets);
    match (format, to) {
        (ExportFormat::Eml, Some(to)) => {
            fs::create_dir_all(to).with_context(|| format!("{}: cannot be made", to.display()))?;
            messages.each(passed, |mail| write_file(mail, to))?;
            sync_files(to)?;
        }
        // The command line asks for it.
        (ExportFormat::Eml, None) => bail!("--to names the directory for the files"),
        (ExportFormat::Mbox, to) => {
            let mut mbox = Mbox::new(Stream::open(to.unwrap_or(Path::new("-")))?);
            messages.each(passed, |mail| {
                mail.check_body()?;
                mbox.begin(mail)?;
                mbox.write(&trace(mail))?;
                mail.read_body(|part| mbox.write(part))?;
                Ok(mbox.end()?)
            })?;
            mbox.into_inner().finish()?;
        }
        (ExportFormat::Ndjson, to) => {
            let mut out = Stream::open(to.unwrap_or(Path::new("-")))?;
            messages.each(passed, |mail| {
                mail.check_body()?;
                Ok(ndjson::write(mail, &mut out)?)
            })?;
            out.finish()?;
        }
    }
    let bad = messages.bad;
    bar.finish_and_clear();
    Ok(code(bad))
}

/// A file appears under its name when it is whole. One that is there already stays: the same message is the same file.
fn write_file(mail: &mut Mail<'_>, to: &Path) -> Taken {
    let path = to.join(format!("{}.eml", mail.id));
    let place = || path.display().to_string();
    let mut partial = Partial::create(&path).with_context(place)?;
    write_trace(mail, &mut partial).with_context(place)?;
    // Damage of a part is the message's fault, everything else that of the file.
    mail.read_body(|part| {
        partial.write_all(part).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", place())))
    })?;
    if !partial.name(&path).with_context(place)? && !partial.is_same_as(&path).with_context(place)? {
        let error =
            anyhow::anyhow!("{}: exists already and holds something else; it is not overwritten", place());
        return Err(super::mail::Refused::Fatal(error));
    }
    Ok(())
}

fn trace(mail: &Mail<'_>) -> Vec<u8> {
    let mut header = Vec::with_capacity(512);
    received(&mail.envelope, mail.id, mail.header.accepted_at_us, &mut header);
    header
}

fn write_trace(mail: &Mail<'_>, out: &mut impl Write) -> io::Result<()> {
    out.write_all(&trace(mail))
}
