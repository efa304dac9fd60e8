//! The load that the benchmarks of the gateway alone share.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

/// Sessions of a closed loop.
const SESSIONS: u32 = 50;

/// Messages of so many octets over kept connections, each session one after the other as fast as they are taken; the result is JSON. How long or how
/// many is for the caller to say.
pub(super) fn closed_loop(load: &Path, to: SocketAddr, length: u32) -> Command {
    let mut command = kept_connections(load, to, length, SESSIONS);
    command.arg("--closed");
    command
}

/// The same without a pace.
pub(super) fn kept_connections(load: &Path, to: SocketAddr, length: u32, sessions: u32) -> Command {
    let mut command = self::sessions(load, to, length, sessions);
    command.args(["--dont-disconnect", "--json", "-"]);
    command
}

/// The same with a connection for each message, and no result yet.
pub(super) fn sessions(load: &Path, to: SocketAddr, length: u32, sessions: u32) -> Command {
    let mut command = Command::new(load);
    command.arg("run").arg(to.to_string()).args(["--sessions", &sessions.to_string()]);
    command.args(["--length", &length.to_string(), "--to", "b@example.com"]);
    command
}

/// Asks the generator to end: what is under way is waited for.
///
/// # Errors
/// It has ended.
pub(super) fn interrupt(generator: &Child) -> anyhow::Result<()> {
    let pid = i32::try_from(generator.id()).ok().and_then(Pid::from_raw).context("process id")?;
    Ok(kill_process(pid, Signal::INT)?)
}
