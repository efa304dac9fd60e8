//! Message after message over a connection that stands: what is sent when, and what the replies mean.

use std::rc::Rc;
use std::time::Duration;

use inrush_proto::client::{Command, Event, Severity, Transfer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};

use super::connection::{Connection, Lost, broken, refusal};
use super::flight::{Flight, Left, Lines};
use crate::content::{Needs, is_ascii};
use crate::destination::{Job, Next};
use crate::failure::Verdict;
use crate::settle::{Attempt, shown};
use crate::shared::now_us;

/// Messages on their way on one connection.
const FLIGHTS_MAX: usize = 2;
/// How long the reply to QUIT is waited for.
const QUIT_PATIENCE: Duration = Duration::from_secs(2);

impl Connection<'_> {
    /// Message after message, until there is none or the connection ends; why it was lost, if it was.
    pub(super) async fn run(&mut self, first: Job) -> Option<Verdict> {
        let (verdict, may_have_arrived) = match self.converse(first).await {
            Ok(()) | Err(Lost::Closed) => (None, false),
            Err(Lost::Refused(verdict)) => (Some(verdict), false),
            Err(Lost::Broken(verdict)) => (Some(verdict), true),
        };
        // The last one first, so that those that are given back keep their order.
        while let Some(mut flight) = self.flights.pop_back() {
            let may_have_arrived = may_have_arrived && flight.may_have_arrived();
            flight.goes_on &= !may_have_arrived;
            if !may_have_arrived && !flight.goes_on && !flight.is_settled() && self.may_give_back() {
                self.destination.push_front(flight.job);
            } else {
                self.land(flight, verdict.as_ref());
            }
        }
        verdict
    }

    /// Whether a message of which the host has nothing may wait for another connection, without an attempt that has failed. Something else has
    /// to have gone on, or to go on: else it would come back for ever.
    fn may_give_back(&self) -> bool {
        // Those ahead of it are not given back for that alone.
        self.was_of_use || !self.flights.is_empty() || self.destination.has_others()
    }

    async fn converse(&mut self, first: Job) -> Result<(), Lost> {
        let mut next = Some(first);
        loop {
            self.fill(&mut next).await?;
            if self.flights.is_empty() {
                match next.take() {
                    Some(job) => self.destination.push_front(job),
                    None => {
                        if !self.session.can_begin() {
                            return self.quit().await;
                        }
                        next = self.wait_for_job().await;
                        if next.is_none() {
                            return self.quit().await;
                        }
                        continue;
                    }
                }
                return self.quit().await;
            }
            self.receive(self.patience()).await?;
            self.answers()?;
        }
    }

    /// Writes down everything that may be sent now.
    async fn fill(&mut self, next: &mut Option<Job>) -> Result<(), Lost> {
        loop {
            self.write_steps().await?;
            let ahead = if self.shared.memory.lets_run_ahead() { FLIGHTS_MAX } else { 1 };
            if !self.session.can_begin() || self.flights.len() >= ahead || self.is_used_up() {
                return Ok(());
            }
            let job = match next.take() {
                Some(job) => job,
                None => match self.destination.next() {
                    Next::Job(job) => *job,
                    Next::Nothing => return Ok(()),
                    Next::Entry(slot) => match self.shared.fetch(slot).await {
                        Some(job) => job,
                        None => continue,
                    },
                },
            };
            match self.within_limits(job) {
                Some(job) => self.begin(job).await,
                None => return Ok(()),
            }
        }
    }

    /// What of a message may go in one transaction here (RFC 9422); the rest is put back. `None` when nothing may on this connection.
    fn within_limits(&mut self, mut job: Job) -> Option<Job> {
        let extensions = self.session.extensions();
        let (recipients_max, domains_max) = (extensions.recipients_max, extensions.recipient_domains_max);
        let mut rest = Vec::new();
        if let Some(max) = domains_max {
            rest = job.take_domains(&mut self.domains, max as usize);
        }
        if let Some(max) = recipients_max.filter(|max| job.recipients.len() > *max as usize) {
            rest.splice(..0, job.recipients.split_off(max as usize));
        }
        if rest.is_empty() {
            return Some(job);
        }
        rest.sort_unstable();
        if job.recipients.is_empty() {
            self.is_full = true;
            self.destination.push_front(job.part(rest, self.shared.charge(&job.message)));
            return None;
        }
        self.destination.push_front(job.part(rest, self.shared.charge(&job.message)));
        Some(job)
    }

    /// No further message may begin on this connection.
    fn is_used_up(&self) -> bool {
        let own = Some(self.hops.messages_per_connection).filter(|max| *max > 0);
        let most = own.into_iter().chain(self.session.extensions().mail_max).min();
        !self.shared.may_begin()
            || self.shared.places.give_way(self.destination, self.made_at)
            || self.left.is_some()
            || self.is_full
            || most.is_some_and(|most| self.begun >= most)
    }

    async fn begin(&mut self, job: Job) {
        let extensions = *self.session.extensions();
        let envelope = match job.message.envelope() {
            Ok(envelope) => envelope,
            Err(error) => {
                tracing::error!(id = %job.message.id, %error, "a message that is owed cannot be read");
                return;
            }
        };
        let mut lines = Lines::new(&job, &envelope);
        let mut needs = Needs::of(&job.message, &envelope, &job.recipients, lines.head().len());
        if needs.header_unseen > 0 && !extensions.smtp_utf8 {
            let reader = &self.shared.reader;
            needs.utf8 = !is_ascii(&job.message, needs.header_unseen, job.place, reader).await;
        }
        let refused = needs.refuse(&extensions, &self.relay, self.tls_verified);
        needs.require_tls &= extensions.require_tls && self.tls_verified;
        let refused = refused.or_else(|| {
            let written = lines.write_commands(&job, &envelope, &needs, &extensions);
            written.err().map(|error| Verdict::later((4, 3, 0), error.to_string()))
        });
        let mut flight = Flight {
            goes_on: std::mem::take(&mut self.goes_on),
            verdicts: vec![None; job.recipients.len()],
            number: 0,
            needs,
            lines,
            sent_at_us: now_us(),
            accepted: 0,
            whole: false,
            job,
        };
        if let Some(verdict) = refused {
            flight.goes_on = false;
            return self.land(flight, Some(&verdict));
        }
        let transfer = if extensions.chunking { Transfer::Chunks } else { Transfer::Data };
        let recipients = u32::try_from(flight.job.recipients.len()).unwrap_or(u32::MAX);
        flight.number = self.session.begin(recipients, transfer);
        self.begun += 1;
        self.flights.push_back(flight);
    }

    /// The next message for an idle connection; `None` when it is to be closed.
    async fn wait_for_job(&mut self) -> Option<Job> {
        if self.is_used_up() {
            return None;
        }
        let _idle = self.destination.idle();
        let until = Instant::now() + self.hops.keep_connection;
        loop {
            match self.destination.next() {
                Next::Job(job) => return Some(*job),
                Next::Entry(slot) => match self.shared.fetch(slot).await {
                    Some(job) => return Some(job),
                    None => continue,
                },
                Next::Nothing => {}
            }
            let mut octet = [0; 1];
            tokio::select! {
                () = self.destination.work.notified() => {}
                // 421 or the end: whatever it is, the connection is not worth keeping.
                _ = self.stream.read(&mut octet) => return None,
                () = tokio::time::sleep_until(until) => return None,
            }
            if !self.shared.may_begin() || self.shared.places.others_wait(self.destination) {
                return None;
            }
        }
    }

    async fn quit(&mut self) -> Result<(), Lost> {
        self.session.quit();
        self.write_steps().await?;
        self.flush().await?;
        // RFC 5321 §4.1.1.10: the reply is waited for, but nothing depends on it.
        let _ = timeout(QUIT_PATIENCE, self.stream.read_buf(&mut self.input)).await;
        let _ = timeout(QUIT_PATIENCE, self.stream.shutdown()).await;
        Err(Lost::Closed)
    }

    /// How long the next reply may take: that to the end of data has the most time.
    fn patience(&self) -> Duration {
        let timeouts = &self.shared.settings.timeouts;
        if self.flights.iter().any(|flight| flight.whole) {
            timeouts.end
        } else if self.awaits_data && self.session.is_pipelining() {
            timeouts.data.max(timeouts.command)
        } else if self.awaits_data {
            timeouts.data
        } else {
            timeouts.command
        }
    }

    /// Takes all replies that have come.
    pub(super) fn answers(&mut self) -> Result<(), Lost> {
        let input = std::mem::take(&mut self.input);
        let mut consumed = 0;
        let mut result = Ok(());
        let mut seen = Vec::new();
        loop {
            let progress = self.session.advance(&input[consumed..]);
            consumed += progress.consumed;
            match progress.event {
                Event::NeedInput => break,
                Event::Answer(answer) => {
                    seen.push((answer.command, answer.transaction, Verdict::of(&answer.reply), answer.end));
                }
                Event::Closing(answer) => {
                    result = Err(refusal(&self.relay, &answer));
                    break;
                }
                Event::Failed(error) => {
                    result = Err(broken(&self.relay, &error.to_string()));
                    break;
                }
            }
        }
        self.input = input;
        self.input.drain(..consumed);
        if !seen.is_empty() {
            self.since = Instant::now();
        }
        for (command, transaction, verdict, end) in seen {
            self.answer(command, transaction, verdict, end);
        }
        result
    }

    fn answer(&mut self, command: Command, transaction: u64, verdict: Verdict, end: bool) {
        let Some(at) = self.flights.iter().position(|flight| flight.number == transaction) else { return };
        self.awaits_data &= command != Command::Data;
        let flight = &mut self.flights[at];
        let refused = verdict.severity != Severity::Completed && verdict.severity != Severity::Intermediate;
        match command {
            Command::Recipient(_) if !refused => flight.accepted += 1,
            // Behind a refused MAIL the recipients are refused for that alone.
            Command::Recipient(index) => {
                let accepted = flight.accepted;
                if let Some(of @ None) = flight.verdicts.get_mut(index as usize) {
                    *of = Some(if accepted > 0 { verdict.of_recipient() } else { verdict });
                }
            }
            // What has not left whole cannot have been taken.
            Command::Final | Command::FinalFor(_) if !refused && !flight.whole => {}
            Command::FinalFor(index) => {
                if let Some(of) = flight.verdicts.get_mut(index as usize) {
                    *of = Some(verdict);
                }
            }
            Command::Final => flight.settle_rest(&verdict),
            Command::Mail | Command::Data | Command::Chunk if refused => flight.settle_rest(&verdict),
            _ => {}
        }
        if end && let Some(flight) = self.flights.remove(at) {
            self.was_of_use = true;
            self.destination.answered();
            self.land(flight, None);
        }
    }

    /// A message is through, or not: what is without a verdict gets `rest`.
    fn land(&mut self, mut flight: Flight, rest: Option<&Verdict>) {
        let unanswered = Verdict::later((4, 4, 2), "no reply");
        flight.settle_rest(rest.unwrap_or(&unanswered));
        let attempt = Attempt {
            destination: self.destination.name.clone(),
            relay: Rc::clone(&self.relay),
            host: Rc::clone(&self.candidate.name),
            tls: Rc::clone(&self.tls),
            dsn_handed_on: self.session.extensions().dsn,
            is_final: self.lmtp,
            connected_at_us: self.connected_at_us.max(flight.job.taken_at_us),
            sent_at_us: flight.sent_at_us,
        };
        let Flight { job, verdicts, goes_on, .. } = flight;
        let delivered = verdicts.iter().flatten().any(|one| one.severity == Severity::Completed);
        if delivered {
            self.destination.succeeded();
        }
        let verdicts = verdicts.into_iter().map(Option::unwrap_or_default);
        let verdicts: Vec<_> = job.recipients.iter().copied().zip(verdicts).collect();
        if goes_on && !delivered {
            self.leave(job, &attempt, verdicts);
        } else if delivered && verdicts.iter().any(|(_, verdict)| verdict.is_too_many()) {
            self.divide(job, &attempt, verdicts);
        } else {
            self.shared.settle(job, &attempt, verdicts);
        }
    }

    /// The host has the message for as many recipients as it takes at once: the others are next.
    fn divide(&mut self, job: Job, attempt: &Attempt, verdicts: Vec<(u32, Verdict)>) {
        let (others, settled): (Vec<_>, Vec<_>) =
            verdicts.into_iter().partition(|(_, verdict)| verdict.is_too_many());
        let recipients = others.into_iter().map(|(recipient, _)| recipient).collect();
        self.destination.push_front(job.part(recipients, self.shared.charge(&job.message)));
        self.shared.settle(job, attempt, settled);
    }

    /// The host has nothing of the message: those for whom that is not its last word are for the next host.
    fn leave(&mut self, job: Job, attempt: &Attempt, verdicts: Vec<(u32, Verdict)>) {
        let (left, settled): (Vec<_>, Vec<_>) =
            verdicts.into_iter().partition(|(_, verdict)| verdict.severity == Severity::Transient);
        let Some((_, verdict)) = left.first() else { return self.shared.settle(job, attempt, settled) };
        tracing::info!(
            id = %job.message.id,
            relay = %self.relay,
            dsn = %verdict.status(),
            reply = %shown(&verdict.text),
            "refused at present: the next host is tried"
        );
        let recipients = left.iter().map(|(recipient, _)| *recipient).collect();
        let mut charge = self.shared.charge(&job.message);
        charge.leave();
        self.left =
            Some(Left { job: job.part(recipients, charge), attempt: attempt.clone(), verdicts: left });
        if !settled.is_empty() {
            self.shared.settle(job, attempt, settled);
        }
    }
}
