//! `inrush-load`: a load generator for SMTP and LMTP servers.
//!
//! ```text
//!   options, profile ─▶ plan ─▶ run ─┬─▶ worker (one thread a core) ─┬─▶ connection ─▶ inrush_proto::client
//!                              ramp  │                               └─▶ hostile        wire: TCP, TLS
//!                                    │      pacer, content, acks, record, own_limit
//!                                    └─▶ cpu (of the server), progress, tui ─▶ report: table, JSON, .hgrm ─▶ verify
//!
//!   JSON of runs ─▶ figures ─▶ html (report), compare          sink: a server of its own
//! ```
#![forbid(unsafe_code)]

pub mod acks;
pub mod authentication;
pub mod cells;
pub mod compare;
mod connection;
pub mod content;
pub mod cpu_share;
pub mod descriptors;
mod details;
pub mod doubts;
pub mod figures;
mod flights;
pub mod hostile;
pub mod html;
pub mod json;
pub mod live;
mod loss;
pub mod manual;
mod mistakes;
pub mod options;
pub mod own_limit;
pub mod pacer;
pub mod plan;
mod planning;
pub mod profile;
pub mod ramp;
pub mod record;
pub mod report;
pub mod run;
pub mod sender;
pub mod series;
pub mod server_cpu;
pub mod settings;
pub mod sink;
pub mod sizes;
mod slot;
pub mod smuggling;
pub mod task;
pub mod template;
pub mod timer;
pub mod tls;
pub mod tui;
pub mod units;
pub mod verify;
mod wire;
pub mod worker;
