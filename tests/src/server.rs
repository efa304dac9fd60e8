//! One gateway process: started from a config of its own, ready when its log says so, ended by its id.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::process::PATIENCE;
use crate::settings::{Recipients, Settings, recipients_file};
use crate::{binary, http, process};

/// What the old process says when connections go to the new one.
const SUCCEEDED: &str = "takes connections, this one finishes its sessions";

/// A running gateway. Dropped, it is killed, and its log is shown if the test is failing.
#[derive(Debug)]
pub struct Server {
    folder: TempDir,
    settings: Settings,
    child: Option<Child>,
    /// The process that has taken the place of the one that was started.
    successor: Option<Pid>,
    /// Where in the log the upgrade begins that is under way.
    upgrade: Option<u64>,
    runs: u32,
    mx: SocketAddr,
    admin: SocketAddr,
}

impl Server {
    /// Starts with the defaults of the tests.
    ///
    /// # Panics
    /// It does not get ready.
    pub fn start() -> Self {
        Self::with(Settings::default())
    }

    /// Starts with these settings.
    ///
    /// # Panics
    /// It does not get ready.
    pub fn with(settings: Settings) -> Self {
        let folder = TempDir::with_prefix("inrush-e2e-").unwrap_or_else(|error| panic!("no folder: {error}"));
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Self {
            folder,
            settings,
            child: None,
            successor: None,
            upgrade: None,
            runs: 0,
            mx: nowhere,
            admin: nowhere,
        };
        server.run();
        server
    }

    /// Where mail goes in.
    pub fn mx(&self) -> SocketAddr {
        self.mx
    }

    /// Where the listener of this name listens.
    ///
    /// # Panics
    /// There is none.
    #[track_caller]
    pub fn listener(&self, name: &str) -> SocketAddr {
        listening(&self.log(), name).unwrap_or_else(|| panic!("no listener {name}:\n{}", self.log()))
    }

    /// Where the operator asks.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The folder of the log.
    pub fn data(&self) -> PathBuf {
        self.settings.data.clone().unwrap_or_else(|| self.folder.path().join("data"))
    }

    /// A folder for whatever a test writes beside the server.
    pub fn scratch(&self) -> &Path {
        self.folder.path()
    }

