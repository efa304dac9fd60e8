//! `/api/v1/log-level`: what is logged, and changing it while the program runs.
//!
//! ```text
//! GET                          {"level":"info"}
//! POST ?level=debug&for=10m    {"level":"debug","for_seconds":600,"then":"info"}
//! ```

use std::time::Duration;

use hyper::StatusCode;
use inrush_logging::{Control, Levels};
use serde_json::json;

use crate::Answer;

/// The longest time for which a level may be set; one that is to stay has none.
const TIME_MAX: Duration = Duration::from_hours(7 * 24);

/// Answers a question, or a change with the parameters of `query`.
pub(crate) fn answer(changes: bool, query: &str) -> Answer {
    let Some(log) = inrush_logging::control() else {
        return Answer::refused(StatusCode::NOT_FOUND, "there is no log");
    };
    if !changes {
        return shown(&log);
    }
    match asked(query) {
        Ok((levels, time)) => {
            tracing::info!(levels = %levels, lasts = time.map_or(0, |time| time.as_secs()), "the levels of the log are changed");
            log.set_levels(levels, time);
            shown(&log)
        }
        Err(what) => Answer::refused(StatusCode::BAD_REQUEST, &what),
    }
}

fn shown(log: &Control) -> Answer {
    let (levels, until) = log.levels();
    let level = levels.to_string();
    Answer::ok(match until {
        None => json!({ "level": level }),
        Some((left, then)) => {
            json!({ "level": level, "for_seconds": left.as_secs_f64().ceil(), "then": then.to_string() })
        }
    })
}

/// The levels of a change, and for how long.
fn asked(query: &str) -> Result<(Levels, Option<Duration>), String> {
    let (mut levels, mut time) = (None, None);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "level" => levels = Some(value.parse().map_err(|error| format!("level: {error}"))?),
            "for" => time = Some(duration(&value)?),
            _ => return Err(format!("there is no parameter {name:?}: level, for")),
        }
    }
    Ok((levels.ok_or("the parameter level is missing")?, time))
}

/// `30s`, `10m`, `2h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("for: {text:?} is not a time such as 30s, 10m or 2h, of 168h at most");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let unit = match &text[digits.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(wrong()),
    };
    let time = Duration::from_secs(number.saturating_mul(unit));
    if time.is_zero() || time > TIME_MAX { Err(wrong()) } else { Ok(time) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_say_what_and_for_how_long() {
        let (levels, time) = asked("level=info%2Cinrush_gateway%3Ddebug&for=10m").expect("a change");
        assert_eq!(levels.to_string(), "info,inrush_gateway=debug");
        assert_eq!(time, Some(Duration::from_secs(600)));
        assert_eq!(asked("level=warn").map(|(_, time)| time), Ok(None));
        for (query, what) in [
            ("", "level is missing"),
            ("level=loud", "\"loud\" is not a level"),
            ("level=info,nobody=debug", "\"nobody\" is not a module"),
            ("level=info&for=10", "is not a time"),
            ("level=info&for=0s", "is not a time"),
            ("level=info&for=169h", "is not a time"),
            ("level=info&until=10m", "no parameter \"until\""),
        ] {
            let error = asked(query).expect_err(query);
            assert!(error.contains(what), "{query}: {error}");
        }
    }
}
