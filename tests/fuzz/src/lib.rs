//! The bodies of the fuzz targets: plain functions `run(input)` that panic when something is wrong.
//!
//! They need nothing of libFuzzer, so that ordinary tests of the workspace take a body's file in by `#[path]` and replay
//! the corpus of its target through it.

pub mod parameters;
pub mod path;
pub mod proxy;
pub mod recover;
pub mod sasl;
pub mod scan;
pub mod session;
pub mod submission;
pub mod xclient;
