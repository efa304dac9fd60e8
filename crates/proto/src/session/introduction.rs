//! XCLIENT: a filter in front of us says who its client is.
//!
//! ```text
//! XCLIENT ADDR=… ─▶ Event::Introduced ─▶ introduced() ─▶ 220, as new, for that client
//!                                        close_with()  ─▶ the client has no access
//! ```
//! Who may say it is decided by the caller when the session begins: [`Session::trust_introductions`]. The address, port and host name
//! are the caller's business; the session keeps what belongs to the dialog: the name behind HELO, the protocol, the login.
//!
//! Standards: Postfix's XCLIENT_README.

use super::auth::Authentication;
use super::{Event, Hello, Identity, Pause, Session};
use crate::Reply;
use crate::xclient::{Attribute, Protocol, Xclient};

impl Session {
    /// The peer may say who its client is; before the greeting.
    pub fn trust_introductions(&mut self) {
        self.trusted = true;
    }

    /// The answer to [`Event::Introduced`]: the client may have a session, which begins anew with its greeting, and with nothing of the
    /// client before. Unless `trusted`, that client is believed nothing more: what it says may reach us as it is. Whoever may have no
    /// session is closed out with [`close_with`](Self::close_with).
    pub fn introduced(&mut self, xclient: &Xclient, trusted: bool) {
        if !self.resume(Pause::Introduced) {
            return;
        }
        self.trusted = trusted;
        // XCLIENT_README, "XCLIENT Server response": as after the connection was made.
        self.hello = Hello::None;
        self.mail_refused = false;
        if xclient.address.is_some() {
            // Somebody else has made those mistakes.
            (self.errors, self.refused_recipients, self.junk_commands) = (0, 0, 0);
        }
        self.hello_is_fixed = xclient.helo.is_some();
        self.hello_name.clear();
        if let Some(Attribute::Known(name)) = &xclient.helo {
            let harmless =
                |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':' | '[' | ']');
            self.hello_name.extend(name.chars().filter(harmless));
        }
        self.hello_protocol = xclient.protocol.map(|protocol| match protocol {
            Protocol::Smtp => Hello::Helo,
            Protocol::Esmtp => Hello::Ehlo,
        });
        self.authentication = match &xclient.login {
            Some(Attribute::Known(name)) => {
                let identity = Identity { name: name.clone(), mechanism: None };
                Some(Box::new(Authentication::Known(identity)))
            }
            _ => None,
        };
        self.greet();
    }

    pub(super) fn xclient<'i>(&mut self, rest: &[u8]) -> Option<Event<'i>> {
        match self.introduction(rest) {
            Ok(xclient) => {
                self.pause = Pause::Introduced;
                Some(Event::Introduced(Box::new(xclient)))
            }
            Err(reply) => {
                self.refuse(reply);
                None
            }
        }
    }

    fn introduction(&self, rest: &[u8]) -> Result<Xclient, &'static Reply> {
        if !self.trusted {
            return Err(Reply::NOT_IMPLEMENTED);
        }
        // XCLIENT_README: 503 within a mail transaction.
        if self.transaction.is_some() {
            return Err(Reply::NESTED_XCLIENT);
        }
        Xclient::parse(rest).map_err(|_| Reply::XCLIENT_SYNTAX)
    }
}
