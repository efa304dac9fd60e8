//! The cost of a message with ever more connections, all of them kept and all of them busy.
//!
//! Connections are made before the measured window begins, so that only messages are in it; the server's time is that of all of its threads in
//! that window, as inrush-load reads it (`--server-pid`). One pair of addresses has some 28,000 ports for connections, so the servers listen on all addresses of
//! loopback and the generator connects to 127.0.0.1, 127.0.0.2 and so on in turn.

use anyhow::{Context as _, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Arguments, Programs, addresses};
use crate::bench::load::Load;
use crate::bench::result::{CPU, MEMORY, Outcome, P99};
use crate::bench::rounds;
use crate::bench::servers::{FLOOR, Gateway, INRUSH, Subject};

const SCENARIO: &str = "connections kept";

/// Connections to one address.
const CONNECTIONS_PER_ADDRESS: u32 = 20_000;

/// Files that a server has open besides.
const FILES_BESIDES: u64 = 2_000;

/// Connections that are made a second at least, on a slow machine.
const CONNECTIONS_PER_SECOND: u32 = 4_000;

/// Messages of a run: each connection has several.
fn messages(connections: u32) -> u32 {
    (connections * 3).max(20_000)
}

pub(super) fn measure(
    arguments: &Arguments,
    programs: &Programs,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let most = arguments.connections.iter().copied().max().unwrap_or(0);
    let files = raise_open_files_limit(u64::from(most) + FILES_BESIDES);
    let (points, beyond): (Vec<u32>, Vec<u32>) = arguments
        .connections
        .iter()
        .partition(|&&connections| u64::from(connections) + FILES_BESIDES <= files);
    if !beyond.is_empty() {
        let note = format!(
            "Left out, since no more than {files} files may be open (`ulimit -Hn`): {beyond:?} connections."
        );
        println!("   {note}");
        outcome.notes.push(note);
    }
    outcome.notes.push(
        "Connections: made before the measured window, on one core; processor time of all threads of the server by inrush-load.".to_owned(),
    );
    let folder = tempfile::Builder::new().prefix("inrush-scale-").tempdir_in(&arguments.folder)?;
    let gateway = Gateway { listen: "0.0.0.0:0", ..Gateway::strict(&programs.gateway, 1) }.recycling();
    let subjects =
        [Subject::inrush(folder.path(), &gateway), Subject::floor(&programs.floor, 1, "0.0.0.0:0", None)?];
    for connections in points {
        rounds::in_turn(arguments.rounds, subjects.len(), |round, subject| {
            let subject = &subjects[subject];
            let load = load(subject, programs, connections)?;
            let targets = targets(&subject.address, connections)?;
            subject.settle();
            subject.forget_peak_memory();
            let sent = load.run(&targets, messages(connections))?;
            let cpu = sent.server_cpu_us.context("inrush-load has not seen the time of the server")?;
            ensure!(cpu > 0.0, "{}: the run was too short to be measured", subject.name);
            println!(
                "   {connections} connections round {}: {} {cpu:.1} µs/message",
                round + 1,
                subject.name
            );
            let at = Some(f64::from(connections));
            outcome.add(SCENARIO, subject.name, CPU, at, cpu);
            for (figure, value) in [(P99, sent.p99_us), (MEMORY, subject.peak_memory_mib())] {
                value.into_iter().for_each(|value| outcome.add(SCENARIO, subject.name, figure, at, value));
            }
            Ok(())
        })?;
    }
    outcome.relate(INRUSH, FLOOR, CPU);
    Ok(())
}

fn load(subject: &Subject, programs: &Programs, connections: u32) -> anyhow::Result<Load> {
    let pid = subject.pid().context("a server of one process")?;
    let warmup = format!("{}s", 2 + connections / CONNECTIONS_PER_SECOND);
    let words = [
        "-d",
        "-s",
        &connections.to_string(),
        "-l",
        "4096",
        "--warmup",
        &warmup,
        "--server-pid",
        &pid.to_string(),
    ];
    let options = words.into_iter().map(str::to_owned).chain(addresses()).collect();
    Ok(Load::inrush_load(&programs.generator, options))
}

/// As many addresses of loopback as so many connections need, all with the port of `address`.
fn targets(address: &str, connections: u32) -> anyhow::Result<String> {
    let (_, port) = address.rsplit_once(':').context("an address with its port")?;
    let count = connections.div_ceil(CONNECTIONS_PER_ADDRESS).max(1);
    Ok((1..=count).map(|host| format!("127.0.0.{host}:{port}")).collect::<Vec<_>>().join(","))
}

/// Allows this process and those that it starts so many open files, if it may; how many there may be now.
fn raise_open_files_limit(files: u64) -> u64 {
    let now = getrlimit(Resource::Nofile);
    if now.maximum.is_some_and(|maximum| maximum < files) {
        let wanted = Rlimit { current: Some(files), maximum: Some(files) };
        if setrlimit(Resource::Nofile, wanted).is_ok() {
            return files;
        }
    }
    let _ = setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum });
    now.maximum.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_enough_for_the_ports() -> anyhow::Result<()> {
        assert_eq!(targets("0.0.0.0:25", 10)?, "127.0.0.1:25");
        assert_eq!(targets("0.0.0.0:25", 50_000)?, "127.0.0.1:25,127.0.0.2:25,127.0.0.3:25");
        Ok(())
    }
}
