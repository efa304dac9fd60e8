//! Addresses of every kind, and what must never become of them.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
use super::*;
use proptest::prelude::*;
use std::path::Component;

const DEFAULT: ExpandSettings = ExpandSettings { case_sensitive: false, subaddress_separator: Some('+') };

fn expand(template: &str, address: &str, settings: ExpandSettings) -> String {
    let bracketed = format!("<{address}>");
    let path = Path::parse(bracketed.as_bytes()).unwrap().0;
    Template::parse(template).unwrap().expand(path, settings).unwrap().to_str().unwrap().to_owned()
}

#[test]
fn placeholders() {
    for (template, address, expected) in [
        ("/m/{domain}/{local}/Maildir", "Joe@A.Example", "/m/a.example/joe/Maildir"),
        ("/m/{address}/", "Joe+x@a.example", "/m/joe+x@a.example"),
        ("/m//{user}", "joe+x+y@a.example", "/m/joe"),
        ("/m/{user}", "\"+x\"@a.example", "/m/+x"),
        ("/m/{domain},{local}", "joe@a.example", "/m/a.example,joe"),
        ("/m/{{{local}}}", "joe@a.example", "/m/{joe}"),
        ("/m/all", "joe@a.example", "/m/all"),
        ("/m/box-{local}.d", "joe@a.example", "/m/box-joe.d"),
        // RFC 5321 §4.1.2: quoting makes no other mailbox.
        ("/m/{local}", "\"j\\oe\"@a.example", "/m/joe"),
        ("/m/{local}", "\"a/../b\"@a.example", "/m/a%2F..%2Fb"),
        ("/m/{local}", "\"..\"@a.example", "/m/%2E."),
        ("/m/{local}", "\"a b%c\"@a.example", "/m/a%20b%25c"),
        ("/m/{local}", "o'brien@a.example", "/m/o%27brien"),
        ("/m/{local}", "J\u{d6}rg@a.example", "/m/j\u{f6}rg"),
        ("/m/{domain}", "joe@B\u{fc}cher.example", "/m/xn--bcher-kva.example"),
        ("/m/{domain}", "joe@[IPv6:2001:db8::1]", "/m/%5Bipv6%3A2001%3Adb8%3A%3A1%5D"),
    ] {
        assert_eq!(expand(template, address, DEFAULT), expected, "{template} {address}");
    }
    let exact = ExpandSettings { case_sensitive: true, ..DEFAULT };
    assert_eq!(expand("/m/{local}", "Joe@a.example", exact), "/m/Joe");
    let dash = ExpandSettings { subaddress_separator: Some('-'), ..DEFAULT };
    assert_eq!(expand("/m/{user}", "joe-x@a.example", dash), "/m/joe");
    let none = ExpandSettings { subaddress_separator: None, ..DEFAULT };
    assert_eq!(expand("/m/{user}", "joe+x@a.example", none), "/m/joe+x");
    assert!(Template::parse("/m/all").unwrap().is_shared());
    assert!(!Template::parse("/m/{domain}").unwrap().is_shared());
}

#[test]
fn templates_that_are_refused() {
    for (template, expected) in [
        ("", TemplateError::NotAbsolute),
        ("mail/{local}", TemplateError::NotAbsolute),
        ("{local}/x", TemplateError::NotAbsolute),
        ("//", TemplateError::Root),
        ("/m/{name}", TemplateError::UnknownPlaceholder { name: "name".to_owned(), at: 4 }),
        ("/m/{}", TemplateError::UnknownPlaceholder { name: String::new(), at: 4 }),
        ("/m/{Local}", TemplateError::UnknownPlaceholder { name: "Local".to_owned(), at: 4 }),
        ("/m/{local", TemplateError::Unclosed { at: 4 }),
        ("/m/{local/x}", TemplateError::Unclosed { at: 4 }),
        ("/m/{lo{cal}}", TemplateError::Unclosed { at: 4 }),
        ("/m/x{", TemplateError::Unclosed { at: 5 }),
        ("/m/local}", TemplateError::Unopened { at: 9 }),
        ("/m/../{local}", TemplateError::Dots("..".to_owned())),
        ("/m/./{local}", TemplateError::Dots(".".to_owned())),
        ("/m/a\0", TemplateError::Nul { at: 5 }),
        ("/m/{domain}{local}", TemplateError::RunTogether { at: 12 }),
        ("/m/{domain}-{local}", TemplateError::RunTogether { at: 13 }),
        ("/m/{domain}%{local}", TemplateError::RunTogether { at: 13 }),
    ] {
        assert_eq!(Template::parse(template), Err(expected), "{template:?}");
    }
    let long = format!("/m/{}{{local}}", "x".repeat(255));
    assert_eq!(Template::parse(&long), Err(TemplateError::TooLong { octets: 256 }));
}

#[test]
fn the_text_of_an_error_shows_braces_as_they_are_written() {
    let text = Template::parse("/m/{name}").unwrap_err().to_string();
    assert_eq!(
        text,
        "octet 4: unknown placeholder `{name}`; there are {local}, {user}, {domain} and {address}"
    );
    let text = Template::parse("/m/{x").unwrap_err().to_string();
    assert_eq!(text, "octet 4: the brace is not closed; write `{{` for a brace");
}

