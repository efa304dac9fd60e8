//! Helpers of the end-to-end tests: the real `inrush` binary on ports chosen by the kernel, real clients, and a look at
//! what was stored.
//!
//! Nothing here waits by sleeping a fixed time: readiness is a line in the log of the server, the end of a client is its
//! exit, and each wait has a deadline that fails the test by name.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]
#![allow(
    clippy::print_stderr,
    reason = "what a failing test says about its surroundings goes to standard error"
)]

pub mod binary;
pub mod browser;
pub mod client;
pub mod collector;
pub mod corpus;
pub mod daemon;
pub mod disk;
pub mod dns_server;
pub mod dovecot;
pub mod exim;
pub mod export;
pub mod file_system;
pub mod http;
pub mod imap;
pub mod ledger;
pub mod loop_device;
pub mod machine;
pub mod maildir;
pub mod mount;
pub mod peer;
pub mod postfix;
pub mod process;
pub mod prometheus;
pub mod random;
pub mod sealed;
pub mod sender;
pub mod server;
pub mod settings;
pub mod smtp_sink;
pub mod terminal;
pub mod tls;
pub mod users;
