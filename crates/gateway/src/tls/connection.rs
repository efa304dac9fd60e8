//! One connection under TLS: ciphertext in, plaintext out, and the other way round. No I/O.
//!
//! The unbuffered interface of rustls, so that ciphertext stays in the session's receive buffer and replies are encrypted into its
//! send buffer: an idle session holds no buffer of its own for TLS.
//! ```text
//! incoming ──▶ a record at a time ──▶ plaintext, appended to the session's buffer
//!                 └──▶ handshake messages, alerts: appended to the octets on their way out
//! ```
//! Standards: RFC 8446, RFC 5246; RFC 6066 §3 (server name).

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    AppDataRecord, ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError,
    UnbufferedStatus, WriteTraffic,
};
use rustls::{Error, InvalidMessage, ProtocolVersion, ServerConfig};

use super::certificates;

/// Type, version, length (RFC 8446 §5.1).
const HEADER_OCTETS: usize = 5;

/// Largest ciphertext of a record: that of TLS 1.2 (RFC 5246 §6.2.3).
const CIPHERTEXT_OCTETS_MAX: usize = 16 * 1024 + 2048;

/// Largest plaintext of a record (RFC 8446 §5.1).
const PLAINTEXT_OCTETS_MAX: usize = 16 * 1024;

/// What a record takes beyond its plaintext, at most.
const RECORD_OVERHEAD_MAX: usize = 64;

/// What [`Tls::advance`] has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Advance {
    /// The next record is not whole: it takes so many octets from the front of what is not worked off.
    NeedInput(usize),
    /// The handshake is done; comes once.
    Ready,
    /// Plaintext was appended.
    Plaintext,
    /// The peer has said that it sends nothing more (close_notify).
    Closed,
}

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
pub(crate) struct Tls {
    connection: UnbufferedServerConnection,
    /// Ciphertext; what is before `start` is worked off.
    pub(crate) incoming: Vec<u8>,
    start: usize,
    ready: bool,
    server_name: Option<String>,
}

impl Tls {
    /// A connection on which the client speaks first.
    pub(crate) fn accept(config: Arc<ServerConfig>) -> Result<Self, Error> {
        let connection = UnbufferedServerConnection::new(config)?;
        Ok(Self { connection, incoming: Vec::new(), start: 0, ready: false, server_name: None })
    }

    /// Ciphertext that is not worked off.
    pub(crate) fn pending(&self) -> &[u8] {
        &self.incoming[self.start..]
    }

    /// Forgets what is worked off; gives back how many octets are left.
    pub(crate) fn compact(&mut self) -> usize {
        self.incoming.drain(..self.start);
        self.start = 0;
        self.incoming.len()
    }

    /// Plaintext that the next call of [`advance`](Self::advance) may append at most: 0 when the next record is not whole.
    pub(crate) fn next_plaintext_octets_max(&self) -> usize {
        match whole_records(self.pending(), 1) {
            Ok(octets) => (octets - HEADER_OCTETS).min(PLAINTEXT_OCTETS_MAX),
            Err(_) => 0,
        }
    }

