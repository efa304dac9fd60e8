//! Mistakes in a configuration and the words that are said about them.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;
use std::path::Path;

use inrush_config::Config;
use inrush_policy::{SharedRecipients, Verdict};

/// The messages about `text` in `x.toml`.
fn said(text: &str) -> String {
    Config::parse(Path::new("x.toml"), text).unwrap_err().to_string()
}

#[test]
fn each_mistake_has_its_place_and_its_words() {
    let table = [
        ("hostnam = \"a.example\"", "x.toml:1:1: hostnam: unknown key; did you mean \"hostname\"?"),
        (
            "\n[log]\n  segment_byte = \"4MiB\"",
            "x.toml:3:3: log.segment_byte: unknown key; did you mean \"segment_bytes\"?",
        ),
        (
            "[log]\nidle_timeout = \"5m\"",
            "x.toml:2:1: log.idle_timeout: unknown key; did you mean \"idle_timeout\" in [limits]?",
        ),
        (
            "idle_timeout = \"5m\"",
            "x.toml:1:1: idle_timeout: unknown key; did you mean \"idle_timeout\" in [limits]?",
        ),
        (
            "[log]\nhostname = \"a\"",
            "x.toml:2:1: log.hostname: unknown key; did you mean \"hostname\" at the top of the file?",
        ),
        ("[lgo]\nspares = 1", "x.toml:1:2: lgo: unknown key; did you mean \"log\"?"),
        ("[nothing.like.it]", "x.toml:1:2: nothing: unknown key"),
        (
            "[[route]]\nname = \"store\"",
            "x.toml: domain: [[route]] needs [[domain]] tables whose mail takes it",
        ),
        (
            "[[domain]]\nname = \"a.example\"\nroute = \"stroe\"\n[[route]]\nname = \"store\"",
            "x.toml:3:9: domain.route: there is no route \"stroe\"; did you mean \"store\"?",
        ),
        (
            "[[domain]]\nname = \"a.example\"\n[[route]]\nname = \"store\"",
            "x.toml:1:1: domain.route: \"a.example\" needs a route, as there is a [[route]]: its mail would stay in the log",
        ),
        (
            "[[domain]]\nname = \"a.example\"\nroute = \"box\"\n[[route]]\nname = \"box\"\nkind = \"maildir\"\npath = \"/mail/{local}\"\nhosts = [\"a:25\"]",
            "x.toml:8:9: route.hosts: has no meaning with kind = \"maildir\"",
        ),
        ("[tls]\nkey = \"secret.pem\"", "x.toml:2:1: tls.key: needs certificate beside it"),
        ("[tls]\ncertificate = \"c.pem\"", "x.toml:2:1: tls.certificate: needs key beside it"),
        (
            "[tls]\ncertificate = \"none.pem\"\nkey = \"k.pem\"",
            "x.toml:2:1: tls.certificate: none.pem cannot be read: No such file or directory (os error 2)",
        ),
        (
            "[[tls.sni]]\nname = \"a\"\nkey = \"k\"",
            "x.toml:1:1: tls.sni: has no certificate\nx.toml:1:1: tls.sni: needs certificate and key in [tls], for clients that ask for no name",
        ),
        (
            "[tls]\ncertificate = \"c\"\nkey = \"k\"\n[[tls.sni]]\nname = \"a.example\"\ncertificate = \"c\"\nkey = \"k\"\n[[tls.sni]]\nname = \"A.example\"\ncertificate = \"c\"\nkey = \"k\"",
            "x.toml:9:8: tls.sni.name: \"A.example\" has a certificate already, at x.toml:5:8",
        ),
        ("[tls]\nsni = 5", "x.toml:2:1: tls.sni: expected [[tls.sni]], a table that may be repeated"),
        (
            "[[listener]]\nname = \"a\"\nclient_certificates = true",
            "x.toml:3:23: listener.client_certificates: needs client_ca in [tls]: nobody vouches for clients otherwise",
        ),
        (
            "[[listener]]\nname = \"a\"\nkind = \"submission\"",
            "x.toml:3:8: listener.kind: submission needs tls: passwords are taken under TLS only",
        ),
        (
            "[tls]\ncertificate = \"none.pem\"\nkey = \"k.pem\"\n[[listener]]\nname = \"a\"\nkind = \"submission\"\ntls = \"implicit\"",
            "x.toml:2:1: tls.certificate: none.pem cannot be read: No such file or directory (os error 2)\nx.toml:6:8: listener.kind: submission needs users in [submission]",
        ),
        (
            "[[listener]]\nname = \"a\"\naddress = [\"127.0.0.1:25\"]\nkind = \"lmtp\"",
            "x.toml:4:8: listener.kind: lmtp must not listen on port 25",
        ),
        (
            "[submission]\nusers = \"none\"",
            "x.toml:2:1: submission.users: cannot read none: No such file or directory (os error 2)",
        ),
        (
            "[[listener]]\nname = \"a\"\nxclient_from = [\"nowhere\"]",
            "x.toml:3:16: listener.xclient_from: \"nowhere\" is not a network, such as 192.0.2.0/24 or 2001:db8::/32",
        ),
        (
            "[[listener]]\nname = \"a\"\ntls = \"starttls\"",
            "x.toml:3:7: listener.tls: needs certificate and key in [tls]",
        ),
        (
            "[[listener]]\nname = \"a\"\nproxy_protocol_from = [\"10.0.0.1/8\"]",
            "x.toml:3:23: listener.proxy_protocol_from: \"10.0.0.1/8\" has bits set behind its length: 10.0.0.0/8 is the network",
        ),
        (
            "[access]\ndeny = [\"10.0.0.1/8\"]",
            "x.toml:2:1: access.deny: \"10.0.0.1/8\" has bits set behind its length: 10.0.0.0/8 is the network",
        ),
        (
            "[access]\nallow = [\"file:none\"]",
            "x.toml:2:1: access.allow: none cannot be read: No such file or directory (os error 2)",
        ),
        ("[access]\nallow = [5]", "x.toml:2:9: access.allow: expected a list of texts, found 5 in it"),
        (
            "[limits]\nconnection_rate_per_address = \"0/1m\"",
            "x.toml:2:31: limits.connection_rate_per_address: expected a number in a time such as \"600/1m\", or 0, found \"0/1m\"",
        ),
        ("hostname = 5", "x.toml:1:12: hostname: expected a text, found 5"),
        ("hostname = \"a b\"", "x.toml:1:1: hostname: \"a b\" is not a domain name or an address literal"),
        (
            "hostname = \"b\u{fc}cher.example\"",
            "x.toml:1:1: hostname: \"b\u{fc}cher.example\" is not a domain name or an address literal",
        ),
        ("data_dir = \"\"", "x.toml:1:12: data_dir: expected a path, found \"\""),
        ("cores = 257", "x.toml:1:9: cores: 257 is out of range: from 0 to 255"),
        ("cores = -1", "x.toml:1:9: cores: expected a whole number, found -1"),
        ("cores = \"4\"", "x.toml:1:9: cores: expected a whole number, found \"4\""),
        ("cores = 1.5", "x.toml:1:9: cores: expected a whole number, found 1.5"),
        (
            "engine = \"uring\"",
            "x.toml:1:10: engine: expected one of \"auto\", \"io_uring\", \"epoll\", found \"uring\"",
        ),
        (
            "[log]\ndurability = \"strickt\"",
            "x.toml:2:14: log.durability: expected one of \"strict\", \"relaxed\", found \"strickt\"; did you mean \"strict\"?",
        ),
        (
            "[log]\nsegment_bytes = 4194304",
            "x.toml:2:17: log.segment_bytes: 4194304 lacks its unit: expected a size such as \"25MiB\"",
        ),
        (
            "[log]\nsegment_bytes = \"4M\"",
            "x.toml:2:17: log.segment_bytes: expected a size such as \"25MiB\", found \"4M\"",
        ),
        (
            "[log]\nsegment_bytes = \"3MiB\"",
            "x.toml:2:1: log.segment_bytes: must be a power of two from 1 MiB to 4 GiB",
        ),
        (
            "[log]\nsegment_bytes = \"64KiB\"",
            "x.toml:2:17: log.segment_bytes: 64KiB is out of range: from 1MiB to 4GiB",
        ),
        ("[log]\ndirect_io = \"yes\"", "x.toml:2:13: log.direct_io: expected true or false, found \"yes\""),
        (
            "[limits]\nidle_timeout = 300",
            "x.toml:2:16: limits.idle_timeout: 300 lacks its unit: expected a duration such as \"5m\"",
        ),
        (
            "[limits]\nmin_data_rate = \"500\"",
            "x.toml:2:17: limits.min_data_rate: expected a rate such as \"500B/s\", found \"500\"",
        ),
        (
            "[limits]\nrecipients_max = 99",
            "x.toml:2:18: limits.recipients_max: 99 is out of range: from 100 to 100000",
        ),
        ("limits = 1", "x.toml:1:1: limits: expected the table [limits]"),
        (
            "[listener]\nname = \"a\"",
            "x.toml:1:2: listener: expected [[listener]], a table that may be repeated",
        ),
        ("domain = [1]", "x.toml:1:11: domain: expected [[domain]], a table that may be repeated"),
        ("[[listener]]\naddress = [\"127.0.0.1:25\"]", "x.toml:1:1: listener: has no name"),
        (
            "[[listener]]\nname = \"a b\"",
            "x.toml:2:8: listener.name: must be 1 to 64 letters, digits, '-', '_' or '.'",
        ),
        ("[[listener]]\nname = \"a\"\naddress = []", "x.toml:3:11: listener.address: is empty"),
        (
            "[[listener]]\nname = \"a\"\naddress = [\"localhost\"]",
            "x.toml:3:11: listener.address: expected an address such as \"[::]:25\", found \"localhost\"",
        ),
        (
            "[[listener]]\nname = \"a\"\naddress = \"127.0.0.1:25\"",
            "x.toml:3:11: listener.address: expected a list of addresses such as [\"[::]:25\"], found \"127.0.0.1:25\"",
        ),
        (
            "[[listener]]\nname = \"a\"\n[[listener]]\nname = \"a\"\naddress = [\"127.0.0.1:26\"]",
            "x.toml:4:8: listener.name: there is a listener \"a\" already, at x.toml:2:8",
        ),
        (
            "[[listener]]\nname = \"a\"\n[[listener]]\nname = \"b\"",
            "x.toml:3:1: listener.address: 127.0.0.1:2525 is listened on already, at x.toml:1:1",
        ),
        ("[[domain]]\nname = \"a..example\"", "x.toml:2:8: domain.name: \"a..example\" is not a domain name"),
        (
            "[[domain]]\nname = \"a.example\"\n[[domain]]\nname = \"A.Example\"",
            "x.toml:4:8: domain.name: there is a domain \"A.Example\" already",
        ),
        (
            "[[domain]]\nname = \"a.example\"\nrecipients = \"all\"",
            "x.toml:3:14: domain.recipients: expected \"any\" or \"file:PATH\"",
        ),
        (
            "[[domain]]\nname = \"a.example\"\nsubaddress_separator = \"+-\"",
            "x.toml:3:24: domain.subaddress_separator: expected one character such as \"+\" or \"-\", or \"\" for no subaddresses",
        ),
        (
            "[[domain]]\nname = \"a.example\"\nsubaddress_separator = \"%\"",
            "x.toml:3:24: domain.subaddress_separator: expected one character such as \"+\" or \"-\", or \"\" for no subaddresses",
        ),
        (
            "[[domain]]\nname = \"*\"\nrecipients = \"file:/dev/null\"",
            "x.toml:2:8: domain.name: \"*\" cannot have a list: name each domain",
        ),
        (
            "[[domain]]\nname = \"a.example\"\nroute = \"x\"",
            "x.toml:3:9: domain.route: there is no route \"x\"",
        ),
        (
            "[[listener]]\nname = \"a\"\naddress = [\"[::]:25\"]",
            "x.toml: domain: [::]:25 is not on loopback: name the domains whose mail is taken in [[domain]]",
        ),
        (
            "[[listener]]\nname = \"a\"\naddress = [\"127.0.0.1:25\", \"[::]:25\"]\n[[domain]]\nname = \"*\"",
            "x.toml:5:8: domain.name: \"*\" takes mail for every domain, but [::]:25 is not on loopback; allow_open = true lets it stand",
        ),
        (
            "[admin]\naddress = \"0.0.0.0:9925\"",
            "x.toml:2:1: admin.address: 0.0.0.0:9925 is not on loopback: set token_file, or everybody may read",
        ),
        (
            "[admin]\naddress = \"9925\"",
            "x.toml:2:11: admin.address: expected an address such as \"127.0.0.1:9925\", found \"9925\"",
        ),
        (
            "[opentelemetry]\nendpoint = \"127.0.0.1:4318\"",
            "x.toml:2:1: opentelemetry.endpoint: must begin with http:// or https://",
        ),
        (
            "[opentelemetry]\nendpoint = \"https://a:b@collector.example\"",
            "x.toml:2:1: opentelemetry.endpoint: must not have a user: set authorization_file",
        ),
        (
            "[opentelemetry]\nauthorization_file = \"/dev/null\"",
            "x.toml:2:1: opentelemetry.authorization_file: has no meaning without endpoint",
        ),
        (
            "[opentelemetry]\nendpoint = \"http://127.0.0.1:4318\"\nauthorization_file = \"/dev/null\"",
            "x.toml:3:1: opentelemetry.authorization_file: /dev/null: must have a scheme and credentials in its first line, such as Bearer TOKEN",
        ),
        (
            "[opentelemetry]\none_in = 0",
            "x.toml:2:10: opentelemetry.one_in: 0 is out of range: from 1 to 1000000",
        ),
        (
            "[admin]\ntoken_file = \"/nonexistent/token\"",
            "x.toml:2:1: admin.token_file: /nonexistent/token cannot be read: No such file or directory (os error 2)",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(said(text), expected, "\n{text}");
    }
}

#[test]
fn all_mistakes_are_told_at_once_in_order() {
    let text =
        "cores = 900\nhostnam = \"x\"\n[log]\nspares = 0\n[limits]\nerror_max = 3\nidle_timeout = \"long\"\n";
    assert_eq!(
        said(text),
        "x.toml:1:9: cores: 900 is out of range: from 0 to 255\n\
         x.toml:2:1: hostnam: unknown key; did you mean \"hostname\"?\n\
         x.toml:4:10: log.spares: 0 is out of range: from 1 to 64\n\
         x.toml:6:1: limits.error_max: unknown key; did you mean \"errors_max\"?\n\
         x.toml:7:16: limits.idle_timeout: expected a duration such as \"5m\", found \"long\""
    );
}

#[test]
fn broken_toml_is_told_with_its_line_and_without_its_text() {
    for (text, place) in [
        ("hostname = \"a\nnode = 1\n", "x.toml:1:"),
        ("node = 1\nnode = 2\n", "x.toml:2:1: "),
        ("node = 1\n[log\n", "x.toml:2:"),
        ("a = \"s3cret\" b\n", "x.toml:1:"),
    ] {
        let said = said(text);
        assert!(said.starts_with(place), "{said}");
        assert!(!said.contains("s3cret"), "{said}");
    }
}

#[test]
fn files_merge_and_name_both_places_of_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("inrush.toml");
    let more = folder.path().join("conf.d");
    fs::create_dir(&more).unwrap();
    fs::write(&main, "node = 1\n[log]\nspares = 3\n[[domain]]\nname = \"a.example\"\n").unwrap();
    fs::write(more.join("20.toml"), "[[domain]]\nname = \"b.example\"\n[limits]\nerrors_max = 5\n").unwrap();
    fs::write(more.join("10.toml"), "[log]\nbatch_buffers = 5\n[limits]\nhops_max = 120\n").unwrap();
    fs::write(more.join("notes.txt"), "not TOML").unwrap();
    fs::write(more.join(".#20.toml"), "not TOML").unwrap();
    let config = Config::load(Some(&main)).unwrap();
    assert_eq!((config.node, config.log.spares, config.session.limits.errors_max), (1, 3, 5));
    assert_eq!((config.log.batch_buffers, config.session.limits.hops_max), (5, 120));
    assert_eq!(config.recipients.domains(), 2);
    assert_eq!(config.files, [main.clone(), more.join("10.toml"), more.join("20.toml")]);

    fs::write(more.join("30.toml"), "\n[log]\nspares = 4\n").unwrap();
    let said = Config::load(Some(&main)).unwrap_err().to_string();
    let (main, more) = (main.display(), more.join("30.toml"));
    assert_eq!(said, format!("{}:3:1: log.spares: set twice, first at {main}:3:1", more.display()));
}

