//! The image of `deploy/container`, run by crun as Kubernetes and podman run it: no root, nothing to write but the log, our filter of system calls.
//!
//! The file system is put together by the script that the Containerfile calls, from the programs under test.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use inrush_tests::client::{Client, accepted};
use inrush_tests::server::{field, listening};
use inrush_tests::{binary, export, http, process};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{file, text};

/// The words of an instruction of the Containerfile, in its last stage.
fn instruction(name: &str) -> String {
    let containerfile = text("deploy/container/Containerfile");
    let (_, stage) = containerfile.rsplit_once("\nFROM ").unwrap();
    let mut lines = stage.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    lines.next().unwrap_or_else(|| panic!("no {name}")).to_owned()
}

/// crun, for which control groups are of version 2, whatever this machine has them at; it leaves them alone.
fn crun(arguments: &[&str]) -> Command {
    let script = "mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec \"$@\"";
    let mut command = process::command("unshare", ["--mount", "sh", "-c", script, "sh"]);
    command.arg(process::program("crun")).arg("--cgroup-manager=disabled").args(arguments);
    command
}

/// A running container; ended when dropped.
struct Container {
    folder: TempDir,
    id: String,
    runtime: Child,
    mx: SocketAddr,
    admin: SocketAddr,
}

impl Container {
    fn start(seccomp: &Value) -> Self {
        let folder = TempDir::with_prefix("inrush-container-").unwrap();
        let at = |name: &str| folder.path().join(name);
        let mut root = Command::new(file("deploy/container/root.sh"));
        root.arg(at("rootfs")).arg(binary::inrush());
        process::finish(root).succeeded();
        let user: Vec<u32> = instruction("USER").split(':').map(|id| id.parse().unwrap()).collect();
        for name in ["config", "data"] {
            fs::create_dir(at(name)).unwrap();
            chown(at(name), Some(user[0]), Some(user[1])).unwrap();
        }
        fs::set_permissions(at("data"), fs::Permissions::from_mode(0o700)).unwrap();
        let config = "data_dir = \"/var/lib/inrush\"\n[[listener]]\nname = \"mx\"\naddress = [\"127.0.0.1:0\"]\n\
             [log]\nsegment_bytes = \"4MiB\"\nfree_bytes_min = \"16MiB\"\n[admin]\naddress = \"127.0.0.1:0\"\n";
        fs::write(at("config/inrush.toml"), config).unwrap();
        let words = |name: &str| -> Vec<String> { serde_json::from_str(&instruction(name)).unwrap() };
        let bundle = bundle(folder.path(), &user, &[words("ENTRYPOINT"), words("CMD")].concat(), seccomp);
        fs::write(at("config.json"), bundle.to_string()).unwrap();
        let id = folder.path().file_name().unwrap().to_string_lossy().into_owned();
        let mut command = crun(&["run", "--bundle"]);
        let log = fs::File::create(at("log")).unwrap();
        command.arg(folder.path()).arg(&id).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let runtime = command.spawn().unwrap();
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut container = Self { folder, id, runtime, mx: nowhere, admin: nowhere };
        process::eventually("the container listens", || {
            let ended = container.runtime.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}\n{}", container.log());
            let log = container.log();
            let (mx, admin) = (listening(&log, "mx"), listening(&log, "admin"));
            (container.mx, container.admin) = (mx.unwrap_or(nowhere), admin.unwrap_or(nowhere));
            mx.is_some() && admin.is_some()
        });
        container
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn signal(&self, signal: &str) -> std::process::ExitStatus {
        process::finish(crun(&["kill", &self.id, signal])).status
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if matches!(self.runtime.try_wait(), Ok(None)) {
            self.signal("KILL");
            let _ = self.runtime.wait();
        }
        if std::thread::panicking() {
            eprintln!("── the log of the container:\n{}", self.log());
        }
    }
}

/// The container as the OCI runtime specification 1.0 describes it. It shares the network, as a pod's containers share theirs.
fn bundle(folder: &Path, user: &[u32], arguments: &[String], seccomp: &Value) -> Value {
    let bind = |name: &str, to: &str, mode: &str| {
        let options = ["rbind", "nosuid", "nodev", "noexec", mode];
        json!({ "destination": to, "type": "bind", "source": folder.join(name), "options": options })
    };
    let none: [&str; 0] = [];
    json!({
        "ociVersion": "1.0.2",
        "root": { "path": "rootfs", "readonly": true },
        "process": {
            "user": { "uid": user[0], "gid": user[1] },
            "args": arguments,
            "env": ["PATH=/usr/bin"],
            "cwd": instruction("WORKDIR"),
            "capabilities": { "bounding": none, "effective": none, "permitted": none, "inheritable": none, "ambient": none },
            "noNewPrivileges": true,
        },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            bind("data", &instruction("VOLUME"), "rw"),
            bind("config", "/etc/inrush", "ro"),
        ],
        "linux": {
            "namespaces": [{ "type": "pid" }, { "type": "mount" }, { "type": "ipc" }, { "type": "uts" }],
            "seccomp": seccomp,
        },
    })
}

fn profile() -> Value {
    serde_json::from_str(&text("deploy/container/seccomp.json")).unwrap()
}

/// Takes a message and drains.
fn serves(engine: &str, seccomp: &Value) {
    let mut container = Container::start(seccomp);
    let log = container.log();
    assert_eq!(log.lines().find_map(|line| field(line, "engine")).as_deref(), Some(engine), "{log}");
    process::eventually("/readyz says yes", || http::get(container.admin, "/readyz").status == 200);
    let mut idle = Client::greeted(container.mx);
    let mut running = Client::greeted(container.mx);
    running.envelope(&["b@example.com"]);
    running.say("DATA", 354);
    assert!(container.signal("TERM").success());
    assert!(idle.expect(421).text().contains("4.3.2"));
    running.send(b"Subject: the last one\r\n\r\nx\r\n.\r\n").unwrap();
    let id = accepted(&running.expect(250));
    let status = process::wait(&mut container.runtime, process::PATIENCE).unwrap();
    assert!(status.success(), "{status}\n{}", container.log());
    let stored = export::all(&container.folder.path().join("data"));
    assert!(stored.contains_key(&id), "{:?}", stored.keys());
}

#[test]
fn with_our_filter_it_runs_on_io_uring() {
    serves("io_uring", &profile());
}

/// As under a runtime's own profile.
#[test]
fn where_io_uring_is_denied_it_runs_on_epoll() {
    let mut seccomp = profile();
    let rules = seccomp["syscalls"].as_array_mut().unwrap();
    let before = rules.len();
    rules.retain(|rule| !rule["names"].as_array().unwrap().contains(&json!("io_uring_setup")));
    assert_eq!(rules.len() + 1, before);
    serves("epoll", &seccomp);
}
