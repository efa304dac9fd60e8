//! The licence of every dependency against the allow-list of `deny.toml`, with cargo alone, so that no other tool has to be
//! there. The file is the one that `cargo deny check licenses` reads.

use std::collections::HashSet;

use anyhow::Context;
use serde_json::Value;

use super::Findings;
use super::files::Tree;
use crate::run;

/// Packages whose licence expression is not met by the allow-list.
pub(crate) fn check(tree: &Tree) -> Findings {
    let file = tree.files.iter().find(|file| file.path == "deny.toml").context("no deny.toml")?;
    let allowed = allowed(&file.text)?;
    let metadata = run::output(run::cargo().args(["metadata", "--locked", "--format-version", "1"]))?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"].as_array().context("cargo metadata names no packages")?;
    let mut findings = Vec::new();
    for package in packages {
        let (name, licence) = (&package["name"], package["license"].as_str());
        match licence {
            Some(licence) if met(licence, &allowed) => {}
            Some(licence) => findings.push(format!("{name}: {licence}")),
            None => findings.push(format!("{name}: no licence expression")),
        }
    }
    Ok(findings)
}

fn allowed(text: &str) -> anyhow::Result<HashSet<String>> {
    let table: toml::Table = text.parse()?;
    let list = table.get("licenses").and_then(|licences| licences.get("allow")?.as_array());
    let list = list.context("deny.toml has no licenses.allow")?;
    Ok(list.iter().filter_map(|licence| licence.as_str().map(str::to_owned)).collect())
}

/// Whether an SPDX expression can be met. `/` is the old way to write OR. `X WITH Y` is one licence.
fn met(expression: &str, allowed: &HashSet<String>) -> bool {
    let spaced =
        expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ").replace(" WITH ", "\u{1}");
    let tokens: Vec<String> =
        spaced.split_whitespace().map(|token| token.replace('\u{1}', " WITH ")).collect();
    let mut rest = tokens.as_slice();
    either(&mut rest, allowed) && rest.is_empty()
}

/// `a OR b OR …`; OR binds weaker than AND (SPDX specification, annex D.4.5).
fn either(rest: &mut &[String], allowed: &HashSet<String>) -> bool {
    let mut met = both(rest, allowed);
    while rest.first().is_some_and(|token| token == "OR") {
        *rest = &rest[1..];
        met |= both(rest, allowed);
    }
    met
}

fn both(rest: &mut &[String], allowed: &HashSet<String>) -> bool {
    let mut met = one(rest, allowed);
    while rest.first().is_some_and(|token| token == "AND") {
        *rest = &rest[1..];
        met &= one(rest, allowed);
    }
    met
}

fn one(rest: &mut &[String], allowed: &HashSet<String>) -> bool {
    let Some((token, behind)) = rest.split_first() else { return false };
    *rest = behind;
    if token != "(" {
        return allowed.contains(token);
    }
    let met = either(rest, allowed);
    match rest.split_first() {
        Some((close, behind)) if close == ")" => {
            *rest = behind;
            met
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions() {
        let allowed = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"].map(String::from).into();
        for (expression, expected) in [
            ("MIT", true),
            ("GPL-3.0-only", false),
            ("GPL-3.0-only OR MIT", true),
            ("MIT/GPL-2.0", true),
            ("MIT AND GPL-3.0-only", false),
            ("(MIT OR GPL-3.0-only) AND ISC", true),
            ("MIT OR GPL-3.0-only AND Zlib", true),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("Apache-2.0", false),
            ("(MIT", false),
            ("", false),
        ] {
            assert_eq!(met(expression, &allowed), expected, "{expression}");
        }
    }
}
