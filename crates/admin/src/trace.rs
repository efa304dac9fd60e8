//! `/api/v1/trace`: sessions live, as JSON objects, one a line, until the limits of the trace are reached or the client leaves.
//!
//! ```text
//! GET ?from=192.0.2.0/24&rcpt=example.com&limit=100&for=5m
//! ```

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::StatusCode;
use hyper::body::{Body, Bytes, Frame};
use inrush_trace::{Filter, Limits, Refused, Watch};

use crate::Answer;
use crate::log_level::duration;

/// The events of one trace, as they come.
pub(crate) struct TraceBody(Watch);

impl Body for TraceBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_next(context).map(|event| event.map(|event| Ok(Frame::data(format!("{event}\n").into()))))
    }
}

/// Begins the trace that `query` asks for.
///
/// # Errors
/// Why there is none.
pub(crate) fn begin(query: &str) -> Result<TraceBody, Answer> {
    let (filter, limits) = asked(query).map_err(|what| Answer::refused(StatusCode::BAD_REQUEST, &what))?;
    inrush_trace::watch(filter, limits).map(TraceBody).map_err(|refused| {
        let status = match refused {
            Refused::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Refused::Thread(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Answer::refused(status, &refused.to_string())
    })
}

fn asked(query: &str) -> Result<(Filter, Limits), String> {
    let (mut from, mut rcpt, mut limits) = (None, None, Limits::default());
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "from" => from = Some(value.into_owned()),
            "rcpt" => rcpt = Some(value.into_owned()),
            "limit" => {
                let number = value.parse().ok().filter(|number| (1..=Limits::SESSIONS_MAX).contains(number));
                let wrong = || format!("limit: {value:?} is not a number from 1 to {}", Limits::SESSIONS_MAX);
                limits.sessions = number.ok_or_else(wrong)?;
            }
            "for" => {
                limits.time = duration(&value)?;
                if limits.time > Limits::TIME_MAX {
                    return Err(format!("for: {value:?} is longer than 1h"));
                }
            }
            _ => return Err(format!("there is no parameter {name:?}: from, rcpt, limit, for")),
        }
    }
    let filter = Filter::new(from.as_deref(), rcpt.as_deref()).map_err(|error| error.to_string())?;
    Ok((filter, limits))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_asked_for() {
        let (_, limits) = asked("from=192.0.2.0%2F24&limit=7&for=30s").expect("a trace");
        assert_eq!((limits.sessions, limits.time), (7, Duration::from_secs(30)));
        for (query, what) in [
            ("", "say which sessions"),
            ("from=nobody", "not an address or a network"),
            ("rcpt=a%20b", "is not a domain"),
            ("from=::1&limit=0", "limit"),
            ("from=::1&limit=10001", "from 1 to 10000"),
            ("from=::1&for=2h", "longer than 1h"),
            ("from=::1&until=2h", "no parameter \"until\""),
        ] {
            let error = asked(query).expect_err(query);
            assert!(error.contains(what), "{query}: {error}");
        }
    }
}
