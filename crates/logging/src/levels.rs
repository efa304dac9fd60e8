//! What is said at all: a level, and others for single modules.

use std::fmt;
use std::str::FromStr;

use tracing::Level;
use tracing::level_filters::LevelFilter;

/// The modules that may have a level of their own, each with those below it (`inrush_gateway::session`).
pub const MODULES: [&str; 16] = [
    "inrush",
    "inrush_admin",
    "inrush_config",
    "inrush_gateway",
    "inrush_log",
    "inrush_logging",
    "inrush_metrics",
    "inrush_policy",
    "inrush_proto",
    "inrush_queue",
    "inrush_relay",
    "hickory_net",
    "hickory_proto",
    "hickory_resolver",
    "hyper",
    "tokio",
];

/// What the DNS library thinks of strange answers is for whoever asks for it: the relay says itself what came of them.
const QUIET: [&str; 3] = ["hickory_resolver", "hickory_net", "hickory_proto"];

const WORDS: [(&str, LevelFilter); 6] = [
    ("off", LevelFilter::OFF),
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

/// Why a text names no levels.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LevelError {
    /// A word that is no level.
    #[error("{0:?} is not a level: off, error, warn, info, debug or trace")]
    Level(String),
    /// A module that does not exist.
    #[error("{0:?} is not a module: {list}, or one below such as inrush_gateway::session", list = MODULES.join(", "))]
    Module(String),
    /// The same module, or the level of all others, twice.
    #[error("{0:?} is there twice")]
    Twice(String),
    /// Nothing at all.
    #[error("is empty: a level such as \"info\", or \"info,inrush_gateway=debug\"")]
    Empty,
}

/// Levels: of everything, and of single modules. Written `info,inrush_gateway=debug`; the longest module that fits decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Levels {
    others: LevelFilter,
    modules: Vec<(String, LevelFilter)>,
}

impl Default for Levels {
    fn default() -> Self {
        Self { others: LevelFilter::INFO, modules: Vec::new() }
    }
}

impl Levels {
    /// Whether a line of this module is said.
    #[must_use]
    pub fn allows(&self, module: &str, level: Level) -> bool {
        let fitting = self.modules.iter().filter(|(name, _)| is_within(module, name));
        let chosen = fitting.max_by_key(|(name, _)| name.len()).map(|(_, level)| *level);
        let quiet = || {
            let quiet = QUIET.iter().any(|name| is_within(module, name));
            if quiet { self.others.min(LevelFilter::ERROR) } else { self.others }
        };
        level <= chosen.unwrap_or_else(quiet)
    }

    /// The most that is said by any module.
    #[must_use]
    pub fn most(&self) -> LevelFilter {
        self.modules.iter().map(|(_, level)| *level).fold(self.others, LevelFilter::max)
    }
}

impl FromStr for Levels {
    type Err = LevelError;

    fn from_str(text: &str) -> Result<Self, LevelError> {
        let mut others = None;
        let mut modules: Vec<(String, LevelFilter)> = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let twice = || LevelError::Twice(part.to_owned());
            match part.split_once('=') {
                None => {
                    if others.replace(level(part)?).is_some() {
                        return Err(twice());
                    }
                }
                Some((module, word)) => {
                    let (module, level) = (module.trim(), level(word.trim())?);
                    if !MODULES.contains(&module.split("::").next().unwrap_or_default()) {
                        return Err(LevelError::Module(module.to_owned()));
                    }
                    if modules.iter().any(|(known, _)| known == module) {
                        return Err(twice());
                    }
                    modules.push((module.to_owned(), level));
                }
            }
        }
        if others.is_none() && modules.is_empty() {
            return Err(LevelError::Empty);
        }
        Ok(Self { others: others.unwrap_or(LevelFilter::INFO), modules })
    }
}

impl fmt::Display for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(word(self.others))?;
        self.modules.iter().try_for_each(|(module, level)| write!(f, ",{module}={}", word(*level)))
    }
}

/// Whether `module` is the module `name` or one below it.
fn is_within(module: &str, name: &str) -> bool {
    module.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn level(text: &str) -> Result<LevelFilter, LevelError> {
    let found = WORDS.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
    found.map(|(_, level)| *level).ok_or_else(|| LevelError::Level(text.to_owned()))
}

fn word(level: LevelFilter) -> &'static str {
    WORDS.iter().find(|(_, known)| *known == level).map_or("off", |(word, _)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(text: &str) -> Levels {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn the_longest_module_that_fits_decides() {
        let levels = levels("warn, inrush_gateway=debug,inrush_gateway::session=off");
        assert!(levels.allows("inrush_relay::settle", Level::WARN));
        assert!(!levels.allows("inrush_relay::settle", Level::INFO));
        assert!(levels.allows("inrush_gateway", Level::DEBUG));
        assert!(levels.allows("inrush_gateway::sessions", Level::DEBUG));
        assert!(!levels.allows("inrush_gateway::session::secure", Level::ERROR));
        assert_eq!(levels.most(), LevelFilter::DEBUG);
        assert_eq!(levels.to_string(), "warn,inrush_gateway=debug,inrush_gateway::session=off");
    }

    #[test]
    fn one_module_is_not_another_that_begins_like_it() {
        let levels = levels("error,inrush=trace");
        assert!(levels.allows("inrush::serve", Level::TRACE));
        assert!(!levels.allows("inrush_gateway", Level::WARN));
    }

    #[test]
    fn the_dns_library_is_quiet_unless_it_is_named() {
        assert!(!levels("debug").allows("hickory_resolver::lookup", Level::WARN));
        assert!(levels("debug").allows("hickory_resolver::lookup", Level::ERROR));
        assert!(!levels("off").allows("hickory_resolver::lookup", Level::ERROR));
        assert!(levels("info,hickory_resolver=debug").allows("hickory_resolver::lookup", Level::DEBUG));
    }

    #[test]
    fn what_is_no_level_and_no_module_is_refused() {
        let refused = |text: &str| text.parse::<Levels>().expect_err(text);
        assert_eq!(refused("loud"), LevelError::Level("loud".to_owned()));
        assert_eq!(refused("info,inrush_gatway=debug"), LevelError::Module("inrush_gatway".to_owned()));
        assert_eq!(refused("info,inrush_relay"), LevelError::Level("inrush_relay".to_owned()));
        assert_eq!(refused("info,warn"), LevelError::Twice("warn".to_owned()));
        assert_eq!(refused("hyper=off,hyper=info"), LevelError::Twice("hyper=info".to_owned()));
        assert_eq!(refused(" , "), LevelError::Empty);
        assert!(refused("info,x=debug").to_string().contains("inrush_gateway"));
    }
}