    /// Works off one record, or as many as a handshake message stretches over. Plaintext goes to the end of `plain`; what is to be
    /// sent goes to the end of `out`, also when it fails: then it is an alert.
    ///
    /// # Errors
    /// The peer broke the protocol, or there is nothing to agree on.
    pub(crate) fn advance(&mut self, plain: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<Advance, Error> {
        let mut records = 1;
        loop {
            let (window, needed) = match whole_records(self.pending(), records) {
                Ok(octets) => (octets, 0),
                Err(Incomplete::Needs(octets)) => (0, octets),
                Err(Incomplete::Never) => {
                    return Err(Error::InvalidMessage(InvalidMessage::InvalidContentType));
                }
            };
            let incoming = &mut self.incoming[self.start..];
            let status = self.connection.process_tls_records(&mut incoming[..window]);
            self.server_name = certificates::take_server_name().or(self.server_name.take());
            let UnbufferedStatus { discard, state } = status;
            let blocked = match state {
                Ok(ConnectionState::EncodeTlsData(mut encode)) => {
                    put(&mut encode, out)?;
                    None
                }
                Ok(ConnectionState::TransmitTlsData(transmit)) => {
                    transmit.done();
                    None
                }
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let AppDataRecord { payload, .. } = record?;
                        plain.extend_from_slice(payload);
                    }
                    self.start += discard;
                    return Ok(Advance::Plaintext);
                }
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                    self.start += discard;
                    return Ok(Advance::Closed);
                }
                Ok(ConnectionState::BlockedHandshake) => Some(false),
                Ok(ConnectionState::WriteTraffic(_)) => Some(true),
                // Early data is not offered (RFC 8446 §8: it may be replayed).
                Ok(_) => return Err(Error::General("unexpected state".to_owned())),
                Err(error) => {
                    self.start += discard;
                    self.alert(out);
                    return Err(error);
                }
            };
            self.start += discard;
            let Some(done) = blocked else { continue };
            if done && !self.ready {
                self.ready = true;
                return Ok(Advance::Ready);
            }
            if window == 0 {
                return Ok(Advance::NeedInput(needed));
            }
            records = if discard > 0 { 1 } else { records + 1 };
        }
    }

    /// Encrypts `plain` to the end of `out`.
    ///
    /// # Errors
    /// The keys are used up and cannot be renewed.
    pub(crate) fn encrypt(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        self.write(out, |traffic, out| {
            let overhead = (plain.len() / PLAINTEXT_OCTETS_MAX + 1) * RECORD_OVERHEAD_MAX;
            append(out, plain.len() + overhead, |room| traffic.encrypt(plain, room).map_err(Refusal::from))
        })
    }

    /// Says to the end of `out` that nothing more will be sent.
    pub(crate) fn close(&mut self, out: &mut Vec<u8>) {
        // A connection that cannot say so any more closes without it.
        let _ = self.write(out, |traffic, out| {
            append(out, RECORD_OVERHEAD_MAX, |room| traffic.queue_close_notify(room).map_err(Refusal::from))
        });
    }

    fn write(
        &mut self,
        out: &mut Vec<u8>,
        mut write: impl FnMut(&mut Traffic<'_>, &mut Vec<u8>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        loop {
            let UnbufferedStatus { state, .. } = self.connection.process_tls_records(&mut []);
            match state? {
                ConnectionState::WriteTraffic(mut traffic) => return write(&mut traffic, out),
                // An answer to a renewal of keys goes first.
                ConnectionState::EncodeTlsData(mut encode) => {
                    put(&mut encode, out)?;
                }
                ConnectionState::TransmitTlsData(transmit) => transmit.done(),
                ConnectionState::PeerClosed => {}
                state => return Err(Error::General(format!("cannot write: {state:?}"))),
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
        Agreed { version, cipher, server_name: self.server_name.clone(), client }
    }

    /// The certificates that the client has shown, its own first; none when it was not asked or has none.
    pub(crate) fn client_certificates(&self) -> &[CertificateDer<'static>] {
        self.connection.peer_certificates().unwrap_or_default()
    }

    /// The alert that an error has left behind.
    fn alert(&mut self, out: &mut Vec<u8>) {
        while let Ok(state) = self.connection.process_tls_records(&mut []).state {
            match state {
                ConnectionState::EncodeTlsData(mut encode) => {
                    if put(&mut encode, out).is_err() {
                        return;
                    }
                }
                ConnectionState::TransmitTlsData(transmit) => transmit.done(),
                _ => return,
            }
        }
    }
}

/// Appends a handshake message or an alert.
fn put(encode: &mut EncodeTlsData<'_, ServerConnectionData>, out: &mut Vec<u8>) -> Result<(), Error> {
    append(out, RECORD_OVERHEAD_MAX, |room| match encode.encode(room) {
        Err(EncodeError::InsufficientSize(size)) => Err(Refusal::Size(size)),
        Err(EncodeError::AlreadyEncoded) => Ok(0),
        Ok(octets) => Ok(octets),
    })
}

type Traffic<'c> = WriteTraffic<'c, ServerConnectionData>;

/// Why octets were not written.
enum Refusal {
    Size(InsufficientSizeError),
    Exhausted,
}

impl From<EncryptError> for Refusal {
    fn from(error: EncryptError) -> Self {
        match error {
            EncryptError::InsufficientSize(size) => Self::Size(size),
            EncryptError::EncryptExhausted => Self::Exhausted,
        }
    }
}

/// Appends what `write` writes into room behind `out`: `octets` of it at first, and as much as it asks for then.
fn append(
    out: &mut Vec<u8>,
    octets: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Refusal>,
) -> Result<(), Error> {
    let begin = out.len();
    let mut room = octets;
    loop {
        out.resize(begin + room, 0);
        match write(&mut out[begin..]) {
            Ok(written) => {
                out.truncate(begin + written);
                return Ok(());
            }
            Err(Refusal::Size(InsufficientSizeError { required_size })) if required_size > room => {
                room = required_size;
            }
            Err(_) => {
                out.truncate(begin);
                return Err(Error::EncryptError);
            }
        }
    }
}

/// Why there are not as many whole records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Incomplete {
    /// So many octets are needed from the front on.
    Needs(usize),
    /// This is no record, or one that is too long.
    Never,
}

/// Octets of the first `count` records.
fn whole_records(octets: &[u8], count: usize) -> Result<usize, Incomplete> {
    let mut end = 0;
    for _ in 0..count {
        let Some(&[kind, _, _, high, low]) = octets.get(end..end + HEADER_OCTETS) else {
            // What begins otherwise needs no five octets to be known.
            return match octets.get(end) {
                Some(kind) if !is_record(*kind) => Err(Incomplete::Never),
                _ => Err(Incomplete::Needs(end + HEADER_OCTETS)),
            };
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if !is_record(kind) || length > CIPHERTEXT_OCTETS_MAX {
            return Err(Incomplete::Never);
        }
        end += HEADER_OCTETS + length;
        if octets.len() < end {
            return Err(Incomplete::Needs(end));
        }
    }
    Ok(end)
}

/// Change cipher spec, alert, handshake, application data (RFC 8446 §5.1).
fn is_record(kind: u8) -> bool {
    matches!(kind, 20..=23)
}
