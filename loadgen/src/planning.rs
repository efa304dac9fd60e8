//! From the options to a [`Plan`]: checks, profile, names resolved.

use std::fs;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use inrush_proto::client::Protocol;
use rustls::pki_types::ServerName;

use crate::authentication::Credentials;
use crate::content::{Content, ContentSettings, PayloadSettings};
use crate::hostile;
use crate::options::{ArrivalsOption, RunOptions};
use crate::pacer::Arrivals;
use crate::plan::{Hostile, Pace, Place, Plan, Target, TlsSettings};
use crate::profile::Profile;
use crate::ramp::{Ramp, Slo};
use crate::sender::{FROM, Sender, SenderSettings, TlsMode};
use crate::sizes::Sizes;
use crate::tls::{self, Trust};

/// Window and warm-up of a step of a ramp when nothing is said about them.
const STEP: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(2));
/// Port of a target without one.
const PORT: u16 = 25;

impl RunOptions {
    /// Checks and resolves.
    ///
    /// # Errors
    /// A sentence for the user.
    pub fn plan(&self, run: u64, date: &str) -> Result<Plan, String> {
        let targets = self.targets()?;
        let pace = self.pace()?;
        let (senders, hostile) = self.senders()?;
        if self.hello.is_empty() || self.hello.bytes().any(|b| !b.is_ascii_graphic()) {
            return Err(format!("--hello {:?} is not a name", self.hello));
        }
        let cores = usize::from(self.cores);
        let sessions = self.sessions as usize;
        if sessions < cores {
            return Err(format!("{sessions} sessions cannot use {cores} cores"));
        }
        if sessions < senders.len() {
            return Err(format!(
                "the profile has {} senders: --sessions must be at least that",
                senders.len()
            ));
        }
        if self.connect_rate.is_some_and(|rate| !(1e-3..=1e8).contains(&rate)) {
            return Err("--connect-rate is outside of 0.001 to 100000000".to_owned());
        }
        let tls = self.tls_settings(&targets, &senders)?;
        let credentials = self.credentials(&targets, &senders)?;
        let is_ramp = matches!(pace, Pace::Ramp(..));
        let step = |given: Option<Duration>, default| given.or_else(|| is_ramp.then_some(default));
        Ok(Plan {
            hostile_domain: hostile_domain(self.to.as_deref()),
            content: self.content(&senders, run, date)?,
            targets,
            senders,
            hostile,
            sessions,
            messages: self.messages,
            duration: step(self.duration, STEP.0),
            warmup: step(self.warmup, STEP.1).unwrap_or_default(),
            pace,
            connect_rate: self.connect_rate,
            connect_tries: self.connect_tries,
            tls,
            credentials,
            protocol: if self.lmtp { Protocol::Lmtp } else { Protocol::Smtp },
            declare_size: self.declare_size,
            hello: self.hello.clone(),
            cores,
            cpus: self.cpus.clone(),
            engine: self.engine,
            timeout: self.timeout,
            grace: self.grace,
            errors_max: self.errors_max,
            fail_fast: self.fail_fast,
            keep_ids: self.verify.is_some(),
        })
    }

    fn pace(&self) -> Result<Pace, String> {
        let arrivals = match self.arrivals {
            ArrivalsOption::Uniform => Arrivals::Uniform,
            ArrivalsOption::Poisson => Arrivals::Poisson,
        };
        let of_ramp = [
            ("--slo", self.slo.is_some()),
            ("--ramp-precision", self.ramp_precision.is_some()),
            ("--ramp-confirmations", self.ramp_confirmations.is_some()),
        ];
        if let (None, Some((name, _))) = (self.ramp, of_ramp.iter().find(|(_, given)| *given)) {
            return Err(format!("{name} needs --ramp"));
        }
        match (self.rate, self.ramp) {
            (Some(rate), _) if rate.is_finite() && (1e-3..=1e8).contains(&rate) => {
                Ok(Pace::Open(rate, arrivals))
            }
            (Some(rate), _) => Err(format!("--rate {rate} is outside of 0.001 to 100000000")),
            (None, Some((low, high))) => {
                let precision = f64::from(self.ramp_precision.unwrap_or(5)) / 100.0;
                let confirmations = self.ramp_confirmations.unwrap_or(2);
                let slo = self.slo.unwrap_or(Slo::DEFAULT);
                Ok(Pace::Ramp(Ramp { low, high, slo, precision, confirmations }, arrivals))
            }
            (None, None) if arrivals != Arrivals::Uniform => {
                Err("--arrivals needs --rate or --ramp".to_owned())
            }
            // A number of messages without a pace is what smtp-source does. A time without one could mean anything.
            (None, None) if self.closed || self.duration.is_none() => Ok(Pace::Closed),
            (None, None) => Err(
                "--duration needs a pace: --rate R (open loop), --ramp LOW-HIGH (finds the highest rate) or \
                 --closed (as fast as the server answers)"
                    .to_owned(),
            ),
        }
    }

