//! The fields of all lines, and `docs/logs.md`, which is made from them and from the places in the sources that say something.

use std::fmt::Write as _;

/// A field.
#[derive(Clone, Copy, Debug)]
pub struct FieldRow {
    /// Its name, in logfmt and JSON; in the journal with `INRUSH_` before it, in capitals.
    pub name: &'static str,
    /// What JSON makes of it.
    pub kind: &'static str,
    /// What it says.
    pub meaning: &'static str,
}

/// A place in the sources that says something.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Its module.
    pub module: String,
    /// Its level.
    pub level: String,
    /// Its words; what stands in braces is put in.
    pub msg: String,
    /// Its fields, in order.
    pub fields: Vec<String>,
}

/// The fields of `message queued`, in order; those of TLS, of a user and of a proxy only where there is one.
pub const MESSAGE_FIELDS: [&str; 19] = [
    "id",
    "listener",
    "session",
    "client",
    "proxy",
    "client_name",
    "helo",
    "protocol",
    "user",
    "tls",
    "cipher",
    "from",
    "to",
    "nrcpt",
    "size",
    "transfer",
    "delay",
    "delays",
    "status",
];

/// The fields of `session ended`, in order.
pub const SESSION_FIELDS: [&str; 16] = [
    "listener",
    "session",
    "client",
    "proxy",
    "client_name",
    "helo",
    "protocol",
    "user",
    "tls",
    "cipher",
    "duration",
    "commands",
    "messages",
    "refused",
    "end",
    "timeout",
];

/// The fields of `connection refused`.
pub const CONNECTION_FIELDS: [&str; 3] = ["listener", "client", "reason"];

/// Fields that the writer adds.
pub const WRITER_FIELDS: [&str; 3] = ["lost", "repeated", "backtrace"];

macro_rules! fields {
    ($($name:ident $kind:ident $meaning:literal;)+) => {
        &[$(FieldRow { name: stringify!($name), kind: stringify!($kind), meaning: $meaning }),+]
    };
}

