//! What steers the admin server, with its defaults.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// A bearer token (RFC 6750 §2.1). Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Octets of the shortest token that is taken.
    pub const OCTETS_MIN: usize = 16;

    /// Takes the first line of `text` without white space around it.
    ///
    /// # Errors
    /// What a token must look like; the text itself is not told.
    pub fn new(text: &str) -> Result<Self, &'static str> {
        let token = text.lines().next().unwrap_or_default().trim();
        if token.len() < Self::OCTETS_MIN {
            return Err("the token must have at least 16 characters");
        }
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("the token must be printable US-ASCII without blanks");
        }
        Ok(Self(token.to_owned()))
    }

    /// The token itself, for whoever sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Compares without telling by time how many octets agree.
    #[must_use]
    pub fn matches(&self, sent: &str) -> bool {
        let (own, sent) = (self.0.as_bytes(), sent.as_bytes());
        let differing = own.iter().zip(sent).fold(0, |differing, (a, b)| differing | (a ^ b));
        own.len() == sent.len() && std::hint::black_box(differing) == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Settings of the admin server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminSettings {
    /// Where to listen; port 0 lets the kernel choose one.
    pub address: SocketAddr,
    /// Demanded everywhere but at `/healthz` and `/readyz`; there must be one when `address` is not on loopback.
    pub token: Option<Token>,
    /// Connections at a time; more wait in the kernel.
    pub connections_max: usize,
    /// Octets of the header of a request, at least 8 KiB; then 431.
    pub request_octets_max: usize,
    /// From the accept of a connection to the end of the header; as long again for the answer to be read. Making it is not timed.
    pub request_timeout: Duration,
    /// Viewers of the live samples at a time, besides the connections; then 503. 0 = nobody.
    pub viewers_max: u32,
    /// How often a sample is taken while there are viewers.
    pub sample_interval: Duration,
}

impl Default for AdminSettings {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 9925)),
            token: None,
            connections_max: 64,
            request_octets_max: 16 << 10,
            request_timeout: Duration::from_secs(10),
            viewers_max: 16,
            sample_interval: Duration::from_secs(1),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn tokens_match_whole_and_stay_hidden() {
        let token = Token::new("  0123456789abcdef \nsecond line").unwrap();
        assert!(token.matches("0123456789abcdef"));
        for wrong in ["", "0123456789abcde", "0123456789abcdeF", "0123456789abcdef0"] {
            assert!(!token.matches(wrong), "{wrong}");
        }
        assert_eq!(format!("{token:?}"), "Token(…)");
        assert!(Token::new("short").is_err());
        assert!(Token::new("0123456789 abcdef").is_err());
        assert!(Token::new("0123456789äbcdef").is_err());
    }
}
