//! What goes on beside the gateway costs it: a tool that reads its log, or those who watch it.
//!
//! One load in a closed loop from the begin to the end; what is measured runs in every second window of it. Each such window is compared with the mean of
//! the windows before and after it, so that a drift of the machine falls out.

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use inrush_tests::http::Samples;
use inrush_tests::process;
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;
use inrush_tests::terminal::Terminal;

use super::result::{CPU, Files, Outcome, RATE};
use super::{generator, scrape};
use crate::test;

/// What is in the log before anything is measured.
const WARMUP: Duration = Duration::from_secs(5);
/// Until those who watch have their first picture, and until they are gone.
const SETTLING: Duration = Duration::from_millis(1_100);
/// How often the tool is looked after.
const LOOK: Duration = Duration::from_millis(20);
/// Dashboards that are open.
const DASHBOARDS: usize = 3;
/// Of Prometheus by default.
const SCRAPE_INTERVAL: Duration = Duration::from_secs(1);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What runs beside it
    #[arg(long, value_enum, default_value_t = Beside::Verify)]
    what: Beside,
    /// Windows with it
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
    /// The gateway to measure, instead of the release build of this tree
    #[arg(long)]
    binary: Option<PathBuf>,
    #[command(flatten)]
    files: Files,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Beside {
    /// `inrush log verify`, over and over
    Verify,
    /// A scrape a second, three open dashboards and `inrush top`
    Watchers,
}

impl Beside {
    fn name(self) -> &'static str {
        match self {
            Self::Verify => "beside log verify",
            Self::Watchers => "beside a scrape a second, three dashboards and inrush top",
        }
    }
}

/// Measures and prints.
///
/// # Errors
/// The gateway, the load or what runs beside it cannot be started, mail is refused, or somebody who watches has seen nothing.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let [(_, release), (_, load)] = test::release_binaries()?;
    let gateway = arguments.binary.clone().unwrap_or(release);
    let folder = tempfile::Builder::new().prefix("inrush-beside-").tempdir_in(&arguments.folder)?;
    let data = folder.path().join("data");
    let settings = Settings {
        binary: Some(gateway.clone()),
        top: vec![format!("cores = {}", arguments.cores)],
        ..Settings::default()
    };
    let server = Server::with(settings.data(&data).log(&[]));
    let window = Duration::from_millis(arguments.window);
    let whole = WARMUP + (window + SETTLING) * (2 * arguments.rounds + 2);
    let mut command = generator::closed_loop(&load, server.mx(), arguments.length);
    command.args(["--duration", &format!("{}s", 2 * whole.as_secs())]).stdout(Stdio::null());
    let mut generator = Ended(command.spawn().context("inrush-load")?);
    thread::sleep(WARMUP);
    let mut alone = vec![measured(&server, window, || Ok(()))?];
    let mut beside = Vec::new();
    for _ in 0..arguments.rounds {
        beside.push(match arguments.what {
            Beside::Verify => {
                let mut tool = None;
                measured(&server, window, || keep_running(&mut tool, &gateway, &data))?
            }
            Beside::Watchers => {
                let watchers = Watchers::begin(&server, &gateway)?;
                thread::sleep(SETTLING);
                let seen = measured(&server, window, || Ok(()))?;
                watchers.end()?;
                seen
            }
        });
        thread::sleep(SETTLING);
        alone.push(measured(&server, window, || Ok(()))?);
    }
    ensure!(generator.0.try_wait()?.is_none(), "the load has ended before the last window");
    generator::interrupt(&generator.0)?;
    let counts = Samples::scrape(server.admin());
    let refused = counts.sum("inrush_refusals_total", &[]);
    ensure!(refused == 0.0, "{refused} refusals");
    publish(arguments, &alone, &beside)
}

fn publish(arguments: &Arguments, alone: &[Window], beside: &[Window]) -> anyhow::Result<()> {
    let mut outcome = Outcome::begin("beside", &arguments.folder);
    outcome.set("cores", arguments.cores);
    outcome.set("window, ms", arguments.window);
    outcome.notes.push(
        "`alone` is the mean of the two windows around each that it is compared with. What runs beside the gateway has its processor time from the same \
         cores; that of the server is its own only."
            .to_owned(),
    );
    let scenario = format!("{} octets", arguments.length);
    let name = arguments.what.name();
    for (beside, around) in beside.iter().zip(alone.windows(2)) {
        for (figure, of) in [(RATE, Window::rate as fn(&Window) -> f64), (CPU, Window::cpu)] {
            outcome.add(&scenario, "alone", figure, None, f64::midpoint(of(&around[0]), of(&around[1])));
            outcome.add(&scenario, name, figure, None, of(beside));
        }
    }
    outcome.relate(name, "alone", RATE);
    outcome.relate(name, "alone", CPU);
    outcome.publish(&arguments.files)
}

