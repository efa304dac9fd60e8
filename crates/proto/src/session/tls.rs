//! STARTTLS.
//!
//! ```text
//! STARTTLS ─▶ Event::StartTls ─▶ start_tls(Ok) ─▶ 220 ─▶ handshake of the caller ─▶ secured() ─▶ as new, under TLS
//!                                start_tls(Err) ─▶ 454, as before
//! ```
//! What the client has sent behind STARTTLS before the handshake is for the caller to throw away (RFC 3207 §4.2).
//!
//! Standards: RFC 3207, RFC 8314 §3 (implicit TLS).

use super::{Event, Hello, Pause, Session};
use crate::{Reply, Tls};

impl Session {
    /// The answer to [`Event::StartTls`]: says 220, and the handshake is to follow as soon as that has been sent; or says why
    /// there is no TLS at the moment (454), and goes on without.
    pub fn start_tls(&mut self, answer: Result<(), &'static Reply>) {
        if !self.resume(Pause::StartTls) {
            return;
        }
        match answer {
            Ok(()) => {
                self.say(Reply::START_TLS);
                self.pause = Pause::Secured;
            }
            Err(reply) => self.say(reply),
        }
    }

    // RFC 3207 §4.2: the session begins anew; nothing that was learnt before is kept, but how often it erred.
    /// The handshake is done: from now on everything comes and goes under TLS. On a new session for implicit TLS, before
    /// [`greet`](Self::greet).
    pub fn secured(&mut self) {
        debug_assert!(matches!(self.pause, Pause::Secured | Pause::No), "a handshake nobody asked for");
        self.pause = Pause::No;
        self.drop_transaction();
        self.mail_refused = false;
        self.hello = Hello::None;
        if !self.hello_is_fixed {
            self.hello_name.clear();
        }
        self.scanned = 0;
        self.secure = true;
    }

    /// Whether the session is under TLS.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    pub(super) fn starttls<'i>(&mut self, rest: &[u8]) -> Option<Event<'i>> {
        match self.starttls_allowed(rest) {
            Ok(()) => {
                self.pause = Pause::StartTls;
                return Some(Event::StartTls);
            }
            Err(reply) => self.refuse(reply),
        }
        None
    }

    fn starttls_allowed(&self, rest: &[u8]) -> Result<(), &'static Reply> {
        if self.secure {
            return Err(Reply::TLS_ACTIVE);
        }
        if !matches!(self.context.tls(), Tls::StartTls | Tls::Required) {
            return Err(Reply::NOT_IMPLEMENTED);
        }
        // RFC 3207 §4: no parameters.
        if !rest.is_empty() {
            return Err(Reply::NO_ARGUMENT_ALLOWED);
        }
        // RFC 3207 §4: offered by EHLO, so not before it.
        if self.hello == Hello::None {
            return Err(Reply::NO_HELLO);
        }
        Ok(())
    }

    /// Whether commands that lead to mail have to wait for STARTTLS.
    pub(super) fn lacks_tls(&self) -> bool {
        !self.secure && self.context.tls() == Tls::Required
    }
}
