//! Mail from users: AUTH as real clients do it, whose address a message may come from, and who guesses passwords.

use std::net::SocketAddr;
use std::path::PathBuf;

use inrush_tests::client::{Client, stuffed};
use inrush_tests::export;
use inrush_tests::http::Samples;
use inrush_tests::process::{self, Finished};
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use inrush_tests::tls::Authority;
use inrush_tests::users::{self, PASSWORD};

const NAME: &str = "mx.test.example";
const JOE: &str = "joe@example.com";
/// In a domain that is not ours.
const FOREIGN: &str = "b@foreign.example";

/// Users, certificates, and a gateway with the listeners `mx`, `submission` (STARTTLS) and `submissions` (implicit TLS).
struct Submission {
    server: Server,
    users: PathBuf,
    _authority: Authority,
}

impl Submission {
    fn start() -> Self {
        Self::with("", &[])
    }

    /// `submission` = lines of that table, `tables` = further tables.
    fn with(submission: &str, tables: &[&str]) -> Self {
        let authority = Authority::new();
        let certificate = authority.issue(NAME);
        let users = authority.folder().join("users");
        users::write(&users, &[(JOE, ""), ("news", "@lists.example.com")]);
        let listener = |name: &str, tls: &str| {
            format!(
                "[[listener]]\nname = \"{name}\"\naddress = [\"127.0.0.1:0\"]\nkind = \"submission\"\ntls = \"{tls}\"\n"
            )
        };
        let mut settings = Settings::default()
            .tables(&format!("[tls]\n{}", certificate.lines()))
            .tables(&listener("submission", "starttls"))
            .tables(&listener("submissions", "implicit"))
            .tables(&format!("[submission]\nusers = \"{}\"\n{submission}\n", users.display()));
        for table in tables {
            settings = settings.tables(table);
        }
        Self { server: Server::with(settings), users, _authority: authority }
    }

    fn address(&self) -> SocketAddr {
        self.server.listener("submissions")
    }

    fn client(&self) -> Client {
        greeted(Client::open_secure(self.address(), NAME).unwrap())
    }

    fn logins(&self, reason: &str) -> f64 {
        let label = format!("reason=\"{reason}\"");
        Samples::scrape(self.server.admin()).sum("inrush_logins_total", &[&label])
    }

    fn swaks(&self, listener: &str, arguments: &[&str]) -> Finished {
        let mut command = process::command("swaks", ["--server", "127.0.0.1", "--port"]);
        command.arg(self.server.listener(listener).port().to_string());
        command.args(["--helo", "client.test.example", "--from", JOE, "--to", FOREIGN]).args(arguments);
        command.env("HOME", self.server.scratch()).env_remove("SWAKS_HOME");
        process::finish(command)
    }
}

fn greeted(mut client: Client) -> Client {
    client.expect(220);
    client.say("EHLO client.test.example", 250);
    client
}

/// `AUTH PLAIN` with an initial response.
fn plain(name: &str, password: &str) -> String {
    format!("AUTH PLAIN {}", base64(&format!("\0{name}\0{password}")))
}

fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut encoded = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let octets = [chunk[0], chunk.get(1).copied().unwrap_or(0), chunk.get(2).copied().unwrap_or(0)];
        let bits = u32::from_be_bytes([0, octets[0], octets[1], octets[2]]);
        for digit in 0..4 {
            let index = usize::try_from(bits >> (18 - 6 * digit) & 63).unwrap();
            encoded.push(if digit > chunk.len() { '=' } else { char::from(DIGITS[index]) });
        }
    }
    encoded
}

fn swaks_logs_in(listener: &str, tls: &str, mechanism: &str) {
    let submission = Submission::start();
    let sent = ["--auth", mechanism, "--auth-user", JOE, "--auth-password", PASSWORD, tls];
    submission.swaks(listener, &[&sent[..], &["--data", "Subject: x\n\nhello"]].concat()).succeeded();
    let facts = export::only_facts(&submission.server.data());
    assert_eq!(facts["auth"]["identity"], JOE);
    assert_eq!(facts["auth"]["mechanism"], mechanism);
    assert_eq!(facts["recipients"][0]["path"], FOREIGN);
    let front = facts["received"].as_str().unwrap();
    assert!(front.contains(" with ESMTPSA id "), "{front}");
    // RFC 6409 §8: what the mail program has left out.
    let id = facts["id"].as_str().unwrap();
    assert!(front.contains(&format!("\r\nMessage-ID: <{id}@{NAME}>\r\n")), "{front}");
    assert!(front.contains("\r\nDate: "), "{front}");
    assert!(facts["times"]["auth"].is_string(), "{}", facts["times"]);
    assert_eq!(submission.logins("accepted"), 1.0);
}

