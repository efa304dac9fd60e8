//! Lines that say the same over and over: after so many in a window the others are counted, and one line tells how many there were.
//!
//! The same are lines of one place in the sources with the same `reason`, `relay` and `destination`. A line about one message (`id`) or one session
//! is like no other, and is never left out.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use inrush_metrics::LINES;

use crate::line::{Line, Value};

/// Kinds of lines that are told apart at a time; beyond it all lines of one place are the same.
pub const REPEATS_KEYS_MAX: usize = 1024;

/// Where in the sources a line comes from, and what tells it from others of that place.
pub(crate) type Key = (usize, String);

/// How many of one kind there have been.
struct Window {
    since: Instant,
    written: u32,
    left_out: u64,
    /// The last that was left out.
    last: Option<Line>,
}

/// All kinds.
pub(crate) struct Repeats {
    max: u32,
    window: Duration,
    kinds: HashMap<Key, Window>,
}

impl Repeats {
    pub(crate) fn new(max: u32, window: Duration) -> Self {
        Self { max, window, kinds: HashMap::new() }
    }

    pub(crate) fn configure(&mut self, max: u32, window: Duration) {
        (self.max, self.window) = (max, window);
    }

    /// The line, if it is to be written.
    pub(crate) fn pass(&mut self, place: usize, line: Line, now: Instant) -> Option<Line> {
        let single = line.field("id").or_else(|| line.field("session")).is_some();
        if self.max == 0 || single {
            return Some(line);
        }
        let mut key = (place, String::new());
        for name in ["reason", "relay", "destination"] {
            if let Some(Value::Text(text)) = line.field(name) {
                key.1.push_str(text);
                key.1.push('\n');
            }
        }
        if self.kinds.len() >= REPEATS_KEYS_MAX && !self.kinds.contains_key(&key) {
            // There are only so many places.
            key.1.clear();
        }
        let (max, length) = (self.max, self.window);
        let fresh = || Window { since: now, written: 0, left_out: 0, last: None };
        let window = self.kinds.entry(key).or_insert_with(fresh);
        // One that has left lines out is ended by `due`, which tells of them.
        if now.duration_since(window.since) >= length && window.left_out == 0 {
            *window = fresh();
        }
        if window.written < max {
            window.written += 1;
            return Some(line);
        }
        window.left_out += 1;
        LINES.repeated.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        window.last = Some(line);
        None
    }

    /// The lines that tell of those left out in windows that have ended, or in all of them at the end of everything.
    pub(crate) fn due(&mut self, now: Instant, at_the_end: bool, mut tell: impl FnMut(Line)) {
        let length = self.window;
        self.kinds.retain(|_, window| {
            let took = now.duration_since(window.since);
            if took < length && !at_the_end {
                return true;
            }
            if let Some(mut line) = window.last.take() {
                let times = grouped(window.left_out);
                line.msg = format!("{}, repeated {times} times in {} s", line.msg, took.as_secs().max(1));
                line.fields.push(("repeated", Value::Unsigned(window.left_out)));
                tell(line);
            }
            false
        });
    }
}

/// 1234567 → 1,234,567
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    fn line(reason: &str) -> Line {
        let fields = vec![("reason", Value::Text(reason.to_owned()))];
        Line { time_us: 0, level: Level::INFO, module: "m", msg: "login failed".to_owned(), fields }
    }

    fn told(repeats: &mut Repeats, now: Instant, at_the_end: bool) -> Vec<Line> {
        let mut lines = Vec::new();
        repeats.due(now, at_the_end, |line| lines.push(line));
        lines
    }

    #[test]
    fn the_first_are_written_and_the_others_counted() {
        let mut repeats = Repeats::new(3, Duration::from_secs(10));
        let start = Instant::now();
        let passed = (0..1237).filter_map(|_| repeats.pass(1, line("refused"), start)).count();
        assert_eq!(passed, 3);
        // Another reason, another place.
        assert!(repeats.pass(1, line("unavailable"), start).is_some());
        assert!(repeats.pass(2, line("refused"), start).is_some());
        assert!(told(&mut repeats, start + Duration::from_secs(9), false).is_empty());
        let lines = told(&mut repeats, start + Duration::from_secs(10), false);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].msg, "login failed, repeated 1,234 times in 10 s");
        assert_eq!(lines[0].field("repeated"), Some(&Value::Unsigned(1234)));
        // A new window.
        assert!(repeats.pass(1, line("refused"), start + Duration::from_secs(11)).is_some());
    }

    #[test]
    fn a_line_of_one_message_is_like_no_other() {
        let mut repeats = Repeats::new(1, Duration::from_secs(10));
        let now = Instant::now();
        for name in ["id", "session"] {
            let one = || {
                let mut line = line("x");
                line.fields.push((name, Value::Text("7".to_owned())));
                line
            };
            assert!((0..5).all(|_| repeats.pass(1, one(), now).is_some()));
        }
        assert!(told(&mut repeats, now, true).is_empty());
        let mut off = Repeats::new(0, Duration::from_secs(10));
        assert!((0..5).all(|_| off.pass(1, line("x"), now).is_some()));
    }

    #[test]
    fn kinds_are_bounded() {
        let mut repeats = Repeats::new(1, Duration::from_secs(10));
        let now = Instant::now();
        let passed = (0..3000).filter_map(|number| repeats.pass(1, line(&number.to_string()), now)).count();
        assert_eq!((passed, repeats.kinds.len()), (REPEATS_KEYS_MAX + 1, REPEATS_KEYS_MAX + 1));
        assert!(repeats.pass(1, line("0"), now).is_none(), "known");
        assert!(repeats.pass(2, line("0"), now).is_some(), "another place");
        let lines = told(&mut repeats, now, true);
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().any(|line| line.msg.contains("repeated 1,975 times")), "{lines:?}");
        assert!(repeats.kinds.is_empty());
    }
}
