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

    /// The answer to [`Event::Introduced`]: the client may have a session, which begins anew with its greeting. Whoever may not is
    /// closed out with [`close_with`](Self::close_with).
    pub fn introduced(&mut self, xclient: &Xclient) {
        if !self.resume(Pause::Introduced) {
            return;
        }
        // XCLIENT_README, "XCLIENT Server response": as after the connection was made. What was said about the client stays.
        self.hello = Hello::None;
        match &xclient.helo {
            Some(Attribute::Known(name)) => {
                let harmless =
                    |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':' | '[' | ']');
                self.hello_name = name.chars().filter(harmless).collect();
                self.hello_is_fixed = true;
            }
            Some(_) => {
                self.hello_name.clear();
                self.hello_is_fixed = true;
            }
            None if !self.hello_is_fixed => self.hello_name.clear(),
            None => {}
        }
        if let Some(protocol) = xclient.protocol {
            self.hello_protocol = Some(match protocol {
                Protocol::Smtp => Hello::Helo,
                Protocol::Esmtp => Hello::Ehlo,
            });
        }
        match &xclient.login {
            Some(Attribute::Known(name)) => {
                let identity = Identity { name: name.clone(), mechanism: None };
                self.authentication = Some(Box::new(Authentication::Known(identity)));
            }
            Some(_) => self.authentication = None,
            None => {}
        }
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
