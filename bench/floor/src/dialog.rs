//! The dialog: octets in, fixed replies out. Nothing is checked but what has to be known to find the end of the mail data.
//!
//! All replies of one input are put together, so that they leave in one send. How much buffer is asked for is what the
//! gateway's session asks for (`crates/proto/src/session/{data,bdat}.rs`): both have to receive equally often.
//!
//! Standards: RFC 5321 §4.1.1, RFC 2920 (PIPELINING), RFC 3030 §2 (CHUNKING), RFC 3207 (STARTTLS).

use inrush_proto::{INPUT_OCTETS_MAX, PIECE_OCTETS_MAX};
use memchr::{memchr, memmem};

/// As long as the gateway's, so that the sends are.
pub(crate) const GREETING: &[u8] = b"220 mx.inrush.invalid ESMTP inrush\r\n";
const EHLO: &[u8] =
    b"250-mx.inrush.invalid\r\n250-PIPELINING\r\n250-SIZE 52428800\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n\
    250-ENHANCEDSTATUSCODES\r\n250-CHUNKING\r\n250-BINARYMIME\r\n250-DSN\r\n250-LIMITS MAILMAX=1000 RCPTMAX=1000\r\n";
/// The last line is the one with the space.
const EHLO_END: &[u8] = b"250 HELP\r\n";
const STARTTLS: &[u8] = b"250-STARTTLS\r\n";
const HELO: &[u8] = b"250 mx.inrush.invalid\r\n";
const SENDER_OK: &[u8] = b"250 2.1.0 Sender OK\r\n";
const RECIPIENT_OK: &[u8] = b"250 2.1.5 Recipient OK\r\n";
const START_MAIL_INPUT: &[u8] = b"354 Send the mail, end with CRLF.CRLF\r\n";
const CHUNK_OK: &[u8] = b"250 2.0.0 Chunk OK\r\n";
const ACCEPTED: &[u8] = b"250 2.0.0 OK: queued as 00000000000000000000\r\n";
const OK: &[u8] = b"250 2.0.0 OK\r\n";
const READY_FOR_TLS: &[u8] = b"220 2.0.0 Ready to start TLS\r\n";
const BYE: &[u8] = b"221 2.0.0 mx.inrush.invalid closing connection\r\n";
const CHUNK_SYNTAX: &[u8] = b"501 5.5.4 Syntax: BDAT octets [LAST]\r\n";
const UNKNOWN_COMMAND: &[u8] = b"500 5.5.2 Command unrecognized\r\n";

/// Octets of a command line.
const COMMAND_OCTETS_MAX: usize = 2048;

/// What ends mail data that is not empty (RFC 5321 §4.1.1.4).
const TERMINATOR: &[u8] = b"\r\n.\r\n";

/// What a dialog needs to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// More octets, in a buffer that holds `hint` of them in all.
    Input { hint: usize },
    /// That its replies are sent and the client begins with TLS.
    StartTls,
    /// That its replies are sent and the connection is closed.
    Close,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Command,
    /// `scanned` octets of the input hold no end; `begun`: a piece of this message was thrown away already.
    Data {
        scanned: usize,
        begun: bool,
    },
    Chunk {
        remaining: usize,
        last: bool,
    },
}

/// One conversation.
#[derive(Debug)]
pub(crate) struct Dialog {
    state: State,
    /// `SIZE=` of the last MAIL.
    declared: Option<usize>,
    /// STARTTLS is offered.
    pub(crate) starttls: bool,
    /// Messages answered with `250`.
    pub(crate) accepted: u64,
    end: memmem::Finder<'static>,
}

impl Dialog {
    /// A conversation whose greeting is said.
    pub(crate) fn new(starttls: bool) -> Self {
        let end = memmem::Finder::new(TERMINATOR);
        Self { state: State::Command, declared: None, starttls, accepted: 0, end }
    }

    /// Whether mail data comes next.
    pub(crate) fn expects_data(&self) -> bool {
        matches!(self.state, State::Data { .. })
    }

