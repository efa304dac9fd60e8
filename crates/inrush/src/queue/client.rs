//! Requests to the admin server of the running gateway.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use inrush_config::Config;
use serde_json::Value;
use tokio::net::TcpStream;

/// How long a connection may take: the gateway is on this machine, or not far.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// How long an answer may take. A change of a long queue, or a look through a large log, takes minutes.
const ANSWER_PATIENCE: Duration = Duration::from_mins(30);
/// How long a stream of events may say nothing.
const SILENCE: Duration = Duration::from_secs(10);
/// Octets of an event: a sample has some thousand.
const EVENT_OCTETS_MAX: usize = 4 << 20;

/// What an answer lacks its end for.
const CUT_OFF: &str = "the answer was cut off";

/// Where the admin server is, and how to get in.
pub(crate) struct Client {
    address: SocketAddr,
    token: Option<String>,
    answer_patience: Duration,
}

impl Client {
    /// As the config file says; with the built-in defaults where there is none. Of the settings only those of the admin server are looked at.
    pub(crate) fn of(config: Option<&Path>, address: Option<SocketAddr>) -> anyhow::Result<Self> {
        let admin = Config::load_admin(config)?;
        Ok(Self {
            address: address.unwrap_or(admin.address),
            token: admin.token.map(|token| token.expose().to_owned()),
            answer_patience: ANSWER_PATIENCE,
        })
    }

    pub(crate) fn get(&self, path: &str, parameters: &[(&str, String)]) -> anyhow::Result<Value> {
        self.request(Method::GET, path, parameters).map_err(|(_, error)| error)
    }

    /// A change. Where the answer does not come, nobody knows whether it was done.
    pub(crate) fn post(&self, path: &str, parameters: &[(&str, String)]) -> anyhow::Result<Value> {
        self.request(Method::POST, path, parameters).map_err(|(was_sent, error)| match was_sent {
            true => error.context("it may have been done, or a part of it"),
            false => error,
        })
    }

    /// A change whose answer is wanted also when it says that something went wrong.
    pub(crate) fn post_whatever_comes(&self, path: &str) -> anyhow::Result<Value> {
        let (_, body) = self.exchange(Method::POST, path, &[]).map_err(|(_, error)| error)?;
        let answer: Value = serde_json::from_slice(&body)?;
        match answer["error"].as_str() {
            Some(error) => bail!("{error}"),
            None => Ok(answer),
        }
    }

    /// Whether anybody answers.
    pub(crate) fn is_served(&self) -> bool {
        std::net::TcpStream::connect_timeout(&self.address, CONNECT_PATIENCE).is_ok()
    }

    /// Hands out lines as they come, until there are no more.
    ///
    /// # Errors
    /// The gateway cannot be reached, or refuses; or what `line` has.
    pub(crate) fn stream(
        &self,
        path: &str,
        parameters: &[(&str, String)],
        mut line: impl FnMut(&str) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut rest = Vec::new();
        self.pieces(path, parameters, None, |octets| {
            rest.extend_from_slice(octets);
            while let Some(end) = memchr::memchr(b'\n', &rest) {
                line(&String::from_utf8_lossy(&rest[..end]))?;
                rest.drain(..=end);
            }
            Ok(true)
        })
    }

    /// The answer; with an error, whether the gateway may be at work on the request.
    fn request(
        &self,
        method: Method,
        path: &str,
        parameters: &[(&str, String)],
    ) -> Result<Value, (bool, anyhow::Error)> {
        let (status, body) = self.exchange(method, path, parameters)?;
        read(self.address, status, &body).map_err(|error| (false, error))
    }

    fn exchange(
        &self,
        method: Method,
        path: &str,
        parameters: &[(&str, String)],
    ) -> Result<(StatusCode, Bytes), (bool, anyhow::Error)> {
        let not_sent = |error: anyhow::Error| (false, error);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| not_sent(error.into()))?;
        let request = self.head(method, path, parameters).map_err(|error| not_sent(error.into()))?;
        runtime.block_on(async {
            let stream = self.connect().await.map_err(not_sent)?;
            let answer = tokio::time::timeout(self.answer_patience, exchange(stream, request)).await;
            let late = || anyhow!("{} has not answered within {:?}", self.address, self.answer_patience);
            answer.unwrap_or_else(|_| Err(late())).map_err(|error| (true, error))
        })
    }

    /// Hands out the data of each event of a stream until `take` has enough or the stream ends.
    ///
    /// # Errors
    /// The gateway cannot be reached, refuses, or says nothing for long.
    pub(crate) fn events(&self, path: &str, mut take: impl FnMut(&str) -> bool) -> anyhow::Result<()> {
        let mut events = Events::default();
        self.pieces(path, &[], Some(SILENCE), |octets| events.feed(octets, &mut take))
    }

    /// Hands out an answer piece by piece until `take` has enough or it ends. No piece may take longer than `silence`.
    fn pieces(
        &self,
        path: &str,
        parameters: &[(&str, String)],
        silence: Option<Duration>,
        mut take: impl FnMut(&[u8]) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let request = self.head(Method::GET, path, parameters)?;
        runtime.block_on(async {
            let stream = self.connect().await?;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            let connection = tokio::spawn(connection);
            let response = self.within(silence, sender.send_request(request)).await?.context(CUT_OFF)?;
            let status = response.status();
            let mut body = response.into_body();
            if status != StatusCode::OK {
                let said = self.within(silence, body.collect()).await?.context(CUT_OFF)?.to_bytes();
                return read(self.address, status, &said).map(drop);
            }
            while let Some(frame) = self.within(silence, body.frame()).await? {
                let octets = frame.context(CUT_OFF)?.into_data().unwrap_or_default();
                if !take(&octets)? {
                    break;
                }
            }
            connection.abort();
            Ok(())
        })
    }

    async fn within<T>(&self, silence: Option<Duration>, what: impl Future<Output = T>) -> anyhow::Result<T> {
        match silence {
            None => Ok(what.await),
            Some(silence) => tokio::time::timeout(silence, what)
                .await
                .map_err(|_| anyhow!("{} has fallen silent", self.address)),
        }
    }

    /// Where the gateway is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    fn head(
        &self,
        method: Method,
        path: &str,
        parameters: &[(&str, String)],
    ) -> Result<Request<Empty<Bytes>>, hyper::http::Error> {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/api/v1/{path}?{query}"))
            .header(HOST, self.address.to_string())
            .header("X-Inrush", "1");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        request.body(Empty::new())
    }

    async fn connect(&self) -> anyhow::Result<TcpStream> {
        let connected = tokio::time::timeout(CONNECT_PATIENCE, TcpStream::connect(self.address)).await;
        connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())).with_context(|| {
            format!(
                "no gateway answers on {}; name its config file with --config, or the data directory of a stopped one with --data-dir",
                self.address
            )
        })
    }
}