/// What the gateway has done in a window.
struct Window {
    seconds: f64,
    messages: f64,
    cpu_seconds: f64,
}

impl Window {
    fn rate(&self) -> f64 {
        self.messages / self.seconds
    }

    /// Microseconds a message.
    fn cpu(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.messages
    }
}

/// A window, in which `look` is called now and then.
fn measured(
    server: &Server,
    window: Duration,
    mut look: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Window> {
    let counters = || {
        let samples = Samples::scrape(server.admin());
        (
            samples.sum("inrush_messages_accepted_total", &[]),
            samples.sum("inrush_process_cpu_seconds_total", &[]),
        )
    };
    let (begin, before) = (Instant::now(), counters());
    while begin.elapsed() < window {
        look()?;
        thread::sleep(LOOK);
    }
    let after = counters();
    Ok(Window {
        seconds: begin.elapsed().as_secs_f64(),
        messages: after.0 - before.0,
        cpu_seconds: after.1 - before.1,
    })
}

/// Everybody who may watch at once.
struct Watchers {
    dashboards: Vec<Dashboard>,
    scraper: (Arc<AtomicBool>, JoinHandle<anyhow::Result<()>>),
    top: Terminal,
}

impl Watchers {
    fn begin(server: &Server, gateway: &Path) -> anyhow::Result<Self> {
        let admin = server.admin();
        let dashboards =
            (0..DASHBOARDS).map(|_| Dashboard::open(server)).collect::<anyhow::Result<Vec<_>>>()?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let scraper = thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                let begin = Instant::now();
                scrape::scrape(admin, scrape::FORMATS[0].1)?;
                while begin.elapsed() < SCRAPE_INTERVAL && !told.load(Ordering::Relaxed) {
                    thread::sleep(LOOK);
                }
            }
            Ok(())
        });
        let words = ["top".to_owned(), "--admin".to_owned(), admin.to_string()];
        let top = Terminal::start((40, 140), gateway.as_os_str(), words.iter().map(OsStr::new), &[]);
        Ok(Self { dashboards, scraper: (stop, scraper), top })
    }

    /// Ends them, all of whom have seen something.
    fn end(mut self) -> anyhow::Result<()> {
        self.top.wait_for(&["latency by phase"]);
        self.top.press(b"q");
        let status = self.top.wait();
        ensure!(status.success(), "inrush top: {status}");
        self.scraper.0.store(true, Ordering::Relaxed);
        self.scraper.1.join().map_err(|_| anyhow!("the scraper has panicked"))??;
        self.dashboards.into_iter().try_for_each(Dashboard::close)
    }
}

/// What an open page asks of the gateway: its samples, one a second.
struct Dashboard {
    stream: TcpStream,
    octets: Arc<AtomicU64>,
    reader: JoinHandle<()>,
}

impl Dashboard {
    fn open(server: &Server) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(server.admin())?;
        write!(stream, "GET /api/v1/events HTTP/1.1\r\nHost: {}\r\n\r\n", server.admin())?;
        let octets = Arc::new(AtomicU64::new(0));
        let (counted, mut body) = (Arc::clone(&octets), stream.try_clone()?);
        let reader = thread::spawn(move || {
            let mut buffer = [0; 64 << 10];
            // Ends when the stream is shut down.
            while let Ok(read @ 1..) = body.read(&mut buffer) {
                counted.fetch_add(read as u64, Ordering::Relaxed);
            }
        });
        Ok(Self { stream, octets, reader })
    }

    fn close(self) -> anyhow::Result<()> {
        let seen = process::holds_within(process::PATIENCE, || self.octets.load(Ordering::Relaxed) > 1024);
        self.stream.shutdown(Shutdown::Both)?;
        self.reader.join().map_err(|_| anyhow!("a dashboard has panicked"))?;
        ensure!(seen, "a dashboard has seen no sample");
        Ok(())
    }
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
