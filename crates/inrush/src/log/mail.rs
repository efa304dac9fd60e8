//! The messages of all logs, one after the other, as far as the filter lets them through.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, anyhow, bail};
use inrush_log::{
    Entry, Envelope, EnvelopeError, Lsn, Message, MessageId, ReadError, Reader, RecordFlags, RecordHeader,
    RecordKind,
};

use super::copies::{self, Copies};
use crate::cli::Filter;
use crate::output;

/// A message whose checksums hold.
pub(super) struct Mail<'a> {
    pub(super) id: MessageId,
    pub(super) header: RecordHeader,
    pub(super) envelope: Envelope<'a>,
    own_body: &'a [u8],
    /// Where the parts of a large body are.
    parts: Option<(&'a mut Reader, &'a Message)>,
}

impl<'a> Mail<'a> {
    /// A message that was looked up by its id.
    pub(super) fn new(reader: &'a mut Reader, message: &'a Message) -> Result<Self, EnvelopeError> {
        let parts = message.header.flags.has(RecordFlags::CHUNKED).then_some((reader, message));
        let (envelope, own_body) = (message.envelope()?, message.own_body());
        Ok(Self { id: message.id, header: message.header, envelope, own_body, parts })
    }

    /// Octets of the whole body.
    pub(super) fn body_octets(&self) -> u64 {
        let chunks: u64 = self.envelope.chunks().map(|chunk| u64::from(chunk.octets)).sum();
        chunks + u64::from(self.header.body_octets)
    }

    /// Hands out the body in order. A part that does not hold ends it: what came before is right, but not all.
    pub(super) fn read_body(
        &mut self,
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), ReadError> {
        match &mut self.parts {
            None => Ok(take(self.own_body)?),
            Some((reader, message)) => reader.read_body(message, take).map(drop),
        }
    }

    /// Reads a body in several parts to its end, so that nothing of it is written when one of them is missing.
    pub(super) fn check_body(&mut self) -> Result<(), ReadError> {
        match &self.parts {
            None => Ok(()),
            Some(_) => self.read_body(|_| Ok(())),
        }
    }
}

/// What a command does with a message. `Err(ReadError::Damaged)` is said and passed over, any other error ends the command.
pub(super) type Taken = Result<(), Refused>;

/// Why a message was not taken.
pub(super) enum Refused {
    /// It is damaged.
    Damaged(ReadError),
    /// It was retired while it was read.
    Gone(ReadError),
    /// Nothing further can be done.
    Fatal(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Refused {
    fn from(error: E) -> Self {
        let error: anyhow::Error = error.into();
        match error.downcast::<ReadError>() {
            Ok(error @ ReadError::Damaged(_)) => Self::Damaged(error),
            Ok(error @ ReadError::NotFound(_)) => Self::Gone(error),
            Ok(error) => Self::Fatal(error.into()),
            Err(error) => Self::Fatal(error),
        }
    }
}

/// A command that goes through messages.
pub(super) struct Messages<'a> {
    readers: &'a mut [Reader],
    copies: Option<&'a mut Copies>,
    walker: Walker<'a>,
    /// How far each log was gone through; empty when messages were looked up by their ids.
    pub(super) reached: Vec<Lsn>,
}

impl<'a> Messages<'a> {
    pub(super) fn new(readers: &'a mut [Reader], filter: &'a Filter) -> Self {
        let walker = Walker { filter, interrupted: None, stops_at_damage: false, bad: 0 };
        Self { readers, copies: None, walker, reached: Vec::new() }
    }

    /// Also those that only have a copy.
    pub(super) fn and(mut self, copies: Option<&'a mut Copies>) -> Self {
        self.copies = copies;
        self
    }

    /// Ends with an error once the flag is set.
    pub(super) fn until(mut self, interrupted: Arc<AtomicBool>) -> Self {
        self.walker.interrupted = Some(interrupted);
        self
    }

    /// Goes on with the next log when something does not hold, so that what was reached is below it.
    pub(super) fn stopping_at_damage(mut self, stops: bool) -> Self {
        self.walker.stops_at_damage = stops;
        self
    }

    /// What could not be handed out.
    pub(super) fn bad(&self) -> u64 {
        self.walker.bad
    }

