//! `[[route]]` and who takes which: with a route for one domain every domain has one, so that no mail stays behind unnoticed.

use std::collections::HashMap;

use inrush_proto::{Kind, normalise_domain};
use inrush_relay::maildir::{Quota, Template};
use inrush_relay::settings::{HopSettings, Host, MaildirRoute, Route, RouteKind};

use super::place;
use crate::beside_file;
use crate::read::{Entry, Reader};
use crate::schema::{HopKind, RouteTable};

/// Keys that only some kinds have.
const HOPS: &[&str] = &["hosts", "tls", "messages_per_connection", "keep_connection"];
const MAILBOXES: &[&str] =
    &["path", "create", "quota_bytes", "quota_messages", "case_sensitive", "subaddress_separator"];

pub(super) fn routes(reader: &mut Reader) {
    let entries = std::mem::take(&mut reader.routes);
    let mut names = HashMap::new();
    for (index, entry) in entries.iter().enumerate() {
        let (name, at) = (&entry.table.name, entry.place("name"));
        // The name is a label of metrics, and stands in front of a colon in the outcome log.
        let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if name.is_empty() || name.len() > 64 || !name.bytes().all(word) {
            let what = "must be 1 to 64 letters, digits, '-', '_' or '.'";
            reader.error(at.clone(), "route.name", what.to_owned());
        }
        if names.insert(name.clone(), index).is_some() {
            reader.error(at, "route.name", format!("there is a route {name:?} already"));
        }
        without_meaning(reader, entry);
        if let Some(kind) = kind(reader, entry) {
            reader.config.relay.routes.push(Route { name: name.clone(), kind });
        }
    }
    domains(reader, &names);
    let ca_at = place(reader, &["relay.ca_file"]);
    if let Some(file) = &mut reader.config.relay.tls.ca_file {
        *file = beside_file(&ca_at.file, file);
    }
    if !names.is_empty()
        && let Err(error) = inrush_relay::tls::ClientTls::new(&reader.config.relay.tls)
    {
        reader.error(ca_at, "relay.ca_file", error.to_string());
    }
    reader.config.routes = entries.into_iter().map(|entry| entry.table).collect();
}

/// A key that does nothing for its kind is a mistake of somebody.
fn without_meaning(reader: &mut Reader, entry: &Entry<RouteTable>) {
    let (kind, foreign): (_, Vec<&str>) = match entry.table.kind {
        HopKind::Smtp if entry.table.hosts.is_empty() => ("smtp", MAILBOXES.to_vec()),
        HopKind::Smtp => ("smtp", [MAILBOXES, &["port"]].concat()),
        HopKind::Lmtp => ("lmtp", [MAILBOXES, &["port"]].concat()),
        HopKind::Maildir => ("maildir", [HOPS, &["port"]].concat()),
        HopKind::Hold => ("hold", [HOPS, MAILBOXES, &["port", "connections_max"]].concat()),
    };
    for key in foreign {
        if entry.places.contains_key(key) {
            let with = if key == "port" && kind == "smtp" { " and hosts, which have ports" } else { "" };
            let what = format!("has no meaning with kind = {kind:?}{with}");
            reader.error(entry.place(key), &format!("route.{key}"), what);
        }
    }
}

