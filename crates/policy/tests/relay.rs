//! The forms by which open relays were found, against tables as operators write them. The dialog that holds all forms says what is
//! expected; here the policy has to say the same.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::Path as FilePath;

use inrush_dialog::Script;
use inrush_policy::{AddressList, ListSettings, Recipients, Verdict};
use inrush_proto::Path;

fn dialog() -> Script {
    let name = "rcpt_relay_forms";
    let path =
        FilePath::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/dialogs").join(format!("{name}.smtp"));
    Script::parse(name, &std::fs::read_to_string(path).unwrap()).unwrap()
}

fn listed(text: &str) -> Option<AddressList> {
    listed_in(text, "two.example")
}

fn listed_in(text: &str, domain: &str) -> Option<AddressList> {
    Some(AddressList::parse(text.as_bytes(), domain, ListSettings::default()).unwrap())
}

fn table(list: Option<AddressList>) -> Recipients {
    let mut recipients = Recipients::new();
    recipients.add("two.example", list).unwrap();
    recipients
}

// RFC 1123 §5.2.16, RFC 5321 §7.9.
#[test]
fn each_form_is_refused_whatever_the_table_takes() {
    let script = dialog();
    assert!(script.recipients.len() >= 20);
    for (name, table) in [
        ("any", table(None)),
        ("file", table(listed("joe\n"))),
        ("subaddress", table(listed("joe\nuser\n"))),
        ("catch-all", table(listed("*\n"))),
        ("regular expression", table(listed("/.*/\n"))),
    ] {
        for (address, verdict) in &script.recipients {
            let expected = match verdict {
                inrush_dialog::Verdict::Relay => Verdict::ForeignDomain,
                inrush_dialog::Verdict::Routed => Verdict::Routed,
                _ => Verdict::Accept,
            };
            assert_eq!(table.lookup(Path::mailbox(address).unwrap()), expected, "{name}: {address}");
        }
    }
}

#[test]
fn every_domain_is_no_route_either() {
    let everybody = Recipients::catch_all();
    for (address, verdict) in &dialog().recipients {
        let routed = address.rsplit_once('@').unwrap().0.contains(['%', '!', '@']);
        let expected = if routed { Verdict::Routed } else { Verdict::Accept };
        assert_eq!(everybody.lookup(Path::mailbox(address).unwrap()), expected, "{address} {verdict:?}");
    }
}

#[test]
fn who_is_listed_gets_mail_whatever_the_name_looks_like() {
    for (address, verdict) in &dialog().recipients {
        if *verdict == inrush_dialog::Verdict::Routed {
            let table = table(listed(&format!("{address}\n")));
            assert_eq!(table.lookup(Path::mailbox(address).unwrap()), Verdict::Accept, "{address}");
        }
    }
}

// RFC 5321 §4.1.3: an address literal is a domain like others, ours only where it is named.
#[test]
fn address_literals() {
    let mut recipients = table(None);
    let lookup = |recipients: &Recipients, address| recipients.lookup(Path::mailbox(address).unwrap());
    for address in ["joe@[192.0.2.1]", "postmaster@[192.0.2.1]", "joe@[IPv6:2001:db8::1]"] {
        assert_eq!(lookup(&recipients, address), Verdict::ForeignDomain, "{address}");
    }
    recipients.add("[192.0.2.1]", listed_in("joe\n", "[192.0.2.1]")).unwrap();
    assert_eq!(lookup(&recipients, "joe@[192.0.2.1]"), Verdict::Accept);
    assert_eq!(lookup(&recipients, "postmaster@[192.0.2.1]"), Verdict::Accept);
    assert_eq!(lookup(&recipients, "eve@[192.0.2.1]"), Verdict::UnknownUser);
    assert_eq!(lookup(&recipients, "joe%three.example@[192.0.2.1]"), Verdict::Routed);
}
