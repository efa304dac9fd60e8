//! The front door: pinned monoio runtimes, sockets, sessions, budgets.

pub mod settings;
