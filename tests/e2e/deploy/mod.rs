//! What lies in `deploy/`, as it lies there: units, packages, containers, manifests, proxies; and what the texts of `docs/` say about them.

mod container;
mod debian;
mod documents;
mod haproxy;
mod kubernetes;
mod sysctl;
mod systemd;

use std::fs;
use std::path::PathBuf;

use inrush_tests::binary;

/// A file of the tree.
fn file(name: &str) -> PathBuf {
    binary::folder("..").join(name)
}

/// The text of a file of the tree.
#[track_caller]
fn text(name: &str) -> String {
    fs::read_to_string(file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}
