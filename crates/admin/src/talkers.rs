//! `/api/v1/talkers`: who asks the most of the gateway at the moment, as JSON.
//!
//! Parameters: `by` = `address` (default), `sender_domain` or `recipient_domain`; `limit` = how many, 10 by default.

use hyper::StatusCode;
use inrush_metrics::{Metrics, TALKERS_MAX, Talker, TalkersBy};
use serde_json::{Value, json};

use crate::Answer;

/// How many are shown unless the query says it.
const LIMIT_DEFAULT: usize = 10;

/// Answers a query, which is not decoded.
pub(crate) fn talkers(metrics: &Metrics, query: &str) -> Answer {
    let (by, limit) = match parse(query) {
        Ok(parsed) => parsed,
        Err(why) => return Answer::refused(StatusCode::BAD_REQUEST, &why),
    };
    let found = metrics.talkers(by, limit);
    let talkers: Vec<Value> = found.talkers.iter().map(document).collect();
    Answer::ok(json!({ "window_seconds": found.window.as_secs_f64(), "talkers": talkers }))
}

fn document(talker: &Talker) -> Value {
    json!({
        "name": talker.name,
        "messages": talker.share.messages,
        "refusals": talker.share.refusals,
        "bytes": talker.share.bytes,
        "over_by_at_most": talker.over_by_at_most,
    })
}

fn parse(query: &str) -> Result<(TalkersBy, usize), String> {
    let (mut by, mut limit) = (TalkersBy::Address, LIMIT_DEFAULT);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "by" => {
                let named = TalkersBy::ALL.into_iter().find(|by| by.name() == value);
                let words = TalkersBy::ALL.map(TalkersBy::name).join(", ");
                by = named.ok_or_else(|| format!("by is one of {words}"))?;
            }
            "limit" => {
                let number = value.parse().ok().filter(|limit| (1..=TALKERS_MAX).contains(limit));
                limit = number.ok_or_else(|| format!("limit is a number from 1 to {TALKERS_MAX}"))?;
            }
            _ => return Err(format!("{name:?} is not a parameter: there are by and limit")),
        }
    }
    Ok((by, limit))
}

#[cfg(test)]
mod tests {
    use inrush_metrics::{Names, Share};

    use super::*;

    #[test]
    fn queries() {
        assert_eq!(parse(""), Ok((TalkersBy::Address, 10)));
        assert_eq!(parse("by=sender_domain&limit=3"), Ok((TalkersBy::SenderDomain, 3)));
        assert_eq!(parse("limit=256&by=recipient_domain"), Ok((TalkersBy::RecipientDomain, 256)));
        for wrong in ["by=helo", "by=", "limit=0", "limit=257", "limit=-1", "limit=x", "since=1"] {
            let answer = talkers(&Metrics::new(Names::default(), 1), wrong);
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{wrong}");
        }
    }

    #[test]
    fn the_document_has_its_fields() {
        let metrics = Metrics::new(Names::default(), 1);
        let Some(writer) = metrics.core(0).writer() else { panic!("nobody else has it") };
        writer.sends(Some("example.org"), Share { messages: 2, refusals: 1, bytes: 300 });
        let Answer { status, body } = talkers(&metrics, "by=sender_domain");
        assert_eq!(status, StatusCode::OK);
        let expected = json!([{
            "name": "example.org", "messages": 2, "refusals": 1, "bytes": 300, "over_by_at_most": 0,
        }]);
        assert_eq!(body["talkers"], expected);
        assert!(body["window_seconds"].as_f64().is_some_and(|seconds| seconds >= 0.0));
    }
}
