//! Mail for a destination that lives, in an open loop: each message has its turn by the clock, whatever became of those before it, and carries a
//! [`Stamp`]. It goes over kept connections; the next session that is free takes the next message.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use inrush_tests::client::Client;

use super::stamp::Stamp;

/// The domain that the mail is for.
pub(super) const DOMAIN: &str = "live.example";
/// Messages of one connection: fewer than a gateway takes by default. The next one is made between two messages, so that none waits for it.
const PER_CONNECTION: u32 = 500;
/// Until all connections stand.
const LEAD: Duration = Duration::from_millis(200);
/// Payload goes in lines of so many octets.
const LINE: usize = 74;

/// How much is sent.
pub(super) struct LiveLoad {
    /// Messages a second.
    pub(super) rate: u32,
    pub(super) sessions: u32,
    /// Payload octets of a message.
    pub(super) length: u32,
    /// Seconds that it lasts.
    pub(super) seconds: u64,
}

impl LiveLoad {
    /// Messages that are sent; they are numbered from 0 on.
    pub(super) fn messages(&self) -> u64 {
        u64::from(self.rate) * self.seconds
    }

    /// Sends all of them; stamps count from `begin`.
    ///
    /// # Errors
    /// A message is refused, or a connection breaks.
    pub(super) fn send(&self, to: SocketAddr, begin: Instant) -> anyhow::Result<()> {
        let next = AtomicU64::new(0);
        let first = begin.elapsed() + LEAD;
        let payload = payload(self.length);
        let session = || {
            let mut client = greeted(to)?;
            let mut sent = 0;
            loop {
                if sent == PER_CONNECTION {
                    (client, sent) = (greeted(to)?, 0);
                }
                sent += 1;
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= self.messages() {
                    return Ok(());
                }
                let planned = first + Duration::from_secs(number) / self.rate;
                thread::sleep(planned.saturating_sub(begin.elapsed()));
                let stamp = Stamp { number, planned, begun: begin.elapsed() };
                deliver(&mut client, &stamp, &payload).with_context(|| format!("message {number}"))?;
            }
        };
        thread::scope(|scope| {
            let sessions: Vec<_> = (0..self.sessions).map(|_| scope.spawn(session)).collect();
            let ends = sessions.into_iter().map(|one| one.join().map_err(|_| anyhow!("a session"))?);
            ends.collect::<anyhow::Result<()>>()
        })
    }
}

fn greeted(to: SocketAddr) -> anyhow::Result<Client> {
    let mut client = Client::open(to)?;
    expect(&mut client, 220)?;
    client.send(b"EHLO sender.example\r\n")?;
    expect(&mut client, 250)?;
    Ok(client)
}

/// One transaction, its commands in one write (RFC 2920).
fn deliver(client: &mut Client, stamp: &Stamp, payload: &str) -> anyhow::Result<()> {
    let commands = format!("MAIL FROM:<a@sender.example>\r\nRCPT TO:<b@{DOMAIN}>\r\nDATA\r\n");
    client.send(commands.as_bytes())?;
    for code in [250, 250, 354] {
        expect(client, code)?;
    }
    client.send(format!("{}{payload}.\r\n", stamp.field()).as_bytes())?;
    expect(client, 250)
}

fn expect(client: &mut Client, code: u16) -> anyhow::Result<()> {
    let reply = client.reply()?;
    ensure!(reply.code == code, "{code} expected: {}", reply.text());
    Ok(())
}

/// What stands behind the stamp: the rest of the header, and lines of text.
fn payload(octets: u32) -> String {
    let line = format!("{}\r\n", "x".repeat(LINE));
    let lines = (octets as usize).div_ceil(line.len());
    format!("Subject: live\r\n\r\n{}", line.repeat(lines))
}
