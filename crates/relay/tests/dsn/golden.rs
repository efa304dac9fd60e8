//! Every kind of report, to the octet.

use std::fs;
use std::path::{Path, PathBuf};

use super::samples;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/dsn/golden/{name}.eml"))
}

#[test]
fn reports_are_what_they_were() {
    for (name, report) in samples::all() {
        let expected = fs::read(file(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let written = samples::message(&report);
        assert!(written == expected, "{name} is now:\n{}", String::from_utf8_lossy(&written));
    }
}

#[test]
#[ignore = "writes the golden files: run after a change that is meant, and read the difference"]
fn write_golden_files() {
    for (name, report) in samples::all() {
        fs::write(file(name), samples::message(&report)).unwrap();
    }
}
