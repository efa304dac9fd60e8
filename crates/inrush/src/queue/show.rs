//! The queue as people read it.

use std::io;

use serde_json::Value;

use crate::output::{line, printable};

/// As `mailq` has it: a `*` behind an id means that it is being tried, a `!` that it is held.
pub(super) fn list(items: &[Value]) -> io::Result<()> {
    if items.is_empty() {
        return line("Mail queue is empty");
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
            item["octets"],
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
    line(&format!("-- {} Kbytes in {} requests.", octets.div_ceil(1024), items.len()))
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

fn came_in(life: &Value) -> io::Result<()> {
    let session = &life["session"];
    line(&format!(
        "came in   {} from {}{} helo={}{}{}",
        text(&session["listener"]),
        some("", &session["client"]),
        some(" ", &session["client_name"]),
        text(&session["helo"]),
        some(" tls=", &session["tls_version"]),
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

/// A text as a person may see it: what is in it came from others.
fn text(value: &Value) -> String {
    printable(value.as_str().unwrap_or_default().as_bytes())
}
