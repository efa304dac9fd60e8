//! Sets of networks, and lists that allow and deny.
//!
//! ```text
//!   ["10.0.0.0/8", "2001:db8::/32", "192.0.2.1"]      in a setting; an address alone is a network of one
//!
//!   # our partners                                    in a file, one a line
//!   198.51.100.0/24    # Example Ltd
//! ```
//! A look-up takes the same few steps whether there are ten networks or hundreds of thousands (at most 7 for IPv4, 26 for IPv6),
//! takes no lock and allocates nothing. IPv4-mapped addresses and networks (`::ffff:192.0.2.1`) are IPv4, as they are on a socket
//! that listens to both; no other IPv6 network, not even `::/0`, holds an IPv4 address.
//!
//! Standards: RFC 4632 §3.1 (prefix notation), RFC 4291 §2.3 (the same for IPv6), §2.5.5.2 (IPv4-mapped).

use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use prefix_trie::joint::{JointPrefixMap, JointPrefixSet};

/// Errors of one file that are worth telling.
const ERRORS_MAX: usize = 20;

/// Why a text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkError {
    /// Neither an address nor an address, `/` and a length.
    Syntax,
    /// Bits are set behind the length: either of the two is wrong, and we shall not guess which.
    HostBits {
        /// The network without these bits.
        meant: IpNet,
    },
}

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax => f.write_str("is not a network, such as 192.0.2.0/24 or 2001:db8::/32"),
            Self::HostBits { meant } => write!(f, "has bits set behind its length: {meant} is the network"),
        }
    }
}

impl std::error::Error for NetworkError {}

/// A line of a file that is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkLineError {
    /// Number of the line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: NetworkError,
}

/// A set of networks.
#[derive(Clone, Debug, Default)]
pub struct Networks {
    set: JointPrefixSet<IpNet>,
}

impl Networks {
    /// No network.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one network or address as it stands in a setting.
    ///
    /// # Errors
    /// The text is no network.
    pub fn add(&mut self, text: &str) -> Result<(), NetworkError> {
        self.set.insert(network(text)?);
        Ok(())
    }

    /// Adds the networks of a file, one a line. CRLF and a byte order mark are allowed.
    ///
    /// # Errors
    /// The first 20 lines that are no network; the others have been added.
    pub fn add_file(&mut self, file: &[u8]) -> Result<(), Vec<NetworkLineError>> {
        let mut errors = Vec::new();
        let file = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
        for (index, line) in file.split(|&octet| octet == b'\n').enumerate() {
            let text = line.split(|&octet| octet == b'#').next().unwrap_or_default().trim_ascii();
            if text.is_empty() {
                continue;
            }
            let added =
                std::str::from_utf8(text).map_err(|_| NetworkError::Syntax).and_then(|text| self.add(text));
            if let Err(what) = added {
                errors.push(NetworkLineError { line: index + 1, what });
                if errors.len() == ERRORS_MAX {
                    break;
                }
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Number of different networks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.set.len()
    }

    /// True without any network.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// Whether `address` is in one of the networks.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.set.get_lpm(&IpNet::from(address.to_canonical())).is_some()
    }
}

/// What an [`AccessList`] says of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The longest network that holds it is allowed.
    Allowed,
    /// The longest network that holds it is denied.
    Denied,
    /// No network holds it.
    Unlisted,
}

/// Networks that are allowed and networks that are denied. The longest one that holds an address decides, so that a part of a
/// denied network can be allowed and the other way round; where both lists have the same network, it is allowed.
#[derive(Clone, Debug, Default)]
pub struct AccessList {
    /// True for allowed.
    map: JointPrefixMap<IpNet, bool>,
}

impl AccessList {
    /// A list of both.
    #[must_use]
    pub fn new(allow: &Networks, deny: &Networks) -> Self {
        let mut map = JointPrefixMap::new();
        for (networks, allowed) in [(deny, false), (allow, true)] {
            for network in &networks.set {
                map.insert(network, allowed);
            }
        }
        Self { map }
    }

    /// What is said of `address`.
    #[must_use]
    pub fn access(&self, address: IpAddr) -> Access {
        match self.map.get_lpm(&IpNet::from(address.to_canonical())) {
            Some((_, true)) => Access::Allowed,
            Some((_, false)) => Access::Denied,
            None => Access::Unlisted,
        }
    }
}

