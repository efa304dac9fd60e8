//! A crate imports only from floors below its own. The floors stand in a table at the head of the root `Cargo.toml`:
//! `#   3  gateway, admin`. Tests, benches and tasks stand on top: they may import anything and nobody imports them.

use std::collections::HashMap;

use anyhow::{Context, bail};

use super::Findings;
use super::files::Tree;

/// Outside the house.
const ON_TOP: &[&str] = &["xtask", "inrush-tests", "inrush-dialog", "inrush-bench-micro", "inrush-floor"];

/// Imports inside one floor that are meant: importer, imported. `proto` is built around the one pass of `scan`, which knows
/// nothing of mail; the two are one floor because nothing else may come between them.
const MEANT: &[(&str, &str)] = &[("inrush-proto", "inrush-scan")];

/// Imports from the same floor or above, and crates that the table does not name.
pub(crate) fn check(tree: &Tree) -> Findings {
    let root = tree.files.iter().find(|file| file.path == "Cargo.toml").context("no Cargo.toml")?;
    let floors = table(&root.text)?;
    let mut findings = Vec::new();
    for file in tree.ending("/Cargo.toml").filter(|file| !file.path.starts_with("tests/fuzz/")) {
        let manifest: toml::Table = file.text.parse().with_context(|| file.path.clone())?;
        let name = manifest.get("package").and_then(|package| package.get("name")?.as_str());
        let name = name.with_context(|| format!("{}: no name", file.path))?;
        if ON_TOP.contains(&name) {
            continue;
        }
        let Some(&floor) = floors.get(name) else {
            findings.push(format!("{name} has no floor in the table of Cargo.toml"));
            continue;
        };
        for import in imports(&manifest) {
            let below = floors.get(import).is_some_and(|&other| other < floor);
            if import.starts_with("inrush") && !below && !MEANT.contains(&(name, import)) {
                findings.push(format!("{name} (floor {floor}) imports {import}"));
            }
        }
    }
    Ok(findings)
}

/// What a crate is built from; what only its tests use does not count.
fn imports(manifest: &toml::Table) -> Vec<&str> {
    let mut tables = vec![manifest.get("dependencies"), manifest.get("build-dependencies")];
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    tables.extend(targets.into_iter().flatten().map(|(_, target)| target.get("dependencies")));
    let tables = tables.into_iter().flatten().filter_map(toml::Value::as_table);
    tables.flat_map(|table| table.keys().map(String::as_str)).collect()
}

/// Package name → floor.
fn table(text: &str) -> anyhow::Result<HashMap<String, u32>> {
    let mut floors = HashMap::new();
    for line in text.lines().take_while(|line| line.starts_with('#')) {
        let mut words = line.trim_start_matches('#').trim().splitn(2, ' ');
        let (Some(Ok(floor)), Some(names)) = (words.next().map(str::parse::<u32>), words.next()) else {
            continue;
        };
        for name in names.split(',') {
            let name = name.trim().split(' ').next().unwrap_or_default();
            let package = if name.starts_with("inrush") { name.into() } else { format!("inrush-{name}") };
            floors.insert(package, floor);
        }
    }
    if floors.is_empty() {
        bail!("no table of floors at the head of Cargo.toml");
    }
    Ok(floors)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(importer: &str, imported: &str) -> anyhow::Result<Vec<String>> {
        let manifest =
            format!("[package]\nname = \"{importer}\"\n[dependencies]\n{imported}.workspace = true\n");
        check(&Tree::of(&[
            (
                "Cargo.toml",
                "# Floors\n#   5  inrush (binary)\n#   3  gateway, admin\n#   0  scan, proto, log\n\n",
            ),
            ("crates/x/Cargo.toml", &manifest),
        ]))
    }

    #[test]
    fn only_downwards() -> anyhow::Result<()> {
        assert!(findings("inrush-gateway", "inrush-proto")?.is_empty());
        assert!(findings("inrush-proto", "inrush-scan")?.is_empty());
        assert_eq!(findings("inrush-gateway", "inrush-admin")?.len(), 1);
        assert_eq!(findings("inrush-log", "inrush-gateway")?.len(), 1);
        assert_eq!(findings("inrush-unheard", "inrush-log")?.len(), 1);
        assert_eq!(findings("inrush-gateway", "inrush-tests")?.len(), 1);
        Ok(())
    }
}
