//! Profiles: kinds of senders with their shares, from a TOML file or from those that come with the program.
//!
//! A mistake is told with its line; keys that are not known are mistakes. The keys are those of
//! [`SenderSettings`] and [`HostileSettings`].

use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::hostile::Behaviour;
use crate::mistakes;
use crate::sender::SenderSettings;
use crate::units;

/// Profiles that come with the program: name and text.
pub const SHIPPED: [(&str, &str); 5] = [
    ("mx", include_str!("../profiles/mx.toml")),
    ("newsletter", include_str!("../profiles/newsletter.toml")),
    ("transactional", include_str!("../profiles/transactional.toml")),
    ("submission", include_str!("../profiles/submission.toml")),
    ("abuse", include_str!("../profiles/abuse.toml")),
];

/// Most kinds of senders.
const SENDERS_MAX: usize = 64;

/// A whole profile.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// What it is like, for people.
    #[serde(default)]
    pub description: String,
    /// The well-behaved; at least one.
    #[serde(default)]
    pub sender: Vec<SenderSettings>,
    /// The others.
    #[serde(default)]
    pub hostile: Vec<HostileSettings>,
}

/// A table `[[hostile]]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostileSettings {
    /// What they do.
    pub behaviour: Behaviour,
    /// How many of them for each 100 of `--sessions`, beside those; at least one.
    pub sessions_percent: u32,
    /// Pause between two connections of the same session, e.g. `"1s"`.
    #[serde(default, deserialize_with = "duration")]
    pub pause: Option<std::time::Duration>,
    /// How long those that wait hold a connection, e.g. `"30s"`.
    #[serde(default, deserialize_with = "duration")]
    pub hold: Option<std::time::Duration>,
}

fn duration<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<std::time::Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    units::duration(&text).map(Some).map_err(serde::de::Error::custom)
}

impl Profile {
    /// The shipped one of this name, else the file.
    ///
    /// # Errors
    /// A sentence with the line.
    pub fn load(name: &str) -> Result<Self, String> {
        if let Some((_, text)) = SHIPPED.iter().find(|(shipped, _)| *shipped == name) {
            return Self::parse(text).map_err(|error| format!("{name}: {error}"));
        }
        let text = fs::read_to_string(Path::new(name)).map_err(|error| {
            let names: Vec<&str> = SHIPPED.iter().map(|(name, _)| *name).collect();
            format!("profile {name}: {error} (shipped with the program: {})", names.join(", "))
        })?;
        Self::parse(&text).map_err(|error| format!("{name}: {error}"))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut profile: Self = mistakes::parse(text)?;
        if profile.sender.is_empty() {
            return Err("there is no [[sender]]".to_owned());
        }
        if profile.sender.len() + profile.hostile.len() > SENDERS_MAX {
            return Err(format!("more than {SENDERS_MAX} tables"));
        }
        for (index, sender) in profile.sender.iter_mut().enumerate() {
            let name = sender.name.get_or_insert_with(|| format!("sender-{}", index + 1)).clone();
            sender.check(false).map_err(|error| format!("[[sender]] {name}: {error}"))?;
        }
        if profile.hostile.iter().any(|hostile| hostile.sessions_percent == 0) {
            return Err("sessions_percent must be at least 1".to_owned());
        }
        let mut names: Vec<_> = profile.sender.iter().map(|sender| &sender.name).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err("two senders have the same name".to_owned());
        }
        Ok(profile)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn shipped_profiles_are_sound() {
        for (name, _) in SHIPPED {
            let profile = Profile::load(name).unwrap();
            assert!(!profile.description.is_empty(), "{name}");
        }
        let hostile = Profile::load("abuse").unwrap().hostile;
        let all = <Behaviour as clap::ValueEnum>::value_variants();
        assert!(all.iter().all(|wanted| hostile.iter().any(|found| found.behaviour == *wanted)));
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        let told = |text: &str| Profile::parse(text).unwrap_err();
        let unknown = told("[[sender]]\nname = \"a\"\nlenght = 5\n");
        assert!(
            unknown.contains("line 3") && unknown.contains("`lenght`") && unknown.contains("`length`"),
            "{unknown}"
        );
        assert!(unknown.ends_with("did you mean `length`?"), "{unknown}");
        let bad = told("[[sender]]\nlength = \"uniform:5\"\n");
        assert!(bad.contains("line 2") && bad.contains("LEAST-MOST"), "{bad}");
        let behaviour = told("[[sender]]\n[[hostile]]\nbehaviour = \"rude\"\nsessions_percent = 1\n");
        assert!(told("[[sender]]\nname = \"a\"\n[[hostil]]\n").ends_with("did you mean `hostile`?"));
        assert!(behaviour.contains("line 3") && behaviour.contains("slowloris"), "{behaviour}");
        assert!(told("[[sender]]\nbdat_percent = 101\n").contains("sender-1: bdat_percent 101"));
        assert!(told("").contains("no [[sender]]"));
        assert!(told("[[sender]]\nname = \"a\"\n[[sender]]\nname = \"a\"\n").contains("same name"));
        assert!(
            told("[[sender]]\n[[hostile]]\nbehaviour = \"idle\"\nsessions_percent = 0\n")
                .contains("at least 1")
        );
        assert!(
            told("[[sender]]\n[[hostile]]\nbehaviour = \"idle\"\nsessions_percent = 1\npause = \"x\"\n")
                .contains("line 5")
        );
        assert!(told(&"[[sender]]\n".repeat(65)).contains("64"));
        assert!(Profile::load("/nowhere").unwrap_err().contains("newsletter"));
    }
}
