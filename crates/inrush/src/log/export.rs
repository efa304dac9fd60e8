//! Messages out of the log: the trace header, then the mail data as it was sent.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use inrush_log::{Message, MessageId, Reader, received};

use super::{code, each_message, open};
use crate::cli::{DataDir, Filter};
use crate::output;

/// Octets gathered before they are written.
const BUFFER_OCTETS: usize = 256 * 1024;

/// Writes one message to standard output.
pub(super) fn cat(data: &DataDir, id: MessageId, trace: bool) -> anyhow::Result<ExitCode> {
    let mut readers = open(data)?;
    let log = readers
        .iter_mut()
        .find(|reader| (reader.identity().node, reader.identity().log) == (id.node, id.log));
    let Some(reader) = log else { bail!("{id}: no log of this data directory has this id") };
    let message = reader.message(id)?;
    let mut out = BufWriter::with_capacity(BUFFER_OCTETS, io::stdout().lock());
    write_message(reader, &message, trace, &mut out)?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Writes each message to a file of its own.
pub(super) fn run(data: &DataDir, to: &Path, filter: &Filter) -> anyhow::Result<ExitCode> {
    let mut readers = open(data)?;
    fs::create_dir_all(to).with_context(|| format!("{}: cannot be made", to.display()))?;
    let bar = output::progress(readers.iter().map(Reader::octets).sum());
    let bad = each_message(&mut readers, filter, |reader, message| {
        write_file(reader, message, to)?;
        bar.inc(message.header.octets());
        Ok(())
    })?;
    bar.finish_and_clear();
    Ok(code(bad))
}

/// A file appears under its name when it is whole: an export that was cut short leaves no half message.
fn write_file(reader: &mut Reader, message: &Message, to: &Path) -> anyhow::Result<()> {
    let path = to.join(format!("{}.eml", message.id));
    let partial = to.join(format!("{}.partial", message.id));
    let write = |reader: &mut Reader| -> anyhow::Result<()> {
        let mut out = BufWriter::with_capacity(BUFFER_OCTETS, File::create(&partial)?);
        write_message(reader, message, true, &mut out)?;
        out.flush()?;
        fs::rename(&partial, &path)?;
        Ok(())
    };
    write(reader).with_context(|| {
        let _ = fs::remove_file(&partial);
        path.display().to_string()
    })
}

fn write_message(
    reader: &mut Reader,
    message: &Message,
    trace: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    if trace {
        let mut header = Vec::with_capacity(512);
        received(&message.envelope()?, message.id, message.header.accepted_at_us, &mut header);
        out.write_all(&header)?;
    }
    reader.read_body(message, |part| out.write_all(part))?;
    Ok(())
}
