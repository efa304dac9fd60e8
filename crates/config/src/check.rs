//! What only all files together show, and the files that the configuration names.

mod routes;
mod tls;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use inrush_admin::{AdminSettings, Token};
use inrush_gateway::settings::ListenerSettings;
use inrush_policy::{Networks, Users};
use inrush_proto::{Kind, Path as MailPath, Tls};
use inrush_spans::{Authorization, Endpoint};

use crate::access::AccessSources;
use crate::error::{ConfigErrors, Place};
use crate::read::Reader;
use crate::recipients::RecipientSources;
use crate::schema::{ListenerTable, OpentelemetryTable};
use crate::{Config, beside_file, sorted};

/// Checks what was read and composes the settings.
pub(crate) fn finish(mut reader: Reader) -> Result<Config, ConfigErrors> {
    listeners(&mut reader);
    tls::tls(&mut reader);
    users(&mut reader);
    access(&mut reader);
    domains(&mut reader);
    routes::routes(&mut reader);
    gateway(&mut reader);
    log(&mut reader);
    admin(&mut reader);
    opentelemetry(&mut reader);
    let Reader { config, errors, .. } = reader;
    if errors.is_empty() { Ok(config) } else { Err(sorted(errors, &config.files)) }
}

/// Checks what the admin server is told, and nothing else.
pub(crate) fn admin_alone(mut reader: Reader) -> Result<AdminSettings, ConfigErrors> {
    // A file that is no TOML may hide anything.
    reader.errors.retain(|error| error.key.is_empty() || error.key.starts_with("admin"));
    admin(&mut reader);
    let Reader { config, errors, .. } = reader;
    if errors.is_empty() { Ok(config.admin) } else { Err(sorted(errors, &config.files)) }
}

fn listeners(reader: &mut Reader) {
    let entries = std::mem::take(&mut reader.listeners);
    let mut names = HashMap::new();
    let mut addresses: HashMap<SocketAddr, Place> = HashMap::new();
    for entry in &entries {
        let ListenerTable { name, address, .. } = &entry.table;
        let at = entry.place("name");
        // The name is a label of metrics and a word of log lines.
        let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if name.is_empty() || name.len() > 64 || !name.bytes().all(word) {
            let what = "must be 1 to 64 letters, digits, '-', '_' or '.'";
            reader.error(at.clone(), "listener.name", what.to_owned());
        }
        if let Some(first) = names.insert(name.clone(), at.clone()) {
            reader.error(at, "listener.name", format!("there is a listener {name:?} already, at {first}"));
        }
        if entry.table.client_certificates {
            let what = match (reader.config.tls.client_ca.is_some(), entry.table.tls) {
                (false, _) => Some("needs client_ca in [tls]: nobody vouches for clients otherwise"),
                (true, Tls::Off) => Some("has no meaning with tls = \"off\""),
                _ => None,
            };
            if let Some(what) = what {
                reader.error(
                    entry.place("client_certificates"),
                    "listener.client_certificates",
                    what.to_owned(),
                );
            }
        }
        if entry.table.tls != Tls::Off && reader.config.tls.certificate.is_none() {
            let what = "needs certificate and key in [tls]".to_owned();
            reader.error(entry.place("tls"), "listener.tls", what);
        }
        for (key, networks) in [
            ("proxy_protocol_from", &entry.table.proxy_protocol_from),
            ("xclient_from", &entry.table.xclient_from),
        ] {
            for network in networks {
                if let Err(error) = Networks::new().add(network) {
                    let what = format!("{network:?} {error}");
                    reader.error(entry.place(key), &format!("listener.{key}"), what);
                }
            }
        }
        let has_users = reader.config.users_file.is_some();
        let what = match entry.table.kind {
            Kind::Submission if entry.table.tls == Tls::Off => {
                Some("submission needs tls: passwords are taken under TLS only")
            }
            Kind::Submission if !has_users => Some("submission needs users in [submission]"),
            // RFC 2033 §5: a client that takes it for SMTP would be misled.
            Kind::Lmtp if address.iter().any(|one| one.port() == 25) => {
                Some("lmtp must not listen on port 25")
            }
            _ => None,
        };
        if let Some(what) = what {
            reader.error(entry.place("kind"), "listener.kind", what.to_owned());
        }
        if address.is_empty() {
            reader.error(entry.place("address"), "listener.address", "is empty".to_owned());
        }
        for one in address.iter().filter(|one| one.port() != 0) {
            let at = entry.place("address");
            if let Some(first) = addresses.insert(*one, at.clone()) {
                reader.error(at, "listener.address", format!("{one} is listened on already, at {first}"));
            }
        }
    }
    if !entries.is_empty() {
        reader.config.listeners = entries.into_iter().map(|entry| entry.table).collect();
    }
    let listener = |table: &ListenerTable| ListenerSettings {
        name: table.name.clone(),
        addresses: table.address.clone(),
        kind: table.kind,
        tls: table.tls,
        client_certificates: table.client_certificates,
        proxy_protocol_from: table.proxy_protocol_from.clone(),
        xclient_from: table.xclient_from.clone(),
        greet_delay: table.greet_delay,
        unauthorized_pipelining: table.unauthorized_pipelining,
        bare_newline: table.bare_newline,
    };
    let Config { gateway, listeners, .. } = &mut reader.config;
    gateway.listeners = listeners.iter().map(listener).collect();
}

