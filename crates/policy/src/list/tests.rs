#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
use proptest::prelude::*;

use super::*;

const DEFAULT: ListSettings = ListSettings { case_sensitive: false, subaddress_separator: Some('+') };

fn list(text: &str) -> AddressList {
    AddressList::parse(text.as_bytes(), "x.example", DEFAULT).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn lookup(list: &AddressList, address: &str) -> Verdict {
    list.lookup(Path::mailbox(address).unwrap())
}

fn errors(text: &[u8]) -> Vec<(usize, String)> {
    let errors = AddressList::parse(text, "x.example", DEFAULT).unwrap_err();
    errors.into_iter().map(|error| (error.line, error.what.into_owned())).collect()
}

#[test]
fn comments_blank_lines_and_line_ends() {
    let text = "\u{feff}# all\r\n\n  a@x.example  \r\nb@x.example # bee\n\"c #1\"@x.example\t# cee\nd#e@x.example\na@X.EXAMPLE\nf # eff\n/g/ # a slash / in it\n";
    let list = list(text);
    assert_eq!(list.len(), 5);
    for known in ["a@x.example", "B@x.example", "\"c #1\"@x.example", "d#e@x.example", "f@x.example"] {
        assert_eq!(lookup(&list, known), Verdict::Accept, "{known}");
    }
    assert_eq!(lookup(&list, "d@x.example"), Verdict::UnknownUser);
}

#[test]
fn names_stand_without_their_domain() {
    let list = list("joe\n\"jo doe\"\nj\u{f6}rg\npostmaster\n\"*\"\n");
    assert_eq!(list.len(), 5);
    for known in ["JOE@x.example", "\"jo doe\"@x.example", "J\u{d6}RG@x.example", "*@x.example"] {
        assert_eq!(lookup(&list, known), Verdict::Accept, "{known}");
    }
    assert_eq!(lookup(&list, "jo@x.example"), Verdict::UnknownUser);
}

#[test]
fn subaddresses() {
    let list = list("joe\nann+news\n");
    for (address, expected) in [
        ("joe+@x.example", Verdict::Accept),
        ("Joe+lists@x.example", Verdict::Accept),
        ("joe+a+b@x.example", Verdict::Accept),
        ("\"joe+a b\"@x.example", Verdict::Accept),
        ("ann+News@x.example", Verdict::Accept),
        ("ann@x.example", Verdict::UnknownUser),
        ("ann+news+more@x.example", Verdict::UnknownUser),
        ("+joe@x.example", Verdict::UnknownUser),
        ("joey+a@x.example", Verdict::UnknownUser),
        ("joe-a@x.example", Verdict::UnknownUser),
    ] {
        assert_eq!(lookup(&list, address), expected, "{address}");
    }
    let parse = |separator| {
        let settings = ListSettings { subaddress_separator: separator, ..DEFAULT };
        AddressList::parse(b"joe\n", "x.example", settings).unwrap()
    };
    assert_eq!(lookup(&parse(Some('-')), "joe-a@x.example"), Verdict::Accept);
    assert_eq!(lookup(&parse(Some('-')), "joe+a@x.example"), Verdict::UnknownUser);
    assert_eq!(lookup(&parse(None), "joe+a@x.example"), Verdict::UnknownUser);
}

#[test]
fn regular_expressions_take_whole_addresses() {
    let list = list(concat!(
        r"/sales-[a-z]{2,}@x\.example/",
        "\n",
        r"/a|bc/d@.*/ # slashes",
        "\n",
        r"/\w+\.\d{4}@[^@]+/",
        "\n/Upper@.*/\n"
    ));
    for (address, expected) in [
        ("sales-uk@x.example", Verdict::Accept),
        ("SALES-UK@X.Example", Verdict::Accept),
        ("sales-u@x.example", Verdict::UnknownUser),
        ("xsales-uk@x.example", Verdict::UnknownUser),
        ("sales-uk1@x.example", Verdict::UnknownUser),
        ("bc/d@x.example", Verdict::Accept),
        ("a@x.example", Verdict::UnknownUser),
        ("j\u{f6}rg.2026@x.example", Verdict::Accept),
        ("\"sales-uk\"@x.example", Verdict::Accept),
        ("upper@x.example", Verdict::Accept),
    ] {
        assert_eq!(lookup(&list, address), expected, "{address}");
    }
    let exact = ListSettings { case_sensitive: true, ..DEFAULT };
    let list = AddressList::parse(b"/Joe.*/\n", "B\u{fc}cher.example", exact).unwrap();
    assert_eq!(lookup(&list, "Joe1@b\u{fc}cher.example"), Verdict::Accept);
    assert_eq!(lookup(&list, "joe1@b\u{fc}cher.example"), Verdict::UnknownUser);
    // The domain is matched in the form that DNS knows.
    let list = AddressList::parse(b"/.*@xn--bcher-kva\\.example/\n", "B\u{fc}cher.example", exact).unwrap();
    assert_eq!(lookup(&list, "joe@b\u{fc}cher.example"), Verdict::Accept);
}

#[test]
fn a_catch_all_takes_the_rest() {
    for line in ["*", "@x.example", "*@X.example", "  * # all"] {
        let list = list(&format!("joe\n{line}\n"));
        assert_eq!(lookup(&list, "anybody@x.example"), Verdict::Accept, "{line}");
        assert_eq!((list.len(), list.is_empty()), (1, false));
    }
    assert!(list("# nobody\n").is_empty());
    assert!(!list("*\n").is_empty());
    assert!(!list("/a/\n").is_empty());
}

// RFC 1123 §5.2.16: `%` and `!` in local parts.
#[test]
fn routes_are_taken_only_where_a_line_names_them() {
    let routes = [
        "user%other.example@x.example",
        "other.example!user@x.example",
        "\"user@other.example\"@x.example",
        "\"u\\@o\"@x.example",
        "joe+a%other.example@x.example",
        "a!b%c@x.example",
    ];
    for text in ["", "joe\n", "*\n", "/.*/\n", "/[^ ]+@x\\.example/\n"] {
        for route in routes {
            assert_eq!(lookup(&list(text), route), Verdict::Routed, "{text}{route}");
        }
    }
    for route in routes {
        assert_eq!(lookup(&list(&format!("{route}\n")), route), Verdict::Accept, "{route}");
        assert_eq!(lookup(&list(&format!("{route}\n")), "z%y@x.example"), Verdict::Routed);
    }
    let percent = list("/.*%inside@x\\.example/\n*\n");
    assert_eq!(lookup(&percent, "joe%inside@x.example"), Verdict::Accept);
    assert_eq!(lookup(&percent, "joe%outside@x.example"), Verdict::Routed);
    assert_eq!(lookup(&percent, "other!joe%inside@x.example"), Verdict::Routed);
    assert_eq!(lookup(&percent, "\"a@b%inside\"@x.example"), Verdict::Routed);
    let at = list("/.*@inside@x\\.example/\n/no @ in it/\n/uucp!.*/\n");
    assert_eq!(lookup(&at, "\"joe@inside\"@x.example"), Verdict::Accept);
    assert_eq!(lookup(&at, "\"joe@outside\"@x.example"), Verdict::Routed);
    assert_eq!(lookup(&at, "uucp!joe@x.example"), Verdict::Accept);
}

#[test]
fn bad_lines_are_told_with_their_number() {
    let text =
        b"a@x.example\nno body\n\nb@y.example\n@y.example\na b@x.example\n\xff@x.example\n**\n.a\n\"a\n*@\n@\n<a@x.example>\n";
    let not_an_address = |line| (line, "not an address".to_owned());
    let other = |line| (line, "an address of another domain".to_owned());
    assert_eq!(
        errors(text),
        [
            not_an_address(2),
            other(4),
            other(5),
            not_an_address(6),
            (7, "not valid UTF-8".to_owned()),
            not_an_address(9),
            not_an_address(10),
            other(11),
            other(12),
            not_an_address(13),
        ]
    );
    let long = "n".repeat(65);
    assert_eq!(errors(long.as_bytes()), [(1, "a local part over 64 octets".to_owned())]);
}

#[test]
fn bad_regular_expressions_are_told_in_one_line() {
    let text = b"/a(b/\n/a\n/a/b\n/a/ b\n/a)|(b/\n/[z-a]/\n/(?x)a # b/\n/(a)\\1/\n";
    assert_eq!(
        errors(text),
        [
            (1, "not a regular expression: unclosed group".to_owned()),
            (2, "a regular expression without a / at its end".to_owned()),
            (3, "a regular expression without a / at its end".to_owned()),
            (4, "more than a regular expression".to_owned()),
            (5, "not a regular expression: unopened group".to_owned()),
            (
                6,
                "not a regular expression: invalid character class range, the start must be <= the end"
                    .to_owned()
            ),
            (7, "not a regular expression: unclosed group".to_owned()),
            (8, "not a regular expression: backreferences are not supported".to_owned()),
        ]
    );
}

#[test]
fn regular_expressions_of_a_file_are_bounded() {
    let many = "/a/\n".repeat(crate::patterns::PATTERNS_MAX + 1);
    assert_eq!(errors(many.as_bytes()), [(1001, "more than 1000 regular expressions".to_owned())]);
    let big = "/a/\n/\\w{100}{100}/\n";
    assert_eq!(errors(big.as_bytes()), [(2, "the regular expressions up to here are too big".to_owned())]);
    let usual: String = (0..300).map(|n| format!("/customer{n}-[a-z0-9._-]+@x\\.example/\n")).collect();
    assert_eq!(lookup(&list(&usual), "customer299-a.b@x.example"), Verdict::Accept);
}

#[test]
fn errors_of_a_file_are_bounded() {
    assert_eq!(errors(&b"n o\n".repeat(100_000)).len(), ERRORS_MAX);
}

#[test]
fn a_million_addresses() {
    let text: String = (0..1_000_000).map(|n| format!("user{n}@x.example\n")).collect();
    let list = list(&text);
    assert_eq!(list.len(), 1_000_000);
    for n in (0..1_000_000).step_by(997) {
        assert_eq!(lookup(&list, &format!("USER{n}@x.example")), Verdict::Accept);
        assert_eq!(lookup(&list, &format!("user{n}x@x.example")), Verdict::UnknownUser);
    }
}

proptest! {
    #[test]
    fn a_list_holds_what_it_was_given(names in proptest::collection::btree_set("[a-z0-9._-]{0,3}[a-z0-9]{1,3}", 0..40), other in "[a-z0-9]{1,6}") {
        let names: Vec<String> = names.into_iter().filter(|name| Path::mailbox(&format!("{name}@x.example")).is_ok()).collect();
        let text: String = names.iter().map(|name| format!("{name}@x.example\n")).collect();
        let list = list(&text);
        prop_assert_eq!(list.len(), names.len());
        for name in &names {
            prop_assert_eq!(lookup(&list, &format!("{}@x.example", name.to_uppercase())), Verdict::Accept);
        }
        let taken = lookup(&list, &format!("{other}@x.example")) == Verdict::Accept;
        prop_assert_eq!(taken, names.contains(&other));
    }

    #[test]
    fn any_octets_give_a_list_or_errors(file in proptest::collection::vec(proptest::sample::select(&b"aZ0@.*/+%!\"\\#()[]{}|?^$ \t\r\n\xc3\xb6\xff"[..]), 0..80)) {
        match AddressList::parse(&file, "x.example", DEFAULT) {
            Ok(list) => { let _ = lookup(&list, "a+b@x.example"); }
            Err(errors) => prop_assert!(!errors.is_empty() && errors.iter().all(|error| error.line > 0 && !error.what.contains('\n'))),
        }
    }
}
