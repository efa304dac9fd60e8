//! AUTH.
//!
//! ```text
//! AUTH PLAIN … ─▶ Event::Authenticate ─▶ authenticated(Ok)  ─▶ 235, the session has an identity
//!   └ 334 ─▶ line ─┘                     authenticated(Err) ─▶ 535 or 454, as before
//! ```
//! Only a submission listener offers it, and only under TLS: a password must not cross the network in the clear (RFC 4954 §4). A mail
//! transaction needs an identity there, and its reverse-path has to be one of that user: [`Event::Sender`].
//!
//! Standards: RFC 4954 §3 (framework), §4 (AUTH), §6 (status codes); RFC 6409 §4.3, §6.1 (submission); RFC 8314 §3.

use super::{Event, Hello, Pause, Session, State};
use crate::command::{self, Line};
use crate::sasl::{Exchange, Failure, Mechanism, RESPONSE_OCTETS_MAX, Step};
use crate::{Kind, Reply};

/// Who a session has proven to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The name of the user as the client has written it.
    pub name: String,
    /// How it was proven; `None` when somebody who is trusted has said so (XCLIENT).
    pub mechanism: Option<Mechanism>,
}

/// How far a session is on the way to its identity.
#[derive(Debug)]
pub(super) enum Authentication {
    /// A line of the exchange is expected.
    Exchange(Exchange),
    /// The caller verifies.
    Verifying(Identity),
    /// Done.
    Known(Identity),
}

impl Session {
    /// The answer to [`Event::Authenticate`]: these are the credentials of a user; or the reply that says why not, 4xx or 5xx. What is
    /// wrong with the credentials counts as an error of the client.
    pub fn authenticated(&mut self, answer: Result<(), &'static Reply>) {
        if !self.resume(Pause::Authenticated) {
            return;
        }
        let identity = match self.authentication.take().map(|authentication| *authentication) {
            Some(Authentication::Verifying(identity)) => identity,
            // Another identity cannot have been begun while this answer was owed.
            _ => return,
        };
        match answer {
            Ok(()) => {
                self.authentication = Some(Box::new(Authentication::Known(identity)));
                self.say(Reply::AUTHENTICATED);
            }
            Err(reply) => self.refuse_login(reply),
        }
    }

    /// Who the session has proven to be.
    pub fn identity(&self) -> Option<&Identity> {
        match self.authentication.as_deref() {
            Some(Authentication::Known(identity)) => Some(identity),
            _ => None,
        }
    }

    /// Whether commands that lead to mail have to wait for AUTH.
    // RFC 6409 §4.3: 530 from a server that asks for authentication.
    pub(super) fn lacks_identity(&self) -> bool {
        self.context.kind() == Kind::Submission && self.identity().is_none()
    }

    /// Octets of a command line with its CRLF.
    pub(super) fn line_octets_max(&self) -> usize {
        let octets_max = self.limits().command_octets_max as usize;
        // RFC 4954 §4: an initial response may be longer than any other command.
        if self.secure && self.lacks_identity() {
            octets_max.max(RESPONSE_OCTETS_MAX + 2)
        } else {
            octets_max
        }
    }

    pub(super) fn auth<'i>(&mut self, rest: &[u8]) -> Option<Event<'i>> {
        if let Err(reply) = self.auth_allowed() {
            self.refuse(reply);
            return None;
        }
        self.follow(Exchange::begin(command::argument(rest)))
    }

    fn auth_allowed(&self) -> Result<(), &'static Reply> {
        if self.context.kind() != Kind::Submission {
            return Err(Reply::NOT_IMPLEMENTED);
        }
        // RFC 4954 §4: part of ESMTP, so EHLO comes first.
        if self.hello != Hello::Ehlo {
            return Err(Reply::NO_HELLO);
        }
        // RFC 4954 §4: not without TLS, since both mechanisms send the password as it is.
        if !self.secure {
            return Err(Reply::AUTH_NEEDS_TLS);
        }
        if self.identity().is_some() {
            return Err(Reply::AUTH_DONE);
        }
        // RFC 4954 §4: not during a mail transaction; without an identity there is none.
        Ok(())
    }

    /// Reads a line of the exchange.
    pub(super) fn next_response<'i>(&mut self, input: &'i [u8], at: &mut usize) -> Option<Event<'i>> {
        let rest = &input[*at..];
        let octets_max = RESPONSE_OCTETS_MAX + 2;
        match command::first_line(rest, (self.scanned as usize).min(rest.len()), octets_max) {
            Line::Incomplete => {
                self.scanned = u32::try_from(rest.len()).unwrap_or(0);
                return Some(Event::NeedInput { hint: if rest.len() < 512 { 1024 } else { octets_max } });
            }
            Line::TooLong => {
                self.scanned = 0;
                self.authentication = None;
                self.state = State::LongLine(Reply::AUTH_TOO_LONG);
            }
            Line::Broken { octets, .. } => {
                self.scanned = 0;
                *at += octets;
                self.authentication = None;
                self.state = State::Command;
                self.refuse(Reply::AUTH_BASE64);
            }
            Line::Command { text, octets } => {
                self.scanned = 0;
                *at += octets;
                self.state = State::Command;
                let begun = self.authentication.take().map(|authentication| *authentication);
                let Some(Authentication::Exchange(exchange)) = begun else {
                    debug_assert!(false, "a response without an exchange");
                    return None;
                };
                return self.follow(exchange.respond(text));
            }
        }
        None
    }

    fn follow<'i>(&mut self, step: Step) -> Option<Event<'i>> {
        match step {
            Step::Challenge(exchange) => {
                self.output.push_challenge(&self.context, exchange.challenge());
                self.authentication = Some(Box::new(Authentication::Exchange(exchange)));
                self.state = State::Response;
                None
            }
            Step::Credentials(credentials) => {
                let identity =
                    Identity { name: credentials.name.clone(), mechanism: Some(credentials.mechanism) };
                self.authentication = Some(Box::new(Authentication::Verifying(identity)));
                self.pause = Pause::Authenticated;
                Some(Event::Authenticate(Box::new(credentials)))
            }
            Step::Failed(failure) => {
                self.refuse_login(match failure {
                    Failure::Arguments => Reply::AUTH_SYNTAX,
                    Failure::UnknownMechanism => Reply::AUTH_MECHANISM,
                    Failure::Cancelled => Reply::AUTH_CANCELLED,
                    Failure::Base64 => Reply::AUTH_BASE64,
                    Failure::TooLong => Reply::AUTH_TOO_LONG,
                    Failure::Malformed | Failure::AuthorizationIdentity => Reply::AUTH_FAILED,
                });
                None
            }
        }
    }

    /// As `refuse`; a wrong password is an error of the client too, and so is one that is not tried for others that were wrong.
    fn refuse_login(&mut self, reply: &'static Reply) {
        let of_the_client =
            [Reply::AUTH_FAILED, Reply::AUTH_FAILURES_ADDRESS, Reply::AUTH_FAILURES_USER].contains(&reply);
        if of_the_client {
            self.refuse_counted(reply);
        } else {
            self.refuse(reply);
        }
    }
}
