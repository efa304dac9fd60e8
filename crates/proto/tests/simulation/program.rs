//! What a client sends in one simulated session, and what has to come of it.
//!
//! The expectations come from a model of the dialog that is written down anew here, from the tables in the headers of
//! the session: it knows commands and states, and nothing of slices, buffers, pieces and gates.

use inrush_proto::{AppendFailure, BareNewline, Limits, Path, Reply, Settings, Verdict};

use crate::support::{Outcome, Random, World};

/// A message that must reach the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub reverse_path: String,
    pub recipients: Vec<String>,
    pub body: Vec<u8>,
}

/// The open transaction of the model.
#[derive(Default)]
struct Open {
    reverse_path: String,
    recipients: Vec<String>,
    body: Vec<u8>,
    binary: bool,
    chunking: bool,
    failed: bool,
}

/// The fate of the transaction with this number, the same for the model and the world.
fn fate(seed: u64, transaction: u32) -> (Outcome, Outcome) {
    let mut random = Random(seed ^ (u64::from(transaction) << 32));
    let mut outcome = || match random.below(8) {
        0 => Outcome::Failed(AppendFailure::StorageFull),
        1 => Outcome::Failed(AppendFailure::LocalError),
        _ => Outcome::Taken,
    };
    (outcome(), outcome())
}

fn verdict(recipient: &str) -> Verdict {
    if recipient.starts_with("unknown") {
        Verdict::Refuse(Reply::USER_UNKNOWN)
    } else if recipient.starts_with("later") {
        Verdict::Refuse(Reply::VERDICT_UNAVAILABLE)
    } else {
        Verdict::Accept
    }
}

/// The world of one seed.
pub struct Fates {
    pub seed: u64,
}

impl World for Fates {
    fn verdict(&mut self, recipient: Path<'_>) -> Verdict {
        verdict(recipient.as_str())
    }

    fn store(&mut self, transaction: u32) -> Outcome {
        fate(self.seed, transaction).0
    }

    fn append(&mut self, transaction: u32) -> Outcome {
        fate(self.seed, transaction).1
    }
}

/// A whole session.
pub struct Program {
    pub settings: Settings,
    pub input: Vec<u8>,
    pub replies: Vec<&'static Reply>,
    pub messages: Vec<Sent>,
    pub closes: bool,
    seed: u64,
    random: Random,
    hello: bool,
    mail_refused: bool,
    errors: u32,
    transactions: u32,
    open: Option<Open>,
}

