//! A script over a stream, step by step.

use std::io::{self, Read, Write};

use crate::{Script, Step, reply};

/// Far above any reply of a script.
const REPLY_OCTETS_MAX: usize = 64 * 1024;

impl Script {
    /// Plays the client: sends what it sends, waits for each reply where the script has it, and calls `handshake` where it has TLS. The
    /// stream needs a timeout of its own.
    ///
    /// # Errors
    /// The first difference, in words, or an error of the stream.
    pub fn play<S: Read + Write>(
        &self,
        stream: &mut S,
        mut handshake: impl FnMut(&mut S) -> io::Result<()>,
    ) -> Result<(), String> {
        let mut input = Vec::new();
        for step in &self.steps {
            match step {
                Step::Send(octets) => {
                    stream.write_all(octets).map_err(|error| format!("sending: {error}"))?;
                }
                Step::Handshake => {
                    if !input.is_empty() {
                        return Err(format!("more than expected: {}", input.escape_ascii()));
                    }
                    handshake(stream).map_err(|error| format!("handshake: {error}"))?;
                }
                Step::Expect(expectation) => {
                    let octets = loop {
                        if let Some((reply, _)) = reply::take(&input) {
                            break reply.len();
                        }
                        if input.len() > REPLY_OCTETS_MAX || receive(stream, &mut input)? == 0 {
                            return Err(format!("expected {expectation}, got {}", input.escape_ascii()));
                        }
                    };
                    expectation.check(&input[..octets])?;
                    input.drain(..octets);
                }
            }
        }
        if self.closes {
            while receive(stream, &mut input)? > 0 {}
        } else {
            stream.write_all(b"NOOP\r\n").map_err(|error| format!("the server has closed: {error}"))?;
            while reply::take(&input).is_none() {
                if receive(stream, &mut input)? == 0 {
                    return Err("the server has closed".to_owned());
                }
            }
            let octets = reply::take(&input).map_or(0, |(reply, _)| reply.len());
            if !input.starts_with(b"250 ") {
                return Err(format!("more than expected: {}", input.escape_ascii()));
            }
            input.drain(..octets);
        }
        if input.is_empty() { Ok(()) } else { Err(format!("more than expected: {}", input.escape_ascii())) }
    }
}

fn receive(stream: &mut impl Read, input: &mut Vec<u8>) -> Result<usize, String> {
    let mut buffer = [0; 4096];
    match stream.read(&mut buffer) {
        Ok(octets) => {
            input.extend_from_slice(&buffer[..octets]);
            Ok(octets)
        }
        // A server that closes with unread input resets the connection.
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(0),
        Err(error) => Err(format!("receiving: {error}")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a script of the test that does not parse is a failure of the test")]
mod tests {
    use super::*;

    /// A server that says what it is told to say.
    struct Said(io::Cursor<Vec<u8>>, Vec<u8>);

    impl Read for Said {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let one = buffer.len().min(1);
            self.0.read(&mut buffer[..one])
        }
    }

    impl Write for Said {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.1.extend_from_slice(octets);
            Ok(octets.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn play(script: &str, said: &str) -> (Result<(), String>, Vec<u8>) {
        let script = Script::parse("a", &format!("# tests/dialogs/a.smtp  RFC 5321 §1\n{script}")).unwrap();
        let mut stream = Said(io::Cursor::new(said.as_bytes().to_vec()), Vec::new());
        (script.play(&mut stream, |_| Ok(())), stream.1)
    }

    #[test]
    fn plays() {
        let script = "S: 220 ~\nC: QUIT\nS: 221 ~\nX: closed";
        assert_eq!(play(script, "220 x\r\n221 y\r\n"), (Ok(()), b"QUIT\r\n".to_vec()));
        assert!(play(script, "220 x\r\n421 y\r\n").0.is_err());
        assert!(play(script, "220 x\r\n").0.is_err());
        assert!(play(script, "220 x\r\n221 y\r\n250 z\r\n").0.is_err());
        let open = "S: 220 ~";
        assert_eq!(play(open, "220 x\r\n250 y\r\n").0, Ok(()));
        assert!(play(open, "220 x\r\n").0.is_err());
    }
}
