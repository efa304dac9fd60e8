//! The Debian packages: programs, manual pages, completions, unit and configuration, put together by cargo-deb.
//!
//! What is in them stands in `[package.metadata.deb]` of the two crates; the files that are made from the programs lie in `target/package`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

use crate::{run, test};

/// The version of cargo-deb that the packages are tried with.
const CARGO_DEB: &str = "3.8.0";

/// Where everything goes, below the root of the workspace.
const FOLDER: &str = "target/package";

const LIMIT: Duration = Duration::from_secs(20 * 60);

/// Shells, and the ends of the names of their files.
const SHELLS: [(&str, &str); 3] = [("bash", "bash"), ("zsh", "zsh"), ("fish", "fish")];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The gateway to pack, in place of a release build
    #[arg(long, value_name = "FILE", requires = "inrush_load")]
    inrush: Option<PathBuf>,
    /// The load generator to pack
    #[arg(long, value_name = "FILE", requires = "inrush")]
    inrush_load: Option<PathBuf>,
}

/// Makes both packages and says where they are.
///
/// # Errors
/// A build fails, cargo-deb cannot be installed, or does not like what it is given.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let programs = match (&arguments.inrush, &arguments.inrush_load) {
        (Some(inrush), Some(inrush_load)) => [inrush.clone(), inrush_load.clone()],
        _ => test::release_binaries()?.map(|(_, file)| file),
    };
    for package in make(&programs)? {
        println!("   {}", package.display());
    }
    Ok(())
}

/// Makes the packages of these programs, the gateway first.
///
/// # Errors
/// As [`run`].
pub(crate) fn make(programs: &[PathBuf; 2]) -> anyhow::Result<[PathBuf; 2]> {
    run::step("package");
    let folder = run::root().join(FOLDER);
    let cargo_deb = cargo_deb()?;
    let mut made = Vec::new();
    for (name, program) in ["inrush", "inrush-load"].into_iter().zip(programs) {
        let files = folder.join(name);
        if files.exists() {
            fs::remove_dir_all(&files)?;
        }
        from_program(program, name, &files)?;
        // cargo-deb takes programs from where a build would have left them.
        let build = folder.join("build");
        fs::create_dir_all(build.join("release"))?;
        fs::copy(program, build.join("release").join(name)).with_context(|| program.display().to_string())?;
        let package = folder.join(format!("{name}.deb"));
        let mut command = Command::new(&cargo_deb);
        command
            .args(["--no-build", "--strip", "--fast", "--quiet", "--package", name, "--output"])
            .arg(&package);
        run::must(command.current_dir(run::root()).env("CARGO_TARGET_DIR", &build), LIMIT)?;
        made.push(package);
    }
    made.try_into().map_err(|_| anyhow::anyhow!("as many packages as programs"))
}

/// Manual pages and completions, as the program itself writes them.
fn from_program(program: &Path, name: &str, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    run::must(Command::new(program).arg("manual-pages").arg(to.join("man")), LIMIT)?;
    for (shell, end) in SHELLS {
        let file = File::create(to.join(format!("{name}.{end}")))?;
        run::must(Command::new(program).args(["completions", shell]).stdout(file), LIMIT)?;
    }
    Ok(())
}

/// cargo-deb of our version, installed below `target` when it is not there yet.
fn cargo_deb() -> anyhow::Result<PathBuf> {
    let root = run::root().join("target/tools").join(format!("cargo-deb-{CARGO_DEB}"));
    let file = root.join("bin/cargo-deb");
    if !file.is_file() {
        let version = format!("={CARGO_DEB}");
        // Quick to build: it packs two files.
        let install =
            ["install", "--quiet", "--locked", "--debug", "--version", &version, "cargo-deb", "--root"];
        run::must(run::cargo().args(install).arg(&root), LIMIT)?;
    }
    Ok(file)
}