impl Program {
    pub fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let limits = Limits {
            message_bytes_max: 20_000,
            transactions_max: if random.once_in(4) { 2 } else { 1_000 },
            text_line_octets_max: 1_000,
            header_bytes_max: 3_000,
            hops_max: 5,
            errors_max: if random.once_in(4) { 3 } else { 1_000 },
            piece_octets_max: 8_192,
            output_octets_max: if random.once_in(2) { 1_024 } else { 16 * 1024 },
            ..Limits::default()
        };
        let bare_newline = match random.below(4) {
            0 => BareNewline::Allow,
            1 => BareNewline::Normalize,
            _ => BareNewline::Reject,
        };
        let settings =
            Settings { hostname: "mx.example".to_owned(), limits, bare_newline, ..Settings::default() };
        let mut program = Self {
            settings,
            input: Vec::new(),
            replies: vec![Reply::READY],
            messages: Vec::new(),
            closes: false,
            seed,
            random,
            hello: false,
            mail_refused: false,
            errors: 0,
            transactions: 0,
            open: None,
        };
        for _ in 0..5 + program.random.below(40) {
            program.command();
            if program.closes {
                // What comes behind the end must make no difference.
                program.send("MAIL FROM:<late@one.example>");
                break;
            }
        }
        program
    }

    fn send(&mut self, line: &str) {
        self.input.extend_from_slice(line.as_bytes());
        self.input.extend_from_slice(b"\r\n");
    }

    fn expect(&mut self, reply: &'static Reply) {
        self.replies.push(reply);
    }

    fn expect_error(&mut self, reply: &'static Reply) {
        self.errors += 1;
        if self.errors > self.settings.limits.errors_max {
            self.close(Reply::TOO_MANY_ERRORS);
        } else {
            self.expect(reply);
        }
    }

    fn close(&mut self, reply: &'static Reply) {
        self.expect(reply);
        self.open = None;
        self.closes = true;
    }

    fn command(&mut self) {
        // Mostly what leads on to a message, sometimes anything.
        let next = match &self.open {
            None if !self.hello => 0,
            None => 1,
            Some(open) if open.recipients.is_empty() => 2,
            Some(_) => 3 + self.random.below(2),
        };
        let choice = if self.random.once_in(4) { self.random.below(9) } else { next };
        match choice {
            0 => self.hello(),
            1 => self.mail(),
            2 => self.rcpt(),
            3 => self.data(),
            4 => self.bdat(),
            5 => {
                self.send("RSET");
                self.open = None;
                self.mail_refused = false;
                self.expect(Reply::OK);
            }
            6 => {
                self.send("noop  x");
                self.expect(Reply::OK);
            }
            7 => self.junk(),
            _ if self.random.once_in(10) => {
                self.send("QUIT");
                self.close(Reply::BYE);
            }
            _ => {
                self.send("VRFY x");
                self.expect(Reply::VRFY);
            }
        }
    }

    fn hello(&mut self) {
        let (verb, reply) =
            if self.random.once_in(2) { ("HELO", Reply::HELO) } else { ("Ehlo", Reply::EHLO) };
        self.send(&format!("{verb} client.example"));
        self.hello = true;
        self.mail_refused = false;
        self.open = None;
        self.expect(reply);
    }

    fn mail(&mut self) {
        let number = self.random.below(1000);
        let reverse_path = if number < 100 { String::new() } else { format!("s{number}@one.example") };
        let (parameters, fault) = match self.random.below(12) {
            0 => (" SIZE=20001", Some(Reply::TOO_BIG_DECLARED)),
            1 => (" FOO=1", Some(Reply::PARAMETER_UNKNOWN)),
            2 => (" BODY=BINARYMIME", None),
            3 => (" SIZE=20000 BODY=8BITMIME", None),
            _ => ("", None),
        };
        self.send(&format!("MAIL FROM:<{reverse_path}>{parameters}"));
        let refusal = if !self.hello {
            Some(Reply::NO_HELLO)
        } else if self.open.is_some() {
            Some(Reply::NESTED_MAIL)
        } else if self.transactions >= self.settings.limits.transactions_max {
            return self.close(Reply::TOO_MANY_TRANSACTIONS);
        } else {
            fault
        };
        match refusal {
            Some(reply) => {
                self.mail_refused = true;
                if reply.is_protocol_error() { self.expect_error(reply) } else { self.expect(reply) }
            }
            None => {
                self.mail_refused = false;
                self.transactions += 1;
                let binary = parameters.contains("BINARY");
                self.open = Some(Open { reverse_path, binary, ..Open::default() });
                self.expect(Reply::SENDER_OK);
            }
        }
    }

    fn rcpt(&mut self) {
        let kind = ["a", "b", "unknown", "later", "\"c d\""][self.random.below(5)];
        let recipient = format!("{kind}@two.example");
        self.send(&format!("RCPT TO:<{recipient}>"));
        match &mut self.open {
            None if self.mail_refused => self.expect(Reply::NO_MAIL),
            None => self.expect_error(Reply::NO_MAIL),
            Some(open) if open.failed => self.expect(Reply::BDAT_FAILED),
            Some(open) if open.chunking => self.expect_error(Reply::AFTER_BDAT),
            Some(open) => match verdict(&recipient) {
                Verdict::Accept => {
                    open.recipients.push(recipient);
                    self.expect(Reply::RECIPIENT_OK);
                }
                Verdict::Refuse(reply) => self.expect(reply),
            },
        }
    }

    fn data(&mut self) {
        self.send("DATA");
        match &self.open {
            None if self.mail_refused => return self.expect(Reply::NO_MAIL),
            None => return self.expect_error(Reply::NO_MAIL),
            Some(open) if open.failed => return self.expect(Reply::BDAT_FAILED),
            Some(open) if open.chunking => return self.expect_error(Reply::AFTER_BDAT),
            Some(open) if open.binary => return self.expect_error(Reply::BINARYMIME_DATA),
            Some(open) if open.recipients.is_empty() => return self.expect(Reply::NO_VALID_RECIPIENTS),
            Some(_) => {}
        }
        self.expect(Reply::START_MAIL_INPUT);
        let text = text(&mut self.random);
        let stuffed = stuff(&text);
        self.input.extend_from_slice(&stuffed);
        self.input.extend_from_slice(b".\r\n");

        let open = self.open.take().expect("checked above");
        let bare = has_bare_newline(&text);
        let piece_max =
            if self.settings.bare_newline == BareNewline::Normalize { 8_192 / 2 } else { 8_192usize };
        let (store, append) = fate(self.seed, self.transactions);
        if text.len() > 20_000 {
            self.expect(Reply::TOO_BIG);
        } else if bare && self.settings.bare_newline == BareNewline::Reject {
            self.expect(Reply::BARE_NEWLINE);
        } else if self.settings.bare_newline == BareNewline::Reject && longest_line(&stuffed) > 1_000 {
            self.expect(Reply::TEXT_LINE_TOO_LONG);
        } else if let Some(reply) = header_fault(&stuffed) {
            self.expect(reply);
        } else if let (true, Outcome::Failed(failure)) = (stuffed.len() > piece_max, store) {
            self.expect(failure.reply());
        } else if let Outcome::Failed(failure) = append {
            self.expect(failure.reply());
        } else {
            let body = match self.settings.bare_newline {
                BareNewline::Normalize => normalize(&text),
                _ => text,
            };
            self.accept(open, body);
        }
    }

    fn accept(&mut self, open: Open, body: Vec<u8>) {
        let Open { reverse_path, recipients, .. } = open;
        self.messages.push(Sent { reverse_path, recipients, body });
        self.expect(Reply::MESSAGE_ACCEPTED);
    }

    fn bdat(&mut self) {
        let octets = match self.random.below(6) {
            0 => 0,
            1 => 9_000 + self.random.below(9_000),
            _ => self.random.below(3_000),
        };
        let mut chunk: Vec<u8> = match self.random.below(3) {
            0 => (0..octets).map(|_| b"\r\n.\0a\xffQ"[self.random.below(7)]).collect(),
            1 => b"QUIT\r\n".iter().copied().cycle().take(octets).collect(),
            _ => text(&mut self.random),
        };
        chunk.truncate(octets);
        let last = self.random.once_in(2);
        self.send(&format!("BDAT {}{}", chunk.len(), if last { " LAST" } else { "" }));
        self.input.extend_from_slice(&chunk);

        let Some(mut open) = self.open.take() else {
            if self.mail_refused {
                self.expect(Reply::NO_MAIL);
            } else {
                self.expect_error(Reply::NO_MAIL);
            }
            return;
        };
        let (store, append) = fate(self.seed, self.transactions);
        let failure = if open.failed {
            Some(Reply::BDAT_FAILED)
        } else if open.recipients.is_empty() {
            Some(Reply::NO_VALID_RECIPIENTS)
        } else if open.body.len() + chunk.len() > 20_000 {
            Some(Reply::TOO_BIG)
        } else {
            chunk_fault(&mut open, &chunk, last, store)
        };
        open.chunking |= failure.is_none();
        match failure {
            Some(reply) => {
                open.failed = true;
                self.expect(reply);
            }
            None if !last => self.expect(Reply::CHUNK_OK),
            None => {
                match append {
                    Outcome::Failed(failure) => self.expect(failure.reply()),
                    _ => {
                        let body = std::mem::take(&mut open.body);
                        self.accept(open, body);
                    }
                }
                return;
            }
        }
        if !last {
            self.open = Some(open);
        }
    }

    fn junk(&mut self) {
        let long = format!("NOOP {}", "x".repeat(2_050));
        let (line, reply) = match self.random.below(8) {
            0 => ("FOO", Reply::UNKNOWN_COMMAND),
            1 => ("STARTTLS", Reply::NOT_IMPLEMENTED),
            2 => ("RSET x", Reply::NO_ARGUMENT_ALLOWED),
            3 => ("", Reply::EMPTY_COMMAND),
            4 => ("NO\0OP", Reply::NUL_COMMAND),
            5 => ("NOOP\rQUIT", Reply::BARE_NEWLINE_COMMAND),
            6 => {
                self.input.extend_from_slice(b"QUIT\n");
                return self.expect_error(Reply::BARE_NEWLINE_COMMAND);
            }
            _ => (long.as_str(), Reply::LINE_TOO_LONG),
        };
        self.send(line);
        self.expect_error(reply);
    }
}

