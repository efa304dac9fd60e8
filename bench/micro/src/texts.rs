//! What the benches read: mail data of a given size, the same on every run.

/// Sizes to measure: in the first cache, in the second, and from memory.
pub const SIZES: [(&str, usize); 3] = [("4 KiB", 4 << 10), ("64 KiB", 64 << 10), ("64 MiB", 64 << 20)];

/// A kind of mail data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// Lines of 76 octets, as an attachment (RFC 2045 §6.8).
    Base64,
    /// Lines of words, up to 78 octets (RFC 5322 §2.1.1), some empty.
    Prose,
    /// Lines of 1 to 30 octets, one in four with a dot first: what costs the scanner most.
    Dots,
}

impl Text {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Base64, Self::Prose, Self::Dots];

    /// The name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Base64 => "base64",
            Self::Prose => "prose",
            Self::Dots => "dots",
        }
    }

    /// Mail data of exactly `octets` (at least 8), the end-of-data indication included and nowhere else.
    pub fn mail_data(self, octets: usize) -> Vec<u8> {
        let mut random = Random(0x5eed);
        let mut data = Vec::with_capacity(octets + 128);
        let text_octets = octets - b"\r\n.\r\n".len();
        while data.len() < text_octets {
            self.line(&mut random, &mut data);
            data.extend_from_slice(b"\r\n");
        }
        data.truncate(text_octets);
        // No bare CR, and no line of nothing or a dot before the end, where a line was cut.
        for octet in data.iter_mut().rev().take_while(|octet| matches!(**octet, b'\r' | b'\n' | b'.')) {
            *octet = b'x';
        }
        data.extend_from_slice(b"\r\n.\r\n");
        data
    }

    fn line(self, random: &mut Random, data: &mut Vec<u8>) {
        const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        const WORDS: [&str; 12] = [
            "the", "mail", "a", "message", "which", "was", "sent.", "to", "durable", "log,", "and",
            "received",
        ];
        match self {
            Self::Base64 => data.extend((0..76).map(|_| BASE64[random.below(64)])),
            Self::Prose => {
                let start = data.len();
                let octets_max = if random.below(8) == 0 { random.below(60) } else { 78 };
                loop {
                    let word = WORDS[random.below(WORDS.len())];
                    if data.len() - start + word.len() + 1 > octets_max {
                        break;
                    }
                    data.extend_from_slice(word.as_bytes());
                    data.push(b' ');
                }
            }
            Self::Dots => {
                if random.below(4) == 0 {
                    data.extend_from_slice(b"..");
                }
                let octets = 1 + random.below(30);
                data.extend((0..octets).map(|_| BASE64[random.below(64)]));
            }
        }
    }
}

/// Marsaglia's xorshift: repeatable, and enough for texts.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        #[expect(clippy::cast_possible_truncation, reason = "less than `bound`")]
        let value = (self.0 % bound as u64) as usize;
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_data_has_its_size_and_one_end() {
        for text in Text::ALL {
            for octets in (8..400).chain([4096, 65_536]) {
                let data = text.mail_data(octets);
                assert_eq!(data.len(), octets);
                assert_eq!(memchr::memmem::find(&data, b"\r\n.\r\n"), Some(octets - 5), "{text:?} {octets}");
                assert!(!data.starts_with(b".\r\n"), "{text:?} {octets}");
            }
        }
    }
}
