//! The keys of delivery: `[queue]`, `[relay]`, `[[route]]`.

use std::time::Duration;

use inrush_relay::settings::HopSettings;
use inrush_relay::tls::TlsPolicy;

use super::{DAY, GIB, MIB, Row, SECOND, Table};
use crate::field::Field;
use crate::units::Unit;

/// What a route is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum HopKind {
    #[default]
    Smtp,
    Lmtp,
    Maildir,
    Hold,
}

/// One `[[route]]` as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RouteTable {
    pub(crate) name: String,
    pub(crate) kind: HopKind,
    pub(crate) hosts: Vec<String>,
    pub(crate) port: u16,
    pub(crate) tls: TlsPolicy,
    pub(crate) connections_max: u32,
    pub(crate) messages_per_connection: u32,
    pub(crate) keep_connection: Duration,
    pub(crate) path: String,
    pub(crate) create: bool,
    pub(crate) quota_bytes: u64,
    pub(crate) quota_messages: u64,
    pub(crate) case_sensitive: bool,
    pub(crate) subaddress_separator: String,
}

impl Default for RouteTable {
    fn default() -> Self {
        let HopSettings { port, tls, connections_max, messages_per_connection, keep_connection, .. } =
            HopSettings::default();
        Self {
            name: String::new(),
            kind: HopKind::Smtp,
            hosts: Vec::new(),
            port,
            tls,
            connections_max,
            messages_per_connection,
            keep_connection,
            path: String::new(),
            create: true,
            quota_bytes: 0,
            quota_messages: 0,
            case_sensitive: false,
            subaddress_separator: "+".to_owned(),
        }
    }
}

pub(crate) const ROUTE_HELP: &str = "A way on for accepted mail; the table may be repeated. Without any, mail stays in the log. See delivery.md.";

pub(crate) const ROUTE: &[Row<RouteTable>] = rows! {
    "name" "What [[domain]] route and [relay] route say; also a label in logs and metrics."
        |route| Field::Text(&mut route.name);
    "kind" "smtp = to hosts, or to the mail hosts of each domain by DNS; lmtp = to hosts (RFC 2033); maildir = into mailboxes on this machine; hold = kept until an operator decides."
        |route| Field::Choice(&mut route.kind);
    "hosts" "Next hops such as [\"10.0.0.5:24\", \"20 mail.example.com:25\"]; a number in front is a preference, the lower the better. None with kind = \"smtp\": MX records decide."
        |route| Field::Texts(&mut route.hosts);
    "port" "Port of mail hosts that MX records name."
        |route| Field::Number(&mut route.port, Unit::Count, 1..=65_535);
    "tls" "TLS by STARTTLS: never; where it is offered, whoever it is; or always, and only with a certificate for the name of the host."
        |route| Field::Choice(&mut route.tls);
    "connections_max" "Connections to one destination, or deliveries into mailboxes, at a time."
        |route| Field::Number(&mut route.connections_max, Unit::Count, 1..=1_000);
    "messages_per_connection" "Messages on one connection; 0 = as many as the host takes."
        |route| Field::Number(&mut route.messages_per_connection, Unit::Count, 0..=1_000_000);
    "keep_connection" "How long a connection is kept for the next message."
        |route| Field::Number(&mut route.keep_connection, Unit::Duration, 0..=300 * SECOND);
    "path" "Maildir of a recipient, with {local}, {user} (local part without its detail), {domain} and {address}; absolute."
        |route| Field::Text(&mut route.path);
    "create" "Whether mailboxes that are not there are made; else 550 5.1.1."
        |route| Field::Switch(&mut route.create);
    "quota_bytes" "Octets of a mailbox (Maildir++); then 452 4.2.2; 0 = what its maildirsize file says, if there is one."
        |route| Field::Number(&mut route.quota_bytes, Unit::Bytes, 0..=1024 * 1024 * GIB);
    "quota_messages" "Messages of a mailbox; 0 = as above."
        |route| Field::Number(&mut route.quota_messages, Unit::Count, 0..=1_000_000_000_000);
    "case_sensitive" "Whether upper and lower case make different mailboxes."
        |route| Field::Switch(&mut route.case_sensitive);
    "subaddress_separator" "What {user} leaves out begins with this character; \"\" = nothing."
        |route| Field::Text(&mut route.subaddress_separator);
};