    fn senders(&self) -> Result<(Vec<Sender>, Vec<Hostile>), String> {
        let profile = match &self.profile {
            Some(name) => Profile::load(name)?,
            None => Profile { sender: vec![SenderSettings::default()], ..Profile::default() },
        };
        let given = self.sender();
        let senders = profile.sender.iter().map(|sender| given.over(sender).check(self.number_recipients));
        let of_profile = profile.hostile.iter().map(|hostile| Hostile {
            behaviour: hostile.behaviour,
            sessions: (self.sessions as usize * hostile.sessions_percent as usize).div_ceil(100),
            pause: hostile.pause.unwrap_or(hostile::PAUSE),
            hold: hostile.hold.unwrap_or(hostile::HOLD),
        });
        let of_options = self.hostile.iter().map(|&(behaviour, sessions)| Hostile {
            behaviour,
            sessions,
            pause: hostile::PAUSE,
            hold: hostile::HOLD,
        });
        Ok((senders.collect::<Result<_, _>>()?, of_profile.chain(of_options).collect()))
    }

    fn content(&self, senders: &[Sender], run: u64, date: &str) -> Result<Content, String> {
        if let Some(path) = &self.message_file {
            let message = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
            return if message.is_empty() {
                Err(format!("{} is empty", path.display()))
            } else {
                Ok(Content::file(self.seed, &message))
            };
        }
        let subject = self.subject.as_deref();
        if subject.is_some_and(|subject| subject.len() > 900 || subject.chars().any(char::is_control)) {
            return Err("--subject is not one line of at most 900 octets".to_owned());
        }
        let settings = ContentSettings {
            seed: self.seed,
            run,
            sizes: Sizes::Fixed(0),
            from: self.from.as_deref().unwrap_or(FROM),
            date,
            dot_lines_percent: 0,
        };
        let payloads: Vec<PayloadSettings> = senders
            .iter()
            .map(|sender| PayloadSettings {
                sizes: sender.length.clone(),
                dot_lines_percent: sender.dot_lines,
            })
            .collect();
        Ok(Content::for_senders(&settings, &payloads, subject))
    }

    fn tls_settings(&self, targets: &[Target], senders: &[Sender]) -> Result<Option<TlsSettings>, String> {
        if senders.iter().all(|sender| sender.tls == TlsMode::Off) {
            let given = [
                ("--tls-share", self.tls_share.is_some()),
                ("--tls-resumption", self.tls_resumption),
                ("--tls-ca", self.tls_ca.is_some()),
                ("--tls-insecure", self.tls_insecure),
                ("--tls-name", self.tls_name.is_some()),
            ];
            return match given.iter().find(|(_, given)| *given) {
                Some((name, _)) => Err(format!("{name} needs --tls starttls or implicit")),
                None => Ok(None),
            };
        }
        let trust = match &self.tls_ca {
            Some(path) => Trust::File(path),
            None if self.tls_insecure || targets.iter().all(Target::is_local) => Trust::Anyone,
            None => Trust::System,
        };
        Ok(Some(TlsSettings { config: tls::config(trust)?, resumption: self.tls_resumption }))
    }

    fn credentials(&self, targets: &[Target], senders: &[Sender]) -> Result<Option<Credentials>, String> {
        let (Some(user), Some(file)) = (&self.auth_user, &self.auth_password_file) else { return Ok(None) };
        let in_the_clear =
            senders.iter().any(|sender| sender.tls == TlsMode::Off || sender.tls_percent < 100);
        if in_the_clear && !targets.iter().all(Target::is_local) {
            return Err(
                "a password goes to another machine under TLS only: --tls starttls or implicit".to_owned()
            );
        }
        Credentials::read(user, file, self.auth_mechanism).map(Some)
    }

    fn targets(&self) -> Result<Vec<Target>, String> {
        self.target.iter().map(|name| self.target(name)).collect()
    }