/// A chunk goes through in pieces of at most 8 KiB: each is looked at, then stored, but the last one of all, which is
/// appended.
fn chunk_fault(open: &mut Open, chunk: &[u8], last: bool, store: Outcome) -> Option<&'static Reply> {
    let mut pieces = chunk.chunks(8_192).peekable();
    while let Some(piece) = pieces.next() {
        open.body.extend_from_slice(piece);
        if let Some(reply) = header_fault(&open.body) {
            return Some(reply);
        }
        if let (true, Outcome::Failed(failure)) = (pieces.peek().is_some() || !last, store) {
            return Some(failure.reply());
        }
    }
    None
}

/// Text in lines, now and then with something that may spoil it.
fn text(random: &mut Random) -> Vec<u8> {
    let mut text = Vec::new();
    let lines = if random.once_in(8) { 300 } else { random.below(30) };
    let spoil = random.below(12);
    // Mail of a system that does not know CRLF.
    let newline: &[u8] = if random.once_in(8) { b"\n" } else { b"\r\n" };
    let fields = [0, 20, lines][random.below(3)];
    for line in 0..lines {
        if line < fields && !random.once_in(100) {
            text.extend_from_slice([b"X-Field: ".as_slice(), b"X:", b"\t"][random.below(3)]);
        }
        match random.below(8) {
            0 => text.push(b'.'),
            1 => text.extend_from_slice(b".."),
            2 if line < 20 => text.extend_from_slice(b"a\r\nReceived: x"),
            3 => text.extend_from_slice(b"QUIT"),
            _ => text.extend((0..random.below(70)).map(|_| b"abc .XYZ\xe9:"[random.below(10)])),
        }
        match (spoil, line) {
            (0, 5) => text.extend_from_slice(b"\n.\n"),
            (1, 5) => text.extend_from_slice(b"\r.\r"),
            (2, 5) => text.extend_from_slice(b"\n.\r\nMAIL FROM:<evil@one.example>"),
            (3, 5) => text.extend_from_slice(&[b'x'; 1_100]),
            (4, 5) => text.extend_from_slice(&b"0123456\r\n".repeat(2_300)),
            (5, 1) => text.extend_from_slice(b"\r\n"),
            _ => {}
        }
        text.extend_from_slice(newline);
    }
    if !text.is_empty() && !text.ends_with(b"\r\n") {
        text.extend_from_slice(b"\r\n");
    }
    // Whether data of just this size is one piece or two depends on the slices; both are right.
    for piece_max in [8_192 / 2, 8_192] {
        while (piece_max - 16..=piece_max + 16).contains(&stuff(&text).len()) {
            text.extend_from_slice(b"0123456\r\n");
        }
    }
    text
}

