//! A message on its way over a connection.

use inrush_log::{Envelope, prepended};
use inrush_proto::client::{Extensions, MailParameters, UnsafeArgument, write_mail, write_recipient};

use crate::content::{Needs, chosen};
use crate::destination::Job;
use crate::dsn::{Notify, Return, write_mail_parameters, write_rcpt_parameters};
use crate::failure::Verdict;
use crate::settle::Attempt;

/// A message on its way.
pub(super) struct Flight {
    pub(super) job: Job,
    /// The next host is asked if this one has nothing of it.
    pub(super) goes_on: bool,
    /// Its transaction in the session; 0 = not begun.
    pub(super) number: u64,
    /// One for each recipient of the job, as far as there are verdicts.
    pub(super) verdicts: Vec<Option<Verdict>>,
    pub(super) needs: Needs,
    pub(super) lines: Lines,
    pub(super) sent_at_us: u64,
    /// Recipients that the host has taken.
    pub(super) accepted: u32,
    /// All of the mail data has left.
    pub(super) whole: bool,
}

/// A message of which a host has nothing for the moment, and what it has said.
pub(super) struct Left {
    pub(super) job: Job,
    pub(super) attempt: Attempt,
    pub(super) verdicts: Vec<(u32, Verdict)>,
}

impl Flight {
    /// Whether the host may have the message although it has not said so (RFC 1047).
    pub(super) fn may_have_arrived(&self) -> bool {
        self.whole && self.accepted > 0
    }

    /// Whether each recipient has a verdict.
    pub(super) fn is_settled(&self) -> bool {
        self.verdicts.iter().all(Option::is_some)
    }

    /// Gives all recipients without a verdict this one.
    pub(super) fn settle_rest(&mut self, verdict: &Verdict) {
        for of in self.verdicts.iter_mut().filter(|of| of.is_none()) {
            *of = Some(verdict.clone());
        }
    }
}

/// What is written for a message besides its body. An envelope is checked as a whole each time that it is looked at, so it is read once, for all
/// commands.
pub(super) struct Lines {
    /// What stands in front of the body, then MAIL and RCPT for each recipient.
    octets: Vec<u8>,
    head_octets: usize,
    /// Where the next command begins.
    next: usize,
}

impl Lines {
    /// Without commands as yet.
    pub(super) fn new(job: &Job, envelope: &Envelope<'_>) -> Self {
        let mut octets = Vec::with_capacity(1024);
        prepended(envelope, job.message.id, job.message.header.accepted_at_us, &mut octets);
        Self { head_octets: octets.len(), next: octets.len(), octets }
    }

    /// What stands in front of the body; it ends in a line end, and none of its lines begins with a dot.
    pub(super) fn head(&self) -> &[u8] {
        &self.octets[..self.head_octets]
    }

    /// MAIL, at the next calls RCPT for each recipient.
    pub(super) fn next_command(&mut self) -> &[u8] {
        let rest = &self.octets[self.next..];
        let octets = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
        self.next += octets;
        &rest[..octets]
    }

    /// Writes the commands for a host with these extensions.
    ///
    /// # Errors
    /// A path was not checked when it came in: it would be ours.
    pub(super) fn write_commands(
        &mut self,
        job: &Job,
        envelope: &Envelope<'_>,
        needs: &Needs,
        extensions: &Extensions,
    ) -> Result<(), UnsafeArgument> {
        let mut more = Vec::new();
        if extensions.dsn && envelope.protocol() != inrush_log::Protocol::Internal {
            let ret = match envelope.ret() {
                inrush_log::Ret::Unspecified => Return::Unspecified,
                inrush_log::Ret::Full => Return::Full,
                inrush_log::Ret::Headers => Return::Headers,
            };
            write_mail_parameters(&mut more, ret, envelope.envid());
        }
        let parameters = MailParameters {
            size: extensions.size.then_some(needs.octets),
            body: needs.body_parameter(),
            smtp_utf8: needs.utf8,
            require_tls: needs.require_tls,
            more: &more,
        };
        write_mail(&mut self.octets, envelope.reverse_path(), &parameters)?;
        for recipient in chosen(envelope, &job.recipients) {
            more.clear();
            if extensions.dsn {
                let notify = Notify::from_bits(recipient.notify);
                write_rcpt_parameters(&mut more, notify, recipient.orcpt, needs.utf8);
            }
            write_recipient(&mut self.octets, recipient.path, &more)?;
        }
        Ok(())
    }
}