    /// Works off `input`, adds the replies to `out`, and says how many octets are done with.
    pub(crate) fn advance(&mut self, input: &[u8], out: &mut Vec<u8>) -> (usize, Need) {
        let mut at = 0;
        loop {
            let rest = &input[at..];
            let step = match self.state {
                State::Command => self.command(rest, out),
                State::Data { scanned, begun } => self.data(rest, scanned, begun, out),
                State::Chunk { remaining, last } => self.chunk(rest, remaining, last, out),
            };
            match step {
                Step::Done(octets) => at += octets,
                Step::DoneThen(octets, need) => return (at + octets, need),
                Step::Need(need) => return (at, need),
            }
        }
    }

    fn command(&mut self, rest: &[u8], out: &mut Vec<u8>) -> Step {
        let Some(end) = memchr(b'\n', rest) else {
            if rest.len() < COMMAND_OCTETS_MAX {
                return Step::Need(Need::Input { hint: COMMAND_OCTETS_MAX });
            }
            out.extend_from_slice(UNKNOWN_COMMAND);
            return Step::Done(rest.len());
        };
        let line = &rest[..end];
        let verb =
            line.get(..4).map(|verb| [verb[0], verb[1], verb[2], verb[3]].map(|b| b.to_ascii_uppercase()));
        let reply = match verb.as_ref() {
            Some(b"MAIL") => {
                self.declared = size(line);
                SENDER_OK
            }
            Some(b"RCPT") => RECIPIENT_OK,
            Some(b"DATA") => {
                self.state = State::Data { scanned: 0, begun: false };
                START_MAIL_INPUT
            }
            Some(b"BDAT") => match chunk_size(line) {
                Some((remaining, last)) => {
                    self.state = State::Chunk { remaining, last };
                    return Step::Done(end + 1);
                }
                None => CHUNK_SYNTAX,
            },
            Some(b"EHLO") => {
                out.extend_from_slice(EHLO);
                if self.starttls {
                    out.extend_from_slice(STARTTLS);
                }
                EHLO_END
            }
            Some(b"HELO") => HELO,
            Some(b"RSET" | b"NOOP") => OK,
            Some(b"STAR") if self.starttls => {
                out.extend_from_slice(READY_FOR_TLS);
                return Step::DoneThen(end + 1, Need::StartTls);
            }
            Some(b"QUIT") => {
                out.extend_from_slice(BYE);
                return Step::Need(Need::Close);
            }
            _ => UNKNOWN_COMMAND,
        };
        out.extend_from_slice(reply);
        Step::Done(end + 1)
    }

    fn data(&mut self, rest: &[u8], scanned: usize, begun: bool, out: &mut Vec<u8>) -> Step {
        // The end may lie across what was scanned and what came behind it.
        let from = scanned.saturating_sub(TERMINATOR.len() - 1);
        let end = if !begun && rest.starts_with(&TERMINATOR[2..]) {
            Some(TERMINATOR.len() - 2)
        } else {
            self.end.find(&rest[from..]).map(|found| from + found + TERMINATOR.len())
        };
        if let Some(end) = end {
            self.accept(out);
            return Step::Done(end);
        }
        if rest.len() < PIECE_OCTETS_MAX {
            self.state = State::Data { scanned: rest.len(), begun };
            let want = self
                .declared
                .map_or(PIECE_OCTETS_MAX, |size| size.saturating_add(1024).min(PIECE_OCTETS_MAX));
            let hint = grow(rest.len(), want).max(rest.len() + 4096).min(INPUT_OCTETS_MAX);
            return Step::Need(Need::Input { hint });
        }
        let kept = TERMINATOR.len() - 1;
        self.state = State::Data { scanned: kept, begun: true };
        Step::Done(rest.len() - kept)
    }

    fn chunk(&mut self, rest: &[u8], remaining: usize, last: bool, out: &mut Vec<u8>) -> Step {
        let want = remaining.min(PIECE_OCTETS_MAX);
        if rest.len() < want {
            return Step::Need(Need::Input { hint: grow(rest.len(), want) });
        }
        if remaining > want {
            self.state = State::Chunk { remaining: remaining - want, last };
        } else if last {
            self.accept(out);
        } else {
            self.state = State::Command;
            out.extend_from_slice(CHUNK_OK);
        }
        Step::Done(want)
    }

    fn accept(&mut self, out: &mut Vec<u8>) {
        self.state = State::Command;
        self.accepted += 1;
        out.extend_from_slice(ACCEPTED);
    }
}

/// Where a command, a piece of data or a chunk has led.
enum Step {
    Done(usize),
    DoneThen(usize, Need),
    Need(Need),
}

