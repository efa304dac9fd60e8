//! Which sessions a tracer wants to see.

use std::net::IpAddr;

use ipnet::IpNet;

/// Octets of a domain (RFC 5321 §4.5.3.1.2).
const DOMAIN_OCTETS_MAX: usize = 255;

/// Why a filter is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Neither a network nor a domain.
    #[error("say which sessions: from (a network), rcpt (a domain), or both")]
    Nothing,
    /// Not a network.
    #[error("from: {0:?} is not an address or a network such as 192.0.2.0/24")]
    Network(String),
    /// Not a domain.
    #[error("rcpt: {0:?} is not a domain")]
    Domain(String),
}

/// Which sessions a tracer wants to see: those of a network, those with a recipient in a domain, or those for which both is true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    from: Option<IpNet>,
    rcpt: Option<String>,
}

impl Filter {
    /// Reads an address or a network, and a domain with or without an `@` before it.
    ///
    /// # Errors
    /// Neither is there, or one is wrong.
    pub fn new(from: Option<&str>, rcpt: Option<&str>) -> Result<Self, FilterError> {
        let network = |text: &str| {
            let address = text.parse::<IpAddr>().map(IpNet::from);
            let network = address.or_else(|_| text.parse::<IpNet>());
            network.map_err(|_| FilterError::Network(text.to_owned()))
        };
        let domain = |text: &str| {
            let domain = text.strip_prefix('@').unwrap_or(text);
            let odd = |c: char| c.is_control() || c.is_whitespace() || c == '@';
            if domain.is_empty() || domain.len() > DOMAIN_OCTETS_MAX || domain.contains(odd) {
                return Err(FilterError::Domain(text.to_owned()));
            }
            Ok(domain.to_lowercase())
        };
        let filter = Self { from: from.map(network).transpose()?, rcpt: rcpt.map(domain).transpose()? };
        if filter.from.is_none() && filter.rcpt.is_none() { Err(FilterError::Nothing) } else { Ok(filter) }
    }

    /// Whether the address does not exclude a session.
    pub(crate) fn allows(&self, client: IpAddr) -> bool {
        // A client of IPv4 on a socket of IPv6 is what it is.
        self.from.is_none_or(|network| network.contains(&client.to_canonical()) || network.contains(&client))
    }

    /// Whether a session has to name a recipient first.
    pub(crate) fn needs_recipient(&self) -> bool {
        self.rcpt.is_some()
    }

    /// Whether a recipient in this domain is one of those.
    pub(crate) fn has_recipient(&self, domain: &str) -> bool {
        self.rcpt.as_ref().is_some_and(|wanted| *wanted == domain.to_lowercase())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_and_domains() {
        let filter = Filter::new(Some("192.0.2.0/24"), Some("@Example.COM")).expect("a filter");
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert!(filter.allows(address("192.0.2.7")) && filter.allows(address("::ffff:192.0.2.7")));
        assert!(!filter.allows(address("192.0.3.7")) && !filter.allows(address("2001:db8::1")));
        assert!(filter.needs_recipient() && filter.has_recipient("example.com"));
        assert!(!filter.has_recipient("sub.example.com"));
        let one = Filter::new(Some("2001:db8::1"), None).expect("a filter");
        assert!(one.allows(address("2001:db8::1")) && !one.allows(address("2001:db8::2")));
        assert!(!one.needs_recipient() && !one.has_recipient("example.com"));
    }

    #[test]
    fn what_is_no_filter() {
        assert_eq!(Filter::new(None, None), Err(FilterError::Nothing));
        assert!(matches!(Filter::new(Some("example.com"), None), Err(FilterError::Network(_))));
        for domain in ["", "@", "a b", "a@b.example", "a\n"] {
            assert!(matches!(Filter::new(None, Some(domain)), Err(FilterError::Domain(_))), "{domain:?}");
        }
    }
}
