//! Micro benchmarks: each checks its answer before it is timed.
//!
//! `cargo xtask bench micro` counts the instructions of each part of the accept path and takes its time, into one result;
//! `cargo bench -p inrush-bench-micro --bench scan` runs one part under criterion;
//! `cargo run --release -p inrush-bench-micro --bin scan-table` prints a table with ratios, to be cited; `recipients-table` one of
//! look-ups among few and many recipients.

pub mod measure;
pub mod parts;
pub mod rivals;
pub mod texts;