fn grow(have: usize, want: usize) -> usize {
    want.min(have.saturating_mul(2).max(16 * 1024)).min(INPUT_OCTETS_MAX)
}

/// RFC 1870 §3: what MAIL declares.
fn size(line: &[u8]) -> Option<usize> {
    let at = memmem::find(line, b" SIZE=")?;
    number(&line[at + 6..])
}

/// RFC 3030 §2: `BDAT octets [LAST]`.
fn chunk_size(line: &[u8]) -> Option<(usize, bool)> {
    let argument = line.get(5..)?;
    let last = argument.trim_ascii_end().to_ascii_uppercase().ends_with(b" LAST");
    Some((number(argument)?, last))
}

fn number(text: &[u8]) -> Option<usize> {
    let digits = text.iter().take_while(|octet| octet.is_ascii_digit()).count();
    std::str::from_utf8(&text[..digits]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(out: &[u8]) -> Vec<String> {
        let text = String::from_utf8_lossy(out).into_owned();
        let last = |line: &&str| line.as_bytes().get(3) == Some(&b' ');
        text.lines().filter(last).map(|line| line[..3].to_owned()).collect()
    }

    /// The codes of the replies to `text`, given in slices of `octets`; the need at its end, and the messages taken.
    fn talk(text: &[u8], octets: usize) -> (Vec<String>, Need, u64) {
        let (mut dialog, mut out, mut buffer) = (Dialog::new(false), Vec::new(), Vec::new());
        let mut need = Need::Input { hint: 0 };
        for slice in text.chunks(octets) {
            buffer.extend_from_slice(slice);
            let (done, next) = dialog.advance(&buffer, &mut out);
            buffer.drain(..done);
            need = next;
        }
        (codes(&out), need, dialog.accepted)
    }

    // RFC 2920 §3.1: a whole session in one group; with CHUNKING everything may come at once.
    const SESSION: &[u8] = b"EHLO client.example\r\nMAIL FROM:<a@b.example> SIZE=20\r\nRCPT TO:<c@d.example>\r\n\
        rcpt to:<e@d.example>\r\nDATA\r\nSubject: x\r\n\r\n..\r\n. \r\n\r\n.\r\nRSET\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\n\
        BDAT 5\r\n\r\n.\r\nBDAT 3 last\r\nx\r\nMAIL FROM:<>\r\nDATA\r\n.\r\nQUIT\r\n";

    #[test]
    fn the_replies_are_the_same_however_the_input_is_cut() {
        let expected = [
            "250", "250", "250", "250", "354", "250", "250", "250", "250", "250", "250", "250", "354", "250",
            "221",
        ];
        for octets in 1..SESSION.len() + 1 {
            let (codes, need, accepted) = talk(SESSION, octets);
            assert_eq!(
                (codes.as_slice(), need, accepted),
                (&expected.map(String::from)[..], Need::Close, 3),
                "{octets}"
            );
        }
    }

    #[test]
    fn data_beyond_a_piece_is_thrown_away_as_it_comes() {
        let mut text = b"MAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n".to_vec();
        text.extend(std::iter::repeat_n(*b"..\r\nof the end\r\n", 60_000).flatten());
        text.extend_from_slice(b".\r\nQUIT\r\n");
        for octets in [4096, 80 * 1024, PIECE_OCTETS_MAX + 3, text.len()] {
            let (codes, need, accepted) = talk(&text, octets);
            assert_eq!(
                (codes.join(" ").as_str(), need, accepted),
                ("250 250 354 250 221", Need::Close, 1),
                "{octets}"
            );
        }
        let mut chunk = b"BDAT 700000\r\n".to_vec();
        chunk.resize(chunk.len() + 700_000, b'x');
        chunk.extend_from_slice(b"BDAT 0 LAST\r\n");
        assert_eq!(talk(&chunk, 20 * 1024).0, ["250", "250"]);
    }

    #[test]
    fn what_it_does_not_know() {
        assert_eq!(talk(b"HELP\r\nBDAT x\r\nBDAT\r\nNOOP\r\n", 100).0, ["500", "501", "501", "250"]);
        assert_eq!(talk(&[b'x'; COMMAND_OCTETS_MAX], 5000).0, ["500"]);
        assert_eq!(talk(b"NOOP", 5000).1, Need::Input { hint: COMMAND_OCTETS_MAX });
    }
}
