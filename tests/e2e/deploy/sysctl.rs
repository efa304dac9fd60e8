//! `deploy/sysctl`: the kernel knows the settings and takes them. In a network of its own, whose settings are nobody else's.

use inrush_tests::process::{self, Finished};

use super::{file, text};

/// The settings of the file, without those that are the whole machine's.
fn of_the_network() -> Vec<(String, String)> {
    let text = text("deploy/sysctl/60-inrush.conf");
    let lines = text.lines().filter(|line| line.starts_with("net."));
    lines
        .map(|line| line.split_once(" = ").unwrap())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn in_a_network(script: &str) -> Finished {
    let mut command = process::command("unshare", ["--net", "sh", "-euc", script, "sh"]);
    command.arg(file("deploy/sysctl/60-inrush.conf"));
    process::finish(command)
}

#[test]
fn the_kernel_takes_the_settings() {
    let settings = of_the_network();
    assert_eq!(settings.len(), 3);
    let names: Vec<&str> = settings.iter().map(|(name, _)| name.as_str()).collect();
    let script = format!("grep '^net' \"$1\" | sysctl --quiet --load -\nsysctl --values {}", names.join(" "));
    let said = in_a_network(&script).succeeded().text();
    let values: Vec<String> =
        said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let expected: Vec<String> = settings.into_iter().map(|(_, value)| value).collect();
    assert_eq!(values, expected);
}

/// The one of the machine has its name; kernels without it are allowed for.
#[test]
fn io_uring_is_switched_by_its_name() {
    let text = text("deploy/sysctl/60-inrush.conf");
    assert!(text.contains("\n-kernel.io_uring_disabled = 0\n"));
    let version = process::finish(process::command("uname", ["-r"])).text();
    let mut numbers = version.split('.').map_while(|number| number.parse::<u32>().ok());
    let known = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 6);
    let there = std::path::Path::new("/proc/sys/kernel/io_uring_disabled").exists();
    assert!(there || !known, "{version}");
}
