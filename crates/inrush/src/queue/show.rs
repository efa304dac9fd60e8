//! The queue as people read it.

use std::io;

use serde_json::Value;

use crate::output::{line, printable};

/// As `mailq` has it: a `*` behind an id means that it is being tried, a `!` that it is held. `more`: there are more than these; `everything`: they were
/// chosen by nothing.
pub(super) fn list(items: &[Value], more: bool, everything: bool) -> io::Result<()> {
    if items.is_empty() {
        return line(if everything { "Mail queue is empty" } else { "Nothing in the mail queue fits" });
    }
    line("-Queue ID-----------  --Size--  ----Arrival Time----  -Sender/Recipients-------")?;
    let mut octets = 0;
    for item in items {
        octets += item["octets"].as_u64().unwrap_or(0);
        let mark = match text(&item["state"]).as_str() {
            "active" => '*',
            "hold" => '!',
            _ => ' ',
        };
        let accepted = text(&item["accepted_at"]);
        let accepted = accepted.get(..19).unwrap_or(&accepted).replace('T', " ");
        let sender = Some(text(&item["sender"])).filter(|sender| !sender.is_empty());
        line(&format!(
            "{}{mark} {:>8}  {accepted:<20}  {}",
            text(&item["id"]),
            item["octets"].to_string(),
            sender.unwrap_or_else(|| "MAILER-DAEMON".to_owned()),
        ))?;
        let reason = text(&item["reason"]);
        if !reason.is_empty() {
            line(&format!("    ({reason})"))?;
        }
        for recipient in item["recipients"].as_array().into_iter().flatten() {
            line(&format!("{:56}{}", "", text(recipient)))?;
        }
        line("")?;
    }
    line(&format!("-- {} Kbytes in {} requests.", octets.div_ceil(1024), items.len()))?;
    if more {
        line("-- There are more: --limit shows more, filters show fewer.")?;
    }
    Ok(())
}

/// The life of a message, in the order in which it happened.
pub(super) fn life(life: &Value) -> io::Result<()> {
    line(&format!("message   {}", text(&life["id"])))?;
    line(&format!("from      <{}>", text(&life["sender"])))?;
    if life["in_log"] == true {
        line(&format!("octets    {}", life["octets"]))?;
        came_in(life)?;
    } else {
        line("          (no longer in the log; this is what its deliveries have left)")?;
    }
    line("recipients")?;
    for recipient in array(&life["recipients"]) {
        let reply = text(&recipient["reply"]);
        let reply = if reply.is_empty() { reply } else { format!(" ({reply})") };
        let dsn = text(&recipient["dsn"]);
        line(&format!(
            "  <{}> {}{}{reply}",
            text(&recipient["address"]),
            text(&recipient["status"]),
            if dsn.is_empty() { dsn } else { format!(" {dsn}") },
        ))?;
    }
    for attempt in array(&life["attempts"]) {
        line(&format!(
            "{}  {} {}{}{}",
            text(&attempt["at"]),
            text(&attempt["what"]).replace('_', " "),
            text(&attempt["destination"]),
            some(" relay=", &attempt["relay"]),
            some(" tls=", &attempt["tls"]),
        ))?;
        times(attempt)?;
        for result in array(&attempt["results"]) {
            line(&format!(
                "  <{}> {} {} ({}){}{}",
                text(&result["address"]),
                text(&result["status"]),
                text(&result["dsn"]),
                text(&result["reply"]),
                some(", next attempt ", &result["next_attempt"]),
                if result["sender_told"] == true { ", sender told" } else { "" },
            ))?;
        }
    }
    for entry in array(&life["queue"]) {
        line(&format!(
            "waits     {} for {}{}",
            text(&entry["state"]),
            text(&entry["destination"]),
            some(", next attempt ", &entry["next_attempt"]),
        ))?;
    }
    Ok(())
}

/// When the steps of an attempt were, those that it came to.
fn times(attempt: &Value) -> io::Result<()> {
    let steps = [("taken up", "taken_up_at"), ("connected", "connected_at"), ("sent", "sent_at")];
    let came = steps.into_iter().filter(|(_, field)| !attempt[field].is_null());
    let came: Vec<_> = came.map(|(step, field)| format!("{step} {}", text(&attempt[field]))).collect();
    if came.is_empty() { Ok(()) } else { line(&format!("  {}", came.join(", "))) }
}

fn came_in(life: &Value) -> io::Result<()> {
    let session = &life["session"];
    line(&format!(
        "came in   {} from {}{} helo={}{}{}{}",
        text(&session["listener"]),
        some("", &session["client"]),
        some(" ", &session["client_name"]),
        text(&session["helo"]),
        some(" tls=", &session["tls_version"]),
        some(" ", &session["tls_cipher"]),
        some(" user=", &session["user"]),
    ))?;
    let mut phases: Vec<_> = life["phases"].as_object().into_iter().flatten().collect();
    phases.sort_by_key(|(_, at)| text(at));
    for (phase, at) in phases {
        line(&format!("{}  {phase}", text(at)))?;
    }
    Ok(())
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn some(before: &str, value: &Value) -> String {
    if value.is_null() { String::new() } else { format!("{before}{}", text(value)) }
}

/// A text as a person may see it: what is in it came from others. A reply of several lines stands on one.
fn text(value: &Value) -> String {
    printable(value.as_str().unwrap_or_default().replace('\n', " ").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_others_stay_on_their_line() {
        assert_eq!(text(&Value::from("no\nsuch user")), "no such user");
        assert_eq!(text(&Value::from("\u{1b}[2J\rx")), "\\u{1b}[2J\\u{d}x");
    }
}