pub(super) const QUEUE: Table = Table {
    name: "queue",
    help: "When delivery is tried again, and when it is given up. Without any [[route]] there is no queue.",
    rows: rows! {
        "lifetime" "How long delivery of a message is tried; then it is returned (RFC 5321 §4.5.4.1: 4 to 5 days)."
            |config| Field::Number(&mut config.queue.lifetime, Unit::Duration, SECOND..=60 * DAY);
        "delay_warning_after" "Age at which the sender is told of the delay, once; 0 = never."
            |config| Field::Number(&mut config.queue.delay_warning_after, Unit::Duration, 0..=60 * DAY);
        "retry_first" "Pause after the first failed attempt; then 2, 4, 6, 8 … times as long, each spread by a quarter."
            |config| Field::Number(&mut config.queue.retry_first, Unit::Duration, 1_000..=DAY);
        "retry_max" "The longest pause."
            |config| Field::Number(&mut config.queue.retry_max, Unit::Duration, 1_000..=7 * DAY);
        "history_age" "How long inrush queue show can tell what became of a message; 0 = back to the last checkpoint of the queue, also of mail in it."
            |config| Field::Number(&mut config.queue.history_age, Unit::Duration, 0..=3650 * DAY);
        "history_bytes" "Octets of outcomes that are kept for that at most."
            |config| Field::Number(&mut config.queue.history_bytes, Unit::Bytes, 0..=1024 * GIB);
        "keep_delivered" "How long delivered mail stays in the log for inrush log replay; 0 = it goes with its segment."
            |config| Field::Number(&mut config.queue.keep_delivered, Unit::Duration, 0..=3650 * DAY);
        "evacuate_after" "Age at which mail that is still owed leaves an arrival log that is mostly delivered."
            |config| Field::Number(&mut config.queue.evacuate_after, Unit::Duration, SECOND..=60 * DAY);
    },
};

pub(super) const RELAY: Table = Table {
    name: "relay",
    help: "What all routes share.",
    rows: rows! {
        "route" "Name of the [[route]] for mail to other domains: that of users, and reports to senders."
            |config| Field::Text(&mut config.foreign_route);
        "connections_max" "Connections to next hops and deliveries into mailboxes at a time, over all destinations; twice as many file descriptors are kept for them."
            |config| Field::Number(&mut config.relay.connections_max, Unit::Count, 1..=100_000);
        "memory_max" "Octets of messages in memory while they are delivered; a backlog waits on the disk."
            |config| Field::Number(&mut config.relay.memory_max, Unit::Bytes, MIB..=1024 * GIB);
        "connect_timeout" "One attempt to connect to one address."
            |config| Field::Number(&mut config.relay.timeouts.connect, Unit::Duration, 10_000..=3600 * SECOND);
        "greeting_timeout" "The greeting, and the replies to EHLO and STARTTLS (RFC 5321 §4.5.3.2.1)."
            |config| Field::Number(&mut config.relay.timeouts.greeting, Unit::Duration, 10_000..=3600 * SECOND);
        "handshake_timeout" "A TLS handshake."
            |config| Field::Number(&mut config.relay.timeouts.handshake, Unit::Duration, 10_000..=3600 * SECOND);
        "command_timeout" "The replies to MAIL and RCPT (RFC 5321 §4.5.3.2.2 and .3)."
            |config| Field::Number(&mut config.relay.timeouts.command, Unit::Duration, 10_000..=3600 * SECOND);
        "data_timeout" "The reply to DATA (RFC 5321 §4.5.3.2.4)."
            |config| Field::Number(&mut config.relay.timeouts.data, Unit::Duration, 10_000..=3600 * SECOND);
        "block_timeout" "64KiB of mail data to be taken (RFC 5321 §4.5.3.2.5)."
            |config| Field::Number(&mut config.relay.timeouts.block, Unit::Duration, 10_000..=3600 * SECOND);
        "end_timeout" "The reply to the end of mail data (RFC 5321 §4.5.3.2.6)."
            |config| Field::Number(&mut config.relay.timeouts.end, Unit::Duration, 10_000..=3600 * SECOND);
        "min_data_rate" "A host that takes a message of more than 64KiB slower than this, over all of it and block_timeout besides, is left; 0 = no check."
            |config| Field::Number(&mut config.relay.timeouts.min_data_rate, Unit::BytesPerSecond, 0..=GIB);
        "resolver" "Name servers that resolve for us, the best first; [] = those of /etc/resolv.conf."
            |config| Field::Addresses(&mut config.relay.dns.servers);
        "resolver_timeout" "One attempt at one question to a name server."
            |config| Field::Number(&mut config.relay.dns.timeout, Unit::Duration, 10_000..=60 * SECOND);
        "resolver_attempts" "Attempts at one question."
            |config| Field::Number(&mut config.relay.dns.attempts, Unit::Count, 1..=20);
        "resolver_cache" "Answers that are kept for each name server."
            |config| Field::Number(&mut config.relay.dns.cache_entries, Unit::Count, 0..=10_000_000);
        "addresses" "Families of addresses that are connected to."
            |config| Field::Choice(&mut config.relay.dns.addresses);
        "ca_file" "PEM file with the authorities that vouch for hosts under tls = \"required\"; relative to this file. Without it those of the system."
            |config| Field::OptionalPath(&mut config.relay.tls.ca_file);
    },
};
