//! What a running log is used for. An action more is a function here and a line in the table.

use inrush_log::sim::SimFile;
use inrush_log::{
    AppendError, BLOCK_OCTETS, ChunkRef, ConsumerKind, Cursor, CursorError, EnvelopeRef, Lsn, MessageId,
    OpenError, Write,
};

use crate::ledger::{LOG, text};
use crate::world::{Last, Running, World};

/// The log takes nothing any more: its disk has failed or is gone.
pub(crate) struct Stopped;

type Action = fn(&mut World, &mut Running) -> Result<(), Stopped>;

/// Actions, by how often they come.
const ACTIONS: [(u64, Action); 9] = [
    (24, append),
    (18, write),
    (6, sync),
    (5, prepare),
    (6, mark),
    (1, read),
    (3, take_fresh),
    (2, consume),
    (2, fill_disk),
];

const BLOCK: u64 = BLOCK_OCTETS as u64;
/// Largest part of a body in a record of its own.
const PART: usize = 120_000;

/// Does one of them.
pub(crate) fn act(world: &mut World, running: &mut Running) -> Result<(), Stopped> {
    let mut at = world.random.below(ACTIONS.iter().map(|(weight, _)| weight).sum());
    for (weight, action) in ACTIONS {
        if at < weight {
            action(world, running)?;
            break;
        }
        at -= weight;
    }
    world.ledger.promise(running.log.durable(), running.log.committed());
    Ok(())
}

fn append(world: &mut World, running: &mut Running) -> Result<(), Stopped> {
    let octets = match world.random.below(8) {
        0 => world.random.below(400_000),
        1 => 0,
        2..4 => aimed(world).unwrap_or(0),
        4 => 100_000,
        _ => world.random.below(9_000),
    };
    // A transaction that is given up leaves its chunks behind.
    let given_up = world.random.below(20) == 0;
    append_octets(world, running, usize::try_from(octets).unwrap(), given_up);
    Ok(())
}

/// Octets of a body after which the record, appended behind the last one, ends a little before the seal or the end of a block: where a pad
/// just fits, or just does not.
fn aimed(world: &mut World) -> Option<u64> {
    let last = world.last?;
    let segment = world.settings.segment_bytes;
    let mut begin = last.gate.get();
    if world.random.below(2) == 0 {
        // The last batch may have been written.
        begin = begin.next_multiple_of(BLOCK);
    }
    let gap = world.random.below(12) * 16;
    let seal = (begin / segment + 1) * segment - BLOCK;
    let block = (begin / BLOCK + 1 + world.random.below(3)) * BLOCK;
    let to = |edge: u64| edge.checked_sub(begin + last.overhead + gap);
    to(seal).filter(|octets| *octets < 120_000).or_else(|| to(block))
}

/// Appends a message with a body of so many octets, in chunks where it is large.
pub(crate) fn append_octets(
    world: &mut World,
    running: &mut Running,
    octets: usize,
    given_up: bool,
) -> Option<MessageId> {
    let start = usize::try_from(world.random.below(500_000)).unwrap();
    let body = start..start + octets;
    let mut chunks: Vec<ChunkRef> = Vec::new();
    let mut places = Vec::new();
    let mut rest = text(&body);
    while rest.len() > PART {
        let (part, more) = rest.split_at(PART);
        let chunk = taken(running.log.append_chunk(std::iter::once(part), part.len(), 1))?;
        places.push(chunk.lsn..chunk.lsn + 64 + part.len() as u64);
        chunks.push(chunk);
        rest = more;
    }
    if given_up {
        return None;
    }
    let reverse_path = start.to_string();
    let envelope =
        EnvelopeRef { chunks: &chunks, reverse_path: reverse_path.as_bytes(), ..EnvelopeRef::default() };
    let appended = taken(running.log.append_message(&envelope, rest.chunks(7000), rest.len(), 1))?;
    let record = appended.gate.get() - appended.lsn.get();
    world.last =
        Some(Last { gate: appended.gate, overhead: record.saturating_sub(rest.len() as u64) / 16 * 16 });
    world.ledger.add(&appended, body, places);
    Some(appended.id)
}

fn taken<T>(result: Result<T, AppendError>) -> Option<T> {
    match result {
        Ok(taken) => Some(taken),
        Err(
            AppendError::BatchFull | AppendError::NoSpace(_) | AppendError::Poisoned | AppendError::Closed,
        ) => None,
        Err(error) => panic!("{error}"),
    }
}

fn write(world: &mut World, running: &mut Running) -> Result<(), Stopped> {
    let Some(write) = next_write(world, running) else { return Ok(()) };
    // Appends go on while it is in flight.
    if world.random.below(2) == 0 {
        append(world, running)?;
    }
    if world.leaves_write_under_way && world.random.below(6) == 0 {
        world.storage.leave_next_write_under_way();
    }
    let result = write.run();
    running.log.write_done(write, result).map(drop).map_err(|_| Stopped)
}

