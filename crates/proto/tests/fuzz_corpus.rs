//! The corpora of the fuzz targets, replayed through the bodies of the targets.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "a test; what cannot be unwrapped is its failure"
)]

#[path = "../../../tests/fuzz/src/parameters.rs"]
mod parameters;
#[path = "../../../tests/fuzz/src/path.rs"]
mod path;
#[path = "../../../tests/fuzz/src/proxy.rs"]
mod proxy;
#[path = "../../../tests/fuzz/src/sasl.rs"]
mod sasl;
#[path = "../../../tests/fuzz/src/session.rs"]
mod session;
#[path = "../../../tests/fuzz/src/submission.rs"]
mod submission;
#[path = "../../../tests/fuzz/src/xclient.rs"]
mod xclient;

fn replay(target: &str, run: fn(&[u8])) {
    let folder =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus/fuzz").join(target);
    let mut inputs = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        let input = std::fs::read(&file).unwrap();
        if std::panic::catch_unwind(|| run(&input)).is_err() {
            panic!("{}", file.display());
        }
        inputs += 1;
    }
    assert!(inputs >= 10, "{inputs} inputs for {target}");
}

#[test]
fn session_corpus() {
    replay("session", session::run);
}

#[test]
fn submission_corpus() {
    replay("submission", submission::run);
}

#[test]
fn path_corpus() {
    replay("path", path::run);
}

#[test]
fn parameters_corpus() {
    replay("parameters", parameters::run);
}

#[test]
fn sasl_corpus() {
    replay("sasl", sasl::run);
}

#[test]
fn proxy_corpus() {
    replay("proxy", proxy::run);
}

#[test]
fn xclient_corpus() {
    replay("xclient", xclient::run);
}
