//! Tells senders what became of their mail: which reports are due, and how they become mail of their own.
//!
//! A report is durable in the log of internal mail before the outcome that it reports is recorded: a crash in between makes it a second time,
//! and never loses it. Nobody is told about a message with the null reverse-path (RFC 5321 §6.1), which every report has.
//!
//! Standards: RFC 3461 §5, §6 (who is told what), RFC 3464 (the report).

use std::rc::Rc;
use std::time::Duration;

use inrush_log::{
    AppendError, BodyFindings, BodyType, Envelope, EnvelopeRef, Lsn, Protocol, Recipient, Ret, Span, notify,
    prepended,
};
use inrush_queue::{Status, outcome_flag, result_flag};

use crate::destination::Job;
use crate::dsn::{
    self, Action, Decision, Dsn, EnhancedStatus, Event, Notify, Original, Report, Return, Returned, build,
    decide,
};
use crate::settle::{Attempt, Settled, micros};
use crate::shared::{Shared, now_us};

/// How long to wait before another try when the log takes no report.
const AGAIN: Duration = Duration::from_secs(1);
/// Octets of a header section that go back at most.
const HEADER_OCTETS_MAX: usize = 64 << 10;
/// Recipients of one report: with replies of 2 KiB each, and the header section, it stays below the 252 KiB of a record.
const RECIPIENTS_PER_REPORT: usize = 20;

/// A recipient with what its sender is told.
struct Told<'a> {
    settled: &'a Settled,
    action: Action,
}

impl Shared {
    /// Makes the reports that are due, then records the outcome.
    pub(crate) fn tell_and_record(self: &Rc<Self>, job: Job, attempt: Attempt, settled: Vec<Settled>) {
        self.tell_and_record_as(job, attempt, settled, 0);
    }

    /// The same by a command.
    pub(crate) fn record_command(self: &Rc<Self>, job: Job, attempt: Attempt, settled: Vec<Settled>) {
        self.tell_and_record_as(job, attempt, settled, outcome_flag::COMMAND);
    }

    fn tell_and_record_as(
        self: &Rc<Self>,
        mut job: Job,
        attempt: Attempt,
        mut settled: Vec<Settled>,
        flags: u16,
    ) {
        let actions = self.due(&job, &attempt, &mut settled);
        if actions.iter().all(Option::is_none) {
            return self.record(&job, &attempt, &settled, flags);
        }
        let (told, untold): (Vec<_>, Vec<_>) =
            settled.into_iter().zip(actions).partition(|(_, action)| action.is_some());
        // What waits for no report is done: a crash before the others are reported must not deliver it again.
        if !untold.is_empty() {
            let untold: Vec<_> = untold.into_iter().map(|(settled, _)| settled).collect();
            self.record(&job, &attempt, &untold, flags);
        }
        let told: Vec<_> =
            told.into_iter().filter_map(|(settled, action)| Some((settled, action?))).collect();
        let shared = Rc::clone(self);
        job.charge.wait();
        self.telling.set(self.telling.get() + 1);
        tokio::task::spawn_local(async move {
            shared.report_all(&job, &attempt, &told).await;
            let told: Vec<_> = told.into_iter().map(|(settled, _)| settled).collect();
            shared.record(&job, &attempt, &told, flags);
            shared.telling.set(shared.telling.get() - 1);
            shared.attention.notify_one();
        });
    }

    /// What the sender is to be told of each recipient.
    fn due(&self, job: &Job, attempt: &Attempt, settled: &mut [Settled]) -> Vec<Option<Action>> {
        let Ok(envelope) = job.message.envelope() else { return Vec::new() };
        let null = envelope.reverse_path().is_empty();
        let accepted_at = job.accepted_at_us / 1_000_000;
        let late = self.ledger.borrow().is_late(accepted_at, job.flags, now_us() / 1_000_000);
        let notify: Vec<u8> = envelope.recipients().map(|recipient| recipient.notify).collect();
        let mut actions = Vec::with_capacity(settled.len());
        for settled in settled.iter_mut() {
            let event = match settled.status {
                Status::Bounced | Status::Expired => Some(Event::Failed),
                Status::Sent if attempt.is_final => Some(Event::Delivered),
                Status::Sent if attempt.dsn_handed_on => Some(Event::RelayedWithDsn),
                Status::Sent => Some(Event::RelayedWithoutDsn),
                Status::Deferred if late => {
                    // Once, whether or not somebody wants to hear it.
                    settled.flags |= result_flag::DELAY_TOLD;
                    Some(Event::Delayed)
                }
                Status::Deferred | Status::Held | Status::Deleted => None,
            };
            let bits = notify.get(settled.recipient as usize).copied().unwrap_or(0);
            let decision = event.map(|event| decide(Notify::from_bits(bits), null, event));
            let action = match decision {
                Some(Decision::Report(action)) => Some(action),
                _ => None,
            };
            if action.is_some() {
                settled.flags |= result_flag::TOLD;
            }
            actions.push(action);
        }
        actions
    }