fn next_write(world: &mut World, running: &mut Running) -> Option<Write<SimFile>> {
    let write = running.log.next_write()?;
    world.note_write(&write, running.log.durable());
    Some(write)
}

/// Runs every write there is.
pub(crate) fn write_all(world: &mut World, running: &mut Running) -> Result<(), Stopped> {
    while let Some(write) = next_write(world, running) {
        let result = write.run();
        running.log.write_done(write, result).map_err(|_| Stopped)?;
    }
    world.ledger.promise(running.log.durable(), running.log.committed());
    Ok(())
}

/// The sync of relaxed durability, when it is due; a write may finish beside it.
pub(crate) fn sync(world: &mut World, running: &mut Running) -> Result<(), Stopped> {
    running.now_us += 60_000;
    let Some(sync) = running.log.next_sync(running.now_us) else { return Ok(()) };
    let result = sync.run();
    if world.random.below(3) == 0 {
        write(world, running)?;
    }
    running.log.sync_done(&sync, result).map_err(|_| Stopped)
}

pub(crate) fn prepare(_world: &mut World, running: &mut Running) -> Result<(), Stopped> {
    running.data.prepare_segments();
    Ok(())
}

pub(crate) fn mark(_world: &mut World, running: &mut Running) -> Result<(), Stopped> {
    let _ = taken(running.log.append_mark(running.now_us));
    Ok(())
}

/// A reader beside the appender.
fn read(world: &mut World, running: &mut Running) -> Result<(), Stopped> {
    if !world.storage.is_dead() && !world.storage.has_lied() {
        world.ledger.check_live(&world.storage, running.log.durable());
    }
    Ok(())
}

/// A consumer of messages that are still in memory: it sees what is committed, as it was sent.
fn take_fresh(world: &mut World, running: &mut Running) -> Result<(), Stopped> {
    let Some(fresh) = &running.fresh else {
        running.fresh = Some(running.log.fresh());
        return Ok(());
    };
    while let Some(message) = fresh.pop() {
        let sent = &world.ledger.sent[&message.id];
        assert!(sent.gate <= running.log.committed(), "{} before its commit", message.id);
        assert!(text(&sent.body).ends_with(&message.body()), "{}: another body", message.id);
    }
    Ok(())
}

/// A required consumer goes on from its cursor; what it is done with is retired sooner or later.
pub(crate) fn consume(world: &mut World, running: &mut Running) -> Result<(), Stopped> {
    if !world.consumes || world.storage.is_dead() || world.storage.has_lied() {
        return Ok(());
    }
    let opened = running
        .cursor
        .take()
        .map_or_else(|| Cursor::on(world.storage.clone(), LOG, "relay", ConsumerKind::Required), Ok);
    let Some(mut cursor) = disk_failed(world, opened) else { return Ok(()) };
    let durable = running.log.durable();
    if world.storage.is_dead() || world.storage.has_lied() {
        return Ok(());
    }
    world.ledger.check_consumer(&world.storage, cursor.position(), durable);
    // To the end, or to some message before it.
    let gates = world.ledger.sent.values().map(|sent| sent.gate);
    let gates: Vec<Lsn> = gates.filter(|gate| *gate > cursor.position() && *gate <= durable).collect();
    let some = gates.get(usize::try_from(world.random.below(gates.len() as u64)).unwrap()).copied();
    let position = some.filter(|_| world.random.below(2) == 0).unwrap_or(durable).max(cursor.position());
    world.ledger.release(position);
    let saved = cursor.save(position);
    if disk_failed(world, saved).is_some() {
        world.ledger.consumed = position;
        running.cursor = Some(cursor);
        if world.random.below(2) == 0 {
            prepare(world, running)?;
        }
    }
    Ok(())
}

/// What was done; `None` where the disk was told to fail or has lied, or is gone.
fn disk_failed<T>(world: &World, result: Result<T, CursorError>) -> Option<T> {
    let failed = |error: &CursorError| {
        let io = matches!(error, CursorError::Io { .. } | CursorError::Log(OpenError::Io { .. }));
        io && (world.armed || world.storage.is_dead()) || world.storage.has_lied()
    };
    result.map_err(|error| assert!(failed(&error), "{error}")).ok()
}

/// The disk has no room, or has room again.
fn fill_disk(world: &mut World, _running: &mut Running) -> Result<(), Stopped> {
    let octets = if world.random.below(3) == 0 { world.random.below(6 << 20) } else { u64::MAX };
    world.storage.set_capacity(octets);
    // A cursor may find no room.
    world.armed = true;
    Ok(())
}

/// Ends in order: everything is written, the segment is sealed.
pub(crate) fn close(world: &mut World, running: &mut Running) -> Result<(), Stopped> {
    running.log.close();
    write_all(world, running)?;
    assert!(running.log.is_idle());
    Ok(())
}
