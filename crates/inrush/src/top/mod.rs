//! `inrush top`: the running gateway on the terminal, live.
//!
//! ```text
//!   stream of samples (a thread) ─┐
//!   sessions, while shown ────────┼─▶ news ─▶ view ─▶ draw.rs: as much as fits
//!   keys ─────────────────────────┘
//! ```
//! One connection to the admin server, kept up; when it breaks the last picture stays and says so. It draws on standard output. However it ends,
//! the terminal gets back its own screen, its cursor and its line mode.

mod draw;
pub(crate) mod text;

use std::collections::VecDeque;
use std::io::{self, IsTerminal as _, Stdout};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Once};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::crossterm::{cursor, execute};
use serde_json::Value;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::cli::AdminTarget;
use crate::queue::Client;

/// How long a key waits at most to be obeyed.
const KEY_INTERVAL: Duration = Duration::from_millis(100);
/// How long to wait before the stream is taken up again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often the sessions are asked for while they are shown.
const SESSIONS_INTERVAL: Duration = Duration::from_secs(2);
/// Sessions that are asked for: more than a screen has lines.
const SESSIONS: &str = "200";
/// Seconds of the rate that are kept: more than a screen has columns.
const RATES_MAX: usize = 600;

/// The terminal is ours.
static OPEN: AtomicBool = AtomicBool::new(false);

/// What the lower part of the screen shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Panel {
    #[default]
    Overview,
    Destinations,
    Sessions,
}

/// Everything that is drawn.
#[derive(Debug, Default)]
struct View {
    address: String,
    sample: Option<Value>,
    sessions: Option<Value>,
    /// Messages accepted a second, the newest last.
    rates: VecDeque<u64>,
    /// Why there is nothing newer.
    trouble: Option<String>,
    panel: Panel,
    held: bool,
}

/// What has happened.
enum News {
    Sample(Value),
    Sessions(Value),
    Trouble(String),
}

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    End,
    Redraw,
    Nothing,
}

/// Shows the gateway until somebody ends it.
pub(crate) fn run(target: &AdminTarget) -> anyhow::Result<ExitCode> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        bail!("standard input and output have to be a terminal; elsewhere: inrush status");
    }
    let client = Client::of(target.config.as_deref(), target.admin)?;
    let address = client.address().to_string();
    // One that is not there at all is said on the terminal as it was.
    client.get("status", &[])?;
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&ended))?;
    }
    let (news, heard) = mpsc::channel();
    let shows_sessions = Arc::new(AtomicBool::new(false));
    start("inrush-samples", {
        let (news, client) = (news.clone(), Client::of(target.config.as_deref(), target.admin)?);
        move || follow(&client, &news)
    })?;
    start("inrush-sessions", {
        let (shows_sessions, client) = (Arc::clone(&shows_sessions), client);
        move || ask_for_sessions(&client, &shows_sessions, &news)
    })?;
    let mut screen = Screen::open().context("the terminal cannot be set")?;
    let mut view = View { address, ..View::default() };
    let mut draw = true;
    while !ended.load(Relaxed) {
        draw |= view.hear(&heard);
        if std::mem::take(&mut draw) {
            screen.draw(&view)?;
        }
        if event::poll(KEY_INTERVAL)? {
            match view.obey(&event::read()?) {
                Wish::End => break,
                Wish::Redraw => draw = true,
                Wish::Nothing => {}
            }
            shows_sessions.store(view.panel == Panel::Sessions, Relaxed);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    // Ended with the process: it holds nothing that has to be given back.
    thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

/// Keeps the stream up until nobody listens.
fn follow(client: &Client, news: &Sender<News>) {
    loop {
        let mut heard = true;
        let ended = client.events("events", |data| {
            // What cannot be read is of another version, and says so.
            let sample = serde_json::from_str(data);
            let sample = sample.map_or_else(|error| News::Trouble(error.to_string()), News::Sample);
            heard = news.send(sample).is_ok();
            heard
        });
        let why = match ended {
            Ok(()) => "the gateway has ended the stream".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        if !heard || news.send(News::Trouble(why)).is_err() {
            return;
        }
        thread::sleep(AGAIN);
    }
}

fn ask_for_sessions(client: &Client, shown: &AtomicBool, news: &Sender<News>) {
    let mut asked: Option<Instant> = None;
    loop {
        thread::sleep(KEY_INTERVAL);
        if !shown.load(Relaxed) {
            asked = None;
        } else if asked.is_none_or(|asked| asked.elapsed() >= SESSIONS_INTERVAL) {
            asked = Some(Instant::now());
            // The stream says what is wrong.
            let Ok(sessions) = client.get("sessions", &[("limit", SESSIONS.to_owned())]) else { continue };
            if news.send(News::Sessions(sessions)).is_err() {
                return;
            }
        }
    }
}

impl View {
    /// Takes in what has happened; whether there is something new to draw.
    fn hear(&mut self, heard: &Receiver<News>) -> bool {
        let mut new = false;
        while let Ok(news) = heard.try_recv() {
            new |= self.take(news);
        }
        new
    }

    fn take(&mut self, news: News) -> bool {
        match news {
            News::Sample(sample) => {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a float cast saturates"
                )]
                let rate = text::number(&sample["rates"]["accepted"]).round() as u64;
                if self.rates.len() >= RATES_MAX {
                    self.rates.pop_front();
                }
                self.rates.push_back(rate);
                self.trouble = None;
                if !self.held {
                    self.sample = Some(sample);
                }
            }
            News::Sessions(sessions) if self.held => drop(sessions),
            News::Sessions(sessions) => self.sessions = Some(sessions),
            News::Trouble(why) => self.trouble = Some(why),
        }
        true
    }

    fn obey(&mut self, event: &Event) -> Wish {
        let Event::Key(key) = event else {
            return if matches!(event, Event::Resize(..)) { Wish::Redraw } else { Wish::Nothing };
        };
        if key.kind != KeyEventKind::Press {
            return Wish::Nothing;
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Wish::End,
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Wish::End,
            KeyCode::Char('p') => self.held = !self.held,
            KeyCode::Char('1') => self.panel = Panel::Overview,
            KeyCode::Char('2') => self.panel = Panel::Destinations,
            KeyCode::Char('3') => self.panel = Panel::Sessions,
            KeyCode::Tab => {
                self.panel = match self.panel {
                    Panel::Overview => Panel::Destinations,
                    Panel::Destinations => Panel::Sessions,
                    Panel::Sessions => Panel::Overview,
                };
            }
            _ => return Wish::Nothing,
        }
        Wish::Redraw
    }
}

/// The terminal; given back when dropped.
struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    colours: bool,
}