/// A stream of events that comes in pieces (HTML, "Server-sent events").
#[derive(Default)]
struct Events {
    rest: Vec<u8>,
}

impl Events {
    /// Takes a piece, and hands out the data of each event that it completes; false when `take` has enough.
    fn feed(&mut self, octets: &[u8], take: &mut impl FnMut(&str) -> bool) -> anyhow::Result<bool> {
        self.rest.extend_from_slice(octets);
        while let Some(end) = self.rest.windows(2).position(|pair| pair == b"\n\n") {
            let event: Vec<u8> = self.rest.drain(..end + 2).collect();
            let event = std::str::from_utf8(&event)?;
            let mut data = event.lines().filter_map(|line| line.strip_prefix("data: "));
            // An event of ours has one line of data.
            if data.next().is_some_and(|data| !take(data)) {
                return Ok(false);
            }
        }
        if self.rest.len() > EVENT_OCTETS_MAX {
            bail!("an event has more than {EVENT_OCTETS_MAX} octets");
        }
        Ok(true)
    }
}

async fn exchange(stream: TcpStream, request: Request<Empty<Bytes>>) -> anyhow::Result<(StatusCode, Bytes)> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request).await.context(CUT_OFF)?;
    let status = response.status();
    let body = response.into_body().collect().await.context(CUT_OFF)?.to_bytes();
    drop(sender);
    connection.abort();
    Ok((status, body))
}

fn read(address: SocketAddr, status: StatusCode, body: &[u8]) -> anyhow::Result<Value> {
    let answer: Value = serde_json::from_slice(body)
        .map_err(|_| anyhow!("{address}: {status}: {}", String::from_utf8_lossy(body).trim()))?;
    if status != StatusCode::OK {
        bail!("{}", answer["error"].as_str().unwrap_or(status.as_str()));
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::{Ipv4Addr, TcpListener};
    use std::thread;

    use super::*;

    /// What a client says of a server that takes the request, and then does this.
    fn refused(
        answer_patience: Duration,
        then: impl FnOnce(std::net::TcpStream) + Send + 'static,
    ) -> anyhow::Result<String> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let client = Client { address: listener.local_addr()?, token: None, answer_patience };
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept()?;
            stream.read_exact(&mut [0; 16])?;
            then(stream);
            std::io::Result::Ok(())
        });
        let Err(error) = client.post("queue/delete", &[]) else { bail!("there was an answer") };
        assert!(server.join().is_ok_and(|served| served.is_ok()));
        Ok(format!("{error:#}"))
    }

    #[test]
    fn events_come_in_any_pieces() -> anyhow::Result<()> {
        let stream = b"retry: 1\n: x\n\nevent: sample\nid: 1\ndata: {\"a\":1}\n\n: beat\nevent: sample\ndata: {\"a\":2}\n\n";
        for size in 1..stream.len() {
            let (mut events, mut taken) = (Events::default(), Vec::new());
            for piece in stream.chunks(size) {
                events.feed(piece, &mut |data| {
                    taken.push(data.to_owned());
                    true
                })?;
            }
            assert_eq!(taken, ["{\"a\":1}", "{\"a\":2}"], "{size} octets at a time");
        }
        assert!(!Events::default().feed(stream, &mut |_| false)?);
        assert!(Events::default().feed(&vec![b'x'; EVENT_OCTETS_MAX + 1], &mut |_| true).is_err());
        Ok(())
    }

    #[test]
    fn a_gateway_that_is_stuck_is_given_up() -> anyhow::Result<()> {
        let until_closed = |mut stream: std::net::TcpStream| _ = stream.read_to_end(&mut Vec::new());
        let told = refused(Duration::from_millis(50), until_closed)?;
        assert!(told.contains("may have been done") && told.contains("has not answered"), "{told}");
        Ok(())
    }

    #[test]
    fn an_answer_that_is_cut_off_leaves_it_open_what_was_done() -> anyhow::Result<()> {
        let told = refused(Duration::from_mins(1), drop)?;
        assert!(told.contains("may have been done") && told.contains("cut off"), "{told}");
        Ok(())
    }
}
