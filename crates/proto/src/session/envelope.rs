//! MAIL and RCPT.
//!
//! | transaction | MAIL | RCPT |
//! |---|---|---|
//! | none | opens one | 503, say MAIL first |
//! | open | 503, the open one stays | recipient |
//! | between chunks | 503 | 503 |
//!
//! Standards: RFC 5321 §3.3, §4.1.1.2, §4.1.1.3, §4.1.4; RFC 1870 §6.1; RFC 6531 §3.5.

use super::{Event, Hello, Pause, Session, Verdict};
use crate::address::PathError;
use crate::command;
use crate::parameters::{MailParameters, RcptParameters};
use crate::{Kind, Path, RECIPIENT_OCTETS, Recipient, Reply};

impl Session {
    pub(super) fn mail<'i>(&mut self, rest: &'i [u8]) -> Option<Event<'i>> {
        match self.open_transaction(rest) {
            // RFC 6409 §6.1: a submission server may ask whether the address is one of the user's.
            Ok(path) if self.context.kind() == Kind::Submission => {
                self.mail_refused = false;
                self.pause = Pause::Sender;
                return Some(Event::Sender(path));
            }
            Ok(_) => {
                self.mail_refused = false;
                self.say(Reply::SENDER_OK);
            }
            Err(reply) if reply == Reply::TOO_MANY_TRANSACTIONS => self.close_with(reply),
            Err(reply) => {
                self.mail_refused = true;
                self.refuse(reply);
            }
        }
        None
    }

    /// The answer to [`Event::Sender`].
    pub fn sender_verdict(&mut self, verdict: Verdict) {
        if !self.resume(Pause::Sender) {
            return;
        }
        match verdict {
            Verdict::Accept => self.say(Reply::SENDER_OK),
            Verdict::Refuse(reply) => {
                debug_assert!(reply.is_failure());
                self.mail_refused = true;
                self.finish_transaction();
                self.say(reply);
            }
        }
    }

    fn open_transaction<'i>(&mut self, rest: &'i [u8]) -> Result<Path<'i>, &'static Reply> {
        // RFC 5321 §4.1.4: EHLO or HELO comes first.
        if self.hello == Hello::None {
            return Err(Reply::NO_HELLO);
        }
        // RFC 5321 §4.1.4: MAIL is refused while a transaction is open; the open one stays valid.
        if self.transaction.is_some() {
            return Err(Reply::NESTED_MAIL);
        }
        // RFC 9422 §4.1: MAILMAX.
        if self.transactions >= self.limits().transactions_max {
            return Err(Reply::TOO_MANY_TRANSACTIONS);
        }
        let argument = command::strip_keyword(command::argument(rest), b"FROM:").ok_or(Reply::MAIL_SYNTAX)?;
        let (path, rest) = Path::parse(argument).map_err(reverse_path_reply)?;
        // RFC 5321 §4.1.1.3: postmaster without a domain is for recipients.
        if path.is_bare_postmaster() {
            return Err(Reply::SENDER_NO_DOMAIN);
        }
        let parameters = MailParameters::parse(rest, self.context.extensions(), self.secure)?;
        // RFC 6531 §3.5: 553 5.6.7.
        if !parameters.smtputf8 && !path.is_ascii() {
            return Err(Reply::SMTPUTF8_NEEDED);
        }
        // RFC 1870 §6.1: refused at MAIL already; nothing of it is kept for the next transaction.
        if parameters.size.is_some_and(|size| size > self.limits().message_bytes_max) {
            return Err(Reply::TOO_BIG_DECLARED);
        }
        if let Some(reply) = self.context.mail_refusal() {
            return Err(reply);
        }
        let mut transaction = self.context.take_transaction();
        transaction.open(path, &parameters);
        self.transaction = Some(transaction);
        self.transactions += 1;
        Ok(path)
    }

    pub(super) fn rcpt<'i>(&mut self, rest: &'i [u8]) -> Option<Event<'i>> {
        match self.add_recipient(rest) {
            Ok(recipient) => {
                self.pause = Pause::Verdict;
                Some(Event::Recipient(recipient))
            }
            Err(reply) => {
                self.refuse_in_sequence(reply);
                None
            }
        }
    }

    /// As `refuse`, but a client that has pipelined its commands behind a MAIL that was refused is not to blame for
    /// their being out of sequence (RFC 2920 §3.1).
    pub(super) fn refuse_in_sequence(&mut self, reply: &'static Reply) {
        if reply == Reply::BDAT_FAILED || (self.mail_refused && reply == Reply::NO_MAIL) {
            self.say(reply);
        } else {
            self.refuse(reply);
        }
    }

    /// The recipient joins the transaction at once and leaves it again if the verdict is against it.
    fn add_recipient<'i>(&mut self, rest: &'i [u8]) -> Result<Recipient<'i>, &'static Reply> {
        let limits = self.context.limits();
        let Some(transaction) = self.transaction.as_deref_mut() else { return Err(Reply::NO_MAIL) };
        if transaction.data.failure.is_some() {
            return Err(Reply::BDAT_FAILED);
        }
        if transaction.data.chunking {
            return Err(Reply::AFTER_BDAT);
        }
        let argument = command::strip_keyword(command::argument(rest), b"TO:").ok_or(Reply::RCPT_SYNTAX)?;
        let (path, rest) = Path::parse(argument).map_err(forward_path_reply)?;
        if path.is_null() {
            return Err(Reply::RECIPIENT_NULL);
        }
        let smtputf8 = transaction.smtputf8();
        // RFC 6531 §3.5: 553 5.6.7.
        if !smtputf8 && !path.is_ascii() {
            return Err(Reply::SMTPUTF8_NEEDED);
        }
        let parameters = RcptParameters::parse(rest, self.context.extensions(), smtputf8)?;
        // RFC 5321 §4.5.3.1.10: 452, and the client sends the others in a new transaction.
        if transaction.recipient_spans().len() >= limits.recipients_max as usize {
            return Err(Reply::TOO_MANY_RECIPIENTS);
        }
        let text = transaction.text().len() + path.as_str().len() + parameters.original.len();
        let recipients = transaction.recipient_spans().len() + 1;
        let octets = text + recipients * RECIPIENT_OCTETS;
        if octets > limits.envelope_octets_max as usize {
            return Err(Reply::ENVELOPE_TOO_BIG);
        }
        let recipient = Recipient { path, original: parameters.original, notify: parameters.notify };
        transaction.push_recipient(recipient);
        Ok(recipient)
    }

    pub(super) fn recipient_verdict(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Accept => self.say(Reply::RECIPIENT_OK),
            Verdict::Refuse(reply) => {
                debug_assert!(reply.is_failure());
                if let Some(transaction) = self.transaction.as_deref_mut() {
                    transaction.pop_recipient();
                }
                if !reply.is_temporary() {
                    self.refused_recipients += 1;
                    if self.refused_recipients > self.limits().refused_recipients_max {
                        self.close_with(Reply::TOO_MANY_REFUSED_RECIPIENTS);
                        return;
                    }
                }
                // A refusal by policy is no error of the protocol, whatever its code.
                self.say(reply);
            }
        }
    }
}

