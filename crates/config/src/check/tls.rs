//! `[tls]` and `[[tls.sni]]`: the files are read as the gateway reads them, so that what is wrong with them is said with the place that
//! names them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use inrush_gateway::tls::{CertificateFiles, Certificates, SharedCertificates, TlsSettings};

use crate::beside_file;
use crate::error::Place;
use crate::read::Reader;
use crate::schema::{SniTable, TlsTable};

pub(super) fn tls(reader: &mut Reader) {
    let at = |key: &str| reader.places.find(&[key]).cloned();
    let (certificate_at, key_at, ca_at) = (at("tls.certificate"), at("tls.key"), at("tls.client_ca"));
    let resolve = |place: &Option<Place>, path: &Path| {
        place.as_ref().map_or_else(|| path.to_owned(), |place| beside_file(&place.file, path))
    };
    let TlsTable { certificate, key, client_ca } = reader.config.tls.clone();
    let mut settings =
        TlsSettings { client_ca: client_ca.map(|path| resolve(&ca_at, &path)), ..TlsSettings::default() };
    let mut places: Vec<(PathBuf, &str, Place)> = Vec::new();
    places.extend(settings.client_ca.clone().zip(ca_at).map(|(path, at)| (path, "tls.client_ca", at)));
    match (certificate, key) {
        (Some(certificate), Some(key)) => {
            let (certificate, key) = (resolve(&certificate_at, &certificate), resolve(&key_at, &key));
            places.extend(certificate_at.map(|at| (certificate.clone(), "tls.certificate", at)));
            places.extend(key_at.map(|at| (key.clone(), "tls.key", at)));
            settings.certificate = Some(CertificateFiles { certificate, key });
        }
        (Some(_), None) => {
            let at = certificate_at.unwrap_or_default();
            reader.error(at, "tls.certificate", "needs key beside it".to_owned());
        }
        (None, Some(_)) => {
            let at = key_at.unwrap_or_default();
            reader.error(at, "tls.key", "needs certificate beside it".to_owned());
        }
        (None, None) => {}
    }
    let entries = std::mem::take(&mut reader.sni);
    let mut names: HashMap<String, Place> = HashMap::new();
    for entry in &entries {
        let SniTable { name, certificate, key } = &entry.table;
        let at = entry.place("name");
        // Names of hosts are the same in either case (RFC 6066 §3).
        if let Some(first) = names.insert(name.to_ascii_lowercase(), at.clone()) {
            reader.error(at, "tls.sni.name", format!("{name:?} has a certificate already, at {first}"));
        }
        for needed in ["certificate", "key"].iter().filter(|key| !entry.places.contains_key(**key)) {
            reader.error(entry.place(""), "tls.sni", format!("has no {needed}"));
        }
        if settings.certificate.is_none() {
            let what = "needs certificate and key in [tls], for clients that ask for no name".to_owned();
            reader.error(entry.place(""), "tls.sni", what);
        }
        let file = |key: &str, path: &Path| beside_file(&entry.place(key).file, path);
        let files = CertificateFiles { certificate: file("certificate", certificate), key: file("key", key) };
        places.push((files.certificate.clone(), "tls.sni.certificate", entry.place("certificate")));
        places.push((files.key.clone(), "tls.sni.key", entry.place("key")));
        settings.named.push((name.clone(), files));
    }
    reader.config.sni = entries.into_iter().map(|entry| entry.table).collect();
    reader.config.gateway.tls = settings;
    if reader.errors.iter().any(|error| error.key.starts_with("tls")) {
        return;
    }
    match Certificates::load(&reader.config.gateway.tls) {
        Ok(certificates) => reader.config.certificates = SharedCertificates::new(certificates),
        Err(errors) => {
            for error in errors {
                let known = places.iter().find(|(path, ..)| path == error.path());
                let (key, place) = known.map_or(("tls", Place::default()), |(_, key, at)| (*key, at.clone()));
                reader.error(place, key, error.to_string());
            }
        }
    }
}