fn network(text: &str) -> Result<IpNet, NetworkError> {
    // Not the parser of ipnet, which takes leading zeros, octal to some.
    let (address, length) =
        text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    let address: IpAddr = address.parse().map_err(|_| NetworkError::Syntax)?;
    let network = match length {
        None => IpNet::from(address),
        Some(digits) if digits.bytes().all(|octet| octet.is_ascii_digit()) => {
            let length = digits.parse().map_err(|_| NetworkError::Syntax)?;
            IpNet::new(address, length).map_err(|_| NetworkError::Syntax)?
        }
        Some(_) => return Err(NetworkError::Syntax),
    };
    if network.trunc() != network {
        return Err(NetworkError::HostBits { meant: canonical(network.trunc()) });
    }
    Ok(canonical(network))
}

/// RFC 4291 §2.5.5.2: the last 32 of the 128 bits are the IPv4 address.
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else { return network };
    let (Some(v4), Some(octets)) = (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(96)) else {
        return network;
    };
    Ipv4Net::new(v4, octets).map_or(network, IpNet::V4)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn networks(texts: &[&str]) -> Networks {
        let mut networks = Networks::new();
        for text in texts {
            networks.add(text).unwrap();
        }
        networks
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_in_and_out() {
        let set = networks(&["10.0.0.0/8", "2001:db8::/32", "192.0.2.1", "2001:db9::1", "0.0.0.0/32"]);
        for text in
            ["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3", "2001:db8:ffff::", "192.0.2.1", "2001:db9::1"]
        {
            assert!(set.contains(ip(text)), "{text}");
        }
        for text in
            ["9.255.255.255", "11.0.0.0", "2001:db7::", "192.0.2.2", "192.0.2.0", "::a00:1", "0.0.0.1"]
        {
            assert!(!set.contains(ip(text)), "{text}");
        }
        assert_eq!(set.len(), 5);
        assert!(!Networks::new().contains(ip("127.0.0.1")) && Networks::new().is_empty());
    }

    #[test]
    fn all_addresses_of_one_family() {
        assert!(networks(&["0.0.0.0/0"]).contains(ip("::ffff:192.0.2.1")));
        assert!(!networks(&["0.0.0.0/0"]).contains(ip("2001:db8::1")));
        assert!(networks(&["::/0"]).contains(ip("2001:db8::1")));
        assert!(!networks(&["::/0"]).contains(ip("192.0.2.1")));
    }

    #[test]
    fn mapped_networks_are_ipv4() {
        let set = networks(&["::ffff:10.0.0.0/104", "::ffff:192.0.2.1", "192.0.2.1/32"]);
        assert_eq!(set.len(), 2);
        assert!(set.contains(ip("10.9.9.9")) && set.contains(ip("192.0.2.1")));
        assert!(networks(&["::ffff:0:0/96"]).contains(ip("192.0.2.1")));
    }

    #[test]
    fn what_is_no_network() {
        for text in [
            "",
            "x",
            "10.0.0/8",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "/8",
            "10.0.0.0/8/8",
            "010.0.0.0/8",
            "::/129",
            "1.2.3.4/0.0.0.0",
        ] {
            assert_eq!(Networks::new().add(text), Err(NetworkError::Syntax), "{text:?}");
        }
        for (text, meant) in [
            ("10.0.0.1/8", "10.0.0.0/8"),
            ("2001:db8::1/32", "2001:db8::/32"),
            ("::ffff:10.0.0.1/104", "10.0.0.0/8"),
            ("1.2.3.4/0", "0.0.0.0/0"),
        ] {
            let error = Networks::new().add(text).unwrap_err();
            assert_eq!(error, NetworkError::HostBits { meant: meant.parse().unwrap() });
            assert_eq!(error.to_string(), format!("has bits set behind its length: {meant} is the network"));
        }
    }

    #[test]
    fn a_file() {
        let mut set = Networks::new();
        let file =
            "\u{feff}# all\r\n10.0.0.0/8\r\n\n  2001:db8::/32 # two\n192.0.2.1#one\n\t\n198.51.100.0/24";
        assert_eq!(set.add_file(file.as_bytes()), Ok(()));
        assert_eq!(set.len(), 4);
        assert!(set.contains(ip("192.0.2.1")) && set.contains(ip("198.51.100.9")));
    }

    #[test]
    fn bad_lines_are_told_with_their_number() {
        let errors =
            Networks::new().add_file(b"10.0.0.0/8\nx\n10.0.0.0/8 x\n\n10.1.2.3/16\n\xff\n").unwrap_err();
        let meant = "10.1.0.0/16".parse().unwrap();
        let expected = [
            (2, NetworkError::Syntax),
            (3, NetworkError::Syntax),
            (5, NetworkError::HostBits { meant }),
            (6, NetworkError::Syntax),
        ];
        assert_eq!(errors, expected.map(|(line, what)| NetworkLineError { line, what }));
        assert_eq!(Networks::new().add_file(&b"x\n".repeat(1_000)).unwrap_err().len(), ERRORS_MAX);
    }

    #[test]
    fn the_longest_network_decides_and_allow_wins_a_tie() {
        let list = AccessList::new(
            &networks(&["10.1.0.0/16", "10.1.2.3", "192.0.2.0/24", "2001:db8::/32"]),
            &networks(&["10.0.0.0/8", "10.1.2.0/24", "192.0.2.0/24", "2001:db8:1::/48"]),
        );
        for (address, access) in [
            ("10.0.0.1", Access::Denied),
            ("10.1.0.1", Access::Allowed),
            ("10.1.2.1", Access::Denied),
            ("10.1.2.3", Access::Allowed),
            ("::ffff:10.1.2.4", Access::Denied),
            ("192.0.2.1", Access::Allowed),
            ("2001:db8::1", Access::Allowed),
            ("2001:db8:1::1", Access::Denied),
            ("203.0.113.1", Access::Unlisted),
            ("::1", Access::Unlisted),
        ] {
            assert_eq!(list.access(ip(address)), access, "{address}");
        }
        assert_eq!(AccessList::default().access(ip("::1")), Access::Unlisted);
    }

    /// Every 37th /24 and every 11th /64: a few hundred thousand.
    #[test]
    fn hundreds_of_thousands() {
        let mut file = String::new();
        for n in 0..200_000u32 {
            let v4 = Ipv4Addr::from((n * 37) << 8);
            let v6 = Ipv6Addr::from(0x2001_0db8 << 96 | u128::from(n * 11) << 64);
            file.push_str(&format!("{v4}/24\n{v6}/64\n"));
        }
        let mut set = Networks::new();
        set.add_file(file.as_bytes()).unwrap();
        assert_eq!(set.len(), 400_000);
        for n in (0..200_000u32 * 37).step_by(101) {
            assert_eq!(set.contains(Ipv4Addr::from(n << 8 | 7).into()), n % 37 == 0);
            let v6 = 0x2001_0db8 << 96 | u128::from(n) << 64 | 7;
            assert_eq!(set.contains(Ipv6Addr::from(v6).into()), n % 11 == 0 && n < 2_200_000);
        }
    }

    /// Networks that are close together, so that they hold one another.
    fn close() -> impl Strategy<Value = IpNet> {
        let v4 =
            (0..64u32, 0..=32u8).prop_map(|(n, length)| (IpAddr::V4((0x0a00_0000 | n << 3).into()), length));
        let v6 = (0..64u128, 0..=128u8)
            .prop_map(|(n, length)| (IpAddr::V6((0x20 << 120 | n << 60).into()), length));
        prop_oneof![v4, v6].prop_map(|(address, length)| IpNet::new(address, length).unwrap().trunc())
    }

    proptest! {
        #[test]
        fn as_a_search_through_all(
            allow in proptest::collection::vec(close(), 0..12),
            deny in proptest::collection::vec(close(), 0..12),
            probes in proptest::collection::vec(close(), 1..20),
        ) {
            let set = |networks: &[IpNet]| {
                let mut set = Networks::new();
                for network in networks {
                    set.add(&network.to_string()).unwrap();
                }
                set
            };
            let list = AccessList::new(&set(&allow), &set(&deny));
            for address in probes.iter().map(IpNet::addr) {
                let longest = |networks: &[IpNet]| {
                    networks.iter().filter(|network| network.contains(&address)).map(IpNet::prefix_len).max()
                };
                let expected = match (longest(&allow), longest(&deny)) {
                    (None, None) => Access::Unlisted,
                    (allowed, denied) if allowed >= denied => Access::Allowed,
                    _ => Access::Denied,
                };
                prop_assert_eq!(list.access(address), expected);
                prop_assert_eq!(set(&allow).contains(address), longest(&allow).is_some());
            }
        }
    }
}
