//! Reports as their readers see them: against golden files, through the parser of another program, and with hostile input.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod golden;
mod hostile;
mod python;
mod read_back;
mod samples;
