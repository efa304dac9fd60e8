//! Seeded simulation of the log on a simulated disk.
//!
//! ```text
//! world: a disk and its manner, settings, what was sent and promised
//!   rounds: open ──▶ check ──▶ actions ──▶ end (in order, kill -9, power cut); a fault waits at some step of it
//!   last:   open ──▶ check, or judge where the disk has lied
//! ```
//! A seed is the whole input of a world. `INRUSH_SEED=n` replays one seed and tells its steps; `INRUSH_SEEDS=n` says how many are run, from 0 on or from
//! `INRUSH_SEED_FIRST=n`, for `INRUSH_SEED_SECONDS=n` at most.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::print_stderr, reason = "long runs say how far they are")]

mod actions;
#[path = "../common/mod.rs"]
mod common;
mod judge;
mod ledger;
mod points;
mod seeds;
mod space;
mod world;

/// Each opening takes and gives back buffers of some MiB: with the system's allocator a third of the time went into mapping their pages.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
