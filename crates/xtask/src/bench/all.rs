//! Everything that a release shows, one benchmark after the other, into one folder and one page.
//!
//! Each runs as the command that its JSON names. One that fails does not end the others; it is named at the end.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::page;
use super::rivals;
use crate::run;

/// One benchmark takes no longer.
const LIMIT: Duration = Duration::from_secs(60 * 60);

#[derive(Clone, clap::Args)]
pub(crate) struct Arguments {
    /// Where the JSON files, the page and its plots go
    #[arg(long, default_value = "target/bench")]
    into: PathBuf,
    /// Name of the page, without its end
    #[arg(long, default_value = "release")]
    name: String,
    /// Where logs and queues lie
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    folder: PathBuf,
    /// One round with few messages: whether everything runs. Its figures say nothing
    #[arg(long)]
    quick: bool,
}

/// Runs all of them and makes the page.
///
/// # Errors
/// One of them has failed, or the page cannot be written.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    std::fs::create_dir_all(&arguments.into).with_context(|| arguments.into.display().to_string())?;
    let program = std::env::current_exe()?;
    let begin = Instant::now();
    let (mut files, mut failed) = (Vec::new(), Vec::new());
    for (name, words) in plan(&rivals::there(), arguments.quick) {
        run::step(name);
        let file = arguments.into.join(format!("{name}.json"));
        let mut command = Command::new(&program);
        command.arg("bench").args(words).arg("--json").arg(&file);
        if !["idle", "micro"].contains(&name) {
            command.arg("--folder").arg(&arguments.folder);
        }
        match run::must(&mut command, LIMIT) {
            Ok(()) => files.push(file),
            Err(error) => failed.push(format!("{name}: {error:#}")),
        }
    }
    if !files.is_empty() {
        page::run(&page::Arguments {
            results: files,
            name: arguments.name.clone(),
            folder: Some(arguments.into.clone()),
        })?;
    }
    println!("   all in {:.0} minutes", begin.elapsed().as_secs_f64() / 60.0);
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

/// The name of each result and the command behind `bench`.
fn plan(servers: &str, quick: bool) -> Vec<(&'static str, Vec<String>)> {
    let plan: [(&str, &str, &str); 11] = [
        ("system", "system", "--rounds 1 --percent 20"),
        ("label", "compare --label --servers SERVERS", ""),
        (
            "compare",
            "compare --servers SERVERS --lengths 4096,65536 --rounds 5 --rival-messages 2000",
            "--rounds 1 --messages 500 --rival-messages 100",
        ),
        (
            "compare-one-core",
            "compare --servers smtp-sink --cores 1 --lengths 4096,65536 --rounds 5",
            "--rounds 1 --messages 500",
        ),
        (
            "compare-inrush-load",
            "compare --servers SERVERS --lengths 4096 --rounds 5 --rival-messages 2000 --generator inrush-load",
            "--rounds 1 --messages 500 --rival-messages 100",
        ),
        ("scale", "scale --rounds 5", "--rounds 1 --messages 3000 --connections 10,100 --log-mib 0,16"),
        (
            "segments",
            "scale --along log --rounds 3 --segment-mib 4 --log-mib 400,3200",
            "--rounds 1 --messages 3000 --log-mib 0,16",
        ),
        ("large", "large", "--rounds 1 --messages 10 --seconds 1"),
        ("latency", "latency", "--rounds 1 --seconds 1"),
        ("idle", "idle", "--rounds 1 --connections 500"),
        ("micro", "micro", "--rounds 1"),
    ];
    plan.map(|(name, words, quickly)| {
        let mut servers = servers.to_owned();
        if name == "compare-inrush-load" {
            // Connections that its listen queue drops without a word wait for their greeting until the generator gives up.
            servers =
                servers.split(',').filter(|server| *server != "opensmtpd").collect::<Vec<_>>().join(",");
        }
        let mut all: Vec<String> = words
            .split(' ')
            .map(|word| if word == "SERVERS" { servers.as_str() } else { word }.to_owned())
            .collect();
        if quick {
            // clap takes an option once.
            let mut quickly = quickly.split_whitespace();
            while let (Some(option), Some(value)) = (quickly.next(), quickly.next()) {
                if let Some(at) = all.iter().position(|word| word == option) {
                    all.drain(at..at + 2);
                }
                all.extend([option.to_owned(), value.to_owned()]);
            }
        }
        (name, all)
    })
    .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quick_run_says_every_option_once() {
        for (name, words) in plan("postfix,exim", true) {
            let options: Vec<&String> = words.iter().filter(|word| word.starts_with("--")).collect();
            let mut once = options.clone();
            once.sort();
            once.dedup();
            assert_eq!(once.len(), options.len(), "{name}: {words:?}");
            assert!(!words.contains(&"SERVERS".to_owned()));
        }
    }
}
