//! The release binary against real clients. `cargo xtask test` builds it and installs the clients.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
fn main() {}
