//! One side of a connection: octets in and out, with TLS or without.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::record::Tls;
use crate::tls::Files;

/// The configuration of a server with this certificate.
///
/// # Panics
/// The files hold none.
pub fn server_config(files: &Files) -> Arc<ServerConfig> {
    let certificate = CertificateDer::from_pem_file(&files.certificate);
    let certificate = certificate.unwrap_or_else(|error| panic!("{}: {error}", files.certificate.display()));
    let key = PrivateKeyDer::from_pem_file(&files.key);
    let key = key.unwrap_or_else(|error| panic!("{}: {error}", files.key.display()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![certificate], key));
    Arc::new(config.unwrap_or_else(|error| panic!("no TLS: {error}")))
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

/// A connection with what was read ahead.
#[derive(Debug)]
pub(super) struct Wire {
    stream: Stream,
    input: Vec<u8>,
}

impl Wire {
    pub(super) fn new(socket: TcpStream) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        Ok(Self { stream: Stream::Plain(socket), input: Vec::new() })
    }

    /// Whether a whole line is there already.
    pub(super) fn has_line(&self) -> bool {
        self.input.contains(&b'\n')
    }

    /// The next line with its end. `None` = the client has gone.
    pub(super) fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.input[searched..].iter().position(|octet| *octet == b'\n') {
                return Ok(Some(self.input.drain(..=searched + end).collect()));
            }
            searched = self.input.len();
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// Some octets, at least one and at most `octets_max`. Empty = the client has gone.
    pub(super) fn some(&mut self, octets_max: usize) -> io::Result<Vec<u8>> {
        if self.input.is_empty() && !self.fill()? {
            return Ok(Vec::new());
        }
        Ok(self.input.drain(..self.input.len().min(octets_max)).collect())
    }

    /// Gives back what belongs to the next command.
    pub(super) fn unread(&mut self, octets: &[u8]) {
        self.input.splice(..0, octets.iter().copied());
    }

    pub(super) fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(socket) => socket.write_all(octets),
            Stream::Tls(stream) => stream.write_all(octets).and_then(|()| stream.flush()),
        }
    }

    /// Shakes hands. Octets that were there before are no part of it, and an error (RFC 3207 §4.2 by CVE-2011-0411).
    pub(super) fn secure(&mut self, config: Arc<ServerConfig>) -> io::Result<Tls> {
        if !self.input.is_empty() {
            return Err(io::Error::other(format!("{} octets behind STARTTLS", self.input.len())));
        }
        let mut socket = self.socket().try_clone()?;
        let mut connection = ServerConnection::new(config).map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        let tls = Tls {
            server_name: connection.server_name().map(str::to_owned),
            version: connection.protocol_version(),
        };
        self.stream = Stream::Tls(Box::new(StreamOwned::new(connection, socket)));
        Ok(tls)
    }

    /// Says that nothing more comes, so that the client reads everything up to here.
    pub(super) fn finish(&mut self) {
        if let Stream::Tls(stream) = &mut self.stream {
            stream.conn.send_close_notify();
            // Whoever has gone does not miss it.
            let _ = stream.flush();
        }
        let _ = self.socket().shutdown(Shutdown::Write);
    }

    /// Reads and forgets until the client has gone.
    pub(super) fn drain(&mut self) {
        self.input.clear();
        while self.fill().unwrap_or(false) {
            self.input.clear();
        }
    }

    /// Makes the end of the connection an RST.
    pub(super) fn break_off(&self) {
        let _ = socket2::SockRef::from(self.socket()).set_linger(Some(Duration::ZERO));
    }

    fn socket(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(socket) => socket,
            Stream::Tls(stream) => &stream.sock,
        }
    }

    fn fill(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 16 * 1024];
        let octets = match &mut self.stream {
            Stream::Plain(socket) => socket.read(&mut buffer),
            Stream::Tls(stream) => stream.read(&mut buffer),
        }?;
        self.input.extend_from_slice(&buffer[..octets]);
        Ok(octets > 0)
    }
}
