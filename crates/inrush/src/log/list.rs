//! One line for each message.

use std::io::Write as _;
use std::process::ExitCode;

use serde::Serialize;

use super::mail::{Mail, Messages};
use super::target::standard_output;
use super::{code, open, time};
use crate::cli::{DataDir, Filter};
use crate::output::printable;

/// Recipients shown on a line for people; the number of all of them follows.
const RECIPIENTS_SHOWN: usize = 3;

/// A message as JSON. Field names and meanings stay as they are; new ones may come.
#[derive(Serialize)]
struct Line {
    id: String,
    accepted_at: String,
    octets: u64,
    from: String,
    to: Vec<String>,
    client: Option<String>,
    helo: String,
    listener: String,
}

impl Line {
    fn new(mail: &Mail<'_>) -> Self {
        let envelope = &mail.envelope;
        Self {
            id: mail.id.to_string(),
            accepted_at: time::rfc3339(mail.header.accepted_at_us),
            octets: mail.body_octets(),
            from: printable(envelope.reverse_path()),
            to: envelope.recipients().map(|recipient| printable(recipient.path)).collect(),
            client: envelope.peer().map(|peer| peer.to_string()),
            helo: printable(envelope.helo()),
            listener: printable(envelope.listener()),
        }
    }

    fn text(&self) -> String {
        let more = self.to.len().saturating_sub(RECIPIENTS_SHOWN);
        let mut to: Vec<String> = self.to.iter().take(RECIPIENTS_SHOWN).map(|to| format!("<{to}>")).collect();
        if more > 0 {
            to.push(format!("and {more} more"));
        }
        let Self { id, accepted_at, octets, from, .. } = self;
        format!("{id} {accepted_at} {octets:>9} from=<{from}> to={}", to.join(","))
    }
}

/// Lists the messages that the filter lets through.
pub(super) fn run(data: &DataDir, filter: &Filter, json: bool) -> anyhow::Result<ExitCode> {
    let mut opened = open(data)?;
    let mut out = standard_output()?;
    let mut messages = Messages::new(&mut opened.readers, filter).and(opened.copies.as_mut());
    messages.each(
        |_| {},
        |mail| {
            let line = Line::new(mail);
            if json {
                serde_json::to_writer(&mut out, &line)?;
                out.write_all(b"\n")?;
            } else {
                writeln!(out, "{}", line.text())?;
            }
            Ok(())
        },
    )?;
    out.flush()?;
    Ok(code(messages.bad() + opened.left_out))
}