    /// Calls `take` for each message, in the order of each log; `passed` hears how many octets of the log were gone through. Damage is said on standard
    /// error, counted and passed over.
    pub(super) fn each(
        &mut self,
        mut passed: impl FnMut(u64),
        mut take: impl FnMut(&mut Mail<'_>) -> Taken,
    ) -> anyhow::Result<()> {
        if !self.walker.filter.id.is_empty() {
            return self.walker.filter.id.iter().try_for_each(|&id| self.look_up(id, &mut take));
        }
        for reader in self.readers.iter_mut() {
            let reached = self.walker.walk(reader, |_, _| true, &mut passed, &mut take)?;
            self.reached.push(reached);
        }
        if let Some(copies) = &mut self.copies {
            copies.look().context("the retry log cannot be read")?;
            let (reader, last) = copies.parts();
            let counts = |header: &RecordHeader, id| copies::counts(header, id, last, self.readers);
            self.walker.walk(reader, counts, &mut passed, &mut take)?;
        }
        Ok(())
    }

    /// One message, where it was accepted or as a copy.
    fn look_up(
        &mut self,
        id: MessageId,
        take: &mut impl FnMut(&mut Mail<'_>) -> Taken,
    ) -> anyhow::Result<()> {
        self.walker.check_interrupted()?;
        let mut arrival = self.readers.iter_mut().find(|reader| copies::is_of(reader, id));
        let mut found = arrival.as_mut().map(|reader| reader.message(id));
        if !matches!(found, Some(Ok(_)))
            && let Some(copies) = &mut self.copies
        {
            match copies.message(id) {
                // Nothing better than what its own log says.
                Err(ReadError::NotFound(_)) if found.is_some() => {}
                copy => {
                    found = Some(copy);
                    arrival = Some(&mut copies.reader);
                }
            }
        }
        let (Some(reader), Some(found)) = (arrival, found) else {
            bail!("{id}: no log that is looked at has this id");
        };
        let log = reader.name().to_owned();
        let taken = match found {
            Ok(message) => {
                look(self.walker.filter, reader, &message, take).map_err(|refused| match refused {
                    // It was asked for by name.
                    Refused::Gone(error) => Refused::Damaged(error),
                    refused => refused,
                })
            }
            Err(ReadError::Io(error)) => return Err(error).with_context(|| format!("log {log}")),
            Err(error) => Err(Refused::Damaged(error)),
        };
        note(&mut self.walker.bad, &log, taken).map(drop)
    }
}

/// Goes through logs.
struct Walker<'a> {
    filter: &'a Filter,
    /// Set when somebody wants the command to end.
    interrupted: Option<Arc<AtomicBool>>,
    /// Whether a log is left at the first thing in it that does not hold.
    stops_at_damage: bool,
    /// What could not be handed out.
    bad: u64,
}

impl Walker<'_> {
    /// Goes through one log, of whose messages those are looked at that `counts`, to the position that is returned.
    fn walk(
        &mut self,
        reader: &mut Reader,
        mut counts: impl FnMut(&RecordHeader, MessageId) -> bool,
        passed: &mut impl FnMut(u64),
        take: &mut impl FnMut(&mut Mail<'_>) -> Taken,
    ) -> anyhow::Result<Lsn> {
        let times = self.filter.times();
        reader.set_times(times.clone());
        let log = reader.name().to_owned();
        let node = reader.identity().node;
        loop {
            self.check_interrupted()?;
            let before = reader.position();
            let entry = reader.next().with_context(|| format!("log {log} cannot be read"))?;
            let record = match entry {
                None => return Ok(reader.position()),
                Some(Entry::Record(record)) => record,
                Some(Entry::Bad(bad)) => {
                    self.bad += 1;
                    passed(bad.octets);
                    output::complain(&anyhow!("log {log}: {bad}"));
                    if self.stops_at_damage {
                        return Ok(before);
                    }
                    continue;
                }
            };
            let header = record.header;
            passed(header.octets());
            let wanted = header.kind == RecordKind::Message && times.contains(&header.accepted_at_us);
            if !wanted || !counts(&header, MessageId::unpack(node, header.message_id)) {
                continue;
            }
            let taken = match record.read_envelope() {
                Err(error) => {
                    self.bad += 1;
                    output::complain(&anyhow!("log {log}: {}: {error}", record.id));
                    if self.stops_at_damage {
                        return Ok(before);
                    }
                    continue;
                }
                Ok(envelope) if !self.filter.passes(&envelope) => continue,
                // The parts are read through the same reader, so the record has to be kept.
                Ok(_) if header.flags.has(RecordFlags::CHUNKED) => {
                    let message = Message::from_record(&record);
                    look(self.filter, reader, &message, take)
                }
                Ok(envelope) => {
                    let id = MessageId::unpack(node, header.message_id);
                    take(&mut Mail { id, header, envelope, own_body: record.body, parts: None })
                }
            };
            if note(&mut self.bad, &log, taken)? && self.stops_at_damage {
                return Ok(before);
            }
        }
    }

    fn check_interrupted(&self) -> anyhow::Result<()> {
        if self.interrupted.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed)) {
            bail!("interrupted");
        }
        Ok(())
    }
}

/// Hands a message that was kept to `take`, if it passes.
fn look(
    filter: &Filter,
    reader: &mut Reader,
    message: &Message,
    take: &mut impl FnMut(&mut Mail<'_>) -> Taken,
) -> Taken {
    let mut mail = Mail::new(reader, message)?;
    if !filter.times().contains(&mail.header.accepted_at_us) || !filter.passes(&mail.envelope) {
        return Ok(());
    }
    take(&mut mail)
}

/// Says and counts damage; whether there was any.
fn note(bad: &mut u64, log: &str, taken: Taken) -> anyhow::Result<bool> {
    match taken {
        Ok(()) | Err(Refused::Gone(_)) => Ok(false),
        Err(Refused::Damaged(error)) => {
            *bad += 1;
            output::complain(&anyhow!("log {log}: {error}"));
            Ok(true)
        }
        Err(Refused::Fatal(error)) => Err(error),
    }
}
