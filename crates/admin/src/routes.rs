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

use crate::trace::{self, TraceBody};
use crate::{Answer, QueueApi, Readiness, Token, log_level, negotiate, status};

const TEXT: &str = "text/plain; charset=utf-8";

/// A header field that a form of a strange page cannot send: a browser on this machine is not made to change the queue.
const OURS: HeaderName = HeaderName::from_static("x-inrush");

/// What the routes read.
pub(crate) struct State {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) readiness: Readiness,
    pub(crate) token: Option<Token>,
    /// `None` without a relay.
    pub(crate) queue: Option<Arc<dyn QueueApi>>,
}

impl State {
    /// Begins a trace if that is what is asked for.
    pub(crate) fn trace<B>(
        &self,
        request: &Request<B>,
    ) -> Option<Result<Response<TraceBody>, Response<Full<Bytes>>>> {
        if request.uri().path() != "/api/v1/trace" {
            return None;
        }
        if let Some(refusal) = self.stranger(request) {
            return Some(Err(refusal));
        }
        if request.method() != Method::GET {
            let refusal = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n");
            return Some(Err(with(refusal, ALLOW, "GET")));
        }
        let body = trace::begin(request.uri().query().unwrap_or_default());
        let body =
            body.map_err(|answer| respond(answer.status, "application/json", format!("{}\n", answer.body)));
        Some(body.map(|body| dressed(Response::new(body), "application/x-ndjson")))
    }

    /// The refusal of who may not ask.
    fn stranger<B>(&self, request: &Request<B>) -> Option<Response<Full<Bytes>>> {
        let open = matches!(request.uri().path(), "/healthz" | "/readyz");
        if !open && !self.allows(request) {
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

    /// Answers one request; its body is not read.
    pub(crate) async fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        let open = matches!(path, "/healthz" | "/readyz");
        if let Some(refusal) = self.stranger(request) {
            return refusal;
        }
        if let Some(path) = path.strip_prefix("/api/v1/").filter(|path| is_of_queue(path)) {
            return self.queue(request, path).await;
        }
        if path == "/api/v1/log-level" {
            return levels(request);
        }
        let known = open || matches!(path, "/metrics" | "/api/v1/status");
        if !known {
            return respond(
                StatusCode::NOT_FOUND,
                TEXT,
                "there is nothing here: /metrics, /healthz, /readyz, /api/v1/status, /api/v1/queue, /api/v1/log-level, /api/v1/trace\n",
            );
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            // RFC 9110 §15.5.6: the response names what is allowed.
            return with(
                respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n"),
                ALLOW,
                "GET, HEAD",
            );
        }
        match path {
            "/healthz" => respond(StatusCode::OK, TEXT, "ok\n"),
            "/readyz" => self.ready(),
            "/metrics" => self.metrics(request),
            _ => {
                let document = format!("{:#}\n", status::status(&self.metrics, &self.readiness));
                respond(StatusCode::OK, "application/json", document)
            }
        }
    }

    /// A question to the queue, or a change of it.
    async fn queue<B>(&self, request: &Request<B>, path: &str) -> Response<Full<Bytes>> {
        let changes = match *request.method() {
            Method::GET | Method::HEAD => false,
            Method::POST => true,
            _ => {
                let refusal = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET, HEAD and POST\n");
                return with(refusal, ALLOW, "GET, HEAD, POST");
            }
        };
        let answer = if changes && !request.headers().contains_key(OURS) {
            Answer::refused(StatusCode::FORBIDDEN, "a change needs the header field X-Inrush")
        } else if let Some(queue) = &self.queue {
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
        respond(StatusCode::OK, format.content_type(), self.metrics.render(format))
    }
}

/// What is logged, or a change of it.
fn levels<B>(request: &Request<B>) -> Response<Full<Bytes>> {
    let changes = match *request.method() {
        Method::GET | Method::HEAD => false,
        Method::POST => true,
        _ => {
            let refusal = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET, HEAD and POST\n");
            return with(refusal, ALLOW, "GET, HEAD, POST");
        }
    };
    let answer = if changes && !request.headers().contains_key(OURS) {
        Answer::refused(StatusCode::FORBIDDEN, "a change needs the header field X-Inrush")
    } else {
        log_level::answer(changes, request.uri().query().unwrap_or_default())
    };
    respond(answer.status, "application/json", format!("{}\n", answer.body))
}

/// Whether the client has meant this machine: a page whose own name leads here can send requests, but only with that name in `Host`.
fn is_named_locally<B>(request: &Request<B>) -> bool {
    let host = match (request.uri().authority(), request.headers().get(HOST)) {
        // RFC 9112 §3.2.2: the authority in the request line goes before the field.
        (Some(authority), _) => Some(authority.clone()),
        (None, Some(field)) => match Authority::try_from(field.as_bytes()) {
            Ok(authority) => Some(authority),
            Err(_) => return false,
        },
        // HTTP/1.0: no browser.
        (None, None) => None,
    };
    host.is_none_or(|host| {
        let host = host.host();
        let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        literal.parse::<IpAddr>().is_ok() || host.eq_ignore_ascii_case("localhost")
    })
}

fn is_of_queue(path: &str) -> bool {
    path == "queue" || path.starts_with("queue/") || path == "replay"
}

fn respond(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    dressed(response, content_type)
}

/// With the fields that every response has.
fn dressed<B>(response: Response<B>, content_type: &'static str) -> Response<B> {
    let response = with(response, CONTENT_TYPE, content_type);
    let response = with(response, CACHE_CONTROL, "no-store");
    with(response, HeaderName::from_static("x-content-type-options"), "nosniff")
}

fn with<B>(mut response: Response<B>, name: HeaderName, value: &'static str) -> Response<B> {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}
