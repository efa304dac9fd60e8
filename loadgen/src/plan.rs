//! What a run shall do: the options, checked and resolved.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use inrush_proto::client::Protocol;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::authentication::Credentials;
use crate::content::Content;
use crate::hostile::Behaviour;
use crate::pacer::Arrivals;
use crate::ramp::Ramp;
use crate::sender::Sender;

/// Ring or epoll.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Engine {
    /// The ring, or epoll where the kernel refuses it.
    Auto,
    /// `io_uring` or an error.
    Uring,
    /// epoll.
    Epoll,
}

/// The pace of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Every session sends as fast as the server answers.
    Closed,
    /// By schedule: messages a second over all cores.
    Open(f64, Arrivals),
    /// By one schedule after the other, to find the highest rate that the server bears.
    Ramp(Ramp, Arrivals),
}

/// Where a target listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Over TCP.
    Tcp(SocketAddr),
    /// At a local socket.
    Unix(PathBuf),
}

/// A server.
#[derive(Clone, Debug)]
pub struct Target {
    /// As the user wrote it.
    pub name: String,
    /// Where it listens.
    pub place: Place,
    /// Its name under TLS.
    pub server_name: ServerName<'static>,
    /// The addresses of ours that can reach it, of those that were given.
    pub sources: Vec<IpAddr>,
}

/// Hostile sessions of one behaviour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hostile {
    /// What they do.
    pub behaviour: Behaviour,
    /// How many, over all cores.
    pub sessions: usize,
    /// Pause between two connections of one session.
    pub pause: Duration,
    /// How long those that wait hold a connection.
    pub hold: Duration,
}

/// What TLS needs.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// Of all handshakes.
    pub config: ClientConfig,
    /// Earlier sessions are resumed.
    pub resumption: bool,
}

/// What a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seat {
    /// One of this sender's.
    Sender(usize),
    /// One of this hostile kind.
    Hostile(usize),
}

/// A checked run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where to; connections take turns.
    pub targets: Vec<Target>,
    /// Kinds of well-behaved senders; at least one.
    pub senders: Vec<Sender>,
    /// The others.
    pub hostile: Vec<Hostile>,
    /// Domain in which hostile sessions try addresses.
    pub hostile_domain: String,
    /// Connections of well-behaved senders at the same time, over all cores.
    pub sessions: usize,
    /// Measured messages, over all cores.
    pub messages: Option<u64>,
    /// Measured time.
    pub duration: Option<Duration>,
    /// Time before the measured window.
    pub warmup: Duration,
    /// Closed or open loop.
    pub pace: Pace,
    /// Connections a second, over all cores; None: no limit.
    pub connect_rate: Option<f64>,
    /// How often a connection is tried.
    pub connect_tries: u32,
    /// For connections under TLS.
    pub tls: Option<TlsSettings>,
    /// For AUTH.
    pub credentials: Option<Credentials>,
    /// SMTP or LMTP.
    pub protocol: Protocol,
    /// `SIZE=` in MAIL where offered.
    pub declare_size: bool,
    /// Name in EHLO.
    pub hello: String,
    /// The messages.
    pub content: Content,
    /// Threads.
    pub cores: usize,
    /// CPUs to pin the threads to, in turn; empty: not pinned.
    pub cpus: Vec<usize>,
    /// Ring or epoll.
    pub engine: Engine,
    /// Longest wait for anything of the server.
    pub timeout: Duration,
    /// How long messages under way may take when the run is interrupted.
    pub grace: Duration,
    /// Errors that are borne.
    pub errors_max: u64,
    /// End the run when there are more.
    pub fail_fast: bool,
    /// Ids are wanted after the run.
    pub keep_ids: bool,
}

impl Plan {
    /// The sessions of each core: every sender has at least one and its share of the others; cores take turns.
    #[must_use]
    pub fn seats(&self) -> Vec<Vec<Seat>> {
        let weights: Vec<u64> = self.senders.iter().map(|sender| u64::from(sender.sessions_weight)).collect();
        let spare = self.sessions.saturating_sub(self.senders.len()) as u64;
        let mut seats = vec![Vec::new(); self.cores];
        let mut turn = (0..self.cores).cycle();
        let mut place = |seat: Seat, count: u64| {
            for core in turn.by_ref().take(usize::try_from(count).unwrap_or(usize::MAX)) {
                seats[core].push(seat);
            }
        };
        for (index, share) in apportion(spare, &weights).into_iter().enumerate() {
            place(Seat::Sender(index), share + 1);
        }
        for (index, hostile) in self.hostile.iter().enumerate() {
            place(Seat::Hostile(index), hostile.sessions as u64);
        }
        seats
    }

    /// Messages that each sender is to send, when the run ends after so many.
    #[must_use]
    pub fn messages_of_senders(&self) -> Option<Vec<u64>> {
        let weights: Vec<u64> = self.senders.iter().map(|sender| u64::from(sender.weight)).collect();
        self.messages.map(|messages| apportion(messages, &weights))
    }

    /// How long after its end a schedule's messages may still begin. What is planned in the last moment is as good as the rest, and a queue of a few
    /// messages is no overload: their wait counts in their latency. In a ramp nobody need wait for longer than the promise: what has not begun by then is
    /// too slow, whenever it comes.
    #[must_use]
    pub fn late_start_max(&self) -> Duration {
        match self.pace {
            Pace::Closed => Duration::ZERO,
            Pace::Open(..) => self.grace,
            Pace::Ramp(ramp, _) => self.grace.min(ramp.slo.limit),
        }
    }

    /// There is no sender whose times are the server's alone.
    #[must_use]
    pub fn only_slow(&self) -> bool {
        self.senders.iter().all(Sender::is_slow)
    }

    /// Share of sender `index` in the messages.
    #[must_use]
    pub fn share(&self, index: usize) -> f64 {
        let all: u32 = self.senders.iter().map(|sender| sender.weight).sum();
        f64::from(self.senders[index].weight) / f64::from(all)
    }
}

/// Divides `total` by weights, exactly: what rounding leaves over goes to the largest remainders.
fn apportion(total: u64, weights: &[u64]) -> Vec<u64> {
    let all: u64 = weights.iter().sum::<u64>().max(1);
    let exact = |weight: u64| u128::from(total) * u128::from(weight);
    // A share of a u64 fits into a u64.
    let share = |weight: u64| u64::try_from(exact(weight) / u128::from(all)).unwrap_or(total);
    let mut shares: Vec<u64> = weights.iter().map(|&weight| share(weight)).collect();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(exact(weights[index]) % u128::from(all)));
    let left = total - shares.iter().sum::<u64>();
    for index in order.into_iter().cycle().take(usize::try_from(left).unwrap_or(0)) {
        shares[index] += 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up() {
        assert_eq!(apportion(10, &[1, 1, 1]), [4, 3, 3]);
        assert_eq!(apportion(100, &[60, 35, 4, 1]), [60, 35, 4, 1]);
        assert_eq!(apportion(1, &[1, 9]), [0, 1]);
        assert_eq!(apportion(0, &[1]), [0]);
        for total in 0..200 {
            assert_eq!(apportion(total, &[7, 11, 2]).iter().sum::<u64>(), total);
        }
    }
}
