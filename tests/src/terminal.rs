//! A program on a pseudo-terminal of its own, and the screen that a terminal emulator (`vt100`) makes of what it writes.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::process;

/// The program and its screen.
pub struct Terminal {
    keyboard: File,
    line: File,
    emulator: Arc<Mutex<vt100::Parser>>,
    process: Child,
}

impl Terminal {
    /// Starts a program with its arguments and these variables on a terminal of this size.
    ///
    /// # Panics
    /// There is no terminal, or the program cannot be started.
    #[track_caller]
    pub fn start<A: AsRef<OsStr>>(
        (rows, columns): (u16, u16),
        program: &OsStr,
        arguments: impl IntoIterator<Item = A>,
        variables: &[(&str, &str)],
    ) -> Self {
        let Some((keyboard, line)) = pair(rows, columns) else { panic!("no pseudo-terminal") };
        let handle = || line.try_clone().unwrap_or_else(|error| panic!("no descriptor: {error}"));
        let mut command = process::command("setsid", ["--ctty"]);
        command.arg(program).args(arguments).envs(variables.iter().copied()).env("TERM", "xterm-256color");
        command.stdin(handle()).stdout(handle()).stderr(handle());
        let process = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let emulator = Arc::new(Mutex::new(vt100::Parser::new(rows, columns, 200)));
        let shown = Arc::clone(&emulator);
        let mut screen = keyboard.try_clone().unwrap_or_else(|error| panic!("no descriptor: {error}"));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // Fails when the last of the terminal's files is closed.
            while let Ok(read @ 1..) = screen.read(&mut buffer) {
                shown.lock().unwrap_or_else(PoisonError::into_inner).process(&buffer[..read]);
            }
        });
        Self { keyboard, line, emulator, process }
    }

    /// What is on the screen.
    pub fn text(&self) -> String {
        self.emulator().screen().contents()
    }

    /// Whether the screen is the one that programs take for themselves.
    pub fn is_alternate(&self) -> bool {
        self.emulator().screen().alternate_screen()
    }

    /// Waits until all of these are on the screen.
    ///
    /// # Panics
    /// They never are.
    #[track_caller]
    pub fn wait_for(&self, parts: &[&str]) {
        let shown = process::holds_within(process::PATIENCE, || {
            let text = self.text();
            parts.iter().all(|part| text.contains(part))
        });
        assert!(shown, "never on the screen: {parts:?}\n{}", self.text());
    }

    /// Presses keys.
    ///
    /// # Panics
    /// The terminal is gone.
    #[track_caller]
    pub fn press(&mut self, keys: &[u8]) {
        self.keyboard.write_all(keys).unwrap_or_else(|error| panic!("no keyboard: {error}"));
    }

    /// Waits for the program's end.
    ///
    /// # Panics
    /// It goes on.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let ended = process::wait(&mut self.process, process::PATIENCE);
        ended.unwrap_or_else(|| panic!("it still runs:\n{}", self.text()))
    }

    /// Waits until the screen, the cursor and the line are those of before.
    ///
    /// # Panics
    /// They never are.
    #[track_caller]
    pub fn is_given_back(&self) {
        process::eventually("the terminal has its own screen", || !self.is_alternate());
        assert!(!self.emulator().screen().hide_cursor());
        let modes = tcgetattr(&self.line).map(|line| line.local_modes).unwrap_or(LocalModes::empty());
        assert!(modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG), "{modes:?}");
    }

    fn emulator(&self) -> MutexGuard<'_, vt100::Parser> {
        self.emulator.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The two ends of a terminal.
fn pair(rows: u16, columns: u16) -> Option<(File, File)> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).ok()?;
    grantpt(&master).ok()?;
    unlockpt(&master).ok()?;
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&master, size).ok()?;
    let name = ptsname(&master, Vec::new()).ok()?.into_string().ok()?;
    let line = OpenOptions::new().read(true).write(true).open(name).ok()?;
    Some((File::from(master), line))
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // After a failed assertion; else it is gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
