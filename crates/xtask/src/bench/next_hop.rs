//! The next hop of a measurement: an SMTP server in this program that takes down when each stamped message was there, and keeps nothing else.
//!
//! Each connection has a thread that ends with it.
//!
//! Standards: RFC 5321, RFC 2920 (PIPELINING).

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::ensure;
use inrush_tests::process;

use super::stamp::Stamp;

/// Octets of a connection that are read at a time.
const INPUT: usize = 64 << 10;
/// Longest wait for the messages that are expected.
const PATIENCE: Duration = Duration::from_secs(120);

/// A message that has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) stamp: Stamp,
    /// When the end of its data was read, from the begin of the measurement.
    pub(super) at: Duration,
}

/// A running one.
pub(super) struct NextHop {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    begin: Instant,
    taken: Mutex<Taken>,
    over: AtomicBool,
}

#[derive(Default)]
struct Taken {
    arrivals: Vec<Arrival>,
    /// Messages whose stamp cannot be read.
    strange: u64,
}

impl NextHop {
    /// Starts on a port of loopback that the kernel chooses; the measurement begins now.
    ///
    /// # Errors
    /// There is no port.
    pub(super) fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared =
            Arc::new(Shared { begin: Instant::now(), taken: Mutex::default(), over: AtomicBool::new(false) });
        let of_acceptor = Arc::clone(&shared);
        let acceptor = thread::spawn(move || accept(&listener, &of_acceptor));
        Ok(Self { address, shared, acceptor: Some(acceptor) })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The begin of the measurement, from which all stamps count.
    pub(super) fn begin(&self) -> Instant {
        self.shared.begin
    }

    /// Waits until so many messages have come.
    ///
    /// # Errors
    /// They do not come.
    pub(super) fn wait_for(&self, messages: u64) -> anyhow::Result<()> {
        let come = || self.shared.taken().arrivals.len() as u64;
        let complete = process::holds_within(PATIENCE, || come() >= messages);
        ensure!(complete, "only {} of {messages} messages have come within {PATIENCE:?}", come());
        Ok(())
    }

    /// What has come, in the order of the numbers: each of `messages` once.
    ///
    /// # Errors
    /// One is missing, has come twice, or is none of them.
    pub(super) fn each_once(&self, messages: u64) -> anyhow::Result<Vec<Arrival>> {
        let taken = self.shared.taken();
        ensure!(taken.strange == 0, "{} messages came without their stamps", taken.strange);
        let mut arrivals = taken.arrivals.clone();
        drop(taken);
        arrivals.sort_unstable_by_key(|arrival| (arrival.stamp.number, arrival.at));
        for (expected, arrival) in (0..).zip(&arrivals) {
            let number = arrival.stamp.number;
            ensure!(number <= expected, "message {expected} is missing");
            ensure!(number == expected, "message {number} has come twice");
        }
        let come = arrivals.len() as u64;
        ensure!(come == messages, "{come} messages have come, {messages} were sent");
        Ok(arrivals)
    }
}

impl Drop for NextHop {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        // Wakes the acceptor.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, message: &[u8]) {
        let at = self.begin.elapsed();
        let mut taken = self.taken();
        match Stamp::find(message) {
            Some(stamp) => taken.arrivals.push(Arrival { stamp, at }),
            None => taken.strange += 1,
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.over.load(Ordering::SeqCst) {
            return;
        }
        let shared = Arc::clone(shared);
        if let Ok(stream) = stream {
            // A connection that breaks is the gateway's to make again; a message that is missing fails the run.
            thread::spawn(move || serve(stream, &shared));
        }
    }
}

/// One session, to the end of the connection.
fn serve(mut output: TcpStream, shared: &Shared) -> io::Result<()> {
    output.set_nodelay(true)?;
    let mut input = BufReader::with_capacity(INPUT, output.try_clone()?);
    output.write_all(b"220 next.example ESMTP\r\n")?;
    let (mut line, mut message, mut replies) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
        let reply: &[u8] = match verb.as_slice() {
            b"EHLO" => b"250-next.example\r\n250-PIPELINING\r\n250 8BITMIME\r\n",
            b"DATA" => b"354 go on\r\n",
            b"QUIT" => b"221 2.0.0 bye\r\n",
            _ => b"250 2.0.0 ok\r\n",
        };
        replies.extend_from_slice(reply);
        // RFC 2920 §3.2: replies may wait while there are more commands to be read, but none may be waited for.
        if input.buffer().is_empty() {
            output.write_all(&replies)?;
            replies.clear();
        }
        if verb == b"DATA" {
            read_data(&mut input, &mut message)?;
            shared.take(&message);
            output.write_all(b"250 2.0.0 taken\r\n")?;
        }
    }
}

/// Reads mail data up to the line with its end (RFC 5321 §4.1.1.4).
fn read_data(input: &mut BufReader<TcpStream>, message: &mut Vec<u8>) -> io::Result<()> {
    message.clear();
    loop {
        let begin = message.len();
        if input.read_until(b'\n', message)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if &message[begin..] == b".\r\n" {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use inrush_tests::client::Client;

    use super::*;

    fn deliver(client: &mut Client, number: u64) {
        let stamp = Stamp { number, planned: Duration::ZERO, begun: Duration::ZERO };
        client.envelope(&["b@live.example"]);
        client.say("DATA", 354);
        client.send(format!("{}\r\n..text\r\n.\r\n", stamp.field()).as_bytes()).expect("a connection");
        client.expect(250);
    }

    #[test]
    fn a_message_is_there_once_or_it_is_told() {
        let next_hop = NextHop::start().expect("a port");
        let mut client = Client::greeted(next_hop.address());
        deliver(&mut client, 1);
        deliver(&mut client, 0);
        next_hop.wait_for(2).expect("two messages");
        assert_eq!(next_hop.each_once(2).expect("each once").len(), 2);
        assert!(next_hop.each_once(3).is_err());
        deliver(&mut client, 1);
        assert!(next_hop.each_once(3).is_err_and(|error| error.to_string().contains("twice")));
        deliver(&mut client, 3);
        assert!(next_hop.each_once(4).is_err());
    }
}
