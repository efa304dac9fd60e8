//! Commands and mail data as octets, and their way out and in.

use std::io;
use std::time::Duration;

use inrush_log::ReadError;
use inrush_proto::client::{DotStuffing, Step, UnsafeArgument, write_chunk, write_hello, write_verb};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout, timeout_at};

use super::connection::{Connection, Lost};
use super::flight::Flight;
use crate::content::Body;
use crate::failure::Verdict;
use crate::shared::now_us;

/// A body of so many octets goes out in pieces instead of behind its commands.
const DIRECT_OCTETS: usize = 64 << 10;
const RECEIVE_OCTETS: usize = 4096;
/// How long replies are waited for that may have come before a connection broke, and how many octets of them are read.
const LAST_WORDS_PATIENCE: Duration = Duration::from_secs(1);
const LAST_OCTETS_MAX: usize = 64 << 10;

impl Connection<'_> {
    pub(super) async fn write_steps(&mut self) -> Result<(), Lost> {
        while let Some(step) = self.session.take_step() {
            self.write_step(step).await?;
        }
        Ok(())
    }

    async fn write_step(&mut self, step: Step) -> Result<(), Lost> {
        match step {
            Step::Hello(hello) => {
                let name = self.shared.surroundings.hostname.as_bytes();
                // Such a name was refused when the gateway started.
                let unsafe_name = |error: UnsafeArgument| Verdict::later((4, 3, 0), error.to_string());
                write_hello(&mut self.out, hello, name).map_err(|error| Lost::Broken(unsafe_name(error)))?;
            }
            Step::StartTls => write_verb(&mut self.out, "STARTTLS"),
            // Each is asked for once, in their order.
            Step::Mail(number) | Step::Recipient(number, _) => self.write_command(number),
            Step::Data => {
                write_verb(&mut self.out, "DATA");
                self.awaits_data = true;
            }
            Step::Body { transaction, empty } => {
                return self.write_body(transaction, empty, true).await;
            }
            Step::Chunk(number) => {
                let octets = self.flight(number).map_or(0, |flight| flight.needs.octets);
                write_chunk(&mut self.out, octets, true);
                self.session.chunk_sent(true);
                return self.write_body(number, false, false).await;
            }
            Step::Reset => write_verb(&mut self.out, "RSET"),
            Step::Quit => write_verb(&mut self.out, "QUIT"),
        }
        Ok(())
    }

    fn flight(&mut self, number: u64) -> Option<&mut Flight> {
        self.flights.iter_mut().find(|flight| flight.number == number)
    }

    fn write_command(&mut self, number: u64) {
        if let Some(flight) = self.flights.iter_mut().find(|flight| flight.number == number) {
            self.out.extend_from_slice(flight.lines.next_command());
        }
    }

    /// Mail data, in its time: `dots` for DATA with its end, without for BDAT.
    async fn write_body(&mut self, number: u64, empty: bool, dots: bool) -> Result<(), Lost> {
        let octets = self.flight(number).map_or(0, |flight| flight.needs.octets);
        let timeouts = &self.shared.settings.timeouts;
        let rate = u64::from(timeouts.min_data_rate);
        if rate == 0 || octets <= DIRECT_OCTETS as u64 {
            return self.write_content(number, empty, dots).await;
        }
        // A block at a time, each just in time, 50 MiB would hold the connection for 40 hours.
        let limit = timeouts.block.saturating_add(Duration::from_secs(octets / rate));
        match timeout(limit, self.write_content(number, empty, dots)).await {
            Ok(written) => written,
            Err(_) => {
                let lost = self.timed_out("sending, at less than min_data_rate");
                Err(self.last_words().await.unwrap_or(lost))
            }
        }
    }

    async fn write_content(&mut self, number: u64, empty: bool, dots: bool) -> Result<(), Lost> {
        let Some(flight) = self.flights.iter_mut().find(|flight| flight.number == number) else {
            return Ok(());
        };
        flight.sent_at_us = now_us();
        if empty {
            self.out.extend_from_slice(b".\r\n");
            return Ok(());
        }
        let stuffs = dots && flight.needs.dots;
        let body = Body::of(&flight.job.message, flight.job.place, &self.shared.reader);
        self.out.extend_from_slice(flight.lines.head());
        let mut stuffing = DotStuffing::new();
        let mut end = Tail::new();
        match body {
            Body::Whole(message) => {
                let own = message.own_body();
                end.see(own);
                self.write_piece(own, stuffs.then_some(&mut stuffing)).await?;
            }
            Body::Pieces(mut pieces) => {
                while let Some(piece) = pieces.recv().await {
                    let piece = piece.map_err(|error| self.unreadable(number, &error))?;
                    end.see(&piece);
                    self.write_piece(&piece, stuffs.then_some(&mut stuffing)).await?;
                }
            }
        }
        if dots {
            // RFC 5321 §4.1.1.4: the dot stands on a line of its own.
            self.out.extend_from_slice(if end.is_line_end() { b".\r\n" } else { b"\r\n.\r\n" });
        }
        if let Some(flight) = self.flight(number) {
            flight.whole = true;
        }
        Ok(())
    }

    /// The connection is cut off in the middle: half a message is none.
    fn unreadable(&mut self, number: u64, error: &ReadError) -> Lost {
        tracing::error!(%error, "a message that is owed cannot be read");
        let verdict = Verdict::later((4, 3, 0), "the message cannot be read now");
        // That is for this one alone, on whatever connection.
        if let Some(flight) = self.flight(number) {
            flight.settle_rest(&verdict);
        }
        Lost::Broken(verdict)
    }

    async fn write_piece(&mut self, piece: &[u8], stuffing: Option<&mut DotStuffing>) -> Result<(), Lost> {
        match stuffing {
            Some(stuffing) => {
                for part in piece.chunks(DIRECT_OCTETS) {
                    stuffing.write(part, &mut self.out);
                    if self.out.len() >= DIRECT_OCTETS {
                        self.flush().await?;
                    }
                }
            }
            None if piece.len() < DIRECT_OCTETS => {
                self.out.extend_from_slice(piece);
                if self.out.len() >= DIRECT_OCTETS {
                    self.flush().await?;
                }
            }
            None => {
                self.flush().await?;
                self.send(piece).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn flush(&mut self) -> Result<(), Lost> {
        if self.out.is_empty() {
            return Ok(());
        }
        let mut out = std::mem::take(&mut self.out);
        let result = self.send(&out).await;
        out.clear();
        self.out = out;
        result
    }

    async fn send(&mut self, octets: &[u8]) -> Result<(), Lost> {
        match self.put(octets).await {
            Ok(()) => {
                self.since = Instant::now();
                Ok(())
            }
            Err(lost) => Err(self.last_words().await.unwrap_or(lost)),
        }
    }

    /// RFC 5321 §4.5.3.2.5: each block has its own time.
    async fn put(&mut self, octets: &[u8]) -> Result<(), Lost> {
        let limit = self.shared.settings.timeouts.block;
        for block in octets.chunks(DIRECT_OCTETS) {
            match timeout(limit, self.stream.write_all(block)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(self.lost(&error)),
                Err(_) => return Err(self.timed_out("sending")),
            }
        }
        match timeout(limit, self.stream.flush()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.lost(&error)),
            Err(_) => Err(self.timed_out("sending")),
        }
    }

    /// Why the host takes no more: it may have said so in the middle of a message, for good, before it stopped reading.
    async fn last_words(&mut self) -> Option<Lost> {
        while self.input.len() < LAST_OCTETS_MAX {
            match timeout(LAST_WORDS_PATIENCE, self.stream.read_buf(&mut self.input)).await {
                Ok(Ok(1..)) => {}
                _ => break,
            }
        }
        self.answers().err()
    }

    /// Some octets of the next reply, all of which has so long to come (RFC 5321 §4.5.3.2).
    pub(super) async fn receive(&mut self, limit: Duration) -> Result<(), Lost> {
        // Whoever waits for a reply has sent what it answers.
        self.flush().await?;
        self.input.reserve(RECEIVE_OCTETS);
        match timeout_at(self.since + limit, self.stream.read_buf(&mut self.input)).await {
            Ok(Ok(0)) => Err(self.lost(&io::ErrorKind::UnexpectedEof.into())),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.lost(&error)),
            Err(_) => Err(self.timed_out("waiting for a reply")),
        }
    }

    fn lost(&self, error: &io::Error) -> Lost {
        let why = if error.kind() == io::ErrorKind::UnexpectedEof {
            "closed by the host".to_owned()
        } else {
            error.to_string()
        };
        let twice = if self.flights.iter().any(|flight| flight.whole) {
            " -- message may be sent more than once"
        } else {
            ""
        };
        let text = format!("lost connection with {} ({why}){twice}", self.relay);
        Lost::Broken(Verdict::later((4, 4, 2), text))
    }

    fn timed_out(&self, what: &str) -> Lost {
        let text = format!("conversation with {} timed out while {what}", self.relay);
        Lost::Broken(Verdict::later((4, 4, 2), text))
    }
}

/// The last two octets that were sent.
struct Tail([u8; 2]);

impl Tail {
    /// Behind the head, which ends in a line end: so does an empty body.
    fn new() -> Self {
        Self(*b"\r\n")
    }

    fn see(&mut self, piece: &[u8]) {
        match piece {
            [] => {}
            [one] => self.0 = [self.0[1], *one],
            [.., one, two] => self.0 = [*one, *two],
        }
    }

    fn is_line_end(&self) -> bool {
        self.0 == *b"\r\n"
    }
}

#[cfg(test)]
mod tests {
    use super::Tail;

    #[test]
    fn only_a_line_end_is_one() {
        for (body, is_line_end) in [
            (&b""[..], true),
            (b"a\r\n", true),
            (b"a", false),
            (b"\n", false),
            (b"a\r", false),
            (b"\0\0", false),
            (b"a\0\0", false),
        ] {
            // However it is cut into pieces.
            for cut in 0..=body.len() {
                let mut tail = Tail::new();
                tail.see(&body[..cut]);
                tail.see(&body[cut..]);
                assert_eq!(tail.is_line_end(), is_line_end, "{body:?} cut at {cut}");
            }
        }
    }
}