    /// The config file of the last start.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("inrush.toml")
    }

    /// The process id.
    ///
    /// # Panics
    /// The server is not running.
    pub fn pid(&self) -> u32 {
        let successor = self.successor.map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
        let pid = successor.or_else(|| self.child.as_ref().map(Child::id));
        pid.unwrap_or_else(|| panic!("the server is not running"))
    }

    /// Has a new process take the place of the running one, and returns when that has ended.
    ///
    /// # Panics
    /// It does not come to that.
    pub fn upgrade(&mut self) {
        self.begin_upgrade();
        self.finish_upgrade();
    }

    /// Asks for a new process, without waiting. From now on a second one may be running.
    pub fn begin_upgrade(&mut self) {
        // The new process becomes our child when the old one has ended.
        process::adopt_orphans();
        let logged = fs::metadata(self.log_file()).map_or(0, |log| log.len());
        self.upgrade.get_or_insert(logged);
        self.signal(Signal::USR2);
    }

    /// Waits until the old process has ended well, and the new one has everything.
    ///
    /// # Panics
    /// It does not come to that.
    pub fn finish_upgrade(&mut self) {
        let mut log = self.log_of_upgrade().unwrap_or_else(|| panic!("no upgrade was asked for"));
        process::eventually("the new process is alone", || log.read().contains("upgrade: done"));
        let successor = self.started_successor();
        self.upgrade = None;
        let status = self.wait();
        assert!(status.success(), "{status}\n{}", self.log());
        self.successor = Some(successor);
    }

    /// The process that takes the connections now, as the old one has named it.
    fn started_successor(&self) -> Pid {
        let mut log = self.log_of_upgrade().unwrap_or_else(|| panic!("no upgrade was asked for"));
        let log = log.read();
        let mut lines = log.lines().filter(|line| line.contains(SUCCEEDED));
        let line = lines.next().unwrap_or_else(|| panic!("no new process:\n{log}"));
        let pid = field(line, "pid").and_then(|pid| pid.parse().ok());
        pid.and_then(Pid::from_raw).unwrap_or_else(|| panic!("no process id in {line}"))
    }

    /// Whether there are two processes.
    fn is_upgrading(&self) -> bool {
        self.child_or_successor()
            && self.log_of_upgrade().is_some_and(|mut log| log.read().contains(SUCCEEDED))
    }

    /// What was logged since the upgrade was asked for: the whole log may be large.
    fn log_of_upgrade(&self) -> Option<Tail> {
        self.upgrade.map(|from| Tail::from(&self.log_file(), from))
    }

    fn child_or_successor(&self) -> bool {
        self.child.is_some() || self.successor.is_some()
    }

    /// Asks the new process to end while the old one still has sessions.
    pub fn terminate_successor(&self) {
        let _ = kill_process(self.started_successor(), Signal::TERM);
    }

    /// Waits for the end of the old process and of the new one.
    ///
    /// # Panics
    /// One of them does not end well.
    pub fn wait_for_both(&mut self) {
        let successor = self.started_successor();
        let statuses = [self.wait(), process::wait_for_orphan(successor)];
        assert!(statuses.iter().all(ExitStatus::success), "{statuses:?}\n{}", self.log());
    }

    /// Ends the old process as a crash would; what is running is the new one.
    ///
    /// # Panics
    /// There is none.
    pub fn kill_predecessor(&mut self) {
        let successor = self.started_successor();
        self.signal(Signal::KILL);
        assert_eq!(self.wait().signal(), Some(9));
        self.upgrade = None;
        self.successor = Some(successor);
    }

    /// Ends both processes as a power cut would.
    ///
    /// # Panics
    /// One of them was not running.
    pub fn kill_both(&mut self) {
        let successor = self.started_successor();
        let _ = kill_process(successor, Signal::KILL);
        self.signal(Signal::KILL);
        assert_eq!(self.wait().signal(), Some(9));
        assert_eq!(process::wait_for_orphan(successor).signal(), Some(9));
    }

    fn signal(&self, by: Signal) {
        if let Some(pid) = self.successor {
            // Ours, and not yet waited for.
            let _ = kill_process(pid, by);
        } else if let Some(child) = &self.child {
            signal(child, by);
        }
    }

    /// What the running process, or the last one, has written to its log so far.
    pub fn log(&self) -> String {
        fs::read(self.log_file())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Ends it as a power cut of the process would: no handler runs.
    ///
    /// # Panics
    /// It was not running, or had ended by itself before.
    pub fn kill9(&mut self) {
        let mut child = self.child.take().unwrap_or_else(|| panic!("the server is not running"));
        let ended_before = child.try_wait().ok().flatten();
        assert!(ended_before.is_none(), "the server had ended by itself: {ended_before:?}\n{}", self.log());
        signal(&child, Signal::KILL);
        let status = process::wait(&mut child, PATIENCE);
        assert_eq!(status.and_then(|status| status.signal()), Some(9));
    }

    /// Asks it to end, without waiting.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Asks it to read its configuration again, without waiting.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// Waits until its log holds this text.
    ///
    /// # Panics
    /// It does not.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) {
        process::eventually(text, || self.log().contains(text));
    }

    /// Waits for the end that was asked for.
    ///
    /// # Panics
    /// It is still running after a minute.
    pub fn wait(&mut self) -> ExitStatus {
        if let Some(pid) = self.successor.take() {
            return process::wait_for_orphan(pid);
        }
        let mut child = self.child.take().unwrap_or_else(|| panic!("the server is not running"));
        let status = process::wait(&mut child, PATIENCE);
        status.unwrap_or_else(|| panic!("still running after {PATIENCE:?}:\n{}", self.log()))
    }

    /// Waits until every core accepts, as `/readyz` says.
    ///
    /// # Panics
    /// They do not.
    pub fn wait_until_accepting(&self) {
        process::eventually("/readyz says yes", || http::get(self.admin(), "/readyz").status == 200);
    }

    /// Asks it to end and expects that it ends well.
    ///
    /// # Panics
    /// It does not, or its exit code is not 0.
    pub fn stop(&mut self) {
        self.terminate();
        let status = self.wait();
        assert!(status.success(), "{status}\n{}", self.log());
    }

    /// Ends it if it runs, and starts it again on the same data with the same settings (and new ports).
    ///
    /// # Panics
    /// It does not get ready.
    pub fn restart(&mut self) {
        if self.child.is_some() {
            self.kill9();
        }
        self.run();
    }

    /// Ends it in order if it runs, and starts it again on the same data with other settings.
    ///
    /// # Panics
    /// It does not end well, or does not get ready.
    pub fn restart_with(&mut self, settings: Settings) {
        if self.child_or_successor() {
            self.stop();
        }
        self.settings = settings;
        self.run();
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join(format!("log.{}", self.runs))
    }

    fn run(&mut self) {
        self.runs += 1;
        self.upgrade = None;
        write_config(self.folder.path(), &self.settings, &self.data());
        let log = File::create(self.log_file()).unwrap_or_else(|error| panic!("no log file: {error}"));
        let binary = self.settings.binary.as_deref().unwrap_or_else(|| binary::inrush());
        let mut command = match self.settings.launcher.as_slice() {
            [] => Command::new(binary),
            [launcher, arguments @ ..] => {
                let mut command = process::command(launcher, arguments);
                command.arg(binary);
                command
            }
        };
        command.arg("serve").arg("--config").arg(self.config());
        // What the person who runs the tests has set for a gateway of their own is not meant for this one.
        command.env_remove("INRUSH_LOG").env_remove("INRUSH_CONFIG").env_remove("INRUSH_DATA_DIR");
        command.current_dir(self.folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child =
            Some(command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}")));
        self.wait_until_ready();
    }

    /// The log names the address of each listener once it accepts, the admin address last or first.
    fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.log();
            if let (Some(mx), Some(admin)) = (listening(&log, "mx"), listening(&log, "admin")) {
                (self.mx, self.admin) = (mx, admin);
                return;
            }
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            assert!(ended.is_none(), "the server ended at its start: {ended:?}\n{log}");
            assert!(Instant::now() < deadline, "the server is not ready after {PATIENCE:?}:\n{log}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let successor = if self.is_upgrading() { Some(self.started_successor()) } else { None };
        for pid in self.successor.take().into_iter().chain(successor) {
            let _ = kill_process(pid, Signal::KILL);
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let tail = log.lines().rev().take(60).collect::<Vec<_>>();
            eprintln!("── the last lines of the server's log:");
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// The end of a log that grows, read piece by piece.
struct Tail {
    file: File,
    text: String,
}

impl Tail {
    fn from(path: &Path, offset: u64) -> Self {
        let mut file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        file.seek(SeekFrom::Start(offset)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { file, text: String::new() }
    }

    /// Everything from there on.
    fn read(&mut self) -> &str {
        let mut more = Vec::new();
        // What was read until an error is what there is to look at.
        let _ = self.file.read_to_end(&mut more);
        self.text.push_str(&String::from_utf8_lossy(&more));
        &self.text
    }
}

/// Writes the config file and the lists of recipients that it names into `folder`.
///
/// # Panics
/// The folder cannot be written.
pub fn write_config(folder: &Path, settings: &Settings, data: &Path) -> PathBuf {
    let config = folder.join("inrush.toml");
    let mut files = vec![(config.clone(), settings.text(data, folder))];
    for (domain, recipients) in &settings.domains {
        if let Recipients::Listed(addresses) = recipients {
            let list = addresses.iter().map(|address| format!("{address}\n")).collect();
            files.push((recipients_file(folder, domain), list));
        }
    }
    for (file, text) in files {
        fs::write(&file, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
    }
    config
}

/// The address in the line `listening listener=NAME address=ADDRESS`, as logfmt or JSON. The last line may be unfinished.
pub fn listening(log: &str, name: &str) -> Option<SocketAddr> {
    let complete = log.rfind('\n').map_or("", |end| &log[..end]);
    let lines = complete.lines().filter(|line| line.contains("listening"));
    let mut named = lines.filter(|line| field(line, "listener").as_deref() == Some(name));
    named.find_map(|line| field(line, "address")?.parse().ok())
}

/// The value of `key=value`, `key="value"` or `"key":"value"` in a line of the log.
pub fn field(line: &str, key: &str) -> Option<String> {
    let plain: String = line
        .chars()
        .filter(|c| *c != '"')
        .map(|c| if matches!(c, ',' | '{' | '}') { ' ' } else { c })
        .collect();
    let mut words = plain.split_whitespace();
    words.find_map(|word| {
        let value = word.strip_prefix(key)?;
        value.strip_prefix('=').or_else(|| value.strip_prefix(':')).map(str::to_owned)
    })
}

fn signal(child: &Child, signal: Signal) {
    // The child is ours and not yet waited for, so its id cannot have been given to another process.
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_both_forms_of_log() {
        let expected = Some(SocketAddr::from(([127, 0, 0, 1], 40123)));
        let logfmt = "INFO listening listener=mx address=127.0.0.1:40123\n";
        let json = "{\"level\":\"INFO\",\"message\":\"listening\",\"listener\":\"mx\",\"address\":\"127.0.0.1:40123\"}\n";
        assert_eq!(listening(logfmt, "mx"), expected);
        assert_eq!(listening(json, "mx"), expected);
        assert_eq!(listening(logfmt, "admin"), None);
        assert_eq!(listening(logfmt.trim_end(), "mx"), None, "the line is not yet complete");
    }
}