impl Screen {
    fn open() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                // First, so that its message is not on a screen that vanishes: the process aborts and drops nothing.
                restore();
                before(panic);
            }));
        });
        enable_raw_mode()?;
        OPEN.store(true, Relaxed);
        let entered = execute!(io::stdout(), EnterAlternateScreen, cursor::Hide)
            .and_then(|()| Terminal::new(CrosstermBackend::new(io::stdout())));
        let terminal = entered.inspect_err(|_| restore())?;
        // no-color.org: present and not empty.
        let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Ok(Self { terminal, colours })
    }

    fn draw(&mut self, view: &View) -> io::Result<()> {
        let colours = self.colours;
        self.terminal.draw(|frame| draw::draw(frame, view, colours)).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Gives the terminal back, once.
fn restore() {
    if OPEN.swap(false, Relaxed) {
        // When it is gone there is nothing to give back.
        let _ = execute!(io::stdout(), LeaveAlternateScreen, cursor::Show);
        let _ = disable_raw_mode();
    }
}

#[cfg(test)]
mod tests {
    use ratatui::crossterm::event::KeyEvent;

    use super::*;

    fn press(view: &mut View, code: KeyCode, modifiers: KeyModifiers) -> Wish {
        view.obey(&Event::Key(KeyEvent::new(code, modifiers)))
    }

    #[test]
    fn keys_do_what_the_help_says() {
        let mut view = View::default();
        let none = KeyModifiers::NONE;
        for (code, panel) in [
            (KeyCode::Char('2'), Panel::Destinations),
            (KeyCode::Char('3'), Panel::Sessions),
            (KeyCode::Tab, Panel::Overview),
            (KeyCode::Tab, Panel::Destinations),
            (KeyCode::Tab, Panel::Sessions),
            (KeyCode::Char('1'), Panel::Overview),
        ] {
            assert_eq!(press(&mut view, code, none), Wish::Redraw);
            assert_eq!(view.panel, panel);
        }
        assert_eq!(press(&mut view, KeyCode::Char('x'), none), Wish::Nothing);
        assert_eq!(press(&mut view, KeyCode::Char('c'), none), Wish::Nothing);
        for (code, modifiers) in
            [(KeyCode::Char('q'), none), (KeyCode::Esc, none), (KeyCode::Char('c'), KeyModifiers::CONTROL)]
        {
            assert_eq!(press(&mut view, code, modifiers), Wish::End);
        }
        assert_eq!(view.obey(&Event::Resize(80, 24)), Wish::Redraw);
    }

    #[test]
    fn a_held_picture_stays_while_the_rates_go_on() {
        let mut view = View::default();
        let sample = |rate: f64| News::Sample(serde_json::json!({ "rates": { "accepted": rate } }));
        view.take(sample(1.0));
        press(&mut view, KeyCode::Char('p'), KeyModifiers::NONE);
        view.take(News::Trouble("gone".to_owned()));
        assert_eq!(view.trouble.as_deref(), Some("gone"));
        view.take(sample(2.0));
        assert_eq!(view.trouble, None);
        assert_eq!(view.sample.as_ref().map(|sample| sample["rates"]["accepted"].clone()), Some(1.0.into()));
        press(&mut view, KeyCode::Char('p'), KeyModifiers::NONE);
        for _ in 0..RATES_MAX {
            view.take(sample(3.0));
        }
        assert_eq!((view.rates.len(), view.rates.front()), (RATES_MAX, Some(&3)));
    }
}
