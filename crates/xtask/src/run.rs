//! Starting other programs: what is run is shown, what fails ends the task, nothing runs without a bound in time.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    // The crate lies two levels below the root; a path without a parent could not have been built from.
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or_else(|| Path::new("."))
}

/// The cargo that started this task, or the one on the path.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Announces a step of a task.
pub(crate) fn step(title: &str) {
    println!("── {title}");
}

/// Runs a command that must succeed within `limit`. Its output goes where ours goes.
///
/// # Errors
/// The program cannot be started, fails, or is still running at the limit (it is ended then).
pub(crate) fn must(command: &mut Command, limit: Duration) -> anyhow::Result<()> {
    let line = shown(command);
    println!("   {line}");
    let started = Instant::now();
    let mut child = command.spawn().with_context(|| format!("cannot start: {line}"))?;
    let status = wait_until(&mut child, started + limit)
        .with_context(|| format!("not done within {} s: {line}", limit.as_secs()))?;
    if !status.success() {
        bail!("{status}: {line}");
    }
    println!("   done in {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// Standard output of a command that must succeed.
///
/// # Errors
/// The program cannot be started or fails; its standard error is in the message.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let line = shown(command);
    let output = command.output().with_context(|| format!("cannot start: {line}"))?;
    if !output.status.success() {
        bail!("{}: {line}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8(output.stdout).with_context(|| format!("output is not UTF-8: {line}"))
}

/// Waits for a child until `deadline`; then ends it and says so.
///
/// # Errors
/// The child was still running at the deadline, or cannot be waited for.
pub(crate) fn wait_until(child: &mut Child, deadline: Instant) -> anyhow::Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            bail!("time limit reached");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The file of a program, searched on the path and where Debian keeps daemons.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let daemons = ["/usr/sbin", "/sbin", "/usr/bin", "/usr/lib/postfix/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(daemons).map(|folder| folder.join(name)).find(|file| file.is_file())
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