/// Every field, beside `time`, `level`, `module` and `msg`, which each line has.
pub const FIELDS: &[FieldRow] = fields! {
    about text "Id of the message that a report is about.";
    address text "Where a listener listens.";
    backtrace text "Where in the program a broken invariant was found; with `RUST_BACKTRACE=1`.";
    bad text "What cannot be read.";
    by text "Who has asked for the end: a signal, or a request to the admin server.";
    by_descriptors number "Sessions of one core that the limit of open files allows.";
    cipher text "Cipher suite of TLS, by its IANA name.";
    client text "Address and port of the client; behind a proxy or filter those of who it has named.";
    client_certificate text "Name in the client's certificate that `client_ca` vouches for; empty without one.";
    client_name text "Host name of the client, as a filter has said it with XCLIENT.";
    commands number "Commands of the session.";
    connections_max number "The setting.";
    core number "Number of the core.";
    cores number "Cores that take connections.";
    damage text "What is damaged, and where.";
    damaged text "What is damaged, and where.";
    data_dir text "Where the logs lie.";
    deferred number "Groups of recipients that wait for another attempt.";
    delay number "`message queued`: from MAIL to the durable write. `delivery`: from the acceptance to the outcome.";
    delays text "`message queued`: from MAIL to DATA or the first BDAT / to the last octet / to the start of the durable write / the write. `delivery`: before it was taken up / waiting for a connection / setting it up / transmission.";
    destination text "A destination of the relay: the domain or the host, as the queue names it.";
    drain_delay text "How long connections are still taken before the end.";
    dsn text "Enhanced status (RFC 3463).";
    duration number "From the accept to the end of the session.";
    end text "How the session ended: a value of `inrush_sessions_ended_total`.";
    engine text "Kernel interface: `io_uring` or `epoll`.";
    error text "What went wrong.";
    file text "A file of a log.";
    found text "How much there is, and the marks.";
    from text "Reverse-path; `<>` for reports.";
    held number "How much is held.";
    helo text "Argument of HELO, EHLO or LHLO.";
    hung_after text "How long the disk may take for one write.";
    id text "Id of the message, as the `250` has named it.";
    kept_as text "Where something is kept.";
    lasts number "Seconds until the levels from before are in force again; 0 = they stay.";
    levels text "Levels, as `[logging] level` has them.";
    limit number "How much there may be.";
    listener text "Name of the listener.";
    log text "Name of a log of mail.";
    lost number "Lines that were lost.";
    memory_max number "Octets of memory that the process may have.";
    messages number "Messages; in `session ended` those that were taken.";
    nrcpt number "Recipients.";
    octets number "Octets.";
    offset number "Octets from the start of the file.";
    open_files_limit number "Files that the process may have open.";
    outcomes number "Outcomes that were read at the start.";
    pause number "How long it is left alone.";
    pid number "Process id of the new process of an upgrade.";
    place text "Place of a message in a log.";
    pressure text "How short something has run: calm, soft, hard.";
    processor number "Number of a processor.";
    program text "What is started for an upgrade.";
    protocol text "SMTP, ESMTP, ESMTPS … (RFC 3848).";
    proxy text "Address and port of who has introduced the client: a proxy or a filter.";
    reason text "Why: for connections a value of `inrush_connections_refused_total`, for logins one of `inrush_logins_total`.";
    recipients number "Recipients.";
    refused counts "Refusals of the session: reasons as in `inrush_refusals_total`, and how often. Six are told apart, `others` are the rest. In logfmt `reason:count,…`.";
    relay text "Host that was tried: `name[address]:port`; `none` where there was none.";
    repeated number "So many lines that say the same were left out.";
    reply text "What the host has said, or what went wrong on our side.";
    resident number "Octets of memory that the process has.";
    resource text "What runs short: a value of `inrush_pressure`.";
    revision text "Commit that the program is made from.";
    route text "Name of the route.";
    segment number "Number of a segment.";
    session text "Number of the core and of the session on it; unique until the next start.";
    setting text "The setting, as the configuration writes it.";
    size number "Octets of the message (RFC 1870).";
    sni text "Name that the client asked for in TLS.";
    spans number "Spans that were lost.";
    status text "`queued`, or what became of a recipient: sent, deferred, bounced, expired, hold, deleted.";
    timeout text "The setting whose time was over.";
    tls text "Version of TLS.";
    to list "Forward-paths: those of the message, `recipients_shown` at most; in `delivery` the one that the line is about, as text.";
    transfer text "`data` or `bdat`.";
    under_way number "Messages that are not accounted for yet.";
    user text "Who has logged in.";
    users number "Users in the file.";
    version text "Version of the program.";
};

const HEAD: &str = "# Log lines

What `inrush serve` says of itself, of each message and of each session, on standard error or in the journal of systemd (`[logging] to`). This is not the log of accepted mail, which
[log.md](log.md) describes.

## Forms

`[logging] format`: `text` for people (what a terminal gets by default), `logfmt` (everything else by default), `json`.

```
2026-11-23T14:41:00.123456Z  INFO listening listener=mx address=[::]:25
time=2026-11-23T14:41:00.123456Z level=info module=inrush::serve msg=listening listener=mx address=[::]:25
{\"time\":\"2026-11-23T14:41:00.123456Z\",\"level\":\"info\",\"module\":\"inrush::serve\",\"msg\":\"listening\",\"listener\":\"mx\",\"address\":\"[::]:25\"}
```

Each is one line of UTF-8. Nothing that a peer has sent leaves as a control character, whatever the form: C0, C1, DEL, the separators of lines and paragraphs and what turns the direction of text are
written as in JSON (`\\n`, `\\u001b`), octets that are no UTF-8 as `\\xff`. A value of logfmt stands in quotes, with the escapes of JSON, where it is empty or has a space, a quote, `=`, a backslash or such
an escape in it. Texts of peers end after 512 octets in lines of messages and sessions, other values after 8 KiB. Passwords and mail data are never logged.

