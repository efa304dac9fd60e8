//! HTTP for the operator: metrics, health, status.
//!
//! ```text
//! GET /                the dashboard, a page with its files
//! GET /metrics         OpenMetrics, protobuf with native histograms, or the classic text format, as Accept prefers
//! GET /healthz         200: the process lives
//! GET /readyz          200, or 503 with the reasons, one a line
//! GET /api/v1/status   JSON: what a person wants to know
//! GET /api/v1/talkers  JSON: who asks the most of the gateway at the moment
//! GET /api/v1/queue…   JSON: what waits for delivery; POST changes it
//! GET /api/v1/events   one sample a second, as server-sent events
//! GET /api/v1/…        what others answer ([`Bound::with`]): live sessions, messages
//! GET /api/v1/trace    JSON lines: sessions live, for as long as the client reads
//! GET /api/v1/log-level what is logged; POST changes it
//! ```
//! [`Server`] runs on a thread of its own with its own runtime, away from the cores; it only reads their cells. Each connection carries
//! one request, and its client has a deadline, so that a slow one costs one of [`AdminSettings::connections_max`] places for a bounded time. Who watches the samples has a place of another kind.
//! Loopback by default; with a token every request but the two health checks and the page must carry it, without one each must name the server by an address or as
//! `localhost`: a page in a browser on this machine whose name leads here (DNS rebinding) is not answered.
//!
//! Standards: RFC 9110, RFC 9112 (HTTP/1.1); RFC 6750 §2.1 (bearer token).
#![forbid(unsafe_code)]

mod events;
mod front;
mod log_level;
mod negotiate;
mod openapi;
mod origin;
mod page;
mod queue;
mod readiness;
mod routes;
mod sample;
mod server;
mod settings;
mod status;
mod talkers;
mod trace;

pub use queue::{Answer, QueueApi};
pub use readiness::Readiness;
pub use server::{Bound, Server, StartError};
pub use settings::{AdminSettings, Token};
