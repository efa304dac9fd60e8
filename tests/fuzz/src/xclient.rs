//! The attributes of XCLIENT: what is accepted keeps its bounds, holds nothing that could break a line, and means the same
//! when it is written down and read again.

use std::fmt::Write as _;
use std::net::IpAddr;

use inrush_proto::xclient::{Attribute, Protocol, VALUE_OCTETS_MAX, Xclient, XclientError};

/// Runs one input; panics when accepted attributes are not what they should be.
pub fn run(input: &[u8]) {
    let Ok(xclient) = Xclient::parse(input) else { return };
    let mut again = String::new();
    write(&mut again, "NAME", xclient.name.as_ref(), |name| text(name));
    write(&mut again, "ADDR", xclient.address.as_ref(), |address| literal(*address));
    write(&mut again, "PORT", xclient.port.as_ref(), u16::to_string);
    write(&mut again, "HELO", xclient.helo.as_ref(), |helo| text(helo));
    write(&mut again, "LOGIN", xclient.login.as_ref(), |login| text(login));
    write(&mut again, "DESTADDR", xclient.destination_address.as_ref(), |address| literal(*address));
    write(&mut again, "DESTPORT", xclient.destination_port.as_ref(), u16::to_string);
    match xclient.protocol {
        Some(Protocol::Smtp) => again += " PROTO=SMTP",
        Some(Protocol::Esmtp) => again += " PROTO=ESMTP",
        None => {}
    }
    assert_eq!(Xclient::parse(again.as_bytes()), Ok(xclient));
    let twice = format!("{again}{again}");
    assert_eq!(Xclient::parse(twice.as_bytes()), Err(XclientError::Twice));
}

fn write<T>(into: &mut String, name: &str, value: Option<&Attribute<T>>, text: fn(&T) -> String) {
    let text = match value {
        None => return,
        Some(Attribute::Known(value)) => text(value),
        Some(Attribute::Unavailable) => "[UNAVAILABLE]".to_owned(),
        Some(Attribute::TemporarilyUnavailable) => "[TEMPUNAVAIL]".to_owned(),
    };
    let _ = write!(into, " {name}={text}");
}

/// A decoded value in xtext, every octet of it.
fn text(value: &str) -> String {
    assert!((1..=VALUE_OCTETS_MAX).contains(&value.len()));
    assert!(!value.chars().any(char::is_control));
    value.bytes().map(|octet| format!("+{octet:02X}")).collect()
}

fn literal(address: IpAddr) -> String {
    assert_eq!(address, address.to_canonical());
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("IPV6:{v6}"),
    }
}
