//! A session under TLS: the handshake, and the way from ciphertext to commands.
//!
//! ```text
//! socket ─▶ incoming (ciphertext) ─▶ rustls ─▶ the session's buffer ─▶ parse
//! ```
//! Both buffers are there only while something lies in them, so that an idle session holds none, as without TLS.
//!
//! Standards: RFC 3207 §4, RFC 8314 §3.

use inrush_metrics::{Counter, Phase, SessionEnd, TlsFailure, TlsVersion};

use inrush_trace::Event;

use super::{Input, Talk};
use crate::admission::HandshakePermit;
use crate::core::Core;
use crate::tls::{Agreed, Tls};
use crate::watch::{Ending, Stage};

/// Octets of the largest record on the wire (RFC 5246 §6.2.3).
const RECORD_OCTETS_MAX: usize = 5 + (1 << 14) + 2048;

/// What a session under TLS has beside the others.
pub(super) struct Secure {
    pub(super) tls: Tls,
    pub(super) agreed: Agreed,
    /// What TLS itself has to say, not sent yet.
    pub(super) outgoing: Vec<u8>,
    /// When the handshake was done, on the core's clock.
    pub(super) since: u64,
    /// When the last login was verified; 0 = none was.
    pub(super) login: u64,
}

/// The label of a version.
fn version(agreed: &Agreed) -> TlsVersion {
    if agreed.version == "TLSv1.3" { TlsVersion::Tls13 } else { TlsVersion::Tls12 }
}

/// The label of an error.
fn failure(error: &rustls::Error) -> TlsFailure {
    match error {
        rustls::Error::InvalidMessage(_) => TlsFailure::NotTls,
        rustls::Error::PeerIncompatible(_) => TlsFailure::Incompatible,
        rustls::Error::AlertReceived(_) => TlsFailure::Alert,
        _ => TlsFailure::Protocol,
    }
}

impl Secure {
    /// `out` as it goes over the wire, with the last word of TLS behind it when the session is `over`.
    pub(super) fn seal(&mut self, core: &Core, out: Vec<u8>, over: bool) -> Vec<u8> {
        let mut sealed = core.take_output();
        sealed.append(&mut self.outgoing);
        if !out.is_empty() {
            self.tls.encrypt(&out, &mut sealed);
        }
        core.give_back_output(out);
        if over {
            self.tls.close(&mut sealed);
        }
        sealed
    }
}

