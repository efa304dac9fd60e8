//! Where the programs under test are: named by the environment, or built once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

/// The gateway: `INRUSH_BIN`, else the release build.
///
/// # Panics
/// The build fails.
pub fn inrush() -> &'static Path {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| find("INRUSH_BIN", "inrush"))
}

/// The load generator: `INRUSH_LOAD_BIN`, else the release build.
///
/// # Panics
/// The build fails.
pub fn inrush_load() -> &'static Path {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| find("INRUSH_LOAD_BIN", "inrush-load"))
}

/// The Debian packages of the two programs above, the gateway first: in the folder that `INRUSH_PACKAGES` names, else made here.
///
/// # Panics
/// They cannot be made.
pub fn packages() -> &'static [PathBuf; 2] {
    static FILES: OnceLock<[PathBuf; 2]> = OnceLock::new();
    FILES.get_or_init(|| {
        let made = std::env::var_os("INRUSH_PACKAGES").map_or_else(make_packages, PathBuf::from);
        ["inrush.deb", "inrush-load.deb"].map(|name| {
            let file = made.join(name);
            assert!(file.is_file(), "{} is not there", file.display());
            file
        })
    })
}

fn make_packages() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["run", "--quiet", "--package", "xtask", "--", "package", "--inrush"]).arg(inrush());
    command.arg("--inrush-load").arg(inrush_load()).current_dir(folder(".."));
    let output = command.output().unwrap_or_else(|error| panic!("cannot start cargo: {error}"));
    assert!(output.status.success(), "no packages:\n{}", String::from_utf8_lossy(&output.stderr));
    folder("../target/package")
}

/// A folder of this package.
pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn find(variable: &str, name: &str) -> PathBuf {
    if let Some(file) = std::env::var_os(variable) {
        let file = PathBuf::from(file);
        assert!(file.is_file(), "{variable} names {}, which is not there", file.display());
        return file;
    }
    // A missing binary must not look like a passed test, so it is built here, as `cargo xtask test` would have done.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--release", "--package", name, "--message-format=json"])
        .current_dir(folder(".."));
    let output = command.output().unwrap_or_else(|error| panic!("cannot start cargo: {error}"));
    assert!(output.status.success(), "cannot build {name}:\n{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let messages = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut files = messages.filter(|message| message["target"]["name"] == name);
    let file = files.find_map(|message| message["executable"].as_str().map(PathBuf::from));
    file.unwrap_or_else(|| panic!("the build made no program {name}"))
}
