//! The thread that sends spans, a batch at a time.

use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, after, bounded, select};
use inrush_metrics::SPANS;
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use rustls::crypto::aws_lc_rs;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::settings::SpanSettings;
use crate::{Spans, Way};

/// Spans that wait at most, each with a few texts of [`TEXT_OCTETS_MAX`](crate::TEXT_OCTETS_MAX) octets.
pub const QUEUE_SPANS_MAX: usize = 8192;
/// Spans of one request.
const BATCH_SPANS_MAX: usize = 512;
/// How long the first span of a batch waits for others.
const BATCH_PATIENCE: Duration = Duration::from_secs(1);
/// How long one request may take, and all tries of one batch.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the end of the process waits for what is left.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);
/// What is read of an answer, which only errors are looked for in.
const ANSWER_OCTETS_MAX: u64 = 64 << 10;

/// Why no spans can be sent.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings make no exporter.
    #[error("[opentelemetry]: {0}")]
    Exporter(#[from] ExporterBuildError),
    /// The thread cannot be made.
    #[error("cannot start the thread that sends spans: {0}")]
    Thread(#[from] std::io::Error),
}

/// Who the spans are of.
#[derive(Clone, Debug)]
pub struct About {
    /// Version of the program.
    pub version: &'static str,
    /// Name of this host.
    pub hostname: String,
    /// Number of this machine.
    pub node: u16,
}

/// The running export; dropped, it sends what is left, for a bounded time.
#[derive(Debug)]
pub struct Exporter {
    spans: Spans,
    stop: Option<Sender<()>>,
    ended: Receiver<()>,
}

impl Exporter {
    /// Starts it, if there is an endpoint.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(settings: &SpanSettings, about: &About) -> Result<Option<Self>, StartError> {
        let Some(endpoint) = &settings.endpoint else { return Ok(None) };
        let mut builder = SpanExporter::builder()
            .with_http()
            .with_endpoint(endpoint.as_str())
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(REQUEST_TIMEOUT)
            .with_http_client(Client::new());
        if let Some(authorization) = &settings.authorization {
            let header = ("authorization".to_owned(), authorization.expose().to_owned());
            builder = builder.with_headers([header].into_iter().collect());
        }
        let mut exporter = builder.build()?;
        exporter.set_resource(
            &Resource::builder_empty()
                .with_service_name("inrush")
                .with_attribute(KeyValue::new("service.version", about.version))
                .with_attribute(KeyValue::new(
                    "service.instance.id",
                    format!("{}/{}", about.hostname, about.node),
                ))
                .with_attribute(KeyValue::new("host.name", about.hostname.clone()))
                .build(),
        );
        let (sender, spans) = bounded(QUEUE_SPANS_MAX);
        let (stop, stopped) = bounded(0);
        let (end, ended) = bounded(0);
        thread::Builder::new().name("inrush-spans".to_owned()).spawn(move || {
            // Dropped with the thread, which is heard.
            let _end: Sender<()> = end;
            while let Some(batch) = batch(&spans, &stopped) {
                send(&exporter, batch);
            }
            while !spans.is_empty() {
                send(&exporter, spans.try_iter().take(BATCH_SPANS_MAX).collect());
            }
        })?;
        let scope = InstrumentationScope::builder("inrush").with_version(about.version).build();
        let way = Way { sender, one_in: settings.one_in.max(1).into(), scope };
        Ok(Some(Self { spans: Spans(Some(Arc::new(way))), stop: Some(stop), ended }))
    }

    /// Where spans are handed over.
    #[must_use]
    pub fn spans(&self) -> Spans {
        self.spans.clone()
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        drop(self.stop.take());
        // Nothing is ever sent: this ends with the thread, or with patience.
        let _ = self.ended.recv_timeout(FLUSH_TIMEOUT);
    }
}

/// The next batch; `None` once there shall be an end.
fn batch(spans: &Receiver<SpanData>, stopped: &Receiver<()>) -> Option<Vec<SpanData>> {
    let first = select! {
        recv(spans) -> span => span.ok()?,
        recv(stopped) -> _ => return None,
    };
    let deadline = after(BATCH_PATIENCE);
    let mut batch = vec![first];
    while batch.len() < BATCH_SPANS_MAX {
        select! {
            recv(spans) -> span => batch.push(span.ok()?),
            recv(deadline) -> _ => break,
            recv(stopped) -> _ => break,
        }
    }
    Some(batch)
}

fn send(exporter: &SpanExporter, batch: Vec<SpanData>) {
    let spans = batch.len() as u64;
    match futures_executor::block_on(exporter.export(batch)) {
        Ok(()) => SPANS.sent.fetch_add(spans, Relaxed),
        Err(error) => {
            tracing::warn!(spans, %error, "spans are lost: the endpoint of [opentelemetry] takes none");
            SPANS.dropped.fetch_add(spans, Relaxed)
        }
    };
}

/// HTTP, where the thread waits for the answer.
#[derive(Debug)]
struct Client(ureq::Agent);

impl Client {
    fn new() -> Self {
        // Without roots no server is believed, which the first batch shows.
        let roots = rustls_native_certs::load_native_certs().certs;
        let roots = roots.iter().map(|der| Certificate::from_der(der).to_owned());
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(aws_lc_rs::default_provider()))
            .root_certs(RootCerts::from(roots))
            .build();
        let config = ureq::Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(REQUEST_TIMEOUT))
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .user_agent("inrush")
            .build();
        Self(config.into())
    }
}

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (head, body) = request.into_parts();
        let answer = self.0.run(Request::from_parts(head, body.as_ref()))?;
        let (head, body) = answer.into_parts();
        let mut octets = Vec::new();
        body.into_reader().take(ANSWER_OCTETS_MAX).read_to_end(&mut octets)?;
        Ok(Response::from_parts(head, octets.into()))
    }
}
