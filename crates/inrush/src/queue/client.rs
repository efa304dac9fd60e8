//! Requests to the admin server of the running gateway.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use inrush_config::Config;
use serde_json::Value;

/// Where the admin server is, and how to get in.
pub(crate) struct Client {
    address: SocketAddr,
    token: Option<String>,
}

impl Client {
    /// As the config file says; with the built-in defaults where there is none.
    pub(crate) fn of(config: Option<&Path>, address: Option<SocketAddr>) -> anyhow::Result<Self> {
        let admin = Config::load(config)?.admin;
        Ok(Self {
            address: address.unwrap_or(admin.address),
            token: admin.token.map(|token| token.expose().to_owned()),
        })
    }

    pub(crate) fn get(&self, path: &str, parameters: &[(&str, String)]) -> anyhow::Result<Value> {
        self.request(Method::GET, path, parameters)
    }

    pub(crate) fn post(&self, path: &str, parameters: &[(&str, String)]) -> anyhow::Result<Value> {
        self.request(Method::POST, path, parameters)
    }

    fn request(&self, method: Method, path: &str, parameters: &[(&str, String)]) -> anyhow::Result<Value> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
        let uri = format!("/api/v1/{path}?{query}");
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .header(HOST, self.address.to_string())
            .header("X-Inrush", "1");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Empty::<Bytes>::new())?;
        let (status, body) = runtime.block_on(self.exchange(request))?;
        let answer: Value = serde_json::from_slice(&body)
            .map_err(|_| anyhow!("{}: {status}: {}", self.address, String::from_utf8_lossy(&body).trim()))?;
        if status != StatusCode::OK {
            bail!("{}", answer["error"].as_str().unwrap_or(status.as_str()));
        }
        Ok(answer)
    }

    async fn exchange(&self, request: Request<Empty<Bytes>>) -> anyhow::Result<(StatusCode, Bytes)> {
        let address = self.address;
        let stream = tokio::net::TcpStream::connect(address).await.with_context(|| {
            format!(
                "no gateway answers on {address}; name its config file with --config, or the data directory of a stopped one with --data-dir"
            )
        })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        drop(sender);
        connection.abort();
        Ok((status, body))
    }
}
