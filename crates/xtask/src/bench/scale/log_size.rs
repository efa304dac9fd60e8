//! What a large log costs: the cost of a message behind it, and the start after SIGKILL.
//!
//! One gateway, whose log grows from point to point by mail of 1 MiB. At each point the cost of messages of 4 KiB is measured; then it is killed
//! with SIGKILL and started on the same data, as often as there are rounds. The time is that from its start to where it takes mail: it reads the segments' seals
//! and recovers the one that was open. Its files are in the page cache as far as they fit.

use anyhow::Context as _;

use super::{Arguments, Programs, addresses};
use crate::bench::load::{self, Load};
use crate::bench::result::{CPU, Figure, Outcome};
use crate::bench::servers::{Gateway, INRUSH, Subject};

const SCENARIO: &str = "MiB of mail in the log";
const START: Figure = Figure { name: "from the start after SIGKILL to taking mail", unit: "s" };

const SEGMENTS: Figure = Figure { name: "segments", unit: "segments" };
const RESIDENT: Figure = Figure { name: "resident memory after the start", unit: "MiB" };

/// MiB of a message that the log grows by.
const GROWTH_MIB: u32 = 1;

pub(super) fn measure(
    arguments: &Arguments,
    programs: &Programs,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("inrush-scale-").tempdir_in(&arguments.folder)?;
    let segment_bytes = arguments.segment_mib.map(|mib| format!("{mib}MiB"));
    if let Some(octets) = &segment_bytes {
        outcome.set("octets of a segment, log", octets.as_str());
    }
    let gateway =
        Gateway { segment_bytes: segment_bytes.as_deref(), ..Gateway::strict(&programs.gateway, 1) };
    let mut subject = Subject::inrush(folder.path(), &gateway);
    let of = |words: &[&str]| {
        let options = words.iter().map(|word| (*word).to_owned()).chain(addresses()).collect();
        Load::inrush_load(&programs.generator, options)
    };
    let octets = (GROWTH_MIB << 20).to_string();
    let (growth, small) = (of(&["-d", "-s", "8", "-l", &octets]), of(&["-d", "-s", "50", "-l", "4096"]));
    let mut points = arguments.log_mib.clone();
    points.sort_unstable();
    outcome.set("messages a run, log", arguments.messages);
    outcome.notes.push(
        "Log: its size is that of the mail of 1 MiB in it; the measured messages come on top. Start: until the listener takes mail, files in the page cache as far as they fit.".to_owned(),
    );
    let mut grown = 0;
    for mib in points {
        while grown < mib {
            let step = (mib - grown).min(512);
            growth.run(&subject.address, step / GROWTH_MIB)?;
            grown += step;
        }
        let at = Some(f64::from(mib));
        for round in 0..arguments.rounds {
            let done = load::measure(&subject, &small, arguments.messages)?;
            let seconds = subject.kill_and_start_again().context("a gateway")?;
            println!(
                "   {mib} MiB round {}: {:.1} µs/message, started in {seconds:.3} s",
                round + 1,
                done.cpu_us
            );
            outcome.add(SCENARIO, INRUSH, CPU, at, done.cpu_us);
            outcome.add(SCENARIO, INRUSH, START, at, seconds);
            let (segments, memory) = subject.log_and_memory().context("a gateway")?;
            outcome.add(SCENARIO, INRUSH, SEGMENTS, at, segments);
            outcome.add(SCENARIO, INRUSH, RESIDENT, at, memory);
        }
    }
    Ok(())
}