In the journal `MESSAGE` is the text form without time and level, `PRIORITY` the level (error 3, warn 4, info 6, debug and trace 7), `SYSLOG_IDENTIFIER` is `inrush`, and each field has a name of its own, in capitals
behind `INRUSH_`: `journalctl -t inrush INRUSH_ID=…` finds all about a message.

## What is said

`[logging] level`, such as `\"info,inrush_gateway=debug\"`: a level for everything, and others for modules with those below them; the longest module that fits decides. The modules of the DNS library are at `error` unless they
are named. The environment variable `INRUSH_LOG` goes before the setting at the start, and until the setting changes and SIGHUP has it read again. While it runs:

```
inrush log-level                                    # those in force
inrush log-level info,inrush_relay=debug --for 10m  # for a time
curl http://127.0.0.1:9925/api/v1/log-level
curl -X POST -H 'X-Inrush: 1' 'http://127.0.0.1:9925/api/v1/log-level?level=debug&for=10m'
```

`for` is 30s, 10m, 2h, at most 168h; without it the levels stay. What is no level or no module is refused, and named.

## Nobody waits for them

Cores put their lines into rings in memory (1 MiB each), all others theirs into a queue (8,192 lines, 8 MiB); a thread of its own writes them. Where the reader of standard error or the journal takes none, lines are lost, and mail goes
on: `inrush_lines_dropped_total` counts them, and the first line that is taken again tells how many they were. At the end of the process what was said is written, for two seconds at most; a broken invariant has its line written
before the process aborts.

More than `repeats_max` lines of one place in the sources, with the same `reason`, `relay` and `destination`, in `repeats_window` are not written, but counted: `login failed, repeated 1,234 times in 10 s`, with the fields of the last of
them and `repeated`. Lines with an `id` or a `session` are always written.

";

const LINES: &str = "
## Lines of messages, sessions and connections

One line for each message, at `info` of the module `inrush_gateway::message`, once it is durable (`[logging] messages`); the fields in order:

MESSAGE_FIELDS

One line for each session when it ends, at `info` of `inrush_gateway::session` (`[logging] sessions`):

SESSION_FIELDS

One line for each connection that gets no session, at `info` of `inrush_gateway::admission` (`[logging] sessions`):

CONNECTION_FIELDS

`proxy`, `client_name`, `helo`, `user`, `tls`, `cipher`, `refused` and `timeout` are there only where there is something to say. One line, `delivery`, follows for each recipient and attempt of the relay. The words are those of Postfix where it has some.

## All other lines

What stands in braces is put in.

";

/// The text of `docs/logs.md`; `places` are those of the macros of `tracing`.
#[must_use]
pub fn documentation(places: &[Place]) -> String {
    let mut text = String::from(HEAD);
    text.push_str("## Fields\n\nEach line begins with `time`, `level`, `module` and `msg`. Times are in seconds with microseconds.\n\n");
    text.push_str("| field | in JSON | meaning |\n|---|---|---|\n");
    for row in FIELDS {
        let _ = writeln!(text, "| `{}` | {} | {} |", row.name, row.kind, row.meaning.replace('|', "\\|"));
    }
    let names = |fields: &[&str]| fields.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" ");
    let lines = LINES.replace("MESSAGE_FIELDS", &format!("`message queued`: {}", names(&MESSAGE_FIELDS)));
    let lines = lines.replace("SESSION_FIELDS", &format!("`session ended`: {}", names(&SESSION_FIELDS)));
    let lines =
        lines.replace("CONNECTION_FIELDS", &format!("`connection refused`: {}", names(&CONNECTION_FIELDS)));
    text.push_str(&lines);
    text.push_str("| level | module | msg | fields |\n|---|---|---|---|\n");
    for place in places {
        let fields: Vec<String> = place.fields.iter().map(|field| format!("`{field}`")).collect();
        let msg = place.msg.replace('|', "\\|");
        let _ = writeln!(text, "| {} | `{}` | {msg} | {} |", place.level, place.module, fields.join(", "));
    }
    text
}