#[test]
fn addresses_that_give_no_path() {
    let template = Template::parse("/m/{domain}/{local}").unwrap();
    let expand = |local: &str, domain: &str| template.expand_parts(local, domain, DEFAULT);
    assert_eq!(expand("", "a.example"), Err(AddressError::Empty("local part")));
    assert_eq!(expand("postmaster", ""), Err(AddressError::Empty("domain")));
    assert!(expand(&"x".repeat(255), "a.example").is_ok());
    let octets = 256;
    assert_eq!(expand(&"x".repeat(octets), "a.example"), Err(AddressError::ComponentTooLong { octets }));
    // 86 octets that are three times as long encoded.
    let octets = 258;
    assert_eq!(expand(&"/".repeat(86), "a.example"), Err(AddressError::ComponentTooLong { octets }));
    // RFC 5321 §4.5.1: postmaster without a domain has a mailbox where the domain does not matter.
    let bare = Path::parse(b"<postmaster>").unwrap().0;
    assert_eq!(template.expand(bare, DEFAULT), Err(AddressError::Empty("domain")));
    let flat = Template::parse("/m/{local}").unwrap();
    assert_eq!(flat.expand(bare, DEFAULT), Ok(PathBuf::from("/m/postmaster")));
    let deep = Template::parse(&format!("/m{}", "/{local}".repeat(15))).unwrap();
    let octets = 2 + 15 * 251;
    assert_eq!(deep.expand_parts(&"x".repeat(250), "", DEFAULT), Err(AddressError::PathTooLong { octets }));
}

/// Undoes the encoding of a component.
fn decode(name: &str) -> String {
    let (mut out, octets) = (Vec::new(), name.as_bytes());
    let mut at = 0;
    while at < octets.len() {
        if octets[at] == b'%' {
            out.push(u8::from_str_radix(&name[at + 1..at + 3], 16).unwrap());
            at += 3;
        } else {
            out.push(octets[at]);
            at += 1;
        }
    }
    String::from_utf8(out).unwrap()
}

/// Any text, with much of what means something in paths and templates.
fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[./%@+\\\\{}a-cA-C\\x00-\\x20]{0,12}",
        proptest::collection::vec(
            prop_oneof!["\\.\\.", "/", "\\.", "%2F", "%2e", "\u{130}", "\u{3a3}", "a"],
            0..6
        )
        .prop_map(|parts| parts.concat()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_address_leaves_the_directory(local in hostile(), domain in hostile(), case_sensitive: bool) {
        let settings = ExpandSettings { case_sensitive, ..DEFAULT };
        for (template, depth) in [
            ("/fixed/mail/{domain}/{local}/Maildir", 3),
            ("/fixed/mail/{user}", 1),
            ("/fixed/mail/.{address}", 1),
            ("/fixed/mail/{local}.", 1),
        ] {
            let Ok(path) = Template::parse(template).unwrap().expand_parts(&local, &domain, settings) else {
                continue;
            };
            let inside = path.strip_prefix("/fixed/mail").unwrap();
            prop_assert!(inside.components().all(|part| matches!(part, Component::Normal(_))));
            prop_assert_eq!(inside.components().count(), depth);
            // Components skip a `.`; counting slashes does not.
            let text = path.to_str().unwrap();
            prop_assert_eq!(text.matches('/').count(), 2 + depth);
            prop_assert!(!text.contains('\0') && !text.chars().any(char::is_control));
            prop_assert!(inside.iter().all(|name| name.len() <= COMPONENT_OCTETS_MAX));
        }
    }

    /// There is a way back, so two local parts never have one path.
    #[test]
    fn the_path_tells_the_local_part(local in hostile()) {
        let template = Template::parse("/m/{local}").unwrap();
        let exact = ExpandSettings { case_sensitive: true, ..DEFAULT };
        if let Ok(path) = template.expand_parts(&local, "a.example", exact) {
            let name = path.file_name().unwrap().to_str().unwrap();
            prop_assert_eq!(decode(name), local.clone());
        }
        if let Ok(path) = template.expand_parts(&local, "a.example", DEFAULT) {
            let name = path.file_name().unwrap().to_str().unwrap();
            let lower: String = local.chars().flat_map(char::to_lowercase).collect();
            prop_assert_eq!(decode(name), lower);
        }
    }

    #[test]
    fn two_addresses_have_two_paths(a in "[a.@,-]{1,4}", b in "[a.@,-]{1,4}", c in "[a.@,-]{1,4}", d in "[a.@,-]{1,4}") {
        for template in ["/m/{address}", "/m/{domain}/{local}", "/m/{domain},-{local}", "/m/,{local}@a{domain}"] {
            let template = Template::parse(template).unwrap();
            let one = template.expand_parts(&a, &b, DEFAULT).unwrap();
            let two = template.expand_parts(&c, &d, DEFAULT).unwrap();
            prop_assert_eq!(one == two, a == c && b == d);
        }
    }

    #[test]
    fn no_template_panics(text in "[/{}.a\\x00\u{e9}localdomainuseraddress]{0,30}") {
        if let Ok(template) = Template::parse(&text) {
            let _ = template.expand_parts("joe", "a.example", DEFAULT);
        }
    }
}
