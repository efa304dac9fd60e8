//! Why a connection is not safe, in words for the postmaster of either side.
//!
//! All of it may be better tomorrow: certificates are renewed and servers mended, and a message that must not go in the clear can wait.
//! Postfix has the same code for it.
//!
//! Standards: RFC 3463 §3.8 (4.7.5, cryptographic failure).

use std::fmt;
use std::io;
use std::path::PathBuf;

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error};

/// Most names of a certificate that are told.
const NAMES_MAX: usize = 5;

/// Longest text of a server that is told.
const SHOWN_CHARACTERS_MAX: usize = 255;

/// Why there is no [`ClientTls`](super::ClientTls).
#[derive(Debug, thiserror::Error)]
pub enum TlsSettingsError {
    /// The file cannot be read.
    #[error("{} cannot be read: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It holds no certificate.
    #[error("{} holds no certificate", .0.display())]
    NoCertificate(PathBuf),
    /// It holds no private key, or an encrypted one.
    #[error("{} holds no private key without a passphrase", .0.display())]
    NoKey(PathBuf),
    /// It cannot be understood.
    #[error("{}: {what}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Our own certificate and key cannot be used together.
    #[error("{} cannot be used with {}: {what}", key.display(), certificate.display())]
    Own {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The authorities cannot be used.
    #[error("the certificate authorities cannot be used: {0}")]
    Authorities(String),
}

/// Why there is no safe connection to a server.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// No certificate can be for this name.
    #[error("Cannot start TLS: \"{0}\" is neither a host name nor an address")]
    Name(String),
    /// A verified connection is wanted, but there is nobody to vouch for anyone.
    #[error("Server certificate of {0} not verified: no certificate authority is known here")]
    NoAuthorities(String),
    /// The certificate does not show that the server is the one that is meant.
    #[error("Server certificate of {name} not trusted: {problem}")]
    Certificate {
        /// The server.
        name: String,
        /// What is wrong with its certificate.
        problem: CertificateProblem,
    },
    /// Both sides cannot agree, or one of them breaks the protocol.
    #[error("Cannot start TLS with {name}: {what}")]
    Handshake {
        /// The server.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// The connection is lost.
    #[error("Cannot start TLS with {name}: lost connection: {error}")]
    Connection {
        /// The server.
        name: String,
        /// What the system said.
        error: io::Error,
    },
}

impl TlsError {
    /// Whether another attempt is useless. It never is.
    #[must_use]
    pub fn permanent(&self) -> bool {
        false
    }

    /// The enhanced status code: class, subject, detail.
    #[must_use]
    pub fn enhanced(&self) -> (u8, u16, u16) {
        (4, 7, 5)
    }

    /// What a handshake with `name` has failed of.
    pub(super) fn of(name: &str, error: io::Error) -> Self {
        let name = name.to_owned();
        let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
            return Self::Connection { name, error };
        };
        match inner {
            Error::InvalidCertificate(error) => {
                Self::Certificate { name, problem: CertificateProblem::of(error) }
            }
            Error::NoCertificatesPresented => {
                Self::Certificate { name, problem: CertificateProblem::Other("there is none".to_owned()) }
            }
            error => Self::Handshake { name, what: handshake(error) },
        }
    }
}

fn handshake(error: &Error) -> String {
    match error {
        Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            "the server has neither TLS 1.2 nor TLS 1.3".to_owned()
        }
        Error::AlertReceived(AlertDescription::HandshakeFailure) => {
            "the server has no cipher suite that is safe enough, or wants a certificate of ours".to_owned()
        }
        Error::InvalidMessage(_) => "the server does not answer with TLS".to_owned(),
        error => shown(&error.to_string()),
    }
}

/// What is wrong with a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateProblem {
    /// It is not valid any more since so many days.
    Expired {
        /// Whole days.
        days: u64,
    },
    /// It is not valid yet.
    NotYetValid,
    /// No authority that is known here has issued it, not even through others that the server has shown.
    UnknownIssuer,
    /// It is for other names.
    OtherNames {
        /// Some of them.
        names: Vec<String>,
    },
    /// It is not signed by its issuer, or the handshake not with its key.
    BadSignature,
    /// It is the certificate of an authority, not of a server.
    Authority,
    /// Anything else.
    Other(String),
}

impl CertificateProblem {
    fn of(error: &CertificateError) -> Self {
        let days = |from: &UnixTime, to: &UnixTime| to.as_secs().saturating_sub(from.as_secs()) / 86_400;
        match error {
            CertificateError::ExpiredContext { time, not_after } => {
                Self::Expired { days: days(not_after, time) }
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            CertificateError::NotValidForName => Self::OtherNames { names: Vec::new() },
            CertificateError::NotValidForNameContext { presented, .. } => {
                let names = presented.iter().take(NAMES_MAX).map(|name| shown(bare(name)));
                Self::OtherNames { names: names.collect() }
            }
            CertificateError::BadSignature => Self::BadSignature,
            CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
                Self::Authority
            }
            other => Self::Other(shown(&other.to_string())),
        }
    }
}

impl fmt::Display for CertificateProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired { days } => write!(f, "certificate has expired {days} days ago"),
            Self::NotYetValid => f.write_str("certificate is not yet valid"),
            Self::UnknownIssuer => {
                f.write_str("unknown issuer (self-signed, or a certificate in between is missing)")
            }
            Self::OtherNames { names } if names.is_empty() => f.write_str("certificate has no server name"),
            Self::OtherNames { names } => write!(f, "certificate is for other names: {}", names.join(", ")),
            Self::BadSignature => f.write_str("a signature is wrong"),
            Self::Authority => {
                f.write_str("certificate is that of an authority, not of a server (self-signed)")
            }
            Self::Other(what) => f.write_str(what),
        }
    }
}

/// `DnsName("mx.example")` as rustls has it, without its wrapping.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, inner)| inner.strip_suffix(')')).unwrap_or(name);
    inner.trim_matches('"')
}

/// The text without anything that could harm a log line or a reply.
fn shown(text: &str) -> String {
    let text = text.chars().take(SHOWN_CHARACTERS_MAX);
    text.map(|character| if character.is_ascii_graphic() || character == ' ' { character } else { '?' })
        .collect()
}
