//! A headless Chromium, driven by the DevTools protocol over a pair of pipes (`--remote-debugging-pipe`): messages are JSON, each ended by a NUL.
//!
//! No port, no web socket: nobody else can reach it, and nothing has to be found out before it is spoken to. What its pages ask for, say and
//! break is kept, so that a test can see that a page asks nobody but its server.

use std::cell::RefCell;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::process::{self, PATIENCE};

/// Kept by each page: what its policy has refused.
const WATCH: &str = "window.violations = []; document.addEventListener('securitypolicyviolation', \
     (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));";

/// The browser with one page.
pub struct Browser {
    child: Child,
    input: RefCell<ChildStdin>,
    output: Receiver<Value>,
    session: String,
    next: RefCell<u64>,
    events: RefCell<Vec<Value>>,
    /// What requests are answered with whose address contains a text, in place of the server.
    answers: RefCell<Vec<(String, String)>>,
    _profile: tempfile::TempDir,
}

/// The size and the wishes of a page.
#[derive(Clone, Copy, Debug)]
pub struct Looks {
    /// Width of the window in CSS pixels.
    pub width: u32,
    /// Height of it.
    pub height: u32,
    /// `prefers-color-scheme: dark`.
    pub dark: bool,
}

impl Browser {
    /// Starts it with an empty page.
    ///
    /// # Panics
    /// It is not installed, or does not answer.
    #[track_caller]
    pub fn start() -> Self {
        let profile = tempfile::tempdir().unwrap_or_else(|error| panic!("no folder: {error}"));
        let said =
            File::create(profile.path().join("said")).unwrap_or_else(|error| panic!("no file: {error}"));
        // The pipes are its descriptors 3 and 4; a shell can put them there.
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >&2", "sh"]).arg(process::program("chromium"));
        // Its sandbox needs rights that tests as root in a container do not have; it sees nothing but our own page.
        command.args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
        ]);
        command.args([
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--mute-audio",
        ]);
        command.args(["--remote-debugging-pipe", "--force-device-scale-factor=1", "--hide-scrollbars"]);
        command
            .arg(format!("--user-data-dir={}", profile.path().join("profile").display()))
            .arg("about:blank");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(said);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start chromium: {error}"));
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            panic!("no pipes")
        };
        let (heard, hears) = mpsc::channel();
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut message = Vec::new();
            while matches!(output.read_until(0, &mut message), Ok(1..)) {
                message.pop();
                let parsed = serde_json::from_slice(&message);
                message.clear();
                if parsed.is_ok_and(|message| heard.send(message).is_err()) {
                    return;
                }
            }
        });
        let mut browser = Self {
            child,
            input: RefCell::new(input),
            output: hears,
            session: String::new(),
            next: RefCell::new(0),
            events: RefCell::default(),
            answers: RefCell::default(),
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", &json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", &attach);
        browser.session = attached["sessionId"].as_str().unwrap_or_default().to_owned();
        for domain in ["Page", "Network", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        browser.call("Page.addScriptToEvaluateOnNewDocument", &json!({ "source": WATCH }));
        browser
    }

    /// Asks the browser for something, and gives back its answer.
    ///
    /// # Panics
    /// It refuses, or does not answer.
    #[track_caller]
    pub fn call(&self, method: &str, parameters: &Value) -> Value {
        let id = self.send(method, parameters);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = self.output.recv_timeout(left);
            let answer = answer.unwrap_or_else(|error| panic!("chromium does not answer {method}: {error}"));
            if answer["id"] == id {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
            if answer["method"] == "Fetch.requestPaused" {
                self.answer_instead(&answer["params"]);
            }
            self.events.borrow_mut().push(answer);
        }
    }

    /// From now on requests whose address contains `part` are answered with this JSON, in place of the server.
    pub fn answer(&self, part: &str, document: &Value) {
        self.answers.borrow_mut().push((part.to_owned(), document.to_string()));
        let patterns: Vec<_> = self
            .answers
            .borrow()
            .iter()
            .map(|(part, _)| json!({ "urlPattern": format!("*{part}*") }))
            .collect();
        self.call("Fetch.enable", &json!({ "patterns": patterns }));
    }

    fn answer_instead(&self, paused: &Value) {
        let url = paused["request"]["url"].as_str().unwrap_or_default();
        let answers = self.answers.borrow();
        let body = answers.iter().find(|(part, _)| url.contains(part)).map_or("{}", |(_, body)| body);
        let headers = json!([{ "name": "content-type", "value": "application/json" }]);
        let answer = json!({ "requestId": paused["requestId"], "responseCode": 200, "responseHeaders": headers, "body": encode(body.as_bytes()) });
        // What is said to it is one of the answers that nobody waits for.
        self.send("Fetch.fulfillRequest", &answer);
    }

    #[track_caller]
    fn send(&self, method: &str, parameters: &Value) -> u64 {
        let id = self.next.replace_with(|next| *next + 1);
        let mut message = json!({ "id": id, "method": method, "params": parameters });
        if !self.session.is_empty() {
            message["sessionId"] = self.session.as_str().into();
        }
        let sent = self.input.borrow_mut().write_all(format!("{message}\0").as_bytes());
        assert!(sent.is_ok(), "chromium has ended: {sent:?}");
        id
    }

    /// What a script gives back; a promise is waited for.
    ///
    /// # Panics
    /// The script fails.
    #[track_caller]
    pub fn run(&self, script: &str) -> Value {
        let parameters =
            json!({ "expression": script, "awaitPromise": true, "returnByValue": true, "userGesture": true });
        let answer = self.call("Runtime.evaluate", &parameters);
        let failed = &answer["exceptionDetails"];
        assert!(failed.is_null(), "{script}: {failed}");
        answer["result"]["value"].clone()
    }

    /// Waits until a script gives back true.
    ///
    /// # Panics
    /// It never does.
    #[track_caller]
    pub fn wait_until(&self, script: &str) {
        if !process::holds_within(PATIENCE, || {
            std::thread::sleep(Duration::from_millis(20));
            self.run(script) == true
        }) {
            panic!("never: {script}\n{}", self.run("document.body.innerText"));
        }
    }

    /// Sets size and colours, then loads a page.
    pub fn open(&self, url: &str, looks: Looks) {
        self.look(looks);
        self.call("Page.navigate", &json!({ "url": url }));
        self.wait_until("document.readyState === 'complete'");
    }

    /// Sets size and colours.
    pub fn look(&self, looks: Looks) {
        let Looks { width, height, dark } = looks;
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", &size);
        let scheme = if dark { "dark" } else { "light" };
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", &features);
    }

    /// Presses a key: `Tab`, `Enter`, or what it writes.
    pub fn press(&self, key: &str) {
        let (code, text) = match key {
            "Tab" => (9, ""),
            "Enter" => (13, "\r"),
            "Escape" => (27, ""),
            other => (0, other),
        };
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = text.into();
            }
            self.call("Input.dispatchKeyEvent", &event);
        }
    }

    /// Saves what the page shows: the window, or the whole page.
    ///
    /// # Panics
    /// The file cannot be written.
    #[track_caller]
    pub fn screenshot(&self, file: &Path, whole: bool) {
        let answer =
            self.call("Page.captureScreenshot", &json!({ "format": "png", "captureBeyondViewport": whole }));
        let octets = decode(answer["data"].as_str().unwrap_or_default());
        std::fs::write(file, octets).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }

    /// What the browser has told so far, of one kind.
    pub fn events(&self, method: &str) -> Vec<Value> {
        // Whatever was told before this answer is there with it.
        self.call("Runtime.evaluate", &json!({ "expression": "1" }));
        let events = self.events.borrow();
        events.iter().filter(|event| event["method"] == method).map(|event| event["params"].clone()).collect()
    }

    /// Every address that was asked for.
    pub fn requests(&self) -> Vec<String> {
        let sent = self.events("Network.requestWillBeSent");
        sent.iter().map(|event| event["request"]["url"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// What went wrong in the page: exceptions, errors and warnings of the console, what its policy refused, dialogs.
    pub fn troubles(&self) -> Vec<String> {
        let mut troubles: Vec<String> = Vec::new();
        for method in ["Runtime.exceptionThrown", "Page.javascriptDialogOpening"] {
            troubles.extend(self.events(method).iter().map(ToString::to_string));
        }
        let entries = self.events("Log.entryAdded");
        let bad = entries
            .iter()
            .filter(|event| event["entry"]["level"] == "error" || event["entry"]["source"] == "security");
        troubles.extend(bad.map(ToString::to_string));
        let calls = self.events("Runtime.consoleAPICalled");
        troubles.extend(calls.iter().filter(|event| event["type"] == "error").map(ToString::to_string));
        let violations = self.run("window.violations");
        troubles.extend(violations.as_array().into_iter().flatten().map(ToString::to_string));
        troubles
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.input.borrow_mut().write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        if process::wait(&mut self.child, Duration::from_secs(20)).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Base64 (RFC 4648 §4) as a browser writes it.
fn decode(text: &str) -> Vec<u8> {
    let value = |octet: u8| match octet {
        b'A'..=b'Z' => Some(u32::from(octet - b'A')),
        b'a'..=b'z' => Some(u32::from(octet - b'a') + 26),
        b'0'..=b'9' => Some(u32::from(octet - b'0') + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let (mut octets, mut held, mut bits) = (Vec::with_capacity(text.len() / 4 * 3), 0_u32, 0_u32);
    for six in text.bytes().map_while(value) {
        held = held << 6 | six;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            octets.push(u8::try_from(held >> bits & 0xff).unwrap_or(0));
        }
    }
    octets
}

/// The same the other way.
fn encode(octets: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in octets.chunks(3) {
        let bits =
            three.iter().fold(0, |bits, octet| bits << 8 | usize::from(*octet)) << (8 * (3 - three.len()));
        for place in 0..4 {
            let digit = DIGITS[bits >> (18 - 6 * place) & 63];
            text.push(if place <= three.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_done_and_undone() {
        for octets in [&b""[..], b"i", b"in", b"inr", b"inrush\xff\x00"] {
            assert_eq!(decode(&encode(octets)), octets);
        }
        assert_eq!(encode(b"inrus"), "aW5ydXM=");
        assert_eq!(decode("aW5ydXNo"), b"inrush");
        assert_eq!(decode("aW5ydXM="), b"inrus");
        assert_eq!(decode("/+8="), [0xff, 0xef]);
    }
}