#[test]
fn missing_and_unreadable_files_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let none = folder.path().join("none.toml");
    let said = Config::load(Some(&none)).unwrap_err().to_string();
    assert_eq!(said, format!("{}: cannot be read: No such file or directory (os error 2)", none.display()));
    let bad = folder.path().join("bad.toml");
    fs::write(&bad, b"hostname = \"\xff\"\n").unwrap();
    let said = Config::load(Some(&bad)).unwrap_err().to_string();
    assert_eq!(said, format!("{}: is not valid UTF-8", bad.display()));
    fs::write(folder.path().join("conf.d"), "a file").unwrap();
    fs::write(&bad, "").unwrap();
    let said = Config::load(Some(&bad)).unwrap_err().to_string();
    assert!(said.contains("conf.d: cannot be read"), "{said}");
}

#[test]
fn recipients_files_are_read_beside_the_config() {
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("inrush.toml");
    let text = "[[domain]]\nname = \"a.example\"\nrecipients = \"file:users\"\n";
    fs::write(&main, text).unwrap();
    let users = folder.path().join("users");
    let said = Config::load(Some(&main)).unwrap_err().to_string();
    assert_eq!(
        said,
        format!(
            "{}:3:14: domain.recipients: {} cannot be read: No such file or directory (os error 2)",
            main.display(),
            users.display()
        )
    );
    fs::write(&users, "# mine\njoe@a.example\n\nno body\njoe@b.example\n/a(b/\n").unwrap();
    let said = Config::load(Some(&main)).unwrap_err().to_string();
    let users_path = users.display();
    assert_eq!(
        said,
        format!(
            "{users_path}:4: not an address (recipients of \"a.example\")\n{users_path}:5: an address of another domain (recipients of \"a.example\")\n{users_path}:6: not a regular expression: unclosed group (recipients of \"a.example\")"
        )
    );
    fs::write(&users, "# mine\njoe@a.example\nj\u{f6}rg@a.example\n").unwrap();
    let config = Config::load(Some(&main)).unwrap();
    let ask = |address: &str| config.recipients.lookup(inrush_proto::Path::mailbox(address).unwrap());
    assert_eq!(ask("JOE@a.example"), Verdict::Accept);
    assert_eq!(ask("j\u{f6}rg@a.example"), Verdict::Accept);
    assert_eq!(ask("eve@a.example"), Verdict::UnknownUser);
    assert_eq!(ask("joe@b.example"), Verdict::ForeignDomain);
}

