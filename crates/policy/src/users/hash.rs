//! Hashes of passwords: three kinds, their bounds, and how a password is prepared before it meets one.
//!
//! ```text
//! $argon2id$v=19$m=19456,t=2,p=1$SALT$HASH        as the PHC string format has it
//! $2b$12$SALTHASH  ($2a$, $2y$)                   bcrypt, as htpasswd -B writes it
//! $6$rounds=100000$SALT$HASH  ($6$SALT$HASH)      sha512-crypt, as /etc/shadow and openssl passwd -6 have it
//! ```
//! The costs of a hash are part of it, so a file could ask for any amount of memory and time at each login: they are checked when the file is read.

use std::fmt;
use std::str::FromStr as _;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _, try_generate_salt};
use inrush_proto::sasl::PASSWORD_OCTETS_MAX;
use sha_crypt::{Params as ShaParams, ShaCrypt};
use thiserror::Error;
use zeroize::Zeroizing;

/// KiB of memory that one verification may take: 256 MiB, four times the second choice of RFC 9106 §4.
const ARGON2_MEMORY_KIB_MAX: u32 = 256 * 1024;
/// Passes over that memory; RFC 9106 §4 chooses 1 and 3.
const ARGON2_PASSES_MAX: u32 = 16;
/// Lanes; RFC 9106 §4 chooses 4.
const ARGON2_LANES_MAX: u32 = 16;
/// 2^15 rounds take seconds.
const BCRYPT_COST_MAX: u32 = 15;
/// Takes about a second.
const SHA512_CRYPT_ROUNDS_MAX: u32 = 1_000_000;

/// Cost of new bcrypt hashes: about a quarter of a second.
const BCRYPT_COST: u32 = 12;
/// Rounds of new sha512-crypt hashes; the 5,000 that are its default are of 2007.
const SHA512_CRYPT_ROUNDS: u32 = 100_000;
/// Octets of random salt of new sha512-crypt hashes: 16 letters, more of which would be ignored.
const SHA512_CRYPT_SALT_OCTETS: usize = 12;

/// How a password is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HashKind {
    /// RFC 9106; takes memory too, which is what those who guess have least of.
    Argon2id,
    /// Looks at the first 72 octets of a password only.
    Bcrypt,
    /// For files that come from `/etc/shadow`.
    Sha512Crypt,
}

impl HashKind {
    /// Its name in listings and on the command line.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Argon2id => "argon2id",
            Self::Bcrypt => "bcrypt",
            Self::Sha512Crypt => "sha512-crypt",
        }
    }
}

impl fmt::Display for HashKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// A hash cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HashError {
    /// None of the three kinds.
    #[error("not a hash that is known here ($argon2id$, $2b$, $2y$, $2a$ or $6$)")]
    Unknown,
    /// Begins like a kind but is not of its form.
    #[error("not a well-formed {0} hash")]
    Malformed(HashKind),
    /// Each login would take too much time or memory.
    #[error("{kind} with {cost}={value}, where at most {max} is allowed")]
    TooCostly {
        /// Of the hash.
        kind: HashKind,
        /// Which cost, as the hash names it.
        cost: &'static str,
        /// What the hash says.
        value: u32,
        /// What is allowed.
        max: u32,
    },
}

/// A password cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PasswordError {
    /// Nothing is left of it after preparation.
    #[error("the password is empty")]
    Empty,
    /// It has characters that no client may send (RFC 4013 §2.3 to §2.5).
    #[error(
        "the password has characters that SASLprep (RFC 4013) forbids: control characters, emoji and others newer than Unicode 3.2, or a mix of left-to-right and right-to-left"
    )]
    Prohibited,
    /// Over the octets that its hash or AUTH can take.
    #[error("the password is longer than {octets_max} octets")]
    TooLong {
        /// The bound.
        octets_max: usize,
    },
    /// The system gives no random numbers for the salt.
    #[error("the system gives no random numbers")]
    NoRandomNumbers,
}

/// What verifying against a hash costs. Two hashes of the same cost take the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Cost {
    Argon2id { memory_kib: u32, passes: u32, lanes: u32, output_octets: usize },
    Bcrypt { cost: u32 },
    Sha512Crypt { rounds: u32 },
}

/// A hash as the file has it, known to be well-formed and within the bounds.
#[derive(Clone)]
pub(super) struct Hash {
    text: Box<str>,
    cost: Cost,
}

