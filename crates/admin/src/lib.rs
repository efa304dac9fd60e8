//! HTTP for the operator: metrics, health.
#![forbid(unsafe_code)]

mod settings;

pub use settings::{AdminSettings, Token};
