//! `run --tui` on a real pseudo-terminal, as a terminal emulator sees it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap is a failed test")]

#[allow(dead_code, reason = "some of it is for the other tests")]
mod support;

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use clap::Parser as _;
use inrush_load::options::{Cli, Command as Subcommand};
use inrush_load::tui::Tui;
use inrush_tests::process::eventually;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use support::{Action, Moment, Server};

struct Terminal {
    keyboard: File,
    line: File,
    emulator: Arc<Mutex<vt100::Parser>>,
    octets: Arc<Mutex<Vec<u8>>>,
    process: Child,
}

impl Terminal {
    /// Starts a program on a terminal of its own.
    fn start(rows: u16, columns: u16, program: &str, words: &[&str], variables: &[(&str, &str)]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let line = OpenOptions::new().read(true).write(true).open(name).unwrap();
        let handle = || line.try_clone().unwrap();
        let process = Command::new("setsid")
            .arg("--ctty")
            .arg(program)
            .args(words)
            .envs(variables.iter().copied())
            .env("TERM", "xterm-256color")
            .stdin(handle())
            .stdout(handle())
            .stderr(handle())
            .spawn()
            .unwrap();
        let keyboard = File::from(master);
        let emulator = Arc::new(Mutex::new(vt100::Parser::new(rows, columns, 200)));
        let octets = Arc::new(Mutex::new(Vec::new()));
        let (mut screen, shown, seen) =
            (keyboard.try_clone().unwrap(), Arc::clone(&emulator), Arc::clone(&octets));
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            // Fails when the last of the terminal's files is closed.
            while let Ok(read @ 1..) = screen.read(&mut buffer) {
                shown.lock().unwrap().process(&buffer[..read]);
                seen.lock().unwrap().extend_from_slice(&buffer[..read]);
            }
        });
        Self { keyboard, line, emulator, octets, process }
    }

    fn text(&self) -> String {
        self.emulator.lock().unwrap().screen().contents()
    }

    fn is_alternate(&self) -> bool {
        self.emulator.lock().unwrap().screen().alternate_screen()
    }

    fn press(&mut self, keys: &[u8]) {
        self.keyboard.write_all(keys).unwrap();
    }

    fn wait(&mut self) -> ExitStatus {
        self.process.wait().unwrap()
    }

    /// The screen, the cursor and the line are those of before.
    fn is_clean(&self) {
        eventually("the terminal has its own screen", || !self.is_alternate());
        assert!(!self.emulator.lock().unwrap().screen().hide_cursor());
        let modes = tcgetattr(&self.line).unwrap().local_modes;
        assert!(modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG), "{modes:?}");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // After a failed assertion; else it is gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn load(server: &Server, words: &str) -> Vec<String> {
    let words = format!("run {} {words} --tui", server.address);
    words.split_ascii_whitespace().map(str::to_owned).collect()
}

fn start(rows: u16, columns: u16, words: &[String], variables: &[(&str, &str)]) -> Terminal {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    Terminal::start(rows, columns, env!("CARGO_BIN_EXE_inrush-load"), &words, variables)
}

#[test]
fn everything_is_shown_and_control_c_gives_the_terminal_back() {
    let server = Server::start(|moment| match moment {
        Moment::Message(n) if n % 5 == 1 => Action::Say("550 5.7.1 no\r\n".to_owned()),
        _ => Action::Usual,
    });
    let words = load(&server, "-s 2 -D 1h -d --rate 100 --errors-max 1000000");
    let mut terminal = start(40, 120, &words, &[("NO_COLOR", "")]);
    eventually("everything is on the screen", || {
        let text = terminal.text();
        [
            "inrush-load",
            "100 a second planned",
            "running",
            "acknowledged a second",
            "total ",
            "final 550",
            "load-0",
            "total latency over time",
            "waiting",
        ]
        .iter()
        .all(|part| text.contains(part))
    });
    assert!(terminal.is_alternate());
    assert!(!tcgetattr(&terminal.line).unwrap().local_modes.contains(LocalModes::ICANON));
    terminal.press(b"\x03");
    assert_eq!(terminal.wait().code(), Some(0), "the errors are borne");
    terminal.is_clean();
    eventually("the report is on the screen", || terminal.text().contains("ended early: interrupted"));
    assert!(terminal.octets.lock().unwrap().windows(2).any(|pair| pair == b"[3"), "colours");
}

