//! Senders for the tests that end a gateway in the middle: many connections, each message different, a note of every acknowledged one.
//!
//! What was sent can be made again from its number, so a note is the id and the number, and a message that was stored
//! without an acknowledgement can be checked as well.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::client::{Client, accepted, stuffed};
use crate::random::Random;

/// One acknowledgement.
#[derive(Clone, Debug)]
pub struct Acknowledged {
    /// The id in the 250.
    pub id: String,
    /// Which message it was.
    pub number: u64,
}

/// See [`Round::guard`].
#[derive(Debug)]
pub struct Guard<'r>(&'r Round);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.abandoned.store(true, Ordering::Relaxed);
        }
    }
}

/// Where the numbers of a round come from, and when to stop.
#[derive(Debug)]
pub struct Round {
    next: AtomicU64,
    end: u64,
    recipients: fn(u64) -> &'static [&'static str],
    /// Set when the test has failed: the senders end, and nobody waits for them for ever.
    abandoned: AtomicBool,
    /// Set before the server, or its disk, is made to fail on purpose: from then on a broken connection and a reply of 4xx are no failure
    /// but the end.
    pub over: AtomicBool,
}

impl Round {
    /// Numbers begin here.
    pub fn from(number: u64) -> Self {
        Self::between(number, u64::MAX)
    }

    /// Numbers begin here, and the senders end soon after there, if the server has not ended before.
    pub fn between(number: u64, end: u64) -> Self {
        Self {
            next: AtomicU64::new(number),
            end,
            recipients: |_| &["r@example.com"],
            abandoned: AtomicBool::new(false),
            over: AtomicBool::new(false),
        }
    }

    /// The same with these recipients of the message of each number.
    #[must_use]
    pub fn to(mut self, recipients: fn(u64) -> &'static [&'static str]) -> Self {
        self.recipients = recipients;
        self
    }

    /// Ends the senders when the test fails while they run.
    pub fn guard(&self) -> Guard<'_> {
        Guard(self)
    }

    /// How many numbers were given out so far, in all rounds.
    pub fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Sends over one connection after another until the server is gone.
    ///
    /// # Panics
    /// The server refuses a message.
    pub fn send(&self, address: SocketAddr) -> Vec<Acknowledged> {
        let mut acknowledged = Vec::new();
        self.send_telling(address, |id, number| acknowledged.push(Acknowledged { id, number }));
        acknowledged
    }

    /// The same; each acknowledgement is told as soon as it is there.
    ///
    /// # Panics
    /// The server refuses a message.
    pub fn send_telling(&self, address: SocketAddr, mut tell: impl FnMut(String, u64)) {
        while self.next() < self.end && !self.abandoned.load(Ordering::Relaxed) {
            // Any error is the death of the server that the test brings about.
            let Ok(client) = Client::open(address) else { break };
            if self.session(client, &mut tell).is_err() {
                break;
            }
        }
        let abandoned = self.abandoned.load(Ordering::Relaxed);
        let over = self.over.load(Ordering::SeqCst) || self.next() >= self.end || abandoned;
        assert!(over, "the server is gone before it was killed");
    }

    fn session(&self, mut client: Client, tell: &mut impl FnMut(String, u64)) -> std::io::Result<()> {
        let expect = |client: &mut Client, code: u16| {
            let reply = client.reply()?;
            if reply.code != code && (400..500).contains(&reply.code) && self.over.load(Ordering::SeqCst) {
                return Err(std::io::ErrorKind::Interrupted.into());
            }
            assert_eq!(reply.code, code, "{}", reply.text());
            Ok::<_, std::io::Error>(reply)
        };
        expect(&mut client, 220)?;
        client.send(b"EHLO client.test.example\r\n")?;
        expect(&mut client, 250)?;
        // A few messages a session, each whole transaction in two segments as a pipelining sender does it (RFC 2920).
        for _ in 0..5 {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let body = body(number);
            let recipients = (self.recipients)(number);
            let mut envelope = String::from("MAIL FROM:<s@client.test.example>\r\n");
            recipients.iter().for_each(|recipient| envelope.push_str(&format!("RCPT TO:<{recipient}>\r\n")));
            let chunked = number.is_multiple_of(3);
            if chunked {
                client.send(envelope.as_bytes())?;
                client.send(format!("BDAT {} LAST\r\n", body.len()).as_bytes())?;
                client.send(&body)?;
            } else {
                client.send(format!("{envelope}DATA\r\n").as_bytes())?;
            }
            for _ in 0..=recipients.len() {
                expect(&mut client, 250)?;
            }
            if !chunked {
                expect(&mut client, 354)?;
                client.send(&stuffed(&body))?;
            }
            let reply = expect(&mut client, 250)?;
            tell(accepted(&reply), number);
        }
        client.send(b"QUIT\r\n")?;
        expect(&mut client, 221)?;
        Ok(())
    }
}

/// The message of this number: mostly small, a few larger than one record of the log.
pub fn body(number: u64) -> Vec<u8> {
    let mut random = Random::new(number);
    let octets = match random.below(100) {
        0 => 300_000 + random.below(700_000),
        1..10 => 20_000 + random.below(60_000),
        _ => random.below(6000),
    };
    let mut body = format!("Subject: {number}\r\n\r\n").into_bytes();
    body.extend(random.text(usize::try_from(octets).unwrap_or(0)));
    body
}

/// The number of a stored message, from its subject.
pub fn number(stored: &[u8]) -> Option<u64> {
    let at = stored.windows(11).position(|window| window == b"\r\nSubject: ")? + 11;
    let end = at + stored[at..].iter().position(|octet| *octet == b'\r')?;
    std::str::from_utf8(&stored[at..end]).ok()?.parse().ok()
}
