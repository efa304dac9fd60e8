//! What lies in `deploy/`, as it lies there: units, packages, containers, manifests, proxies; and what the texts of `docs/` say about them.

mod container;
mod debian;
mod documents;
mod haproxy;
mod kubernetes;
mod sizing;
mod sysctl;
mod systemd;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use inrush_tests::binary;
use tempfile::NamedTempFile;

/// A file of the tree.
fn file(name: &str) -> PathBuf {
    binary::folder("..").join(name)
}

/// The text of a file of the tree.
#[track_caller]
fn text(name: &str) -> String {
    fs::read_to_string(file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A file of `conf.d` that saves the disk of the tests a log of the usual size.
fn small_segments() -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    fs::write(&file, "[log]\nsegment_bytes = \"4MiB\"\nfree_bytes_min = \"16MiB\"\n").unwrap();
    // Who reads it is not root.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    file
}

/// Where a version is written down once more, it is that of the tree.
#[test]
fn versions_agree() {
    let version = env!("CARGO_PKG_VERSION");
    assert!(text("deploy/debian/changelog").starts_with(&format!("inrush ({version}-")));
    assert!(text("deploy/debian/changelog-load").starts_with(&format!("inrush-load ({version}-")));
    assert!(text("deploy/kubernetes/statefulset.yaml").contains(&format!("image: inrush:{version}\n")));
    let rust = format!("docker.io/library/rust:{}-", env!("CARGO_PKG_RUST_VERSION"));
    assert!(text("deploy/container/Containerfile").contains(&rust), "{rust}");
}
