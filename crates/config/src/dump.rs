//! The configuration as text: the defaults with explanations, what is in force, and `docs/configuration.md`.

use std::fmt::Write as _;

use crate::Config;
use crate::field::Field;
use crate::schema::{
    DOMAIN, DOMAIN_HELP, LISTENER, LISTENER_HELP, ROUTE, ROUTE_HELP, RouteTable, Row, SNI, SNI_HELP,
    SniTable, TABLES,
};

/// Every key with its default, its range and a line of explanation, as a file that gives exactly the defaults.
#[must_use]
pub fn dump_defaults() -> String {
    let text = Config::default().write(true);
    format!(
        "# Every key of inrush with its default. What is left out keeps its default; unknown keys are errors.\n\n{text}"
    )
}

impl Config {
    /// What is in force, as a file that gives the same again. It names the file of the token and never the token.
    #[must_use]
    pub fn dump(&self) -> String {
        self.clone().write(false)
    }

    fn write(mut self, explained: bool) -> String {
        let mut text = String::new();
        let head = |text: &mut String, header: &str, help: &str| {
            if explained {
                let _ = writeln!(text, "# {help}");
            }
            if !header.is_empty() {
                let _ = writeln!(text, "{header}");
            }
        };
        for table in TABLES {
            let header = if table.name.is_empty() { String::new() } else { format!("[{}]", table.name) };
            head(&mut text, &header, table.help);
            keys(&mut text, table.rows, &mut self, explained);
        }
        let mut sni = std::mem::take(&mut self.sni);
        for sni in &mut sni {
            head(&mut text, "[[tls.sni]]", SNI_HELP);
            keys(&mut text, SNI, sni, explained);
        }
        let mut listeners = std::mem::take(&mut self.listeners);
        for listener in &mut listeners {
            head(&mut text, "[[listener]]", LISTENER_HELP);
            keys(&mut text, LISTENER, listener, explained);
        }
        let mut domains = std::mem::take(&mut self.domains);
        for domain in &mut domains {
            head(&mut text, "[[domain]]", DOMAIN_HELP);
            keys(&mut text, DOMAIN, domain, explained);
        }
        let mut routes = std::mem::take(&mut self.routes);
        for route in &mut routes {
            head(&mut text, "[[route]]", ROUTE_HELP);
            keys(&mut text, ROUTE, route, explained);
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
        text
    }
}

fn keys<T>(text: &mut String, rows: &[Row<T>], settings: &mut T, explained: bool) {
    for row in rows {
        let field = (row.field)(settings);
        if explained {
            let _ = writeln!(
                text,
                "# {}{}",
                row.help,
                values(&field).map(|values| format!(" [{values}]")).unwrap_or_default()
            );
        }
        match field.show() {
            Some(value) => {
                let _ = writeln!(text, "{} = {value}", row.key);
            }
            None if explained => {
                let _ = writeln!(text, "# {} =", row.key);
            }
            None => {}
        }
    }
    text.push('\n');
}

/// The range of a number or the words of a choice.
fn values(field: &Field<'_>) -> Option<String> {
    match field {
        Field::Choice(choice) => Some(choice.words().join(" | ")),
        _ => field.range().map(|(low, high)| format!("{low} to {high}")),
    }
}

/// The text of `docs/configuration.md`.
#[must_use]
pub fn documentation() -> String {
    let mut text = String::from(INTRODUCTION);
    let mut config = Config::default();
    for table in TABLES {
        let title =
            if table.name.is_empty() { "Top of the file".to_owned() } else { format!("`[{}]`", table.name) };
        section(&mut text, &title, table.help, table.rows, &mut config);
        if table.name == "tls" {
            section(&mut text, "`[[tls.sni]]`", SNI_HELP, SNI, &mut SniTable::default());
        }
    }
    let mut listeners = std::mem::take(&mut config.listeners);
    let mut domains = std::mem::take(&mut config.domains);
    if let (Some(listener), Some(domain)) = (listeners.first_mut(), domains.first_mut()) {
        section(&mut text, "`[[listener]]`", LISTENER_HELP, LISTENER, listener);
        section(&mut text, "`[[domain]]`", DOMAIN_HELP, DOMAIN, domain);
        section(&mut text, "`[[route]]`", ROUTE_HELP, ROUTE, &mut RouteTable::default());
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

fn section<T>(text: &mut String, title: &str, help: &str, rows: &[Row<T>], settings: &mut T) {
    let _ = write!(text, "## {title}\n\n{help}\n\n| key | default | values | meaning |\n|---|---|---|---|\n");
    for row in rows {
        let field = (row.field)(settings);
        let value = field.show().map(|value| format!("`{value}`")).unwrap_or_default();
        let values = values(&field).unwrap_or_else(|| field.expected()).replace('|', "\\|");
        let help = row.help.replace('|', "\\|");
        let _ = writeln!(text, "| `{}` | {value} | {values} | {help} |", row.key);
    }
    text.push('\n');
}

const INTRODUCTION: &str = "\
# Configuration

One TOML file, given with `--config`, and the files `conf.d/*.toml` in the same directory in the order of their names. Tables of several
files merge, `[[listener]]`, `[[domain]]` and `[[route]]` append, and a key that is set twice is an error that names both places. Without a file the
defaults below are in force.

```toml
hostname = \"mx1.example.com\"
data_dir = \"/var/lib/inrush\"

[tls]
certificate = \"tls/fullchain.pem\"
key = \"tls/privkey.pem\"

[[listener]]
name = \"mx\"
address = [\"[::]:25\"]
tls = \"starttls\"

[[domain]]
name = \"example.com\"
recipients = \"file:recipients.example.com\"   # one address a line
```

- `inrush check` tells all mistakes at once, each with file, line, column, key and what may have been meant. Unknown keys are mistakes.
- `inrush config dump --defaults` prints every key with its default; `inrush config dump` prints what is in force.
- Sizes: `\"512B\"`, `\"25MiB\"`, `\"1GiB\"` (powers of 1024) or `\"25MB\"` (powers of 1000). Rates: `\"500B/s\"`. Durations: `\"250us\"`, `\"10ms\"`,
  `\"30s\"`, `\"5m\"`, `\"1h30m\"`, `\"2d\"`. A bare number has no unit and is refused, except 0.
- The token of the admin server and what is sent to the endpoint of `[opentelemetry]` come from files of their own; they appear in no message and no dump.

";
