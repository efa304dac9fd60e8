//! Every fault at every step of a fixed run.

use std::sync::atomic::{AtomicUsize, Ordering};

use inrush_log::Durability;
use inrush_log::sim::{Fault, Manner};

use crate::actions::{Stopped, append_octets, close, mark, prepare, sync, write_all};
use crate::world::{Running, World};

/// Messages without a body, of some size, and in chunks; marks; two segments filled and a third begun.
fn use_log(world: &mut World, running: &mut Running) -> Result<(), Stopped> {
    prepare(world, running)?;
    for octets in [0, 1, 3000, 4096 - 64, 100_000, 300_000] {
        append_octets(world, running, octets, false);
        write_all(world, running)?;
    }
    mark(world, running)?;
    write_all(world, running)?;
    sync(world, running)?;
    for _ in 0..7 {
        append_octets(world, running, 110_000, false);
        append_octets(world, running, 2000, false);
        if append_octets(world, running, 200_000, false).is_none() {
            write_all(world, running)?;
            prepare(world, running)?;
        }
        write_all(world, running)?;
    }
    sync(world, running)?;
    // Given to the log, and never written.
    append_octets(world, running, 500, false);
    Ok(())
}

/// Open, use, close in order, open again, use a little, leave open.
fn script(world: &mut World) {
    if let Some(mut running) = world.open() {
        let done = use_log(world, &mut running).and_then(|()| close(world, &mut running));
        drop(running);
        if done.is_ok()
            && !world.storage.is_dead()
            && let Some(mut running) = world.open()
        {
            append_octets(world, &mut running, 5000, false);
            let _ = write_all(world, &mut running);
            append_octets(world, &mut running, 5000, false);
        }
    }
}

/// A fault at step after step, until the run is over before it.
fn every_step(fault: Fault, direct: bool, durability: Durability) -> u64 {
    for step in 0.. {
        let sector_octets = if step % 2 == 0 { 512 } else { 4096 };
        let manner = Manner { direct, sector_octets, garbage: true, names_in_order: step % 3 == 0 };
        let mut world = World::with(step, manner, durability);
        world.fail_at(step, fault);
        script(&mut world);
        let over = world.storage.steps() <= step;
        // What fails for the process may also be followed by a power cut.
        if fault == Fault::Crash || step % 4 < 2 {
            world.cut_power();
        } else {
            world.kill();
        }
        world.finish();
        if over {
            return step;
        }
    }
    unreachable!("the run has an end")
}

/// A start that cannot read something fails as a whole, and changes nothing that the next one needs.
#[test]
fn every_failed_read_at_a_start() {
    for direct in [true, false] {
        for look in 0.. {
            let mut world = World::with(look, Manner { direct, ..Manner::default() }, Durability::Strict);
            let mut running = world.open().unwrap();
            let _ = use_log(&mut world, &mut running);
            world.kill();
            drop(running);
            world.fail_look_at(look);
            let before = world.storage.looks();
            let opened = world.open();
            let over = world.storage.looks() - before <= look;
            world.kill();
            drop(opened);
            world.finish();
            if over {
                assert!(look > 10, "only {look} calls");
                break;
            }
        }
    }
}

#[test]
fn every_fault_at_every_step() {
    let mut runs = Vec::new();
    for fault in [Fault::Crash, Fault::Error, Fault::NoSpace, Fault::Short] {
        for direct in [true, false] {
            for durability in [Durability::Strict, Durability::Relaxed] {
                runs.push((fault, direct, durability));
            }
        }
    }
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some((fault, direct, durability)) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let steps = every_step(*fault, *direct, *durability);
            assert!(steps > 60, "only {steps} steps");
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
}
