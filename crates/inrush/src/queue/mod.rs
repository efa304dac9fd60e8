//! `inrush queue`: what waits for delivery, of a running gateway through its admin server, or of a stopped one from its data directory.

mod client;
mod meant;
mod routes;
mod show;

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use inrush_log::MessageId;
use inrush_relay::{Action, Listed, Stopped};
use serde_json::Value;

pub(crate) use self::client::Client;
pub(crate) use self::meant::IdArgument;
pub(crate) use self::routes::QueueRoutes;

use self::meant::Meant;
use crate::cli::{Filter, QueueChange, QueueCommand, QueueFilter, QueueTarget};
use crate::output;

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
    let meant = Meant::of(filter)?;
    let listed = match stopped(target)? {
        Some(_) if meant.is_nothing() => Listed { entries: Vec::new(), more: false },
        Some(stopped) => stopped.list(&meant.query(limit)?)?,
        None => list_running(&Client::of(target.config.as_deref(), target.admin)?, &meant, limit)?,
    };
    if json {
        listed.entries.iter().try_for_each(output::json)?;
        if listed.more {
            output::complain(&anyhow::anyhow!("there are more entries than these: --limit shows more"));
        }
    } else {
        show::list(&listed.entries, listed.more, meant.is_everything())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn list_running(client: &Client, meant: &Meant, limit: usize) -> anyhow::Result<Listed> {
    let mut listed = Listed { entries: Vec::new(), more: false };
    for mut parameters in meant.requests() {
        parameters.push(("limit", limit.to_string()));
        let answer = client.get("queue", &parameters)?;
        listed.entries.extend(answer["entries"].as_array().cloned().unwrap_or_default());
        listed.more |= answer["more"] == true;
    }
    listed.more |= listed.entries.len() > limit;
    listed.entries.truncate(limit);
    Ok(listed)
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
        return wrong("a stopped data directory can only be read: start the gateway to change its queue");
    }
    let meant = Meant::of(&change.filter)?;
    if meant.is_everything() && !change.all {
        return wrong("say which messages are meant: an id, a filter, or --all");
    }
    let client = Client::of(change.target.config.as_deref(), change.target.admin)?;
    if matches!(action, Action::Bounce | Action::Delete) && !change.yes {
        let counts = |mut parameters: Vec<_>| {
            parameters.push(("count", "true".to_owned()));
            client.get("queue", &parameters)
        };
        let count = sum(meant.requests().map(counts), ["count"])?[0];
        confirm(&format!("{} {count} entries of the queue?", action.name()))?;
    }
    let change_one = |mut parameters: Vec<_>| {
        if change.all {
            parameters.push(("all", "true".to_owned()));
        }
        client.post(&format!("queue/{}", action.name()), &parameters)
    };
    let [found, done] = sum(meant.requests().map(change_one), ["found", "done"])?;
    if change.json {
        output::json(&serde_json::json!({ "action": action.name(), "found": found, "done": done }))?;
    } else {
        output::line(&format!("{}: {done} of {found} entries", action.name()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What is to be delivered once more.
pub(crate) struct Replay<'a> {
    pub(crate) route: &'a str,
    pub(crate) filter: &'a Filter,
    /// What is held, too.
    pub(crate) held: bool,
}

/// `inrush log replay`.
pub(crate) fn replay(
    (config, admin): (Option<&Path>, Option<SocketAddr>),
    replay: &Replay<'_>,
    yes: bool,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let Replay { route, filter, held } = *replay;
    let meant = Meant::of_replay(filter);
    if meant.is_everything() {
        return wrong("say which messages are meant: --since, --until, --rcpt-domain, --sender or --id");
    }
    let client = Client::of(config, admin)?;
    let parameters = |mut parameters: Vec<(&'static str, String)>| {
        parameters.push(("route", route.to_owned()));
        parameters.extend(held.then(|| ("held", "true".to_owned())));
        parameters
    };
    if !yes {
        let counts = meant.requests().map(|one| client.get("replay", &parameters(one)));
        let [messages, recipients] = sum(counts, ["messages", "recipients"])?;
        confirm(&format!(
            "deliver {messages} messages once more, to {recipients} recipients, by route {route}?"
        ))?;
    }
    let done = meant.requests().map(|one| client.post("replay", &parameters(one)));
    let [messages, recipients] = sum(done, ["messages", "recipients"])?;
    if json {
        let done = serde_json::json!({ "action": "replay", "messages": messages, "recipients": recipients });
        output::json(&done)?;
    } else {
        output::line(&format!("{messages} messages found, {recipients} recipients are owed again"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The command line is wrong.
fn wrong(what: &'static str) -> anyhow::Result<ExitCode> {
    output::complain(&anyhow::anyhow!(what));
    Ok(ExitCode::from(2))
}

/// The sums of these fields over the answers.
fn sum<const N: usize>(
    answers: impl Iterator<Item = anyhow::Result<Value>>,
    fields: [&str; N],
) -> anyhow::Result<[u64; N]> {
    let mut sums = [0; N];
    for answer in answers {
        let answer = answer?;
        for (sum, field) in sums.iter_mut().zip(fields) {
            *sum += answer[field].as_u64().unwrap_or(0);
        }
    }
    Ok(sums)
}

/// The queue of a data directory that was named.
fn stopped(target: &QueueTarget) -> anyhow::Result<Option<Stopped>> {
    let Some(data_dir) = &target.data_dir else { return Ok(None) };
    if !data_dir.is_dir() {
        bail!("{}: no such directory", data_dir.display());
    }
    if !crate::log::has_logs(data_dir)? {
        bail!("{}: no log in it", data_dir.display());
    }
    Ok(Some(Stopped::open(data_dir)?))
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