impl Hash {
    pub(super) fn parse(text: &str) -> Result<Self, HashError> {
        let cost = match text.get(1..).and_then(|rest| rest.split('$').next()) {
            _ if !text.starts_with('$') => return Err(HashError::Unknown),
            Some("argon2id") => argon2id(text)?,
            Some("2a" | "2b" | "2y") => bcrypt(text)?,
            Some("6") => sha512_crypt(text)?,
            _ => return Err(HashError::Unknown),
        };
        Ok(Self { text: text.into(), cost })
    }

    pub(super) fn kind(&self) -> HashKind {
        match self.cost {
            Cost::Argon2id { .. } => HashKind::Argon2id,
            Cost::Bcrypt { .. } => HashKind::Bcrypt,
            Cost::Sha512Crypt { .. } => HashKind::Sha512Crypt,
        }
    }

    pub(super) fn cost(&self) -> Cost {
        self.cost
    }

    /// Whether this is the hash of the prepared `password`. Takes the same time for every password of the same length.
    pub(super) fn verify(&self, password: &str) -> bool {
        let (password, text) = (password.as_bytes(), &*self.text);
        match self.cost {
            Cost::Argon2id { .. } => Argon2::default().verify_password(password, text).is_ok(),
            // As every other bcrypt, this looks at 72 octets; new hashes of longer passwords are refused.
            Cost::Bcrypt { .. } => bcrypt::verify(password, text).unwrap_or(false),
            Cost::Sha512Crypt { .. } => ShaCrypt::SHA512.verify_password(password, text).is_ok(),
        }
    }
}

/// Hashes a password with a random salt, for a line of the file.
///
/// # Errors
/// The password cannot be used, or the system gives no random numbers.
pub fn hash_password(kind: HashKind, password: &str) -> Result<String, PasswordError> {
    let password = prepare(password)?;
    let octets = password.as_bytes();
    // Of the errors of the libraries, those of parameters and lengths cannot occur with ours.
    let text = match kind {
        HashKind::Argon2id => Argon2::default().hash_password(octets).ok().map(|hash| hash.to_string()),
        HashKind::Bcrypt if octets.len() > 71 => return Err(PasswordError::TooLong { octets_max: 71 }),
        HashKind::Bcrypt => bcrypt::non_truncating_hash(octets, BCRYPT_COST).ok(),
        HashKind::Sha512Crypt => try_generate_salt().ok().and_then(|salt| {
            let hasher = ShaCrypt::from(ShaParams::new(SHA512_CRYPT_ROUNDS).ok()?);
            let hash = hasher.hash_password_with_salt(octets, &salt[..SHA512_CRYPT_SALT_OCTETS]).ok()?;
            Some(hash.to_string())
        }),
    };
    text.ok_or(PasswordError::NoRandomNumbers)
}

/// The form of a password that is hashed. RFC 4616 §2: prepared with SASLprep, and refused when nothing is left.
///
/// RFC 4616 §2, todo: what was not assigned in Unicode 3.2 should be let through in a password that is only compared. The library
/// refuses it always, so such a password can be neither set with `inrush user add` nor used with a hash of another tool.
pub(super) fn prepare(password: &str) -> Result<Zeroizing<String>, PasswordError> {
    const TOO_LONG: PasswordError = PasswordError::TooLong { octets_max: PASSWORD_OCTETS_MAX };
    // Before, since preparing takes time; after, since it may make a text longer.
    if password.len() > PASSWORD_OCTETS_MAX {
        return Err(TOO_LONG);
    }
    let prepared = stringprep::saslprep(password).map_err(|_| PasswordError::Prohibited)?;
    let prepared = Zeroizing::new(prepared.into_owned());
    match prepared.len() {
        0 => Err(PasswordError::Empty),
        1..=PASSWORD_OCTETS_MAX => Ok(prepared),
        _ => Err(TOO_LONG),
    }
}

fn bounded(kind: HashKind, cost: &'static str, value: u32, max: u32) -> Result<(), HashError> {
    if value > max { Err(HashError::TooCostly { kind, cost, value, max }) } else { Ok(()) }
}