#[test]
fn swaks_with_plain_and_starttls() {
    swaks_logs_in("submission", "--tls", "PLAIN");
}

#[test]
fn swaks_with_login_and_implicit_tls() {
    swaks_logs_in("submissions", "--tls-on-connect", "LOGIN");
}

#[test]
fn swaks_with_a_wrong_password() {
    let submission = Submission::start();
    let arguments = ["--auth", "PLAIN", "--auth-user", JOE, "--auth-password", "guessed", "--tls"];
    let refused = submission.swaks("submission", &arguments);
    assert!(!refused.status.success());
    assert!(refused.text().contains("535 5.7.8"), "{}", refused.text());
    assert!(export::all(&submission.server.data()).is_empty());
    assert_eq!(submission.logins("refused"), 1.0);
    assert!(submission.server.log().contains("login failed"));
    assert!(!submission.server.log().contains("guessed"), "a password in the log");
}

#[test]
fn curl_sends_as_a_user() {
    let submission = Submission::start();
    let file = submission.server.scratch().join("message");
    // RFC 6409 §8: what is there stays.
    std::fs::write(&file, "Date: whenever\r\nMESSAGE-ID: <own@client>\r\nSubject: x\r\n\r\nhello\r\n")
        .unwrap();
    let url = format!("smtps://{}/client.test.example", submission.address());
    let mut command = process::command("curl", ["--silent", "--show-error", "--insecure", "--url", &url]);
    command.args(["--user", &format!("{JOE}:{PASSWORD}"), "--mail-from", JOE, "--mail-rcpt", FOREIGN]);
    command.arg("--upload-file").arg(&file);
    process::finish(command).succeeded();
    let facts = export::only_facts(&submission.server.data());
    assert_eq!(facts["auth"]["identity"], JOE);
    let front = facts["received"].as_str().unwrap();
    assert!(!front.contains("Message-ID") && !front.contains("\nDate"), "{front}");
}

#[test]
fn smtplib_logs_in() {
    let submission = Submission::start();
    let script = format!(
        "import smtplib, ssl, sys\n\
         context = ssl._create_unverified_context()\n\
         client = smtplib.SMTP('127.0.0.1', {})\n\
         client.starttls(context=context)\n\
         client.login('{JOE}', '{PASSWORD}')\n\
         client.sendmail('{JOE}', ['{FOREIGN}', 'c@example.com'], 'Subject: x\\r\\n\\r\\nhello\\r\\n')\n\
         client.quit()\n",
        submission.server.listener("submission").port()
    );
    process::finish(process::command("python3", ["-I", "-c", &script])).succeeded();
    assert_eq!(export::only_facts(&submission.server.data())["recipients"].as_array().unwrap().len(), 2);
}

/// Relaying is for users alone: the same recipient is refused at the front door, and without a login.
#[test]
fn nobody_else_may_relay() {
    let submission = Submission::start();
    let mut client = Client::greeted(submission.server.mx());
    client.say("MAIL FROM:<joe@example.com>", 250);
    assert!(client.say(&format!("RCPT TO:<{FOREIGN}>"), 550).text().contains("5.7.1"));
    let mut client = submission.client();
    assert!(client.say("MAIL FROM:<joe@example.com>", 530).text().contains("5.7.0"));
    client.say(&format!("RCPT TO:<{FOREIGN}>"), 503);
    client.say(&plain(JOE, PASSWORD), 235);
    client.say("MAIL FROM:<joe@example.com>", 250);
    client.say(&format!("RCPT TO:<{FOREIGN}>"), 250);
    client.say("RCPT TO:<a%b.example@example.com>", 550);
}

#[test]
fn users_send_as_themselves() {
    let submission = Submission::start();
    let mut client = submission.client();
    client.say(&plain("news", PASSWORD), 235);
    for (sender, code) in [
        ("a@lists.example.com", 250),
        ("B@LISTS.EXAMPLE.COM", 250),
        ("", 250),
        ("joe@example.com", 553),
        ("a@sub.lists.example.com", 553),
    ] {
        client.say(&format!("MAIL FROM:<{sender}>"), code);
        client.say("RSET", 250);
    }
}

