//! `POST /api/v1/drain` and `POST /api/v1/reload`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use hyper::StatusCode;
use inrush_admin::Answer;
use serde_json::json;
use tokio::sync::oneshot;

use super::{Event, Stop};
use crate::age::Age;
use crate::reload::Ask;

/// Steers the process on request.
#[derive(Clone)]
pub(crate) struct Steer {
    events: Sender<Event>,
    reload: Sender<Ask>,
    draining: Arc<AtomicBool>,
}

impl Steer {
    pub(super) fn new(events: Sender<Event>, reload: Sender<Ask>) -> Self {
        Self { events, reload, draining: Arc::default() }
    }

    /// Whether the gateway is about to end: what `/readyz` asks.
    pub(super) fn draining(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.draining)
    }

    /// From now on `/readyz` says no.
    pub(super) fn begin_drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Does what `path` is for, if that is one of ours: it is asked for by POST only.
    pub(crate) async fn answer(&self, path: &str, parameters: &[(String, String)]) -> Option<Answer> {
        match path {
            "drain" => Some(self.drain(parameters)),
            "reload" => Some(self.reload().await),
            _ => None,
        }
    }

    fn drain(&self, parameters: &[(String, String)]) -> Answer {
        let mut stop = Stop::of("POST /api/v1/drain");
        for (name, value) in parameters {
            let slot = match name.as_str() {
                "delay" => &mut stop.delay,
                "deadline" => &mut stop.deadline,
                _ => return wrong(&format!("{name}: only delay and deadline can be given")),
            };
            match duration(value) {
                Ok(duration) => *slot = Some(duration),
                Err(why) => return wrong(&format!("{name}: {why}")),
            }
        }
        self.begin_drain();
        // The main thread ends last.
        let _ = self.events.send(Event::Stop(stop));
        Answer::ok(json!({ "draining": true }))
    }

    async fn reload(&self) -> Answer {
        let (tell, told) = oneshot::channel();
        let asked = self.reload.send(Some(tell)).is_ok();
        match told.await {
            Ok(reloaded) if asked => {
                let status =
                    if reloaded.is_complete() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
                Answer { status, body: reloaded.json() }
            }
            _ => Answer::refused(StatusCode::SERVICE_UNAVAILABLE, "the gateway is ending"),
        }
    }
}

/// As the settings take it: up to a day.
fn duration(text: &str) -> Result<Duration, String> {
    let Age(duration) = text.parse()?;
    if duration > Duration::from_hours(24) {
        return Err("more than a day".to_owned());
    }
    Ok(duration)
}

fn wrong(why: &str) -> Answer {
    Answer::refused(StatusCode::BAD_REQUEST, why)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_drain_is_asked_for_as_it_was_meant() {
        let (events, told) = mpsc::channel();
        let steer = Steer::new(events, mpsc::channel().0);
        let parameter = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        for (name, value) in [("delay", "soon"), ("deadline", "2d"), ("dealine", "1s"), ("delay", "-1s")] {
            let answer = steer.drain(&[parameter(name, value)]);
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{name}={value}");
            assert!(answer.body["error"].as_str().is_some_and(|why| why.starts_with(name)), "{answer:?}");
        }
        assert!(told.try_recv().is_err() && !steer.draining().load(Ordering::Acquire), "nothing was done");
        let answer = steer.drain(&[parameter("delay", "5s"), parameter("deadline", "1m")]);
        assert_eq!(answer.status, StatusCode::OK);
        assert!(steer.draining().load(Ordering::Acquire));
        let Ok(Event::Stop(stop)) = told.try_recv() else { panic!("nobody was told") };
        assert_eq!(stop.delay, Some(Duration::from_secs(5)));
        assert_eq!(stop.deadline, Some(Duration::from_mins(1)));
    }
}
