//! Where lines end: standard error or the journal.

use std::io;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::form::Form;
use crate::journal::Journal;
use crate::line::Line;

/// Octets that a pipe takes as a whole once it is ready for any (pipe(7), `PIPE_BUF`).
const PIPE_BUF: usize = 4096;

/// Octets that are put together before they are written.
const WRITE_OCTETS: usize = 64 << 10;

pub(crate) enum Sink {
    /// Without the lock of the standard library, which a writer that stands still would hold for ever.
    Stderr,
    Journal(Journal),
}

impl Sink {
    /// Writes lines, however long that takes; gives back how many could not be written.
    pub(crate) fn write(&self, lines: &[Line], form: Form) -> u64 {
        match self {
            Self::Stderr => {
                let (mut out, mut count, mut lost) = (String::new(), 0, 0);
                for (index, line) in lines.iter().enumerate() {
                    form.write(line, &mut out);
                    count += 1;
                    if out.len() >= WRITE_OCTETS || index + 1 == lines.len() {
                        lost += if write_all(out.as_bytes(), None).is_ok() { 0 } else { count };
                        out.clear();
                        count = 0;
                    }
                }
                lost
            }
            Self::Journal(journal) => {
                lines.iter().map(|line| u64::from(journal.send(line, false).is_err())).sum()
            }
        }
    }

    /// Writes the last line of the process, if that is possible within a bounded time.
    pub(crate) fn last(&self, line: &Line, form: Form, patience: Duration) {
        let fallback = || {
            let mut out = String::new();
            form.write(line, &mut out);
            // There is nobody left to tell.
            let _ = write_all(out.as_bytes(), Some(patience));
        };
        match self {
            Self::Journal(journal) if journal.send(line, true).is_ok() => {}
            _ => fallback(),
        }
    }
}

/// Writes all of it to standard error; with `patience` no longer than that for each part.
fn write_all(mut octets: &[u8], patience: Option<Duration>) -> io::Result<()> {
    let stderr = rustix::stdio::stderr();
    while !octets.is_empty() {
        let part = match patience {
            None => octets,
            Some(patience) => {
                wait_for_room(Some(patience))?;
                &octets[..octets.len().min(PIPE_BUF)]
            }
        };
        match rustix::io::write(stderr, part) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => octets = &octets[written..],
            Err(Errno::INTR) => {}
            // Somebody has made it non-blocking.
            Err(Errno::AGAIN) => wait_for_room(patience)?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Waits until standard error takes octets.
fn wait_for_room(patience: Option<Duration>) -> io::Result<()> {
    let limit = patience.map(|patience| Timespec {
        tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: patience.subsec_nanos().into(),
    });
    let stderr = rustix::stdio::stderr();
    loop {
        match poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], limit.as_ref()) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
