//! A run of a gateway as its disk saw it, and the disks that a power cut can leave of it.
//!
//! ```text
//! write write flush │ write write write ✂ write flush …
//! durable ──────────┘ each of these: kept, lost, or torn
//! ```
//! Saved, it is a text of lines, each write followed by its octets, so that a failing case can be read and tried again:
//! ```text
//! write OFFSET OCTETS⏎…octets…⏎   flush⏎   acknowledged ID NUMBER⏎
//! ```
//! What the disk held before the run comes first, as writes and a flush.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;

use super::device::Event;
use super::image::Image;
use crate::random::Random;

/// The run.
#[derive(Debug, Default)]
pub struct Record {
    /// What reached the disk, in order.
    pub events: Vec<Event>,
    /// So many events were there before the run; no cut is before them.
    pub begin: usize,
    /// Id → number of the message, and how many events there were when its 250 was there.
    pub acknowledged: BTreeMap<String, (u64, usize)>,
}

impl Record {
    /// Puts a run behind what the disk held before it.
    pub fn new(before: &Image, run: Vec<Event>, acknowledged: BTreeMap<String, (u64, usize)>) -> Self {
        let mut events: Vec<Event> =
            before.blocks().map(|(offset, octets)| Event::Write(offset, octets.into())).collect();
        events.push(Event::Flush);
        let begin = events.len();
        events.extend(run);
        let moved = acknowledged.into_iter().map(|(id, (number, position))| (id, (number, position + begin)));
        Self { acknowledged: moved.collect(), events, begin }
    }

    /// The moments right behind each flush of the run.
    pub fn flushes(&self) -> Vec<usize> {
        let run = self.begin..self.events.len();
        run.filter(|at| matches!(self.events[*at], Event::Flush)).map(|at| at + 1).collect()
    }

    /// Everything up to the last flush before the cut, and of the writes after it what chance leaves, in pieces of `sector` octets.
    pub fn image(&self, cut: usize, sector: usize, random: &mut Random) -> Image {
        let flush = self.events[..cut].iter().rposition(|event| matches!(event, Event::Flush)).unwrap_or(0);
        let mut image = Image::default();
        for (at, event) in self.events[..cut].iter().enumerate() {
            let Event::Write(offset, octets) = event else { continue };
            if at < flush {
                image.write(*offset, octets);
            } else {
                tear(random, sector, &mut image, *offset, octets);
            }
        }
        image
    }

    /// Writes it into a file.
    ///
    /// # Errors
    /// Those of the file.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        let mut acknowledged: Vec<_> = self.acknowledged.iter().collect();
        acknowledged.sort_by_key(|(_, (_, position))| *position);
        let mut acknowledged = acknowledged.into_iter().peekable();
        for at in 0..=self.events.len() {
            if at == self.begin {
                writeln!(file, "begin")?;
            }
            while let Some((id, (number, _))) = acknowledged.next_if(|(_, (_, position))| *position == at) {
                writeln!(file, "acknowledged {id} {number}")?;
            }
            match self.events.get(at) {
                Some(Event::Write(offset, octets)) => {
                    writeln!(file, "write {offset} {}", octets.len())?;
                    file.write_all(octets)?;
                    writeln!(file)?;
                }
                Some(Event::Flush) => writeln!(file, "flush")?,
                None => {}
            }
        }
        file.flush()
    }

    /// Reads what [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// Those of the file; `InvalidData` when it is something else.
    pub fn load(path: &Path) -> io::Result<Self> {
        let mut file = BufReader::new(File::open(path)?);
        let mut record = Self::default();
        let mut line = String::new();
        while file.read_line(&mut line)? > 0 {
            let number = |word: &str| word.parse::<u64>().map_err(io::Error::other);
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                ["begin"] => record.begin = record.events.len(),
                ["flush"] => record.events.push(Event::Flush),
                ["write", offset, octets] => {
                    let mut written = vec![0; usize::try_from(number(octets)?).map_err(io::Error::other)?];
                    file.read_exact(&mut written)?;
                    file.read_exact(&mut [0])?;
                    record.events.push(Event::Write(number(offset)?, written.into()));
                }
                ["acknowledged", id, sent] => {
                    let position = record.events.len();
                    record.acknowledged.insert(id.to_owned(), (number(sent)?, position));
                }
                _ => return Err(io::Error::new(io::ErrorKind::InvalidData, line)),
            }
            line.clear();
        }
        Ok(record)
    }
}

/// How an unflushed write fared.
fn tear(random: &mut Random, sector: usize, image: &mut Image, offset: u64, octets: &[u8]) {
    match random.below(4) {
        0 => {}
        1 => {
            for (number, piece) in octets.chunks(sector).enumerate() {
                if random.below(2) == 0 {
                    image.write(offset + (number * sector) as u64, piece);
                }
            }
        }
        _ => image.write(offset, octets),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::BLOCK;

    fn write(octet: u8) -> Event {
        Event::Write(0, vec![octet; BLOCK].into())
    }

    fn first(record: &Record, cut: usize, seed: u64) -> u8 {
        let mut octet = [0];
        record.image(cut, BLOCK, &mut Random::new(seed)).read(0, &mut octet);
        octet[0]
    }

    #[test]
    fn what_was_flushed_is_there_and_the_rest_may_be() {
        let mut before = Image::default();
        before.write(0, &[1; BLOCK]);
        let record = Record::new(&before, vec![write(2), write(3), Event::Flush], BTreeMap::new());
        assert_eq!((record.begin, record.flushes()), (2, vec![5]));
        let mut seen = [false; 4];
        for seed in 0..100 {
            assert_eq!((first(&record, 2, seed), first(&record, 5, seed)), (1, 3));
            seen[usize::from(first(&record, 4, seed))] = true;
        }
        assert_eq!(seen, [false, true, true, true]);
    }

    #[test]
    fn a_saved_record_is_read_again() {
        let mut before = Image::default();
        before.write(BLOCK as u64, &[b'\n'; BLOCK]);
        let acknowledged = BTreeMap::from([("A".to_owned(), (7, 1)), ("B".to_owned(), (8, 2))]);
        let record = Record::new(&before, vec![write(2), Event::Flush], acknowledged);
        let file = tempfile::NamedTempFile::new().unwrap();
        record.save(file.path()).unwrap();
        let again = Record::load(file.path()).unwrap();
        assert_eq!(format!("{record:?}"), format!("{again:?}"));
    }
}
