//! As many open files as the sessions need.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Open files beside the connections, of which each has one: reports, the counters of the server, the data of `--verify`.
const SPARE: u64 = 56;
/// Of each thread: ring, timers, wakers.
const OF_THREAD: u64 = 8;

/// Raises the limit on open files to what is allowed.
///
/// # Errors
/// A sentence: so many connections cannot be open at once.
pub fn allow(connections: usize, threads: usize) -> Result<(), String> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        // Where it is refused, the limit that stands is judged below.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
    let needed = connections as u64 + SPARE + OF_THREAD * threads as u64;
    match getrlimit(Resource::Nofile).current {
        Some(allowed) if allowed < needed => Err(format!(
            "{connections} sessions need {needed} open files, {allowed} are allowed: raise the hard limit (ulimit -Hn, LimitNOFILE=)"
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_are_always_allowed() {
        assert!(allow(1, 1).is_ok());
        assert_eq!(getrlimit(Resource::Nofile).current, getrlimit(Resource::Nofile).maximum);
    }
}
