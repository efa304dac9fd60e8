//! `inrush queue`: what waits for delivery, of a running gateway through its admin server, or of a stopped one from its data directory.

mod client;
mod routes;
mod show;

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use inrush_log::MessageId;
use inrush_relay::{Action, Query, Stopped};
use jiff::SignedDuration;
use serde_json::Value;

pub(crate) use self::routes::QueueRoutes;

use self::client::Client;
use crate::cli::{Filter, QueueChange, QueueCommand, QueueFilter, QueueTarget};
use crate::output;

/// An age on the command line: `90s`, `2h`, `3d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Age(Duration);

impl FromStr for Age {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "not an age (90s, 2h, 3d)".to_owned();
        // Days have no place in a signed duration.
        if let Some(days) = text.strip_suffix('d').and_then(|days| days.parse::<u64>().ok()) {
            return Ok(Self(Duration::from_secs(days.saturating_mul(86_400))));
        }
        let age: SignedDuration = text.parse().map_err(|_| wrong())?;
        Duration::try_from(age).map(Self).map_err(|_| wrong())
    }
}

/// Runs a command of `inrush queue`.
pub(crate) fn run(command: &QueueCommand) -> anyhow::Result<ExitCode> {
    match command {
        QueueCommand::List { target, filter, limit, json } => list(target, filter, *limit, *json),
        QueueCommand::Show { target, id, json } => show_one(target, *id, *json),
        QueueCommand::Flush(change) => act(Action::Flush, change),
        QueueCommand::Hold(change) => act(Action::Hold, change),
        QueueCommand::Release(change) => act(Action::Release, change),
        QueueCommand::Bounce(change) => act(Action::Bounce, change),
        QueueCommand::Delete(change) => act(Action::Delete, change),
    }
}

fn list(target: &QueueTarget, filter: &QueueFilter, limit: usize, json: bool) -> anyhow::Result<ExitCode> {
    let items = match stopped(target)? {
        Some(stopped) => stopped.list(&query(filter, limit)?)?,
        None => {
            let mut parameters = parameters(filter);
            parameters.push(("limit", limit.to_string()));
            let listed = Client::of(target.config.as_deref(), target.admin)?.get("queue", &parameters)?;
            listed["entries"].as_array().cloned().unwrap_or_default()
        }
    };
    if json {
        items.iter().try_for_each(output::json)?;
    } else {
        show::list(&items)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show_one(target: &QueueTarget, id: MessageId, json: bool) -> anyhow::Result<ExitCode> {
    let life = match stopped(target)? {
        Some(stopped) => stopped.show(id)?.with_context(|| format!("{id}: no such message"))?,
        None => Client::of(target.config.as_deref(), target.admin)?.get(&format!("queue/{id}"), &[])?,
    };
    if json {
        output::json(&life)?;
    } else {
        show::life(&life)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn act(action: Action, change: &QueueChange) -> anyhow::Result<ExitCode> {
    if change.target.data_dir.is_some() {
        bail!("a stopped data directory can only be read: start the gateway to change its queue");
    }
    let mut parameters = parameters(&change.filter);
    if parameters.is_empty() && !change.all {
        bail!("say which messages are meant: an id, a filter, or --all");
    }
    if change.all {
        parameters.push(("all", "true".to_owned()));
    }
    let client = Client::of(change.target.config.as_deref(), change.target.admin)?;
    if matches!(action, Action::Bounce | Action::Delete) && !change.yes {
        let meant = client.get("queue", &parameters_of_list(&parameters))?;
        let entries = meant["entries"].as_array().map_or(0, Vec::len);
        confirm(&format!("{} {entries} entries of the queue?", action.name()))?;
    }
    let done = client.post(&format!("queue/{}", action.name()), &parameters)?;
    tell(&done, change.json)
}

/// `inrush log replay`.
pub(crate) fn replay(
    (config, admin): (Option<&Path>, Option<SocketAddr>),
    route: &str,
    filter: &Filter,
    yes: bool,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let mut parameters = vec![("route", route.to_owned())];
    parameters.extend(filter.since.map(|since| ("since", since.0.to_string())));
    parameters.extend(filter.until.map(|until| ("until", until.0.to_string())));
    parameters.extend(filter.rcpt_domain.clone().map(|domain| ("domain", domain)));
    parameters.extend(filter.sender.as_ref().map(|sender| ("sender", sender.to_string())));
    parameters.extend(filter.id.iter().map(|id| ("id", id.to_string())));
    if parameters.len() == 1 {
        bail!("say which messages are meant: --since, --until, --rcpt-domain, --sender or --id");
    }
    let client = Client::of(config, admin)?;
    if !yes {
        confirm(&format!("deliver all of them once more by route {route}?"))?;
    }
    let done = client.post("replay", &parameters)?;
    tell(&done, json)
}

fn tell(done: &Value, json: bool) -> anyhow::Result<ExitCode> {
    if json {
        output::json(done)?;
    } else if let Some(recipients) = done.get("recipients") {
        output::line(&format!(
            "{} messages found, {recipients} recipients are owed again",
            done["messages"]
        ))?;
    } else {
        output::line(&format!("{}: {} of {} entries", word(&done["action"]), done["done"], done["found"]))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The queue of a data directory that was named.
fn stopped(target: &QueueTarget) -> anyhow::Result<Option<Stopped>> {
    let Some(data_dir) = &target.data_dir else { return Ok(None) };
    if !data_dir.is_dir() {
        bail!("{}: no such directory", data_dir.display());
    }
    Ok(Some(Stopped::open(data_dir)?))
}

fn parameters(filter: &QueueFilter) -> Vec<(&'static str, String)> {
    let mut parameters: Vec<_> = filter.ids.iter().map(|id| ("id", id.to_string())).collect();
    parameters.extend(filter.domain.clone().map(|domain| ("domain", domain)));
    parameters.extend(filter.route.clone().map(|route| ("route", route)));
    parameters.extend(filter.sender.as_ref().map(|sender| ("sender", sender.to_string())));
    parameters.extend(filter.older_than.map(|age| ("older_than", age.0.as_secs().to_string())));
    parameters
}

/// The same without what only a change has.
fn parameters_of_list(parameters: &[(&'static str, String)]) -> Vec<(&'static str, String)> {
    let list = parameters.iter().filter(|(name, _)| *name != "all").cloned();
    list.chain([("limit", usize::MAX.to_string())]).collect()
}

fn query(filter: &QueueFilter, limit: usize) -> anyhow::Result<Query> {
    let mut query = Query { limit, ..Query::default() };
    for (name, value) in parameters(filter) {
        query.set(name, &value)?;
    }
    Ok(query)
}

/// Asks on the terminal; without one, the answer has to be on the command line.
fn confirm(question: &str) -> anyhow::Result<()> {
    if !io::stdin().is_terminal() {
        bail!("{question} Say --yes: there is no terminal to ask on");
    }
    write!(io::stderr().lock(), "{question} [y/N] ")?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if !matches!(answer.trim(), "y" | "Y" | "yes") {
        bail!("nothing was changed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_read() {
        assert_eq!("90s".parse(), Ok(Age(Duration::from_secs(90))));
        assert_eq!("2h".parse(), Ok(Age(Duration::from_hours(2))));
        assert_eq!("3d".parse(), Ok(Age(Duration::from_hours(72))));
        for wrong in ["", "5", "-2h", "x"] {
            assert!(wrong.parse::<Age>().is_err(), "{wrong}");
        }
    }
}