fn kind(reader: &mut Reader, entry: &Entry<RouteTable>) -> Option<RouteKind> {
    let table = &entry.table;
    let default_port = if table.kind == HopKind::Lmtp { 24 } else { 25 };
    let mut hosts = Vec::new();
    for text in &table.hosts {
        match host(text, default_port) {
            Some(host) => hosts.push(host),
            None => {
                let what = format!(
                    "{text:?} is not a host such as \"mail.example.com:25\" or \"10 [2001:db8::1]:25\""
                );
                reader.error(entry.place("hosts"), "route.hosts", what);
            }
        }
    }
    let hops = HopSettings {
        hosts,
        port: table.port,
        tls: table.tls,
        connections_max: table.connections_max,
        messages_per_connection: table.messages_per_connection,
        keep_connection: table.keep_connection,
    };
    match table.kind {
        HopKind::Smtp => Some(RouteKind::Smtp(hops)),
        HopKind::Lmtp if table.hosts.is_empty() => {
            reader.error(entry.place("hosts"), "route.hosts", "lmtp needs hosts".to_owned());
            None
        }
        HopKind::Lmtp => Some(RouteKind::Lmtp(hops)),
        HopKind::Hold => Some(RouteKind::Hold),
        HopKind::Maildir => {
            let template = Template::parse(&table.path)
                .map_err(|error| reader.error(entry.place("path"), "route.path", error.to_string()));
            let mut separator = table.subaddress_separator.chars();
            let subaddress_separator = separator.next();
            if separator.next().is_some() {
                let what = "must be one character, or none".to_owned();
                reader.error(entry.place("subaddress_separator"), "route.subaddress_separator", what);
            }
            Some(RouteKind::Maildir(MaildirRoute {
                template: template.ok()?,
                create: table.create,
                quota: Quota { octets: table.quota_bytes, messages: table.quota_messages },
                case_sensitive: table.case_sensitive,
                subaddress_separator,
                deliveries_max: table.connections_max,
            }))
        }
    }
}

/// `[PREFERENCE ]HOST[:PORT]`
fn host(text: &str, default_port: u16) -> Option<Host> {
    let (preference, text) = match text.split_once(' ') {
        Some((preference, rest)) => (preference.parse().ok()?, rest.trim_start()),
        None => (0, text),
    };
    let (name, port) = if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']')?;
        address.parse::<std::net::IpAddr>().ok()?;
        let port = if rest.is_empty() { default_port } else { rest.strip_prefix(':')?.parse().ok()? };
        (address, port)
    } else {
        match text.split_once(':') {
            Some((name, port)) => (name, port.parse().ok()?),
            None => (text, default_port),
        }
    };
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':');
    let valid = !name.is_empty() && name.len() <= 253 && name.bytes().all(valid) && port != 0;
    valid.then(|| Host { preference, name: name.to_ascii_lowercase(), port })
}

fn domains(reader: &mut Reader, names: &HashMap<String, usize>) {
    let domains = std::mem::take(&mut reader.domain_routes);
    let find = |reader: &mut Reader, name: &str, at, key: &str| {
        let index = names.get(name).copied();
        if index.is_none() {
            let meant = crate::error::nearest(name, names.keys().map(String::as_str));
            let meant = meant.map(|meant| format!("; did you mean {meant:?}?")).unwrap_or_default();
            reader.error(at, key, format!("there is no route {name:?}{meant}"));
        }
        index
    };
    for (domain, route, at) in &domains {
        if !route.is_empty() {
            let index = find(reader, route, at.clone(), "domain.route");
            let mut name = String::new();
            normalise_domain(domain, &mut name);
            reader.config.relay.domains.extend(index.map(|index| (name, index)));
        } else if !names.is_empty() {
            let what =
                format!("{domain:?} needs a route, as there is a [[route]]: its mail would stay in the log");
            reader.error(at.clone(), "domain.route", what);
        }
    }
    if domains.is_empty() && !names.is_empty() {
        let at = place(reader, &[]);
        let what = "[[route]] needs [[domain]] tables whose mail takes it".to_owned();
        reader.error(at, "domain", what);
    }
    let foreign = reader.config.foreign_route.clone();
    let at = place(reader, &["relay.route"]);
    if !foreign.is_empty() {
        reader.config.relay.submission = find(reader, &foreign, at, "relay.route");
    } else if !names.is_empty() && reader.config.listeners.iter().any(|one| one.kind == Kind::Submission) {
        let what = "a listener of kind = \"submission\" takes mail to other domains: name a route for it";
        reader.error(at, "relay.route", what.to_owned());
    }
}