fn argon2id(text: &str) -> Result<Cost, HashError> {
    const KIND: HashKind = HashKind::Argon2id;
    let hash = PasswordHash::new(text).map_err(|_| HashError::Malformed(KIND))?;
    let params = argon2::Params::try_from(&hash).map_err(|_| HashError::Malformed(KIND))?;
    // Version 19 is the one of RFC 9106; without salt and output there is nothing to compare with.
    let (Some(19), Some(_), Some(output)) = (hash.version, &hash.salt, &hash.hash) else {
        return Err(HashError::Malformed(KIND));
    };
    bounded(KIND, "m", params.m_cost(), ARGON2_MEMORY_KIB_MAX)?;
    bounded(KIND, "t", params.t_cost(), ARGON2_PASSES_MAX)?;
    bounded(KIND, "p", params.p_cost(), ARGON2_LANES_MAX)?;
    Ok(Cost::Argon2id {
        memory_kib: params.m_cost(),
        passes: params.t_cost(),
        lanes: params.p_cost(),
        output_octets: output.len(),
    })
}

fn bcrypt(text: &str) -> Result<Cost, HashError> {
    const MALFORMED: HashError = HashError::Malformed(HashKind::Bcrypt);
    let cost = bcrypt::HashParts::from_str(text).map_err(|_| MALFORMED)?.get_cost();
    bounded(HashKind::Bcrypt, "cost", cost, BCRYPT_COST_MAX)?;
    if cost < 4 { Err(MALFORMED) } else { Ok(Cost::Bcrypt { cost }) }
}