    /// Writes all reports on an attempt into the log: one for each kind of news, and for each few recipients.
    async fn report_all(&self, job: &Job, attempt: &Attempt, told: &[(Settled, Action)]) {
        let header_section = self.header_section(job).await;
        for kind in [Action::Failed, Action::Delayed, Action::Delivered] {
            // What was delivered and what was relayed go into one report.
            let of_kind =
                |action: Action| action == kind || (kind == Action::Delivered && action == Action::Relayed);
            let told = told.iter().filter(|(_, action)| of_kind(*action));
            let told: Vec<_> = told.map(|(settled, action)| Told { settled, action: *action }).collect();
            for told in told.chunks(RECIPIENTS_PER_REPORT) {
                self.report(job, attempt, told, told[0].action, &header_section).await;
            }
        }
    }

    /// Writes one report into the log; durable when it returns, unless the sender cannot be told at all.
    async fn report(
        &self,
        job: &Job,
        attempt: &Attempt,
        told: &[Told<'_>],
        kind: Action,
        header_section: &[u8],
    ) {
        let mut token = [0; 16];
        if rustix::rand::getrandom(&mut token, rustix::rand::GetRandomFlags::empty()).is_err() {
            token[..8].copy_from_slice(&self.random().to_le_bytes());
            token[8..].copy_from_slice(&self.random().to_le_bytes());
        }
        let mut is_refused = false;
        loop {
            let written = self.internal_written.notified();
            match self.append_report(job, attempt, told, kind, header_section, token) {
                Ok(Some(gate)) => return self.until_durable(gate).await,
                Ok(None) => return,
                // Soon over: what is being written makes room.
                Err(AppendError::BatchFull) => written.await,
                Err(error @ AppendError::TooLarge { .. }) => {
                    tracing::error!(%error, id = %job.message.id, "the sender cannot be told");
                    return;
                }
                // The message stays undecided until its sender can be told.
                Err(error) => {
                    if !is_refused {
                        tracing::warn!(%error, id = %job.message.id, "the log takes no report now");
                    }
                    is_refused = true;
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    /// The header section as it goes back: our trace header, and what of the original's fits.
    async fn header_section(&self, job: &Job) -> Vec<u8> {
        let mut out = Vec::new();
        let (octets, chunked) = {
            let Ok(envelope) = job.message.envelope() else { return out };
            prepended(&envelope, job.message.id, job.message.header.accepted_at_us, &mut out);
            (envelope.findings().header_octets as usize, envelope.chunks().next().is_some())
        };
        let octets = if octets == 0 { HEADER_OCTETS_MAX } else { octets.min(HEADER_OCTETS_MAX) };
        if !chunked {
            let body = job.message.own_body();
            out.extend_from_slice(&body[..octets.min(body.len())]);
            return out;
        }
        let mut pieces = self.reader.body(job.place, std::sync::Arc::clone(&job.message));
        let begin = out.len();
        while out.len() - begin < octets {
            match pieces.recv().await {
                Some(Ok(piece)) => {
                    let missing = octets - (out.len() - begin);
                    out.extend_from_slice(&piece[..missing.min(piece.len())]);
                }
                Some(Err(error)) => {
                    tracing::warn!(%error, id = %job.message.id, "the header for a report cannot be read");
                    break;
                }
                None => break,
            }
        }
        out
    }

    /// Builds a report and appends it; the position that has to become durable, or nothing when there is nobody to tell.
    fn append_report(
        &self,
        job: &Job,
        attempt: &Attempt,
        told: &[Told<'_>],
        kind: Action,
        header_section: &[u8],
        token: [u8; 16],
    ) -> Result<Option<Lsn>, AppendError> {
        let Ok(envelope) = job.message.envelope() else { return Ok(None) };
        let now = now_us();
        let paths: Vec<_> = envelope.recipients().collect();
        let diagnostics: Vec<_> = told.iter().map(|told| diagnostic(told.settled)).collect();
        let reasons: Vec<_> = told.iter().map(|told| reason(told.settled)).collect();
        let attempted = !attempt.relay.is_empty();
        let mut recipients = Vec::with_capacity(told.len());
        for ((told, diagnostic), reason) in told.iter().zip(&diagnostics).zip(&reasons) {
            let Some(recipient) = paths.get(told.settled.recipient as usize) else { continue };
            recipients.push(dsn::Recipient {
                path: recipient.path,
                orcpt: recipient.orcpt,
                action: told.action,
                status: status(told.settled),
                diagnostic: diagnostic.as_deref(),
                remote_mta: (!attempt.host.is_empty()).then_some(attempt.host.as_bytes()),
                last_attempt_us: attempted.then_some(now),
                reason,
            });
        }
        let id = job.message.id.to_string();
        let findings = envelope.findings();
        let octets = job.message.body_octets().unwrap_or_default() + header_section.len() as u64;
        // What is in chunks is too large to go back as a whole.
        let whole = envelope.chunks().next().is_none();
        let accepted = job.message.header.accepted_at_us;
        let report = Report {
            kind,
            hostname: &self.surroundings.hostname,
            message_id: &id,
            token,
            arrived_us: accepted,
            reported_us: now,
            will_retry_until_us: Some(job.accepted_at_us + micros(self.queue.lifetime)),
            reverse_path: envelope.reverse_path(),
            envid: envelope.envid(),
            // RFC 8689 §5: the content of such a message stays where it is.
            ret: match envelope.ret() {
                _ if envelope.requiretls() => Return::Headers,
                Ret::Unspecified => Return::Unspecified,
                Ret::Full => Return::Full,
                Ret::Headers => Return::Headers,
            },
            smtputf8: envelope.smtputf8(),
            recipients: &recipients,
            original: Original {
                header_section,
                octets: if whole { octets } else { u64::MAX },
                eight_bit: findings.eight_bit,
                binary: findings.bare_cr || findings.bare_lf || findings.nul || findings.longest_line > 998,
            },
        };
        let built = match build(&report, &dsn::Settings::default()) {
            Ok(built) => built,
            Err(error) => {
                tracing::warn!(%id, %error, "the sender cannot be told");
                return Ok(None);
            }
        };
        self.append_internal(&envelope, job, &built, kind, now).map(Some)
    }

    fn append_internal(
        &self,
        original: &Envelope<'_>,
        job: &Job,
        built: &Dsn<'_>,
        kind: Action,
        now: u64,
    ) -> Result<Lsn, AppendError> {
        let mut trace = Vec::new();
        let header_section = match &built.returned {
            Returned::Headers(lines) => Some(lines.as_ref()),
            Returned::Full => {
                prepended(original, job.message.id, job.message.header.accepted_at_us, &mut trace);
                None
            }
        };
        let pieces: [&[u8]; 4] = match header_section {
            Some(lines) => [&built.head, lines, &[], &built.tail],
            None => [&built.head, &trace, job.message.own_body(), &built.tail],
        };
        let octets: usize = pieces.iter().map(|piece| piece.len()).sum();
        let to = original.reverse_path();
        let span = Span::new(0, u32::try_from(to.len()).unwrap_or(u32::MAX));
        // RFC 3461 §6.1: nobody is told what became of a report.
        let recipients = [Recipient { path: span, notify: notify::NEVER, ..Recipient::default() }];
        let hostname = self.surroundings.hostname.as_bytes();
        let envelope = EnvelopeRef {
            text: to,
            recipients: &recipients,
            hostname,
            listener: b"internal",
            helo: hostname,
            protocol: Protocol::Internal,
            body_type: if built.eight_bit { BodyType::EightBitMime } else { BodyType::Unspecified },
            smtputf8: built.smtputf8,
            // RFC 8689 §5
            requiretls: original.requiretls(),
            findings: BodyFindings {
                octets_received: octets as u64,
                eight_bit: built.eight_bit,
                dot_lines: u64::from(pieces.iter().any(|piece| has_dot_line(piece))),
                ends_with_crlf: true,
                longest_line: 998,
                ..BodyFindings::default()
            },
            ..EnvelopeRef::default()
        };
        let appended =
            self.internal.borrow_mut().append_message(&envelope, pieces.into_iter(), octets, now)?;
        self.count_report(kind);
        tracing::info!(
            id = %appended.id,
            from = "<>",
            nrcpt = 1,
            size = octets,
            about = %job.message.id,
            "report queued"
        );
        self.attention.notify_one();
        Ok(appended.gate)
    }

    fn count_report(&self, kind: Action) {
        let word = match kind {
            Action::Failed => "failed",
            Action::Delayed => "delayed",
            Action::Delivered | Action::Relayed => "delivered",
        };
        let mut delivery = self.delivery.borrow_mut();
        match delivery.reports.iter_mut().find(|(known, _)| *known == word) {
            Some((_, count)) => *count += 1,
            None => delivery.reports.push((word, 1)),
        }
    }

    async fn until_durable(&self, gate: Lsn) {
        loop {
            let written = self.internal_written.notified();
            if self.internal.borrow().durable() >= gate {
                return;
            }
            written.await;
        }
    }
}

fn has_dot_line(piece: &[u8]) -> bool {
    piece.first() == Some(&b'.') || memchr::memmem::find(piece, b"\n.").is_some()
}

fn status(settled: &Settled) -> EnhancedStatus {
    let [class, subject, detail] = settled.verdict.enhanced;
    // What was put off again and again and is given up stays a 4.x.y: that is why it was not delivered in time.
    EnhancedStatus { class: u8::try_from(class).unwrap_or(5), subject, detail }
}

/// The remote host's reply with its code.
fn diagnostic(settled: &Settled) -> Option<Vec<u8>> {
    let verdict = &settled.verdict;
    (verdict.code != 0).then(|| {
        let mut text = format!("{} ", verdict.code).into_bytes();
        text.extend_from_slice(&verdict.text);
        text
    })
}

/// Our own words, where no host has said any.
fn reason(settled: &Settled) -> String {
    let verdict = &settled.verdict;
    if verdict.code == 0 { String::from_utf8_lossy(&verdict.text).into_owned() } else { String::new() }
}
