//! The full display of a run (`--tui`): rates, latencies by phase, a heat map over time, errors by cause, the generator's own threads.
//!
//! ```text
//!   workers ─▶ Live, LiveCells (a writer each) ─▶ view.rs: what changed since the last look ─▶ draw.rs: as much as fits
//! ```
//! The main thread looks and draws four times a second; a worker does nothing for it but to count into cells of its own. It draws on standard
//! error, so that a report on standard output stays clean. However the process ends in order, by a signal that it watches or by a
//! panic, the terminal gets back its own screen, its cursor and its line mode.
//!
//! Colours only without `NO_COLOR` (no-color.org); the heat map is legible without them.

mod draw;
mod view;

use std::io::{self, IsTerminal as _, Stderr};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::crossterm::{cursor, execute};

use crate::plan::Plan;
use crate::worker::{Live, Shared};
use view::View;

/// How often the screen is drawn.
const DRAW_INTERVAL: Duration = Duration::from_millis(250);

/// The terminal is ours.
static OPEN: AtomicBool = AtomicBool::new(false);

/// A display on the terminal; gives it back when dropped.
pub struct Tui {
    terminal: Terminal<CrosstermBackend<Stderr>>,
    view: View,
    colours: bool,
    drawn: Option<Instant>,
}

/// Whether there is a terminal to draw on.
///
/// # Errors
/// A sentence.
pub fn check() -> Result<(), String> {
    if io::stderr().is_terminal() {
        return Ok(());
    }
    Err("--tui needs a terminal on standard error".to_owned())
}

impl Tui {
    /// Takes the terminal.
    ///
    /// # Errors
    /// It cannot be set.
    pub fn open(plan: &Arc<Plan>, start: Instant) -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                // First, so that its message is not on a screen that vanishes. In a release the process aborts and drops nothing.
                restore();
                before(panic);
            }));
        });
        enable_raw_mode()?;
        OPEN.store(true, Relaxed);
        let entered = execute!(io::stderr(), EnterAlternateScreen, cursor::Hide)
            .and_then(|()| Terminal::new(CrosstermBackend::new(io::stderr())));
        let terminal = match entered {
            Ok(terminal) => terminal,
            Err(error) => {
                restore();
                return Err(error);
            }
        };
        // no-color.org: present and not empty.
        let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Ok(Self { terminal, view: View::new(plan, start), colours, drawn: None })
    }

    /// Draws when it is time. How often the user has asked for the end since.
    pub fn tick(&mut self, now: Instant, lives: &[Arc<Live>], shared: &Shared) -> usize {
        let asked = asked_to_end();
        if self.drawn.is_none_or(|drawn| now.duration_since(drawn) >= DRAW_INTERVAL) {
            self.drawn = Some(now);
            self.view.look(now, lives, shared);
            let (view, colours) = (&self.view, self.colours);
            // A display that cannot be drawn is no reason to end the run.
            let _ = self.terminal.draw(|frame| draw::draw(frame, view, colours));
        }
        asked
    }

    /// Shows a line, the last one of those so far.
    pub fn note(&mut self, line: &str) {
        line.trim().clone_into(&mut self.view.note);
    }
}

impl Drop for Tui {
    fn drop(&mut self) {
        restore();
    }
}

/// Gives the terminal back, once.
fn restore() {
    if OPEN.swap(false, Relaxed) {
        // When it is gone there is nothing to give back.
        let _ = execute!(io::stderr(), LeaveAlternateScreen, cursor::Show);
        let _ = disable_raw_mode();
    }
}

/// Ctrl-C comes as a key here, since the line mode that makes a signal of it is off.
fn asked_to_end() -> usize {
    let mut asked = 0;
    while event::poll(Duration::ZERO).unwrap_or(false) {
        match event::read() {
            Ok(Event::Key(key)) if key.kind == KeyEventKind::Press => {
                let control_c =
                    key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
                asked += usize::from(control_c || key.code == KeyCode::Char('q'));
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    asked
}
