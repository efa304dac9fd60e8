//! What steers the log lines, with its defaults.

use std::path::PathBuf;
use std::time::Duration;

use crate::form::Form;
use crate::levels::Levels;

/// The form of a line, as it was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FormatChoice {
    /// Text on a terminal, logfmt elsewhere.
    #[default]
    Auto,
    /// For people.
    Text,
    /// `key=value`, one line each.
    Logfmt,
    /// One JSON object a line.
    Json,
}

impl FormatChoice {
    /// The form on a terminal or elsewhere.
    #[must_use]
    pub fn form(self, terminal: bool) -> Form {
        match self {
            Self::Auto if terminal => Form::Text { colour: true },
            Self::Text => Form::Text { colour: terminal },
            Self::Auto | Self::Logfmt => Form::Logfmt,
            Self::Json => Form::Json,
        }
    }
}

/// Where lines go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Destination {
    /// Standard error.
    #[default]
    Stderr,
    /// The journal of systemd, by its own protocol.
    Journald,
}

/// Settings of the log lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggingSettings {
    /// The form of a line.
    pub format: FormatChoice,
    /// Where lines go.
    pub to: Destination,
    /// The socket of the journal.
    pub journal_socket: PathBuf,
    /// What is said at all.
    pub level: Levels,
    /// One line for each message.
    pub messages: bool,
    /// One line for each session.
    pub sessions: bool,
    /// Recipients that the line of a message names; the others are only counted.
    pub recipients_shown: u8,
    /// Lines of one kind in `repeats_window` that are written as they come; the others are counted. 0 = all are written.
    pub repeats_max: u32,
    /// The time over which repeats are counted.
    pub repeats_window: Duration,
}

impl Default for LoggingSettings {
    fn default() -> Self {
        Self {
            format: FormatChoice::default(),
            to: Destination::default(),
            journal_socket: PathBuf::from("/run/systemd/journal/socket"),
            level: Levels::default(),
            messages: true,
            sessions: true,
            recipients_shown: 10,
            repeats_max: 20,
            repeats_window: Duration::from_secs(10),
        }
    }
}
