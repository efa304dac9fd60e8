//! The release binary against real clients. `cargo xtask test` builds it and installs the clients.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "what a test has to say goes to standard error")]

mod abuse;
mod access;
mod admin;
mod backup;
mod command_line;
mod crash;
mod curl;
mod delivery;
mod delivery_config;
mod delivery_failures;
mod delivery_lmtp;
mod delivery_maildir;
mod delivery_mx;
mod delivery_reports;
mod delivery_restarts;
mod delivery_smtp;
mod delivery_tls;
mod delivery_transfer;
mod dialogs;
mod disk_full;
mod exactness;
mod exim;
mod failing_disk;
mod file_systems;
mod hostile;
mod hung_disk;
mod limits;
mod lmtp;
mod load;
mod log_cursor;
mod log_tools;
mod metrics;
mod peers;
mod postfix;
mod power_cut;
mod pressure;
mod proxy;
mod refusals;
mod reload;
mod retention;
mod scripted_peer;
mod sealed;
mod shutdown;
mod slicing;
mod smoke;
mod smtp_source;
mod smtplib;
mod smuggling;
mod submission;
mod swaks;
mod tls;
mod users;
mod xclient;
