//! Tells the program from which commit it is made.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=INRUSH_REVISION");
    let given = std::env::var("INRUSH_REVISION").ok().filter(|revision| !revision.is_empty());
    let revision =
        given.or_else(|| git(&["rev-parse", "--short=12", "HEAD"]).filter(|_| is_our_repository()));
    // As in an archive of the sources, which has no repository.
    let revision = revision.unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=INRUSH_REVISION={revision}");
    // Every commit and every checkout adds a line. A file that is not there would have this run each time.
    if let Some(path) = git(&["rev-parse", "--git-path", "logs/HEAD"]).filter(|path| Path::new(path).exists())
    {
        println!("cargo::rerun-if-changed={path}");
    }
}

/// Whether the repository is that of these sources, not one that they were unpacked in.
fn is_our_repository() -> bool {
    let root = git(&["rev-parse", "--show-toplevel"]).and_then(|root| Path::new(&root).canonicalize().ok());
    root.is_some() && root == Path::new("../..").canonicalize().ok()
}

/// What git says; nothing where there is none, or no repository.
fn git(arguments: &[&str]) -> Option<String> {
    let output =
        Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