/// Nobody is without limits, and one address has few guesses; the user goes on from elsewhere.
#[test]
fn an_address_has_few_guesses() {
    let submission =
        Submission::with("failures_per_address = \"2/1d\"\nfailure_delay = 0", &["[access]\nallow = []"]);
    let from = |source: &str| {
        let mut client =
            Client::open_from(source.parse().unwrap(), submission.server.listener("submission")).unwrap();
        client.expect(220);
        client.say("EHLO client.test.example", 250);
        client.start_tls(NAME);
        client.say("EHLO client.test.example", 250);
        client
    };
    let mut guesser = from("127.0.0.2");
    guesser.say(&plain(JOE, "a"), 535);
    guesser.say(&plain("news", "b"), 535);
    assert!(guesser.say(&plain(JOE, PASSWORD), 454).text().contains("from your address"));
    let mut again = from("127.0.0.2");
    again.say(&plain(JOE, PASSWORD), 454);
    from("127.0.0.3").say(&plain(JOE, PASSWORD), 235);
    assert_eq!((submission.logins("failures_per_address"), submission.logins("accepted")), (2.0, 1.0));
}

#[test]
fn a_user_has_few_guesses() {
    let submission = Submission::with("failures_per_user = \"2/1d\"\nfailure_delay = 0", &[]);
    let mut client = submission.client();
    client.say(&plain(JOE, "a"), 535);
    client.say(&plain("joe@EXAMPLE.com", "b"), 535);
    assert!(client.say(&plain(JOE, PASSWORD), 454).text().contains("of this user"));
    client.say(&plain("news", PASSWORD), 235);
    assert_eq!(submission.logins("failures_per_user"), 1.0);
}

/// What is right costs nothing of it, however often it is said.
#[test]
fn successful_logins_are_no_failures() {
    let submission = Submission::with("failures_per_user = \"1/1d\"\nfailure_delay = 0", &[]);
    for _ in 0..5 {
        submission.client().say(&plain(JOE, PASSWORD), 235);
    }
    assert_eq!(submission.logins("accepted"), 5.0);
}

/// Many at once: each is answered, with its own outcome.
#[test]
fn logins_at_once() {
    let submission = Submission::with("failure_delay = 0", &[]);
    let mut clients: Vec<Client> = (0..40).map(|_| submission.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let password = if number % 2 == 0 { PASSWORD } else { "wrong" };
        client.send(format!("{}\r\n", plain(JOE, password)).as_bytes()).unwrap();
    }
    for (number, client) in clients.iter_mut().enumerate() {
        // Forty are fewer than may wait.
        client.expect(if number % 2 == 0 { 235 } else { 535 });
    }
    assert_eq!((submission.logins("accepted"), submission.logins("refused")), (20.0, 20.0));
}

/// A peer that leaves while its password is verified takes nobody with it.
#[test]
fn leaving_during_a_login() {
    let submission = Submission::start();
    for _ in 0..10 {
        let mut client = submission.client();
        client.send(format!("{}\r\n", plain(JOE, PASSWORD)).as_bytes()).unwrap();
    }
    submission.client().say(&plain(JOE, PASSWORD), 235);
    process::eventually("all sessions have ended", || {
        Samples::scrape(submission.server.admin()).sum("inrush_connections_open", &[]) == 0.0
    });
}

#[test]
fn users_are_taken_over() {
    let submission = Submission::with("failure_delay = 0", &[]);
    let mut session = submission.client();
    session.say(&plain(JOE, PASSWORD), 235);
    users::write(&submission.users, &[("ann@example.com", "")]);
    process::eventually("the new user can log in", || {
        let mut client = submission.client();
        client.send(format!("{}\r\n", plain("ann@example.com", PASSWORD)).as_bytes()).unwrap();
        client.reply().unwrap().code == 235
    });
    submission.client().say(&plain(JOE, PASSWORD), 535);
    // Who is there no more sends no more.
    session.say("MAIL FROM:<joe@example.com>", 553);
    // A broken file changes nothing.
    std::fs::write(&submission.users, "ann@example.com\n").unwrap();
    submission.server.hang_up();
    submission.server.wait_for_log("users not reloaded, the old ones stay");
    submission.client().say(&plain("ann@example.com", PASSWORD), 235);
}

/// The core goes on while passwords are verified, and the failed ones are slowed down.
#[test]
fn mail_goes_on_during_logins() {
    let submission = Submission::with("failure_delay = \"60s\"", &[]);
    let _slow: Vec<Client> = (0..10)
        .map(|_| {
            let mut client = submission.client();
            client.send(format!("{}\r\n", plain(JOE, "wrong")).as_bytes()).unwrap();
            client
        })
        .collect();
    Client::greeted(submission.server.mx()).deliver(&["b@example.com"], b"Subject: x\r\n\r\nx\r\n");
    process::eventually("all have failed", || submission.logins("refused") == 10.0);
    let mut client = submission.client();
    client.say(&plain(JOE, PASSWORD), 235);
    client.say("MAIL FROM:<joe@example.com>", 250);
    client.say(&format!("RCPT TO:<{FOREIGN}>"), 250);
    client.say("DATA", 354);
    client.send(&stuffed(b"Subject: x\r\n\r\nx\r\n")).unwrap();
    client.expect(250);
}
