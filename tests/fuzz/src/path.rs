//! The grammar of paths: what is accepted keeps the limits, holds nothing that could break a line, and means the same
//! when it is written down and read again.

use inrush_proto::{
    DOMAIN_OCTETS_MAX, LOCAL_PART_OCTETS_MAX, PATH_OCTETS_MAX, Path, domain_eq, normalise_domain,
};

/// Runs one input; panics when an accepted path is not what it should be.
pub fn run(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input)
        && let Ok(path) = Path::mailbox(text)
    {
        assert_eq!(path.as_str(), text);
    }
    let Ok((path, rest)) = Path::parse(input) else { return };
    assert!(input.ends_with(rest));
    assert!(input.len() - rest.len() <= PATH_OCTETS_MAX);
    assert!(!path.as_str().chars().any(|c| c.is_ascii_control()));
    assert!(path.local_part().len() <= LOCAL_PART_OCTETS_MAX);

    let again = format!("<{}>", path.as_str());
    assert_eq!(Path::parse(again.as_bytes()), Ok((path, &b""[..])));
    assert!(path.local_part_chars().count() <= path.local_part().chars().count());

    let Some(domain) = path.domain() else {
        assert!(path.is_null() || path.is_bare_postmaster());
        return;
    };
    assert_eq!(path.as_str(), format!("{}@{domain}", path.local_part()));
    assert_eq!(Path::mailbox(path.as_str()), Ok(path));
    assert!(domain.len() <= DOMAIN_OCTETS_MAX);
    assert_eq!(path.literal().is_some(), domain.starts_with('['));
    let (mut once, mut twice) = (String::new(), String::new());
    normalise_domain(domain, &mut once);
    normalise_domain(&once, &mut twice);
    assert_eq!(once, twice);
    assert!(once.is_ascii() && domain_eq(domain, &once));
}
