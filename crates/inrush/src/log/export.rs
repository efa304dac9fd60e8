//! Messages out of the log: the trace header, then the mail data as it was sent.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context as _, anyhow, bail};
use inrush_log::{MessageId, ReadError, prepended};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::increment::Increment;
use super::mail::{Mail, Messages, Refused, Taken};
use super::mbox::Mbox;
use super::ndjson::Ndjson;
use super::target::{Folder, Partial, Stream, standard_output};
use super::{Opened, code, logs_octets, open};
use crate::cli::{CursorOptions, DataDir, ExportFormat, Filter};
use crate::output;

/// Writes one message to standard output.
pub(super) fn cat(data: &DataDir, id: MessageId, trace: bool) -> anyhow::Result<ExitCode> {
    let mut opened = open(data)?;
    let filter = Filter { id: vec![id], ..Filter::default() };
    let mut messages = Messages::new(&mut opened.readers, &filter).and(opened.copies.as_mut());
    messages.each(
        |_| {},
        |mail| {
            mail.check_body()?;
            let mut out = standard_output()?;
            if trace {
                write_trace(mail, &mut out)?;
            }
            mail.read_body(|part| out.write_all(part))?;
            Ok(out.flush()?)
        },
    )?;
    Ok(code(messages.bad()))
}

/// Writes all messages that the filter lets through, or those that a consumer has not had.
pub(super) fn run(
    data: &DataDir,
    format: ExportFormat,
    to: Option<&Path>,
    filter: &Filter,
    cursor: &CursorOptions,
) -> anyhow::Result<ExitCode> {
    let consumer = cursor.consumer();
    if consumer.is_some() && to == Some(Path::new("-")) {
        output::complain(&anyhow!(
            "--cursor: not to standard output: nobody knows whether its reader has it"
        ));
        return Ok(ExitCode::from(2));
    }
    let Opened { mut readers, mut copies, left_out } = open(data)?;
    let interrupted = Arc::new(AtomicBool::new(false));
    // What is half written is removed before the end, from the first octet on.
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted)).context("signal handler")?;
    }
    let mut target = Target::open(format, to)?;
    if let (Some(_), Some(to), false) = (&consumer, to, target.is_durable()) {
        bail!("{}: --cursor needs a file: nobody knows whether anything else is durable", to.display());
    }
    let increment = consumer
        .as_ref()
        .map(|consumer| Increment::open(&data.data_dir, &mut readers, consumer))
        .transpose()?;
    if increment.is_some() {
        if readers.is_empty() {
            bail!("--cursor: the retry log holds copies of what has been in an arrival log before");
        }
        // They came with the arrival log that they are of.
        copies = None;
    }
    let octets = increment.as_ref().map_or_else(|| logs_octets(&readers), |one| one.octets(&readers));
    let bar = output::progress(octets);
    let stops_at_damage = increment.is_some() && !cursor.skip_damaged;
    let mut messages = Messages::new(&mut readers, filter)
        .and(copies.as_mut())
        .until(interrupted)
        .stopping_at_damage(stops_at_damage);
    messages.each(|octets| bar.inc(octets), |mail| target.write(mail))?;
    let (bad, reached) = (messages.bad(), messages.reached);
    // Only what is durable at the target may go from the log.
    target.finish()?;
    if let Some(increment) = increment {
        increment.save(&reached)?;
        if bad > 0 && stops_at_damage {
            output::complain(&anyhow!(
                "the cursor stays before what does not hold, and so does the export; --skip-damaged goes on"
            ));
        }
    }
    bar.finish_and_clear();
    Ok(code(bad + left_out))
}

/// Where the messages go, in one of the forms.
enum Target {
    Eml(Folder),
    Mbox(Mbox<Stream>),
    Ndjson(Ndjson<Stream>),
}

impl Target {
    fn open(format: ExportFormat, to: Option<&Path>) -> anyhow::Result<Self> {
        let stream = || Stream::open(to.unwrap_or(Path::new("-")));
        Ok(match (format, to) {
            (ExportFormat::Eml, Some(to)) => Self::Eml(Folder::open(to)?),
            // The command line asks for it.
            (ExportFormat::Eml, None) => bail!("--to names the directory for the files"),
            (ExportFormat::Mbox, _) => Self::Mbox(Mbox::new(stream()?)),
            (ExportFormat::Ndjson, _) => Self::Ndjson(Ndjson::new(stream()?)),
        })
    }

    /// Whether everything is durable once it is finished.
    fn is_durable(&self) -> bool {
        match self {
            Self::Eml(_) => true,
            Self::Mbox(mbox) => mbox.get_ref().is_file(),
            Self::Ndjson(ndjson) => ndjson.get_ref().is_file(),
        }
    }

    fn write(&mut self, mail: &mut Mail<'_>) -> Taken {
        match self {
            Self::Eml(folder) => write_file(mail, folder),
            Self::Mbox(mbox) => {
                mail.check_body()?;
                mbox.begin(mail)?;
                mbox.write(&trace(mail))?;
                mail.read_body(|part| mbox.write(part)).map_err(|error| half_written(&error))?;
                Ok(mbox.end()?)
            }
            Self::Ndjson(ndjson) => {
                mail.check_body()?;
                ndjson.write(mail).map_err(|error| half_written(&error))
            }
        }
    }

    /// Makes it durable, where that can be.
    fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Eml(folder) => folder.sync(),
            Self::Mbox(mbox) => mbox.into_inner().finish(),
            Self::Ndjson(ndjson) => ndjson.into_inner().finish(),
        }
    }
}

/// The body was there when it was checked, and half of it is written: nothing may follow that.
fn half_written(error: &ReadError) -> Refused {
    Refused::Fatal(anyhow!("{error}; it went while it was being written"))
}

/// A file appears under its name when it is whole. One that is there already has to hold the same, and the new one takes its place: the other may never become
/// durable, where a sync of it has failed.
fn write_file(mail: &mut Mail<'_>, to: &Folder) -> Taken {
    let path = to.join(&format!("{}.eml", mail.id));
    let place = || path.display().to_string();
    let mut partial = Partial::create(&path).with_context(place)?;
    write_trace(mail, &mut partial).with_context(place)?;
    // Damage of a part is the message's fault, everything else that of the file.
    mail.read_body(|part| {
        partial.write_all(part).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", place())))
    })?;
    if !partial.name(&path).with_context(place)? {
        if !partial.is_same_as(&path).with_context(place)? {
            let error =
                anyhow!("{}: exists already and holds something else; it is not overwritten", place());
            return Err(Refused::Fatal(error));
        }
        partial.replace(&path).with_context(place)?;
    }
    Ok(())
}

fn trace(mail: &Mail<'_>) -> Vec<u8> {
    let mut header = Vec::with_capacity(512);
    prepended(&mail.envelope, mail.id, mail.header.accepted_at_us, &mut header);
    header
}

fn write_trace(mail: &Mail<'_>, out: &mut impl Write) -> io::Result<()> {
    out.write_all(&trace(mail))
}