impl Talk<'_> {
    /// STARTTLS; gives back how the session ends if it does.
    pub(super) async fn start_tls(&mut self) -> Option<SessionEnd> {
        let permit = match self.core.permit_handshake() {
            Ok(permit) => permit,
            Err(reply) => {
                self.attend();
                self.session.start_tls(Err(reply));
                self.turn_away();
                return None;
            }
        };
        self.attend();
        self.session.start_tls(Ok(()));
        self.turn_away();
        // The 220 stands behind the replies to messages that were sent before, and nothing may follow it without TLS.
        if !self.wait_for_gates().await || !self.send().await {
            return Some(SessionEnd::PeerReset);
        }
        // Closed: the log has failed meanwhile.
        let going_on = self.session.phase() == inrush_proto::Phase::Closed || self.handshake(permit).await;
        (!going_on).then_some(SessionEnd::TlsFailed)
    }

    /// Shakes hands before the greeting; false when there is no TLS.
    pub(super) async fn implicit_tls(&mut self) -> bool {
        match self.core.permit_handshake() {
            Ok(permit) => self.handshake(permit).await,
            Err(_) => false,
        }
    }

    /// Shakes hands; false when the connection is of no use any more, which is counted.
    async fn handshake(&mut self, permit: HandshakePermit<'_>) -> bool {
        let begun = self.core.clock.now();
        self.place.enter(Stage::Handshake, begun);
        // Plaintext behind STARTTLS was not sent under TLS, whoever sent it (RFC 3207 §4.2).
        let injected = self.buffer.len() - self.start;
        self.core.metrics.add(Counter::TlsPlaintextDiscarded, injected as u64);
        self.core.pool.give_back(std::mem::take(&mut self.buffer));
        self.start = 0;
        let shaken = self.shake_hands(&permit).await;
        drop(permit);
        match shaken {
            Ok(mut secure) => {
                self.core.metrics.count(version(&secure.agreed));
                let Agreed { version, cipher, server_name, client } = &secure.agreed;
                tracing::debug!(
                    listener = self.door.name,
                    client = %self.peer(),
                    tls = version,
                    cipher,
                    sni = server_name.as_deref().unwrap_or(""),
                    client_certificate = client.as_deref().unwrap_or(""),
                    "TLS agreed"
                );
                let now = self.core.clock.now();
                self.core.record(Phase::Tls, now - begun);
                self.show(&Event::Tls(secure.agreed.version, &secure.agreed.cipher));
                secure.since = now;
                self.place.shown.secured(secure.agreed.version);
                self.secure = Some(secure);
                self.session.secured();
                self.noted.secured();
                // What came with the end of the handshake is worked off from now on.
                self.input_at = now;
                self.noted.of_input = 0;
                true
            }
            Err(failure) => {
                let timed_out = self.place.ending() == Some(Ending::Handshake);
                self.core.metrics.count(if timed_out { TlsFailure::Timeout } else { failure });
                false
            }
        }
    }

    async fn shake_hands(&self, permit: &HandshakePermit<'_>) -> Result<Box<Secure>, TlsFailure> {
        let core = self.core;
        let mut tls = permit.certificates.accept(self.door.asks_clients).map_err(|_| TlsFailure::Internal)?;
        let shaken = self.exchange(&mut tls).await;
        if let Err(failure) = shaken {
            core.pool.give_back(tls.incoming);
            return Err(failure);
        }
        let agreed = permit.certificates.agreed(&tls);
        Ok(Box::new(Secure { tls, agreed, outgoing: Vec::new(), since: 0, login: 0 }))
    }

    async fn exchange(&self, tls: &mut Tls) -> Result<(), TlsFailure> {
        let core = self.core;
        loop {
            let mut out = core.take_output();
            let advanced = tls.advance(&mut out);
            if !out.is_empty() {
                let octets = out.len() as u64;
                let sent = self.socket.send_all(&out).await.is_ok();
                core.metrics.add(Counter::SentBytes, octets);
                if !sent && advanced.is_ok() {
                    return Err(TlsFailure::Closed);
                }
            }
            core.give_back_output(out);
            if let Err(error) = advanced {
                tracing::debug!(listener = self.door.name, client = %self.peer(), %error, "TLS handshake");
                return Err(failure(&error));
            }
            if tls.is_ready() {
                return Ok(());
            }
            if tls.is_closed() {
                return Err(TlsFailure::Closed);
            }
            // All of it is worked off: no plaintext waits during a handshake.
            core.pool.give_back(std::mem::take(&mut tls.incoming));
            self.socket.readable().await;
            tls.incoming = core.pool.take(RECORD_OCTETS_MAX).map_err(|_| TlsFailure::Memory)?;
            match self.socket.receive(&mut tls.incoming) {
                Ok(None) => {}
                Ok(Some(octets @ 1..)) => core.metrics.add(Counter::ReceivedBytes, octets as u64),
                _ => return Err(TlsFailure::Closed),
            }
        }
    }

    /// The last word of TLS to a peer that has said its own (RFC 5246 §7.2.1).
    pub(super) async fn close_tls(&mut self) {
        let core = self.core;
        if let Some(secure) = &mut self.secure {
            let sealed = secure.seal(core, core.take_output(), true);
            // Whoever is gone needs none.
            if let Ok(sent) = self.socket.send(&sealed)
                && sent < sealed.len()
            {
                let _ = Box::pin(self.send_slowly(&sealed[sent..])).await;
            }
            core.give_back_output(sealed);
        }
    }

    /// Turns ciphertext that is there into plaintext for the session. `None` when more has to be received.
    pub(super) fn decrypt(&mut self) -> Option<Input> {
        let pool = &self.core.pool;
        let secure = self.secure.as_deref_mut()?;
        if let Err(error) = secure.tls.advance(&mut secure.outgoing) {
            tracing::debug!(listener = self.door.name, client = %self.peer(), %error, "TLS");
            return Some(Input::Broken);
        }
        let waiting = secure.tls.waiting();
        if waiting > 0 {
            // As much as the largest buffer takes; the session makes room for the others.
            let rest = self.buffer.len() - self.start;
            if !pool.fit(&mut self.buffer, &mut self.start, rest + waiting) {
                return Some(Input::NoMemory);
            }
            secure.tls.read(&mut self.buffer);
            return Some(Input::Octets);
        }
        if secure.tls.is_closed() {
            return Some(Input::Closed);
        }
        // All of it is worked off.
        pool.give_back(std::mem::take(&mut secure.tls.incoming));
        None
    }
}
