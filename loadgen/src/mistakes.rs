//! Mistakes in TOML files: what the parser says about an unknown key, with the key that was probably meant.

use serde::de::DeserializeOwned;

/// Reads a file's text.
///
/// # Errors
/// The parser's words with the line, and a suggestion where a key is like the one that is not known.
pub(crate) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let said = error.to_string();
        match meant(error.message()) {
            Some(meant) => format!("{}\ndid you mean `{meant}`?", said.trim_end()),
            None => said,
        }
    })
}

/// The word most like the wrong one, out of serde's "unknown field `x`, expected one of `a`, `b`".
fn meant(message: &str) -> Option<&str> {
    let (wrong, known) = message.split_once(", expected ")?;
    let wrong = wrong.split('`').nth(1)?;
    let known = known.split('`').skip(1).step_by(2);
    let nearest = known.map(|known| (strsim::damerau_levenshtein(wrong, known), known)).min()?;
    // As for the gateway's configuration: a third of its letters may be wrong.
    (nearest.0 <= (wrong.chars().count() / 3).max(1)).then_some(nearest.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_meant_if_it_is_near() {
        let all = "unknown field `lenght`, expected one of `name`, `length`, `weight`";
        assert_eq!(meant(all), Some("length"));
        assert_eq!(meant("unknown field `recipents`, expected `recipients`"), Some("recipients"));
        assert_eq!(meant("unknown variant `idel`, expected one of `garbage`, `idle`"), Some("idle"));
        assert_eq!(meant("unknown field `colour`, expected one of `name`, `length`"), None);
        assert_eq!(meant("invalid type: integer `5`, expected a string"), None);
    }
}