fn reverse_path_reply(error: PathError) -> &'static Reply {
    match error {
        PathError::Brackets => Reply::MAIL_SYNTAX,
        PathError::Syntax | PathError::Route => Reply::SENDER_SYNTAX,
        PathError::NoDomain => Reply::SENDER_NO_DOMAIN,
        PathError::Literal => Reply::SENDER_LITERAL,
        PathError::LocalPartTooLong => Reply::SENDER_LOCAL_PART_TOO_LONG,
        PathError::DomainTooLong => Reply::SENDER_DOMAIN_TOO_LONG,
        PathError::PathTooLong => Reply::SENDER_PATH_TOO_LONG,
    }
}

fn forward_path_reply(error: PathError) -> &'static Reply {
    match error {
        PathError::Brackets => Reply::RCPT_SYNTAX,
        PathError::Syntax => Reply::RECIPIENT_SYNTAX,
        PathError::NoDomain => Reply::RECIPIENT_NO_DOMAIN,
        PathError::Route => Reply::ROUTED_LOCAL_PART,
        PathError::Literal => Reply::RECIPIENT_LITERAL,
        PathError::LocalPartTooLong => Reply::RECIPIENT_LOCAL_PART_TOO_LONG,
        PathError::DomainTooLong => Reply::RECIPIENT_DOMAIN_TOO_LONG,
        PathError::PathTooLong => Reply::RECIPIENT_PATH_TOO_LONG,
    }
}
