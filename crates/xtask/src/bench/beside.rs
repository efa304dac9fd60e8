//! What a tool that reads the log costs the gateway beside it.
//!
//! One load in a closed loop from the begin to the end; `inrush log verify` runs in every second window of it, over and over. Each such window is compared
//! with the mean of the windows before and after it, so that a drift of the machine falls out.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use inrush_tests::http::Samples;
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;

use super::generator;
use super::report::Summary;
use crate::test;

/// What is in the log before anything is measured.
const WARMUP: Duration = Duration::from_secs(5);
/// How often the tool is looked after.
const LOOK: Duration = Duration::from_millis(20);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Windows with the tool
    #[arg(long, default_value_t = 25)]
    rounds: u32,
    /// Milliseconds of each window
    #[arg(long, default_value_t = 1500)]
    window: u64,
    /// Octets of a message
    #[arg(long, default_value_t = 4096)]
    length: u32,
    /// Cores of the gateway
    #[arg(long, default_value_t = 1)]
    cores: u8,
    /// Where the log lies
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    folder: PathBuf,
}

/// Measures and prints.
///
/// # Errors
/// The gateway, the load or the tool cannot be started, or mail is refused.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let [(_, gateway), (_, load)] = test::release_binaries()?;
    let folder = tempfile::Builder::new().prefix("inrush-beside-").tempdir_in(&arguments.folder)?;
    let data = folder.path().join("data");
    let settings = Settings {
        binary: Some(gateway.clone()),
        top: vec![format!("cores = {}", arguments.cores)],
        ..Settings::default()
    };
    let server = Server::with(settings.data(&data).log(&[]));
    let window = Duration::from_millis(arguments.window);
    let whole = WARMUP + window * (2 * arguments.rounds + 2);
    let mut command = generator::closed_loop(&load, server.mx(), arguments.length);
    command.args(["--duration", &format!("{}s", whole.as_secs() + 2)]).stdout(Stdio::null());
    let mut generator = Ended(command.spawn().context("inrush-load")?);
    std::thread::sleep(WARMUP);
    let mut alone = vec![rate(&server, window, || Ok(()))?];
    let mut beside = Vec::new();
    for _ in 0..arguments.rounds {
        let mut tool = None;
        beside.push(rate(&server, window, || keep_running(&mut tool, &gateway, &data))?);
        drop(tool);
        alone.push(rate(&server, window, || Ok(()))?);
    }
    ensure!(generator.0.wait()?.success(), "inrush-load failed");
    let ratios =
        beside.iter().zip(alone.windows(2)).map(|(rate, around)| 2.0 * rate / (around[0] + around[1]));
    println!("\n| figure | median | least | most |\n|---|---|---|---|");
    for (name, summary) in [
        ("alone, messages/s", Summary::of(alone.iter().copied())),
        ("beside `log verify`, messages/s", Summary::of(beside.iter().copied())),
        ("beside against alone", Summary::of(ratios)),
    ] {
        let Summary { median, least, greatest } = summary;
        println!("| {name} | {median:.2} | {least:.2} | {greatest:.2} |");
    }
    Ok(())
}

/// Messages a second over a window, in which `look` is called now and then.
fn rate(
    server: &Server,
    window: Duration,
    mut look: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<f64> {
    let accepted = || Samples::scrape(server.admin()).sum("inrush_messages_accepted_total", &[]);
    let (begin, before) = (Instant::now(), accepted());
    while begin.elapsed() < window {
        look()?;
        std::thread::sleep(LOOK);
    }
    Ok((accepted() - before) / begin.elapsed().as_secs_f64())
}

/// Starts the tool again when it has ended.
fn keep_running(tool: &mut Option<Ended>, gateway: &Path, data: &Path) -> anyhow::Result<()> {
    let ended = match tool {
        Some(running) => running.0.try_wait()?,
        None => None,
    };
    if let Some(status) = ended {
        ensure!(status.success(), "inrush log verify: {status}");
    }
    if tool.is_none() || ended.is_some() {
        let mut command = Command::new(gateway);
        command.args(["log", "verify", "--data-dir"]).arg(data).stdout(Stdio::null()).stderr(Stdio::null());
        *tool = Some(Ended(command.spawn()?));
    }
    Ok(())
}

/// A process that ends with its handle.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
