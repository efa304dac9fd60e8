//! Where each request goes: who may ask at all, then the page, the live samples, what others answer, and the routes of the server itself.
//!
//! ```text
//!   request ─▶ token, name of the server, origin ─▶ page · /api/v1/events · /api/v1/openapi.json · APIs put beside (Bound::with) · routes
//! ```
//! Every answer says that nothing may be guessed about it, put into a frame or read by another site.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http_body_util::Full;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};
use inrush_spans::{Span, Spans};
use tokio::sync::Notify;

use crate::events::{Hub, Viewer};
use crate::openapi;
use crate::routes::{State, dressed, not_allowed, respond};
use crate::trace::{self, TraceBody};
use crate::{Answer, QueueApi, origin, page};

/// What scripts of an answer that is not the page may do, should a browser take it for one.
const NOTHING: &str = "default-src 'none'; frame-ancestors 'none'";

/// Digits of a message's id.
const ID_DIGITS: usize = 20;

/// The body of an answer.
pub(crate) enum Content {
    /// All of it.
    Whole(Full<Bytes>),
    /// Events until somebody ends them.
    Events(Viewer),
    /// Sessions live.
    Trace(TraceBody),
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(context),
            Self::Events(viewer) => Pin::new(viewer).poll_frame(context),
            Self::Trace(trace) => Pin::new(trace).poll_frame(context),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Events(_) | Self::Trace(_) => SizeHint::default(),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Events(_) | Self::Trace(_) => false,
        }
    }
}

/// Everything that is answered.
pub(crate) struct Front {
    pub(crate) state: State,
    pub(crate) hub: Arc<Hub>,
    /// First part of the path behind `/api/v1/`, and who answers.
    pub(crate) beside: Vec<(&'static str, Arc<dyn QueueApi>)>,
    pub(crate) spans: Spans,
}

impl Front {
    /// Answers one request; its body is not read. `dropped` hears when a viewer has to go.
    pub(crate) async fn answer<B>(&self, request: &Request<B>, dropped: &Arc<Notify>) -> Response<Content> {
        let path = request.uri().path();
        let is_page = page::has(path);
        let stranger = self.state.stranger(request, is_page);
        // Of strangers nothing is kept.
        let is_followed = stranger.is_none() && path.starts_with("/api/");
        let span = if is_followed { begin_span(&self.spans, request) } else { None };
        let mut response = match stranger {
            Some(refusal) => whole(refusal),
            None if is_page => whole(Self::page(request)),
            None => self.answer_api(request, path, dropped).await,
        };
        protect(response.headers_mut(), if is_page { page::POLICY } else { NOTHING });
        if let Some(span) = span {
            end_span(span, request.method(), path, response.status());
        }
        response
    }

    fn page<B>(request: &Request<B>) -> Response<Full<Bytes>> {
        if !reads(request) {
            return not_allowed("GET, HEAD");
        }
        page::answer(request.uri().path(), request.headers())
            .unwrap_or_else(|| plain(StatusCode::NOT_FOUND, "there is nothing here\n"))
    }

    async fn answer_api<B>(
        &self,
        request: &Request<B>,
        path: &str,
        dropped: &Arc<Notify>,
    ) -> Response<Content> {
        // Elsewhere nothing can be changed.
        let may_change = path.starts_with("/api/") || reads(request);
        let refusal = origin::refusal(request, crate::routes::named(request).as_ref());
        if let Some(why) = refusal.filter(|_| may_change) {
            return whole(json(&Answer::refused(StatusCode::FORBIDDEN, why)));
        }
        let Some(rest) = path.strip_prefix("/api/v1/") else {
            return whole(self.state.answer(request).await);
        };
        match rest {
            "events" | "openapi.json" | "trace" if !reads(request) => whole(not_allowed("GET, HEAD")),
            "events" => self.events(request, dropped),
            "trace" => Self::trace(request),
            "openapi.json" => whole(respond(StatusCode::OK, "application/json", openapi::DOCUMENT)),
            _ => {
                let first = rest.split('/').next().unwrap_or_default();
                match self.beside.iter().find(|(name, _)| *name == first) {
                    None => whole(self.state.answer(request).await),
                    Some(_) if !reads(request) => whole(not_allowed("GET, HEAD")),
                    Some((_, api)) => {
                        let query = request.uri().query().unwrap_or_default();
                        whole(json(&api.answer(false, rest, query).await))
                    }
                }
            }
        }
    }

    fn trace<B>(request: &Request<B>) -> Response<Content> {
        let body = if *request.method() == Method::HEAD {
            Content::Whole(Full::default())
        } else {
            match trace::begin(request.uri().query().unwrap_or_default()) {
                Ok(body) => Content::Trace(body),
                Err(refused) => return whole(json(&refused)),
            }
        };
        dressed(Response::new(body), "application/x-ndjson")
    }

    fn events<B>(&self, request: &Request<B>, dropped: &Arc<Notify>) -> Response<Content> {
        let body = if *request.method() == Method::HEAD {
            Content::Whole(Full::default())
        } else {
            match self.hub.watch(Arc::clone(dropped)) {
                Ok(viewer) => Content::Events(viewer),
                Err(no_place) => {
                    let refused = Answer::refused(StatusCode::SERVICE_UNAVAILABLE, no_place.reason());
                    return whole(json(&refused));
                }
            }
        };
        let mut response = Response::new(body);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        // Nothing in between is to hold events together.
        response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
        response
    }
}

fn reads<B>(request: &Request<B>) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD)
}

/// Standards: OpenTelemetry, "Semantic conventions for HTTP spans", of servers.
fn begin_span<B>(spans: &Spans, request: &Request<B>) -> Option<Span> {
    let method = request.method().as_str().to_owned();
    let span = spans.request(method.clone(), request.headers())?;
    Some(span.with("http.request.method", method).with("url.path", request.uri().path().to_owned()))
}

fn end_span(mut span: Span, method: &Method, path: &str, status: StatusCode) {
    if status != StatusCode::NOT_FOUND {
        // An id is no name of a route.
        let is_id =
            |part: &str| part.len() == ID_DIGITS && part.bytes().all(|octet| octet.is_ascii_hexdigit());
        let parts = path.split('/').map(|part| if is_id(part) { "{id}" } else { part });
        let route = parts.collect::<Vec<_>>().join("/");
        span = span.named(format!("{method} {route}")).with("http.route", route);
    }
    span = span.with("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        span = span.failed(String::new());
    }
    span.end_now();
}

fn whole(response: Response<Full<Bytes>>) -> Response<Content> {
    response.map(Content::Whole)
}

fn json(answer: &Answer) -> Response<Full<Bytes>> {
    respond(answer.status, "application/json", format!("{}\n", answer.body))
}

fn plain(status: StatusCode, what: &'static str) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", what)
}

fn protect(headers: &mut HeaderMap, policy: &'static str) {
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, policy),
        (X_FRAME_OPTIONS, "DENY"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}