fn lines(octets: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = octets;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.windows(2).position(|pair| pair == b"\r\n").map_or(rest.len(), |at| at + 2);
        let (line, behind) = rest.split_at(end);
        rest = behind;
        Some(line)
    })
}

// RFC 5321 §4.5.2
fn stuff(text: &[u8]) -> Vec<u8> {
    lines(text)
        .flat_map(|line| if line.starts_with(b".") { vec![b".", line] } else { vec![line] })
        .flatten()
        .copied()
        .collect()
}

fn longest_line(octets: &[u8]) -> usize {
    lines(octets).map(|line| line.strip_suffix(b"\r\n").unwrap_or(line).len()).max().unwrap_or(0)
}

fn has_bare_newline(text: &[u8]) -> bool {
    lines(text).any(|line| {
        let line = line.strip_suffix(b"\r\n").unwrap_or(line);
        line.contains(&b'\r') || line.contains(&b'\n')
    })
}

fn normalize(text: &[u8]) -> Vec<u8> {
    let mut normal = Vec::new();
    for line in lines(text) {
        let content = line.strip_suffix(b"\r\n").unwrap_or(line);
        for &octet in content {
            if octet == b'\r' || octet == b'\n' {
                normal.extend_from_slice(b"\r\n");
            } else {
                normal.push(octet);
            }
        }
        normal.extend_from_slice(&line[content.len()..]);
    }
    normal
}

/// Lines end with LF here, with or without CR; the section ends behind the first empty one, or before one that is no field.
fn header_fault(octets: &[u8]) -> Option<&'static Reply> {
    let (mut header, mut hops) = (0, 0);
    for line in octets.split_inclusive(|&octet| octet == b'\n') {
        if line == b"\r\n" || line == b"\n" {
            header += line.len();
            break;
        }
        let name = line.iter().take_while(|octet| (33..127).contains(*octet) && **octet != b':').count();
        let gap = line[name..].iter().take_while(|octet| b" \t".contains(octet)).count();
        let behind = line.get(name + gap).copied();
        let field = name > 0 && behind == Some(b':');
        let folded = header > 0 && b" \t".contains(&line[0]);
        let mailbox_line = header == 0 && name > 0 && gap > 0 && !matches!(behind, None | Some(b'\n'));
        if !(field || folded || mailbox_line) {
            break;
        }
        header += line.len();
        hops += usize::from(field && line[..name].eq_ignore_ascii_case(b"received"));
    }
    if header > 3_000 {
        Some(Reply::HEADER_TOO_BIG)
    } else if hops > 5 {
        Some(Reply::TOO_MANY_HOPS)
    } else {
        None
    }
}