fn sha512_crypt(text: &str) -> Result<Cost, HashError> {
    const MALFORMED: HashError = HashError::Malformed(HashKind::Sha512Crypt);
    let fields: Vec<&str> = text.split('$').skip(2).collect();
    let (rounds, salt, hash) = match fields[..] {
        [salt, hash] => (ShaParams::RECOMMENDED_ROUNDS, salt, hash),
        [rounds, salt, hash] => {
            let rounds = rounds.strip_prefix("rounds=").and_then(|rounds| rounds.parse().ok());
            (rounds.ok_or(MALFORMED)?, salt, hash)
        }
        _ => return Err(MALFORMED),
    };
    bounded(HashKind::Sha512Crypt, "rounds", rounds, SHA512_CRYPT_ROUNDS_MAX)?;
    let letters = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'/');
    let formed = rounds >= ShaParams::ROUNDS_MIN
        && (1..=16).contains(&salt.len())
        && hash.len() == 86
        && letters(salt)
        && letters(hash);
    if formed { Ok(Cost::Sha512Crypt { rounds }) } else { Err(MALFORMED) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    const PASSWORD: &str = "correct horse";

    /// Hashes of [`PASSWORD`] that other programs have made.
    const FOREIGN: [(&str, &str); 9] = [
        (
            "openssl passwd -6",
            "$6$Xk2mZ9qLwB7vTn4R$.PZ1TiqAhbLLRLeV.SzhpoxBfy5yDOKdINy1Ed2AMWSanXjXNcwWZl21kPVL5VLlJhntJko52pHYh.vRPQW5J.",
        ),
        (
            "mkpasswd -m sha-512 -R 1500",
            "$6$rounds=1500$Pzf0YRqSET7AHa2T$cn/xzpc/HROyL07y1yLZz6JMGMaTXa4ghqFg6Cypu9q3dr1HSNoSNr5mdQj.eoeAYpzasyAjd9bQIoORYaGNk/",
        ),
        ("htpasswd -nbB -C 5", "$2y$05$w2ChqL5OnOB3F2tM.GDUdOqAAm66ngT3UhZ6.tg8K4MNFP1dCfVO6"),
        ("htpasswd -nbB", "$2y$05$X8gnq9cWl/qub7aWsM1hceKF2ovBEqsWR4La7bUrBj1nqb3SqtD.W"),
        ("mkpasswd -m bcrypt", "$2b$05$yuD32kov6HpEk4iy4EfMyO8QWYAp1BEo8staufvO/VNRu1u/oj99m"),
        ("crypt(3) of Python", "$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2"),
        ("crypt(3) of Python", "$2a$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2"),
        (
            "argon2 -id -t 2 -m 12 -p 1 -e",
            "$argon2id$v=19$m=4096,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$KBJSI6BT3NyMAUsaKLL9Pzdt9MAPhw9LJEM85dOvTig",
        ),
        (
            "argon2 -id -t 1 -k 256 -p 2 -e",
            "$argon2id$v=19$m=256,t=1,p=2$c2FsdHNhbHRzYWx0c2FsdA$i/p/KQkL/rPIX5DPEO0UMFEn78b+o3RKSMuHB/4j5dw",
        ),
    ];

    #[test]
    fn hashes_of_other_programs() {
        for (program, text) in FOREIGN {
            let hash = Hash::parse(text).unwrap_or_else(|error| panic!("{program}: {error}"));
            assert!(hash.verify(PASSWORD), "{program}");
            for wrong in ["correct horsf", "correct hors", "correct horse ", "Correct horse", ""] {
                assert!(!hash.verify(wrong), "{program}: {wrong:?}");
            }
            // One letter of the hash changed.
            let at = text.len() - 9;
            let letter = if &text[at..=at] == "a" { "b" } else { "a" };
            let changed = Hash::parse(&format!("{}{letter}{}", &text[..at], &text[at + 1..])).unwrap();
            assert!(!changed.verify(PASSWORD), "{program}");
        }
    }

    #[test]
    fn bcrypt_looks_at_72_octets() {
        let hash = Hash::parse("$2b$05$abcdefghijklmnopqrstuujf8SX2ahXLwp9w/B.Y5XdysS6yR576q").unwrap();
        assert!(hash.verify(&"x".repeat(80)));
        assert!(hash.verify(&"x".repeat(72)));
        assert!(!hash.verify(&"x".repeat(71)));
        let long = hash_password(HashKind::Bcrypt, &"x".repeat(72));
        assert_eq!(long, Err(PasswordError::TooLong { octets_max: 71 }));
    }

    #[test]
    fn own_hashes() {
        for (kind, front) in [
            (HashKind::Argon2id, "$argon2id$v=19$m=19456,t=2,p=1$"),
            (HashKind::Bcrypt, "$2b$12$"),
            (HashKind::Sha512Crypt, "$6$rounds=100000$"),
        ] {
            let text = hash_password(kind, PASSWORD).unwrap();
            assert!(text.starts_with(front), "{text}");
            assert!(!text.contains(':'), "{text}");
            let hash = Hash::parse(&text).unwrap();
            assert_eq!(hash.kind(), kind);
            assert!(hash.verify(PASSWORD), "{text}");
            assert!(!hash.verify("correct horsf"), "{text}");
            assert_ne!(hash_password(kind, PASSWORD).unwrap(), text, "a salt for each");
        }
        // crypt(3) ignores what a salt has beyond 16 letters.
        let text = hash_password(HashKind::Sha512Crypt, PASSWORD).unwrap();
        assert_eq!(text.split('$').nth(3).map(str::len), Some(16), "{text}");
    }

    #[test]
    fn bounds() {
        const ARGON2_END: &str = "$c2FsdHNhbHRzYWx0c2FsdA$KBJSI6BT3NyMAUsaKLL9Pzdt9MAPhw9LJEM85dOvTig";
        let sha_end = FOREIGN[1].1.strip_prefix("$6$rounds=1500").unwrap();
        let bcrypt_end = FOREIGN[2].1.strip_prefix("$2y$05").unwrap();
        for (text, kind, cost, value, max) in [
            (
                format!("$argon2id$v=19$m=4194304,t=1,p=1{ARGON2_END}"),
                HashKind::Argon2id,
                "m",
                4_194_304,
                262_144,
            ),
            (
                format!("$argon2id$v=19$m=262145,t=1,p=1{ARGON2_END}"),
                HashKind::Argon2id,
                "m",
                262_145,
                262_144,
            ),
            (format!("$argon2id$v=19$m=256,t=17,p=1{ARGON2_END}"), HashKind::Argon2id, "t", 17, 16),
            (format!("$argon2id$v=19$m=256,t=1,p=17{ARGON2_END}"), HashKind::Argon2id, "p", 17, 16),
            (format!("$2y$16{bcrypt_end}"), HashKind::Bcrypt, "cost", 16, 15),
            (format!("$2y$31{bcrypt_end}"), HashKind::Bcrypt, "cost", 31, 15),
            (format!("$6$rounds=1000001{sha_end}"), HashKind::Sha512Crypt, "rounds", 1_000_001, 1_000_000),
        ] {
            let expected = HashError::TooCostly { kind, cost, value, max };
            assert_eq!(Hash::parse(&text).err(), Some(expected), "{text}");
        }
        for text in [
            format!("$argon2id$v=19$m=262144,t=16,p=16{ARGON2_END}"),
            format!("$2y$15{bcrypt_end}"),
            format!("$6$rounds=1000000{sha_end}"),
        ] {
            assert!(Hash::parse(&text).is_ok(), "{text}");
        }
    }

    #[test]
    fn malformed() {
        let end = "$c2FsdHNhbHRzYWx0c2FsdA$KBJSI6BT3NyMAUsaKLL9Pzdt9MAPhw9LJEM85dOvTig";
        let (sha, bcrypt) = (FOREIGN[0].1, FOREIGN[2].1);
        for (text, kind) in [
            (format!("$argon2id$m=256,t=1,p=1{end}"), HashKind::Argon2id),
            (format!("$argon2id$v=16$m=256,t=1,p=1{end}"), HashKind::Argon2id),
            (format!("$argon2id$v=19$m=99999999999,t=1,p=1{end}"), HashKind::Argon2id),
            (format!("$argon2id$v=19$m=4,t=1,p=1{end}"), HashKind::Argon2id),
            ("$argon2id$v=19$m=256,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA".to_owned(), HashKind::Argon2id),
            ("$argon2id$".to_owned(), HashKind::Argon2id),
            (bcrypt[..59].to_owned(), HashKind::Bcrypt),
            (format!("{bcrypt}x"), HashKind::Bcrypt),
            (bcrypt.replace("$05$", "$03$"), HashKind::Bcrypt),
            (bcrypt.replace("$05$", "$xx$"), HashKind::Bcrypt),
            (sha[..sha.len() - 1].to_owned(), HashKind::Sha512Crypt),
            (sha.replace("$Xk2mZ9qLwB7vTn4R$", "$$"), HashKind::Sha512Crypt),
            (sha.replace("$Xk2mZ9qLwB7vTn4R$", "$Xk2mZ9qLwB7vTn4R7$"), HashKind::Sha512Crypt),
            (sha.replace("$Xk2m", "$rounds=999$Xk2m"), HashKind::Sha512Crypt),
            (sha.replace("$Xk2m", "$rounds=x$Xk2m"), HashKind::Sha512Crypt),
            (sha.replace("$Xk2m", "$Xk-m"), HashKind::Sha512Crypt),
        ] {
            assert_eq!(Hash::parse(&text).err(), Some(HashError::Malformed(kind)), "{text}");
        }
        for text in [
            "",
            "$",
            "secret",
            "{SSHA}x",
            "$1$x$y",
            "$5$x$y",
            "$2x$05$x",
            "$argon2i$v=19$m=256,t=1,p=1",
            "6$x$y",
        ] {
            assert_eq!(Hash::parse(text).err(), Some(HashError::Unknown), "{text}");
        }
    }

    // RFC 4013 §3: the examples.
    #[test]
    fn preparation() {
        for (password, expected) in [
            ("I\u{ad}X", Ok("IX")),
            ("user", Ok("user")),
            ("USER", Ok("USER")),
            ("\u{aa}", Ok("a")),
            ("\u{2168}", Ok("IX")),
            ("\u{7}", Err(PasswordError::Prohibited)),
            ("\u{627}1", Err(PasswordError::Prohibited)),
            // RFC 4013 §2.1: other spaces become spaces. RFC 4616 §2: nothing left is a failure.
            ("a\u{a0}b", Ok("a b")),
            ("\u{ad}", Err(PasswordError::Empty)),
            ("", Err(PasswordError::Empty)),
            // Both ways to write an umlaut.
            ("Gr\u{fc}\u{df}e", Ok("Grüße")),
            ("Gru\u{308}\u{df}e", Ok("Grüße")),
        ] {
            let prepared = prepare(password);
            assert_eq!(
                prepared.as_ref().map(|text| text.as_str()),
                expected.as_ref().copied(),
                "{password:?}"
            );
        }
        let too_long = Err(PasswordError::TooLong { octets_max: PASSWORD_OCTETS_MAX });
        assert!(prepare(&"x".repeat(PASSWORD_OCTETS_MAX)).is_ok());
        assert_eq!(prepare(&"x".repeat(PASSWORD_OCTETS_MAX + 1)), too_long);
        // U+FDFA becomes 18 characters.
        assert_eq!(prepare(&"\u{fdfa}".repeat(100)), too_long);
    }

    // Made with `openssl passwd -6` from the composed form.
    #[test]
    fn a_decomposed_password_is_the_same() {
        let hash = "$6$abcdefgh$Oy3078TWpAsMvE7uEsidL9yBTa6kkece7KQAQ.4HH/UeUovVscFX3tOHfwLnJNyPIfeMvN/Gn2zbYrdFUQeA00";
        let hash = Hash::parse(hash).unwrap();
        assert!(hash.verify(&prepare("Gru\u{308}ße").unwrap()));
    }
}
