//! The servers that are compared, each as its operator would run it for this load.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::Context;
use inrush_tests::http::Samples;
use inrush_tests::postfix::{Postfix, Purpose, free_port};
use inrush_tests::process;
use inrush_tests::server::Server;
use inrush_tests::settings::Settings;

use super::cpu::Meter;

/// Postfix without limits on clients and without lookups. Everything else is as Postfix comes, its logging too.
pub(super) const UNLIMITED: &[&str] = &[
    "default_process_limit = 200",
    "relay_domains = example.com",
    "smtpd_recipient_restrictions = permit_mynetworks, reject",
    "smtpd_peername_lookup = no",
    "smtpd_client_connection_count_limit = 0",
    "smtpd_client_connection_rate_limit = 0",
    "smtpd_client_message_rate_limit = 0",
    "smtpd_client_recipient_rate_limit = 0",
    "smtpd_tls_security_level = none",
    "in_flow_delay = 0",
    "max_use = 100000",
];

/// As a receiver only: every message is put on hold, so that its queue manager does no work for it.
const RECEIVER: &[&str] =
    &["smtpd_client_restrictions = check_client_access static:HOLD", "header_size_limit = 102400"];

/// A running server under measurement.
pub(crate) struct Subject {
    /// Name in the report.
    pub(crate) name: &'static str,
    /// Where it takes mail.
    pub(crate) address: String,
    /// Messages a run.
    pub(crate) messages: u32,
    /// Ended before its control group is removed: fields are dropped in this order.
    process: Process,
    /// Its processor time.
    pub(crate) meter: Meter,
}

enum Process {
    Sink(Child),
    Postfix(#[expect(dead_code, reason = "stops when dropped")] Postfix),
    Inrush(Box<Server>),
}

impl Subject {
    /// Postfix's test server: speaks SMTP and stores nothing.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn smtp_sink(messages: u32) -> anyhow::Result<Self> {
        let mut meter = Meter::new("smtp-sink");
        let address = free_port().to_string();
        let program = process::program("smtp-sink");
        let mut command = match meter.launcher().split_first() {
            Some((launcher, arguments)) => {
                let mut command = Command::new(launcher);
                command.args(arguments).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.args(["-u", "postfix", address.as_str(), "1000"]).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().context("smtp-sink")?;
        meter.started(child.id());
        let subject = Self { name: "smtp-sink", address, messages, meter, process: Process::Sink(child) };
        process::eventually("smtp-sink accepts", || std::net::TcpStream::connect(&subject.address).is_ok());
        Ok(subject)
    }

    /// Postfix with its queue below `folder`.
    pub(crate) fn smtpd(folder: &Path, messages: u32) -> Self {
        let mut meter = Meter::new("smtpd");
        let listen = free_port();
        let postfix = Postfix::start(&Purpose {
            listen: Some(listen),
            main: UNLIMITED.iter().chain(RECEIVER).map(|line| (*line).to_owned()).collect(),
            queue: Some(folder.join("postfix-queue")),
            launcher: meter.launcher(),
            ..Purpose::default()
        });
        if let Some(master) = postfix.master() {
            meter.started(master);
        }
        let address = listen.to_string();
        Self { name: "Postfix smtpd", address, messages, meter, process: Process::Postfix(postfix) }
    }

    /// The gateway with its log below `folder`, strict durability, on `cores` cores (0 = all), everything else as it comes.
    pub(crate) fn inrush(binary: &Path, folder: &Path, messages: u32, cores: u16) -> Self {
        let mut meter = Meter::new("inrush");
        let settings = Settings {
            launcher: meter.launcher(),
            binary: Some(binary.into()),
            top: vec![format!("cores = {cores}")],
            ..Settings::default()
        };
        let server =
            Server::with(settings.data(&folder.join("inrush-data")).log(&["durability = \"strict\""]));
        meter.started(server.pid());
        let address = server.mx().to_string();
        Self { name: "inrush", address, messages, meter, process: Process::Inrush(Box::new(server)) }
    }

    /// How many messages it says it has accepted, where it says so.
    pub(crate) fn accepted(&self) -> Option<f64> {
        match &self.process {
            Process::Inrush(server) => {
                Some(Samples::scrape(server.admin()).sum("inrush_messages_accepted_total", &[]))
            }
            Process::Sink(_) | Process::Postfix(_) => None,
        }
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        if let Process::Sink(child) = &mut self.process {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
