//! One connection under TLS: ciphertext in, plaintext out, and the other way round. No I/O.
//!
//! Ciphertext comes in the session's receive buffer and is copied once into that of rustls; plaintext goes from there into the session's
//! buffer as far as it has room, and waits otherwise: rustls takes no more ciphertext then.
//! ```text
//! incoming ──▶ rustls ──▶ plaintext, as much as there is room
//!                 └──▶ handshake messages, alerts: appended to the octets on their way out
//! ```
//! The unbuffered interface of rustls would save that copy and the 4 KiB that an idle connection holds for it. It was tried and dropped:
//! offsets into a buffer of ours outlive the calls there, and a handshake message in pieces makes it panic (rustls 0.23.46).
//!
//! Standards: RFC 8446, RFC 5246; RFC 6066 §3 (server name).

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::{Error, ProtocolVersion, ServerConfig, ServerConnection};

/// What was agreed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Agreed {
    /// `TLSv1.3` or `TLSv1.2`.
    pub(crate) version: &'static str,
    /// Name of the cipher suite in the registry of IANA.
    pub(crate) cipher: String,
    /// The name that the client has asked for.
    pub(crate) server_name: Option<String>,
    /// The name in the client's certificate, if it is one that is trusted.
    pub(crate) client: Option<String>,
}

/// The state of one connection.
pub struct Tls {
    connection: ServerConnection,
    /// Ciphertext; what is before `start` is worked off.
    pub incoming: Vec<u8>,
    start: usize,
    /// Octets of plaintext that wait.
    waiting: usize,
    /// The peer has said that it sends nothing more (close_notify).
    closed: bool,
    failed: bool,
}

impl Tls {
    /// A connection on which the client speaks first.
    pub(crate) fn accept(config: Arc<ServerConfig>) -> Result<Self, Error> {
        let mut connection = ServerConnection::new(config)?;
        // What is written is taken at once, and the replies of a session have a bound of their own.
        connection.set_buffer_limit(None);
        Ok(Self { connection, incoming: Vec::new(), start: 0, waiting: 0, closed: false, failed: false })
    }

    /// Works off ciphertext until all of it is gone or plaintext waits. What is to be sent goes to the end of `out`, also when it fails: then
    /// it is an alert.
    ///
    /// # Errors
    /// The peer broke the protocol, or there is nothing to agree on; again with every further call.
    pub fn advance(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        if self.failed {
            return Err(Error::General("failed before".to_owned()));
        }
        while self.waiting == 0 && !self.closed && self.start < self.incoming.len() {
            let mut rest = &self.incoming[self.start..];
            // Reads from memory, and no plaintext waits: what is left to fail is a bound of rustls on handshake messages.
            let octets = self.connection.read_tls(&mut rest).map_err(|_| {
                self.failed = true;
                Error::InvalidMessage(rustls::InvalidMessage::HandshakePayloadTooLarge)
            })?;
            self.start += octets;
            let processed = self.connection.process_new_packets();
            self.take_output(out);
            match processed {
                Ok(state) => {
                    self.waiting = state.plaintext_bytes_to_read();
                    self.closed = state.peer_has_closed();
                }
                Err(error) => {
                    self.failed = true;
                    return Err(error);
                }
            }
        }
        if self.start == self.incoming.len() {
            self.incoming.clear();
            self.start = 0;
        }
        Ok(())
    }

    /// Whether the handshake is done.
    pub fn is_ready(&self) -> bool {
        !self.connection.is_handshaking()
    }

    /// Octets of plaintext that [`read`](Self::read) would give.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether the peer sends nothing more, and everything it has sent was read.
    pub fn is_closed(&self) -> bool {
        self.closed && self.waiting == 0
    }

    /// Appends plaintext to `plain`, as much as it has room for.
    pub fn read(&mut self, plain: &mut Vec<u8>) {
        let (filled, room) = (plain.len(), plain.capacity() - plain.len());
        plain.resize(filled + room.min(self.waiting), 0);
        let octets = self.connection.reader().read(&mut plain[filled..]).unwrap_or(0);
        plain.truncate(filled + octets);
        // Nothing although something waits: never, and not a reason to ask for ever.
        self.waiting = if octets == 0 { 0 } else { self.waiting - octets };
    }

    /// Encrypts `plain` to the end of `out`.
    pub fn encrypt(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        // Into memory, without a limit.
        let _ = self.connection.writer().write_all(plain);
        self.take_output(out);
    }

    /// Says to the end of `out` that nothing more will be sent.
    pub(crate) fn close(&mut self, out: &mut Vec<u8>) {
        self.connection.send_close_notify();
        self.take_output(out);
    }

    fn take_output(&mut self, out: &mut Vec<u8>) {
        while self.connection.wants_write() {
            if !matches!(self.connection.write_tls(out), Ok(1..)) {
                return;
            }
        }
    }

    /// What was agreed on, once the handshake is done.
    pub(crate) fn agreed(&self, client: Option<String>) -> Agreed {
        let version = match self.connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            _ => "TLSv1.2",
        };
        let suite = self.connection.negotiated_cipher_suite();
        let cipher = suite.map(|suite| format!("{:?}", suite.suite())).unwrap_or_default();
        // The registry has one name for all versions.
        let cipher = cipher.replacen("TLS13_", "TLS_", 1);
        let server_name = self.connection.server_name().map(str::to_owned);
        Agreed { version, cipher, server_name, client }
    }

    /// The certificates that the client has shown, its own first; none when it was not asked or has none.
    pub(crate) fn client_certificates(&self) -> &[CertificateDer<'static>] {
        self.connection.peer_certificates().unwrap_or_default()
    }
}