fn users(reader: &mut Reader) {
    let Some(named) = reader.config.users_file.clone() else { return };
    let place = place(reader, &["submission.users"]);
    let path = beside_file(&place.file, &named);
    match Users::load(&path) {
        Ok(users) => reader.config.users = Some(Arc::new(users)),
        Err(error) => {
            let why =
                std::error::Error::source(&error).map_or_else(String::new, |source| format!(": {source}"));
            reader.error(place, "submission.users", format!("{error}{why}"));
        }
    }
    reader.config.users_file = Some(path);
}

fn domains(reader: &mut Reader) {
    let entries = std::mem::take(&mut reader.domains);
    let sources = RecipientSources::of(&entries, reader);
    let public = public_address(&reader.config);
    reader.domain_routes = entries
        .iter()
        .map(|entry| (entry.table.name.clone(), entry.table.route.clone(), entry.place("route")))
        .collect();
    if entries.is_empty() {
        if let Some(address) = public {
            let what =
                format!("{address} is not on loopback: name the domains whose mail is taken in [[domain]]");
            let place = Place::file(reader.config.files.first().cloned().unwrap_or_default());
            reader.error(place, "domain", what);
        }
    } else {
        let wildcard = entries.iter().find(|entry| entry.table.name == "*" && !entry.table.allow_open);
        if let (Some(entry), Some(address)) = (wildcard, public) {
            let what = format!(
                "\"*\" takes mail for every domain, but {address} is not on loopback; allow_open = true lets it stand"
            );
            reader.error(entry.place("name"), "domain.name", what);
        }
        reader.config.domains = entries.into_iter().map(|entry| entry.table).collect();
    }
    match sources.read() {
        Ok(recipients) => reader.config.recipients = Arc::new(recipients),
        Err(ConfigErrors(errors)) => reader.errors.extend(errors),
    }
    reader.config.recipient_sources = sources;
}

/// The first address on which the internet may come in.
fn public_address(config: &Config) -> Option<SocketAddr> {
    config
        .gateway
        .listeners
        .iter()
        .flat_map(|listener| &listener.addresses)
        .find(|one| !one.ip().is_loopback())
        .copied()
}

fn access(reader: &mut Reader) {
    let (allow, deny) = (place(reader, &["access.allow"]), place(reader, &["access.deny"]));
    let table = &reader.config.networks;
    let sources = AccessSources::of((&table.allow, allow), (&table.deny, deny));
    match sources.read() {
        Ok(list) => reader.config.access = Arc::new(list),
        Err(errors) => reader.errors.extend(errors.0),
    }
    reader.config.access_sources = sources;
}

fn gateway(reader: &mut Reader) {
    let hostname = reader.config.gateway.hostname.clone();
    // RFC 5321 §4.1.2: a domain or an address literal, as behind the @ of a mailbox. The greeting is US-ASCII.
    if !hostname.is_ascii() || MailPath::mailbox(&format!("postmaster@{hostname}")).is_err() {
        let place = place(reader, &["hostname"]);
        reader.error(place, "hostname", format!("{hostname:?} is not a domain name or an address literal"));
    }
    reader.config.session.hostname = hostname;
}

fn log(reader: &mut Reader) {
    // The ranges of the single keys are checked as they are read; the rest is known to the log alone.
    if let Err(error) = reader.config.log.check() {
        let key = format!("log.{}", error.name);
        if !reader.errors.iter().any(|known| known.key == key) {
            let place = place(reader, &[&key]);
            reader.error(place, &key, format!("must be {}", error.rule));
        }
    }
}

fn admin(reader: &mut Reader) {
    if let Some(named) = reader.config.token_file.clone() {
        reader.config.admin.token = secret(reader, "admin.token_file", &named, Token::new);
    } else if !reader.config.admin.address.ip().is_loopback() {
        let place = place(reader, &["admin.address"]);
        let address = reader.config.admin.address;
        let what = format!("{address} is not on loopback: set token_file, or everybody may read");
        reader.error(place, "admin.address", what);
    }
}

fn opentelemetry(reader: &mut Reader) {
    let OpentelemetryTable { endpoint, authorization_file, one_in } = reader.config.opentelemetry.clone();
    let key = "opentelemetry.endpoint";
    reader.config.spans.one_in = one_in;
    if !endpoint.is_empty() {
        match Endpoint::new(&endpoint) {
            Ok(endpoint) => reader.config.spans.endpoint = Some(endpoint),
            // It may have a password in it.
            Err(what) => reader.error(place(reader, &[key]), key, what.to_owned()),
        }
    }
    if let Some(named) = authorization_file {
        let key = "opentelemetry.authorization_file";
        if endpoint.is_empty() {
            return reader.error(place(reader, &[key]), key, "has no meaning without endpoint".to_owned());
        }
        reader.config.spans.authorization = secret(reader, key, &named, Authorization::new);
    }
}

/// The secret in the file that `key` names, which must be as `take` has it.
fn secret<T>(
    reader: &mut Reader,
    key: &str,
    named: &Path,
    take: impl FnOnce(&str) -> Result<T, &'static str>,
) -> Option<T> {
    let place = place(reader, &[key]);
    let path = beside_file(&place.file, named);
    // Bounded: a secret is one line, and what the path leads to may be endless.
    let text = fs::File::open(&path).and_then(|file| io::read_to_string(io::Read::take(file, 64 << 10)));
    let secret = match text {
        Ok(text) => take(&text).map_err(|what| format!("{}: {what}", path.display())),
        Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
    };
    secret.map_err(|what| reader.error(place, key, what)).ok()
}

/// The place of the first of `keys` that was written, else the first file.
fn place(reader: &Reader, keys: &[&str]) -> Place {
    let file = || Place::file(reader.config.files.first().cloned().unwrap_or_default());
    reader.places.find(keys).cloned().unwrap_or_else(file)
}
