//! What differs between two configurations, setting by setting.

use std::fmt;

/// Tables that a running gateway takes over.
const TAKEN_OVER: [&str; 5] = ["[access]", "[tls]", "[[tls.sni]]", "[[domain]]", "[logging]"];

/// What it does not take over of them: the log stays where it is.
const STAYS: [(&str, &str); 2] = [("[logging]", "to"), ("[logging]", "journal_socket")];

/// Tables of which there may be several, each with a name.
const NAMED: [&str; 4] = ["[[listener]]", "[[route]]", "[[domain]]", "[[tls.sni]]"];

/// When a change takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// The running gateway takes it over.
    Now,
    /// It waits for the next start, or the next upgrade.
    AtStart,
}

/// A setting that differs. Displays as `[limits] errors_max = 20, was 10`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// With its table.
    setting: String,
    was: Option<String>,
    is: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { setting, was, is } = self;
        match (was, is) {
            (Some(was), Some(is)) => write!(f, "{setting} = {is}, was {was}"),
            (None, Some(is)) => write!(f, "{setting} = {is}, is new"),
            (Some(was), None) => write!(f, "{setting} is taken out, was {was}"),
            (None, None) => f.write_str(setting),
        }
    }
}

/// The settings with this effect that differ between two dumps of a configuration, in the order of the later one.
pub(super) fn changes(before: &str, after: &str, effect: Effect) -> Vec<Change> {
    let (mut before, after) = (settings(before, effect), settings(after, effect));
    let mut changes = Vec::new();
    for (setting, is) in after {
        let was = before.iter().position(|(other, _)| *other == setting).map(|at| before.remove(at).1);
        if was.as_ref() != Some(&is) {
            changes.push(Change { setting, was, is: Some(is) });
        }
    }
    let gone = before.into_iter().map(|(setting, was)| Change { setting, was: Some(was), is: None });
    changes.extend(gone);
    changes
}

/// Settings of a dump with their values, each behind the name of its table.
fn settings(dump: &str, effect: Effect) -> Vec<(String, String)> {
    let mut table = String::new();
    let mut place = String::new();
    let mut settings = Vec::new();
    for line in dump.lines().filter(|line| !line.is_empty()) {
        if line.starts_with('[') {
            line.clone_into(&mut table);
            line.clone_into(&mut place);
        } else if let Some((key, value)) = line.split_once(" = ") {
            if key == "name" && NAMED.contains(&table.as_str()) {
                place = format!("{table} {value}");
            }
            let now = TAKEN_OVER.contains(&table.as_str()) && !STAYS.contains(&(&table, key));
            if now == (effect == Effect::Now) {
                settings.push((format!("{place} {key}").trim().to_owned(), value.to_owned()));
            }
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(before: &str, after: &str, effect: Effect) -> Vec<String> {
        changes(before, after, effect).iter().map(Change::to_string).collect()
    }

    #[test]
    fn what_waits_for_a_restart_is_named() {
        let before = "hostname = \"a\"\n\n[limits]\nerrors_max = 10\n\n[tls]\nkey = \"k\"\n";
        assert!(told(before, before, Effect::AtStart).is_empty());
        let after = "hostname = \"b\"\n\n[limits]\nerrors_max = 20\n\n[tls]\nkey = \"l\"\n";
        assert_eq!(
            told(before, after, Effect::AtStart),
            ["hostname = \"b\", was \"a\"", "[limits] errors_max = 20, was 10"]
        );
        assert_eq!(told(before, after, Effect::Now), ["[tls] key = \"l\", was \"k\""]);
        let two = |one: &str, other: &str| {
            let listener =
                |name: &str, tls: &str| format!("[[listener]]\nname = \"{name}\"\ntls = \"{tls}\"\n");
            listener("a", one) + &listener("b", other)
        };
        assert_eq!(
            told(&two("off", "starttls"), &two("starttls", "off"), Effect::AtStart),
            [
                "[[listener]] \"a\" tls = \"starttls\", was \"off\"",
                "[[listener]] \"b\" tls = \"off\", was \"starttls\""
            ]
        );
        let (before_log, after_log) = (
            "[logging]\nformat = \"auto\"\nto = \"stderr\"\n",
            "[logging]\nformat = \"json\"\nto = \"journald\"\n",
        );
        assert_eq!(
            told(before_log, after_log, Effect::AtStart),
            ["[logging] to = \"journald\", was \"stderr\""]
        );
        assert_eq!(told(before_log, after_log, Effect::Now), ["[logging] format = \"json\", was \"auto\""]);
        let less = "hostname = \"a\"\n\n[tls]\nkey = \"k\"\n";
        assert_eq!(told(before, less, Effect::AtStart), ["[limits] errors_max is taken out, was 10"]);
    }

    #[test]
    fn what_comes_and_goes_is_named() {
        let domain = |name: &str| format!("[[domain]]\nname = \"{name}\"\nrecipients = \"any\"\n");
        let (one, two) = (domain("a.example"), domain("a.example") + &domain("b.example"));
        assert_eq!(
            told(&one, &two, Effect::Now),
            [
                "[[domain]] \"b.example\" name = \"b.example\", is new",
                "[[domain]] \"b.example\" recipients = \"any\", is new"
            ]
        );
        assert!(told(&one, &two, Effect::AtStart).is_empty());
        assert_eq!(told(&two, &one, Effect::Now).len(), 2);
    }
}