#[test]
fn subaddresses_follow_the_setting_of_the_domain() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("users"), "joe\n").unwrap();
    let main = folder.path().join("inrush.toml");
    for (line, plus, minus) in [
        ("", Verdict::Accept, Verdict::UnknownUser),
        ("subaddress_separator = \"-\"", Verdict::UnknownUser, Verdict::Accept),
        ("subaddress_separator = \"\"", Verdict::UnknownUser, Verdict::UnknownUser),
    ] {
        let text = format!("[[domain]]\nname = \"a.example\"\nrecipients = \"file:users\"\n{line}\n");
        fs::write(&main, text).unwrap();
        let config = Config::load(Some(&main)).unwrap();
        let ask = |address: &str| config.recipients.lookup(inrush_proto::Path::mailbox(address).unwrap());
        assert_eq!((ask("joe+a@a.example"), ask("joe-a@a.example")), (plus, minus), "{line}");
    }
}

#[test]
fn recipients_are_read_again_all_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (main, users, more) =
        (folder.path().join("inrush.toml"), folder.path().join("users"), folder.path().join("more"));
    let domain =
        |name: &str, file: &str| format!("[[domain]]\nname = \"{name}\"\nrecipients = \"file:{file}\"\n");
    fs::write(&main, domain("a.example", "users") + &domain("b.example", "more")).unwrap();
    fs::write(&users, "joe\n").unwrap();
    fs::write(&more, "ann\n").unwrap();
    let Config { recipients, recipient_sources, .. } = Config::load(Some(&main)).unwrap();
    let shared = SharedRecipients::new(recipients);
    let ask = |address: &str| shared.load().lookup(inrush_proto::Path::mailbox(address).unwrap());

    fs::write(&users, "joe\neve\n").unwrap();
    fs::write(&more, "ann\nbob@a.example\n").unwrap();
    let said = recipient_sources.read().unwrap_err().to_string();
    assert_eq!(
        said,
        format!("{}:2: an address of another domain (recipients of \"b.example\")", more.display())
    );
    assert_eq!((ask("joe@a.example"), ask("eve@a.example")), (Verdict::Accept, Verdict::UnknownUser));

    fs::write(&more, "bob\n").unwrap();
    shared.replace(recipient_sources.read().unwrap());
    assert_eq!((ask("joe@a.example"), ask("eve@a.example")), (Verdict::Accept, Verdict::Accept));
    assert_eq!((ask("ann@b.example"), ask("bob@b.example")), (Verdict::UnknownUser, Verdict::Accept));

    fs::remove_file(&users).unwrap();
    let said = recipient_sources.read().unwrap_err().to_string();
    assert!(said.starts_with(&format!("{}:3:14: domain.recipients: ", main.display())), "{said}");
    assert_eq!(ask("eve@a.example"), Verdict::Accept);

    // Without any domain everybody gets mail, before and after.
    let Config { recipient_sources, .. } = Config::load(None).unwrap();
    assert!(recipient_sources.read().unwrap().takes_every_domain());
}

#[test]
fn the_token_is_read_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("inrush.toml");
    fs::write(&main, "[admin]\naddress = \"0.0.0.0:9925\"\ntoken_file = \"token\"\n").unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "s3cret\n").unwrap();
    let said = Config::load(Some(&main)).unwrap_err().to_string();
    assert_eq!(
        said,
        format!(
            "{}:3:1: admin.token_file: {}: the token must have at least 16 characters",
            main.display(),
            token.display()
        )
    );
    fs::write(&token, "s3cret-s3cret-s3cret\n").unwrap();
    let config = Config::load(Some(&main)).unwrap();
    assert!(config.admin.token.as_ref().unwrap().matches("s3cret-s3cret-s3cret"));
    assert!(!config.dump().contains("s3cret"));
    assert!(!format!("{config:?}").contains("s3cret"));
    assert!(config.dump().contains("token_file = \"token\""));
}
