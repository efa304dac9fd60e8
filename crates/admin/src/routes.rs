//! From a request to its response.

use std::net::IpAddr;
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{
    ACCEPT, ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderName, HeaderValue,
    WWW_AUTHENTICATE,
};
use hyper::http::uri::Authority;
use hyper::{Method, Request, Response, StatusCode};
use inrush_metrics::Metrics;

use crate::{Answer, QueueApi, Readiness, Token, log_level, negotiate, status, talkers};

const TEXT: &str = "text/plain; charset=utf-8";

/// What the routes read.
pub(crate) struct State {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) readiness: Readiness,
    pub(crate) token: Option<Token>,
    /// `None` without a relay.
    pub(crate) queue: Option<Arc<dyn QueueApi>>,
}

impl State {
    /// The refusal of who may not ask; the page itself is for everybody, as it says nothing.
    pub(crate) fn stranger<B>(&self, request: &Request<B>, is_page: bool) -> Option<Response<Full<Bytes>>> {
        let open = matches!(request.uri().path(), "/healthz" | "/readyz");
        if !open && !is_page && !self.allows(request) {
            let refusal = respond(StatusCode::UNAUTHORIZED, TEXT, "a bearer token is needed\n");
            // RFC 9110 §11.6.1, RFC 6750 §3.
            return Some(with(refusal, WWW_AUTHENTICATE, "Bearer"));
        }
        if !open && self.token.is_none() && !is_named_locally(request) {
            let what = "this server has no token: name it by its address, or as localhost\n";
            return Some(respond(StatusCode::FORBIDDEN, TEXT, what));
        }
        None
    }

    /// Answers one request of somebody who may ask; its body is not read.
    pub(crate) async fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        let open = matches!(path, "/healthz" | "/readyz");
        if let Some(path) = path.strip_prefix("/api/v1/").filter(|path| is_of_queue(path)) {
            return self.queue(request, path).await;
        }
        if path == "/api/v1/log-level" {
            return levels(request);
        }
        let known = open || matches!(path, "/metrics" | "/api/v1/status" | "/api/v1/talkers");
        if !known {
            return respond(
                StatusCode::NOT_FOUND,
                TEXT,
                "there is nothing here: /, /metrics, /healthz, /readyz, /api/v1/openapi.json\n",
            );
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return not_allowed("GET, HEAD");
        }
        match path {
            "/healthz" => respond(StatusCode::OK, TEXT, "ok\n"),
            "/readyz" => self.ready(),
            "/metrics" => self.metrics(request),
            "/api/v1/talkers" => {
                let answer = talkers::talkers(&self.metrics, request.uri().query().unwrap_or_default());
                respond(answer.status, "application/json", format!("{}\n", answer.body))
            }
            _ => {
                let mut document = status::status(&self.metrics, &self.readiness);
                // What a page may offer a button for.
                let offers: &[&str] = if self.queue.is_some() { &["drain", "reload"] } else { &[] };
                document["offers"] = offers.into();
                respond(StatusCode::OK, "application/json", format!("{document:#}\n"))
            }
        }
    }

    /// A question to the queue, or a change of it.
    async fn queue<B>(&self, request: &Request<B>, path: &str) -> Response<Full<Bytes>> {
        let changes = match changes(request) {
            Ok(changes) => changes,
            Err(methods) => return not_allowed(methods),
        };
        let answer = if let Some(queue) = &self.queue {
            queue.answer(changes, path, request.uri().query().unwrap_or_default()).await
        } else {
            Answer::refused(StatusCode::NOT_FOUND, "there is no queue: no route is set")
        };
        respond(answer.status, "application/json", format!("{}\n", answer.body))
    }

    fn allows<B>(&self, request: &Request<B>) -> bool {
        let Some(token) = &self.token else { return true };
        let sent = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some((scheme, sent)) = sent.and_then(|sent| sent.split_once(' ')) else { return false };
        scheme.eq_ignore_ascii_case("Bearer") && token.matches(sent.trim())
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        let mut reasons = self.readiness.reasons(&self.metrics);
        if reasons.is_empty() {
            return respond(StatusCode::OK, TEXT, "ready\n");
        }
        reasons.push(String::new());
        respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, reasons.join("\n"))
    }

    fn metrics<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let accept = request.headers().get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let format = negotiate::format(&accept.collect::<Vec<_>>().join(","));
        let ready = self.readiness.reasons(&self.metrics).is_empty();
        self.metrics.set_ready(ready, self.readiness.accepting());
        respond(StatusCode::OK, format.content_type(), self.metrics.render(format))
    }
}

/// How the client has named this server.
pub(crate) fn named<B>(request: &Request<B>) -> Option<Authority> {
    // RFC 9112 §3.2.2: the authority in the request line goes before the field.
    let field = || Authority::try_from(request.headers().get(HOST)?.as_bytes()).ok();
    request.uri().authority().cloned().or_else(field)
}

/// Whether a request is to change something, or the methods that its path has when this is none of them.
fn changes<B>(request: &Request<B>) -> Result<bool, &'static str> {
    let only_changes = matches!(request.uri().path(), "/api/v1/drain" | "/api/v1/reload");
    match *request.method() {
        Method::POST => Ok(true),
        _ if only_changes => Err("POST"),
        Method::GET | Method::HEAD => Ok(false),
        _ => Err("GET, HEAD, POST"),
    }
}

/// RFC 9110 §15.5.6: the response names what is allowed.
pub(crate) fn not_allowed(methods: &'static str) -> Response<Full<Bytes>> {
    let refusal = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, format!("only {methods}\n"));
    with(refusal, ALLOW, methods)
}

/// What is logged, or a change of it.
fn levels<B>(request: &Request<B>) -> Response<Full<Bytes>> {
    let changes = match changes(request) {
        Ok(changes) => changes,
        Err(methods) => return not_allowed(methods),
    };
    let answer = log_level::answer(changes, request.uri().query().unwrap_or_default());
    respond(answer.status, "application/json", format!("{}\n", answer.body))
}

/// Whether the client has meant this machine: a page whose own name leads here can send requests, but only with that name in `Host`.
fn is_named_locally<B>(request: &Request<B>) -> bool {
    let host = named(request);
    if host.is_none() && request.headers().contains_key(HOST) {
        return false;
    }
    // HTTP/1.0 without a name: no browser.
    host.is_none_or(|host| {
        let host = host.host();
        let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        literal.parse::<IpAddr>().is_ok() || host.eq_ignore_ascii_case("localhost")
    })
}

fn is_of_queue(path: &str) -> bool {
    path == "queue" || path.starts_with("queue/") || matches!(path, "replay" | "drain" | "reload")
}

pub(crate) fn respond(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    dressed(response, content_type)
}

/// With the fields that every response has.
pub(crate) fn dressed<B>(response: Response<B>, content_type: &'static str) -> Response<B> {
    let response = with(response, CONTENT_TYPE, content_type);
    let response = with(response, CACHE_CONTROL, "no-store");
    with(response, HeaderName::from_static("x-content-type-options"), "nosniff")
}

pub(crate) fn with<B>(mut response: Response<B>, name: HeaderName, value: &'static str) -> Response<B> {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}
