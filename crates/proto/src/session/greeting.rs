//! HELO, EHLO and the commands that are allowed at any time.
//!
//! Standards: RFC 5321 §4.1.1.1, §4.1.1.5–10, §4.1.4 (order).

use super::{Hello, Session, State};
use crate::address::DOMAIN_OCTETS_MAX;
use crate::command::{self, Verb};
use crate::{Kind, Reply};

impl Session {
    pub(super) fn hello(&mut self, verb: Verb, rest: &[u8]) {
        // RFC 2033 §4.1: LHLO takes the place of HELO and EHLO.
        if (verb == Verb::Lhlo) != (self.context.kind() == Kind::Lmtp) {
            self.refuse(Reply::UNKNOWN_COMMAND);
            return;
        }
        let Some(name) = hello_name(command::argument(rest)) else {
            self.refuse(Reply::HELLO_SYNTAX);
            return;
        };
        if !self.hello_is_fixed {
            self.hello_name.clear();
            self.hello_name.push_str(name);
        }
        // RFC 5321 §4.1.4: EHLO in the middle of a session clears all state, as RSET does; the same goes for HELO.
        self.reset();
        if verb != Verb::Helo {
            self.hello = Hello::Ehlo;
            let wire = self.context.ehlo(self.secure, self.trusted);
            self.output.push_rendered(&self.context, Reply::EHLO, wire);
        } else {
            self.hello = Hello::Helo;
            self.output.push_rendered(&self.context, Reply::HELO, self.context.helo());
        }
    }

    // RFC 5321 §4.1.1.5: RSET has no parameter and may come at any time.
    pub(super) fn rset(&mut self, rest: &[u8]) {
        if !rest.is_empty() {
            self.refuse(Reply::NO_ARGUMENT_ALLOWED);
            return;
        }
        self.reset();
        self.say(Reply::OK);
    }

    // RFC 5321 §3.5.3: 252 when the server cannot say, but would accept the mail and try.
    pub(super) fn vrfy(&mut self, rest: &[u8]) {
        if command::argument(rest).is_empty() {
            self.refuse(Reply::ARGUMENT_NEEDED);
        } else {
            self.say(Reply::VRFY);
        }
    }

    // RFC 5321 §4.1.1.10: a transaction that is still open is dropped.
    pub(super) fn quit(&mut self, rest: &[u8]) {
        if rest.is_empty() {
            self.close_with(Reply::BYE);
            self.state = State::Closed { quit: true };
        } else {
            self.refuse(Reply::NO_ARGUMENT_ALLOWED);
        }
    }

    fn reset(&mut self) {
        self.drop_transaction();
        self.mail_refused = false;
    }
}

/// RFC 5321 §4.1.1.1: one domain or address literal.
///
/// RFC 5321 §4.1.4: mail must not be refused because the name is not that of the client, and real clients send names
/// that are no domain names, so only what could do harm in a log line or a trace field is refused.
fn hello_name(argument: &[u8]) -> Option<&str> {
    let harmless = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':' | b'[' | b']');
    if argument.is_empty() || argument.len() > DOMAIN_OCTETS_MAX || !argument.iter().all(harmless) {
        return None;
    }
    std::str::from_utf8(argument).ok()
}
