//! `inrush-load`: a load generator for SMTP and LMTP servers.
//!
//! ```text
//!   options ─▶ plan ─▶ run ─┬─▶ worker (one thread a core) ─▶ connection ─▶ inrush_proto::client
//!                           │      pacer, content, acks, record
//!                           └─▶ cpu (of the server), progress ─▶ report: table, JSON, .hgrm ─▶ verify
//! ```
#![forbid(unsafe_code)]

pub mod acks;
pub mod cells;
pub mod compare;
mod connection;
pub mod content;
pub mod doubts;
pub mod figures;
mod flights;
pub mod html;
pub mod json;
pub mod options;
pub mod pacer;
pub mod plan;
pub mod record;
pub mod report;
pub mod run;
pub mod series;
pub mod server_cpu;
pub mod settings;
pub mod sink;
pub mod sizes;
pub mod template;
pub mod timer;
pub mod units;
pub mod verify;
pub mod worker;