#[test]
fn small_terminals_without_colours() {
    let server = Server::friendly();
    let words = load(&server, "-s 1 -D 1h -d --rate 50");
    let mut terminal = start(5, 44, &words, &[("NO_COLOR", "1")]);
    eventually("the state is on the screen", || terminal.text().contains("running"));
    eventually("something is acknowledged", || !terminal.text().contains(" 0 acknowledged"));
    terminal.press(b"q");
    assert_eq!(terminal.wait().code(), Some(0));
    terminal.is_clean();
    let octets = terminal.octets.lock().unwrap().clone();
    let coloured = |start: &[u8]| octets.windows(start.len()).any(|window| window == start);
    // A foreground: 38;5;n. The default colours (39, 49) are none.
    assert!(!coloured(b"\x1b[38;") && !coloured(b"\x1b[31m") && !coloured(b"\x1b[36m"));
}

#[test]
fn it_ends_by_itself_and_by_a_signal() {
    let server = Server::friendly();
    let mut terminal = start(24, 80, &load(&server, "-s 1 -m 20 -d --closed"), &[]);
    assert_eq!(terminal.wait().code(), Some(0));
    terminal.is_clean();
    eventually("the report is on the screen", || terminal.text().contains("20 messages in"));

    let mut terminal = start(24, 80, &load(&server, "-s 1 -D 1h -d --rate 50"), &[]);
    eventually("it runs", || terminal.text().contains("running"));
    let pid = rustix::process::Pid::from_child(&terminal.process);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(terminal.wait().code(), Some(0));
    terminal.is_clean();
}

/// Not a test by itself: what the next one runs on a terminal.
#[test]
fn inner_panic() {
    if std::env::var_os("INRUSH_TUI_PANIC").is_none() {
        return;
    }
    let cli = Cli::try_parse_from(["inrush-load", "run", "-m", "1", "127.0.0.1:25"]).unwrap();
    let Subcommand::Run(options) = cli.command else { panic!("run") };
    let plan = Arc::new(options.plan(1, "Sat, 21 Nov 2026 21:44:57 +0000").unwrap());
    let tui = Tui::open(&plan, Instant::now()).unwrap();
    // As where a panic aborts: nothing is dropped.
    std::mem::forget(tui);
    panic!("the display shall survive this");
}

#[test]
fn a_panic_gives_the_terminal_back() {
    let program = std::env::current_exe().unwrap();
    let words = ["--exact", "inner_panic", "--nocapture"];
    let mut terminal =
        Terminal::start(24, 80, program.to_str().unwrap(), &words, &[("INRUSH_TUI_PANIC", "1")]);
    assert!(!terminal.wait().success());
    terminal.is_clean();
    let find = |octets: &[u8], text: &[u8]| octets.windows(text.len()).position(|window| window == text);
    // A backtrace may have moved it off the screen.
    eventually("the message is told", || {
        let octets = terminal.octets.lock().unwrap();
        let left = find(&octets, b"\x1b[?1049l");
        let told = find(&octets, b"the display shall survive this");
        left.is_some() && told > left
    });
    assert!(find(&terminal.octets.lock().unwrap(), b"\x1b[?1049h").is_some(), "it was open");
}

#[test]
fn without_a_terminal_it_is_refused() {
    let output = support::command("-m 1 127.0.0.1:1 --tui").output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(error.contains("--tui needs a terminal"), "{error}");
}