    fn target(&self, name: &str) -> Result<Target, String> {
        let (place, host) = match name.strip_prefix("unix:") {
            Some(path) => (Place::Unix(PathBuf::from(path)), "localhost".to_owned()),
            None => {
                let name = name.strip_prefix("inet:").unwrap_or(name);
                let (address, host) = self.resolve(name)?;
                (Place::Tcp(address), host)
            }
        };
        let server_name = self.tls_name.clone().unwrap_or(host);
        let server_name = ServerName::try_from(server_name.clone())
            .map_err(|_| format!("{server_name:?} is no name for TLS: --tls-name"))?;
        let mut sources = self.source_address.clone();
        if let Place::Tcp(address) = &place {
            sources.retain(|source| source.is_ipv4() == address.is_ipv4());
            if sources.is_empty() && !self.source_address.is_empty() {
                return Err(format!("no --source-address can reach {name}"));
            }
        }
        let target = Target { name: name.to_owned(), place, server_name, sources };
        if !target.is_local() && !self.allow_remote {
            return Err(format!(
                "{name} is not on this machine; load for the servers of others is abuse. With --allow-remote if it is yours"
            ));
        }
        Ok(target)
    }

    /// Address and host name.
    fn resolve(&self, name: &str) -> Result<(SocketAddr, String), String> {
        let with_port = match name.rsplit_once(':') {
            Some((_, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !port.is_empty() => {
                name.to_owned()
            }
            _ => format!("{name}:{PORT}"),
        };
        let addresses = with_port
            .to_socket_addrs()
            .map_err(|error| format!("{name}: {error} (HOST:PORT or unix:PATH is expected)"))?;
        let wanted =
            |address: &SocketAddr| !(self.ipv4 && address.is_ipv6() || self.ipv6 && address.is_ipv4());
        let address =
            addresses.into_iter().find(wanted).ok_or_else(|| format!("{name} has no such address"))?;
        let host = with_port.rsplit_once(':').map_or(name, |(host, _)| host);
        Ok((address, host.trim_matches(['[', ']']).to_owned()))
    }
}

impl Target {
    /// On this machine.
    fn is_local(&self) -> bool {
        match &self.place {
            Place::Tcp(address) => address.ip().is_loopback(),
            Place::Unix(_) => true,
        }
    }
}

/// Where hostile sessions look for addresses: beside the recipients.
fn hostile_domain(to: Option<&str>) -> String {
    let domain = to.and_then(|to| to.rsplit_once('@')).map_or("inrush.example", |(_, domain)| domain);
    if domain.contains('{') { "inrush.example".to_owned() } else { domain.to_owned() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use clap::Parser as _;

    use super::*;
    use crate::options::{Cli, Command};

    fn options(line: &str) -> Result<Plan, String> {
        let words = ["inrush-load", "run"].into_iter().chain(line.split_ascii_whitespace());
        #[allow(clippy::infallible_destructuring_match, reason = "commands may be added")]
        let parsed = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        let Command::Run(options) = parsed.command else { return Err("another command".to_owned()) };
        options.plan(1, "Sat, 21 Nov 2026 21:44:57 +0000")
    }

    #[test]
    fn words_of_smtp_source() {
        let plan = options("-s 50 -m 1000 -l 4096 -r 3 -d -f a@b -t c@d -M me 127.0.0.1:25").unwrap();
        let sender = &plan.senders[0];
        assert_eq!((plan.sessions, plan.messages, sender.recipients.largest()), (50, Some(1000), 3));
        assert_eq!(sender.messages_per_connection, None);
        assert_eq!(plan.targets[0].place, Place::Tcp(SocketAddr::from(([127, 0, 0, 1], 25))));
        assert_eq!(plan.pace, Pace::Closed);
        for line in [
            "-m 1 -4 localhost",
            "-m 1 inet:127.0.0.1",
            "-m 1 unix:/run/x",
            "-m 1 -d -w 1 -S hello",
            "-m 1 -d -R 2 -N -C 5",
        ] {
            options(line).unwrap();
        }
        let plan = options("-m 1 [::1]").unwrap();
        assert_eq!(plan.targets[0].place, Place::Tcp("[::1]:25".parse().unwrap()));
    }

    #[test]
    fn always_bounded() {
        assert!(options("-s 5").is_err());
        assert!(options("--duration 5s --closed").is_ok());
        assert!(options("--ramp 10-100").is_ok());
    }

    #[test]
    fn the_pace() {
        assert!(matches!(options("-m 9").unwrap().pace, Pace::Closed));
        assert!(options("-D 9s").unwrap_err().contains("--rate"));
        assert!(matches!(options("-D 9s --rate 5").unwrap().pace, Pace::Open(5.0, Arrivals::Uniform)));
        let plan = options("--ramp 10-100 --slo p95=1s --arrivals poisson").unwrap();
        let Pace::Ramp(ramp, Arrivals::Poisson) = plan.pace else { panic!("{:?}", plan.pace) };
        assert_eq!((ramp.low, ramp.high, ramp.slo.quantile), (10.0, 100.0, 0.95));
        assert_eq!((plan.duration, plan.warmup), (Some(STEP.0), STEP.1));
        let plan = options("--ramp 10-100 -D 3s --warmup 1s").unwrap();
        assert_eq!((plan.duration, plan.warmup), (Some(Duration::from_secs(3)), Duration::from_secs(1)));
    }

    #[test]
    fn options_win_over_the_profile() {
        let plan = options("-m 1 -s 100 --profile mx").unwrap();
        assert!(plan.senders.len() > 2 && plan.tls.is_some());
        assert!(plan.senders.iter().any(|sender| sender.length != Sizes::Fixed(500)));
        let plan = options("-m 1 -s 100 --profile mx --tls off -l 500").unwrap();
        assert!(plan.tls.is_none() && plan.senders.iter().all(|sender| sender.length == Sizes::Fixed(500)));
        let plan = options("-m 1 -s 40 --profile abuse --hostile idle=7").unwrap();
        let idle: usize = plan
            .hostile
            .iter()
            .filter(|kind| kind.behaviour == hostile::Behaviour::Idle)
            .map(|kind| kind.sessions)
            .sum();
        assert_eq!(idle, 8 + 7);
        let seats = plan.seats();
        assert_eq!(seats[0].len(), 40 + plan.hostile.iter().map(|kind| kind.sessions).sum::<usize>());
    }

    #[test]
    fn tls_and_passwords() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "secret\n").unwrap();
        let auth = format!("-m 1 --auth-user a --auth-password-file {}", file.path().display());
        assert!(options(&auth).unwrap().credentials.is_some());
        let remote = format!("{auth} --allow-remote 192.0.2.1:587");
        assert!(options(&remote).unwrap_err().contains("under TLS only"));
        assert!(options(&format!("{remote} --tls starttls --tls-share 50 --tls-insecure")).is_err());
        assert!(options(&format!("{remote} --tls starttls --tls-insecure")).is_ok());
        let ca = format!("-m 1 --tls starttls --tls-ca {}", file.path().display());
        assert!(options(&ca).unwrap_err().contains("no certificate"));
        assert!(options("-m 1 --tls starttls --tls-ca /nowhere").is_err());
        assert!(options("-m 1 --tls starttls --tls-name ..").unwrap_err().contains("--tls-name"));
    }

    #[test]
    fn remote_targets_must_be_allowed() {
        assert!(options("-m 1 192.0.2.1:25").unwrap_err().contains("--allow-remote"));
        assert!(options("-m 1 127.0.0.1:25,192.0.2.1:25").is_err());
        assert!(options("-m 1 [::1]:25").is_ok());
        assert!(options("-m 1 --allow-remote 192.0.2.1:25").is_ok());
    }

    #[test]
    fn contradictions() {
        for line in [
            "-m 1 --closed --rate 5",
            "-m 1 --rate 0",
            "-m 1 --rate nan",
            "-m 0",
            "-m 1 -s 1 --cores 2",
            "-m 1 --in-flight 4 --pipelining off",
            "-m 1 --in-flight 1000",
            "-m 1 -d --messages-per-connection 4",
            "-m 1 -l 1..5",
            "-m 1 nowhere",
            "-m 1 --server-children",
            "-m 1 -t a<b@c",
            "-m 1 --arrivals poisson",
            "-m 1 --ramp 1-2",
            "--ramp 1-2 --rate 3",
            "-m 1 --slo p99=1s",
            "-m 1 --tls-ca x",
            "-m 1 --tls-share 5",
            "-m 1 --tls-resumption",
            "-m 1 --auth-user x",
            "-m 1 --auth-user x --auth-password-file /nowhere",
            "-m 1 --hostile rude=5",
            "-m 1 --hostile idle=0",
            "-m 1 --connect-rate 0",
            "-m 1 -4 -6",
            "-m 1 -6 127.0.0.1:25",
            "-m 1 --source-address ::1 127.0.0.1:25",
            "-m 1 -d -w 1 -R 1",
            "-m 1 -w 1",
            "-m 1 -s 4 --in-flight 4",
            "-m 1 -s 4 --in-flight 4 --messages-per-connection 1",
            "-m 1 -F /nowhere",
            "-m 1 -F x -l 5",
            "-m 1 --mode bdat --bdat-share 5",
            "-m 1 -s 2 --profile mx",
            "-m 1 --octets-per-second 0",
            "-m 1 -C 0",
        ] {
            assert!(options(line).is_err(), "{line}");
        }
        assert!(options("-m 1 -s 4 -d --in-flight 4").is_ok());
        assert!(options("-m 1 -w 1 --messages-per-connection 2").is_ok());
        let words = ["inrush-load", "run", "-m", "1", "-S", "a\r\nb"];
        let Command::Run(parsed) = Cli::try_parse_from(words).unwrap().command else { panic!("run") };
        assert!(parsed.plan(1, "").unwrap_err().contains("--subject"));
    }
}
