//! The gateway and the floor on one core, on two, and so on.
//!
//! The generator runs on the same machine and takes processors from the server, so that messages a second say little about the
//! server. What it can do is taken from its processor time instead: `capacity = cores × 1 s ÷ (processor time of the server a message)`, as if
//! its cores had nothing else to do and it could fill them. The generator's time is measured and shown apart. It has 50 sessions for each
//! core of the server, so that a core has as many whatever their number. Where the generator cannot keep them busy, turns are less full, and a
//! message costs more than it would: the capacity is the least that can be said, not the most.
//!
//! Beyond the processors of the machine there is a model, and it is called that. What a message costs more on two cores than on one is mostly that of
//! emptier turns, which the floor under the same load pays as well; what the gateway's cores cost each other shows in how its ratio to the floor
//! grows. The model goes on with that growth, by the same share with each further core, and with none where there was none:
//! `cost(n) = cost(1) × (1 + s × (n − 1))`, `s = max(0, (ratio(m) ÷ ratio(1) − 1) ÷ (m − 1))`, `m` the most cores measured. That the kernel's
//! share, the disk, the network and the memory keep up is taken for granted.

use super::{Arguments, Programs, addresses};
use crate::bench::load::{self, Load};
use crate::bench::result::{CPU, Figure, Outcome, RATE};
use crate::bench::rounds;
use crate::bench::servers::{FLOOR, Gateway, INRUSH, Subject};

const GENERATOR_CPU: Figure = Figure { name: "generator CPU per message", unit: "µs" };
const CAPACITY: Figure = Figure { name: "capacity by processor time", unit: "1/s" };

/// Name of what is computed.
const MODEL: &str = "inrush, model";

const LOADS: [(&str, &[&str]); 2] =
    [("cores, one message per connection", &[]), ("cores, connections reused", &["-d"])];

const SESSIONS_PER_CORE: u16 = 50;

pub(super) fn measure(
    arguments: &Arguments,
    programs: &Programs,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let processors = std::thread::available_parallelism()?.get();
    let (mut measured, mut modelled) = (arguments.cores.clone(), Vec::new());
    measured.retain(|&cores| {
        let there = usize::from(cores) <= processors;
        if !there {
            modelled.push(cores);
        }
        there
    });
    let folder = tempfile::Builder::new().prefix("inrush-scale-").tempdir_in(&arguments.folder)?;
    let mut subjects = Vec::new();
    for &cores in &measured {
        let own = folder.path().join(cores.to_string());
        std::fs::create_dir_all(&own)?;
        subjects.push((cores, Subject::inrush(&own, &Gateway::strict(&programs.gateway, cores).recycling())));
        subjects.push((cores, Subject::floor(&programs.floor, cores, "127.0.0.1:0", None)?));
    }
    outcome.set("messages a run, cores", arguments.messages);
    if let Some((_, subject)) = subjects.first() {
        outcome.set("server CPU, cores and log", subject.meter.method());
    }
    outcome.notes.push(format!(
        "Cores: capacity = cores × 1 s ÷ processor time of the server a message, since the generator takes a share of the {processors} \
         processors; its own time is shown apart. \"{MODEL}\" is no measurement: the cost on one core, growing with each core by the share by \
         which the ratio to the floor has grown up to the last core measured; kernel, disk and network are taken to keep up."
    ));
    for (scenario, options) in LOADS {
        rounds::in_turn(arguments.rounds, subjects.len(), |round, subject| {
            let (cores, subject) = &subjects[subject];
            let sessions = (SESSIONS_PER_CORE * cores).to_string();
            let words = [options, &["-s", &sessions, "-l", "4096"]].concat();
            let words = words.into_iter().map(str::to_owned).chain(addresses()).collect();
            let load = Load::inrush_load(&programs.generator, words);
            let done = load::measure(subject, &load, arguments.messages)?;
            println!(
                "   {scenario} round {}: {} on {cores}: {:.1} µs/message",
                round + 1,
                subject.name,
                done.cpu_us
            );
            let at = Some(f64::from(*cores));
            outcome.add(scenario, subject.name, CPU, at, done.cpu_us);
            outcome.add(scenario, subject.name, CAPACITY, at, f64::from(*cores) * 1e6 / done.cpu_us);
            outcome.add(scenario, subject.name, RATE, at, done.sent.rate);
            if let Some(cpu) = done.sent.generator_cpu_us {
                outcome.add(scenario, subject.name, GENERATOR_CPU, at, cpu);
            }
            Ok(())
        })?;
        outcome.relate(INRUSH, FLOOR, CPU);
        for subject in [INRUSH, FLOOR] {
            outcome.relate_to_first(scenario, subject, CAPACITY, 1.0, "capacity, times that of one core");
        }
        let first = outcome.find(scenario, INRUSH, CPU.name, Some(1.0)).map(|series| series.median);
        let ratio_name = format!("{INRUSH} : {FLOOR}");
        let ratios: Vec<(f64, f64)> = measured
            .iter()
            .filter_map(|&cores| {
                let at = f64::from(cores);
                Some((at, outcome.find(scenario, &ratio_name, CPU.name, Some(at))?.median))
            })
            .collect();
        for &cores in &modelled {
            let growth = modelled_growth(&ratios, f64::from(cores));
            if let (Some(first), Some(growth)) = (first, growth) {
                let cost = first * growth;
                let at = Some(f64::from(cores));
                outcome.add(scenario, MODEL, CPU, at, cost);
                outcome.add(scenario, MODEL, CAPACITY, at, f64::from(cores) * 1e6 / cost);
            }
        }
    }
    Ok(())
}

/// How much more a message costs on so many cores than on one, from the ratios to the floor that were measured: pairs of cores and ratio,
/// ascending, the first of them for one core.
fn modelled_growth(ratios: &[(f64, f64)], cores: f64) -> Option<f64> {
    let (&(one, first), &(most, last)) = (ratios.first()?, ratios.last()?);
    if one != 1.0 || most <= one {
        return None;
    }
    let share = ((last / first - 1.0) / (most - 1.0)).max(0.0);
    Some(1.0 + share * (cores - 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_cores_cost_each_other_goes_on_growing() {
        assert_eq!(modelled_growth(&[(1.0, 1.0), (2.0, 1.25)], 5.0), Some(2.0));
        assert_eq!(modelled_growth(&[(1.0, 1.5), (2.0, 1.4)], 16.0), Some(1.0));
        assert_eq!(modelled_growth(&[(1.0, 1.5)], 4.0), None, "nothing to go by");
        assert_eq!(modelled_growth(&[(2.0, 1.5), (4.0, 1.5)], 8.0), None, "one core was not measured");
    }
}
