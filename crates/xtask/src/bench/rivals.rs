//! The other servers: what they need, how they are set up (bench/rivals/NAME), how they are started.
//!
//! They are installed by `compare --install` only, since no test needs them: Exim and OpenSMTPD out of Debian's packages, which cannot stand
//! beside its Postfix, Haraka from npm and aiosmtpd from PyPI, in these versions, below target/. Those that insist on users and folders of the
//! system get them in a mount namespace of their own.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use inrush_tests::postfix::free_port;
use inrush_tests::process;

use super::compare::Arguments;
use super::machine;
use super::servers::Subject;
use crate::packages::{self, EXIM, Unpacked};
use crate::run;

const HARAKA: &str = "Haraka@3.3.4";
const AIOSMTPD: &str = "aiosmtpd==1.4.6";

/// What npm and PyPI give goes here, below the root of the tree.
const INSTALLED_TO: &str = "target/rivals";

const OPENSMTPD: Unpacked =
    Unpacked { name: "opensmtpd", program: "usr/sbin/smtpd", libraries: &["libdb5.3", "libevent-2.1-7"] };

/// Users that the programs are built for, with numbers that nobody has.
const USERS: [(&str, u32); 3] = [("Debian-exim", 64_999), ("opensmtpd", 64_998), ("opensmtpq", 64_997)];

/// A server that is compared with the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rival {
    SmtpSink,
    Postfix,
    Exim,
    OpenSmtpd,
    Haraka,
    Aiosmtpd,
}

const ALL: [Rival; 6] =
    [Rival::SmtpSink, Rival::Postfix, Rival::Exim, Rival::OpenSmtpd, Rival::Haraka, Rival::Aiosmtpd];

/// Those with these names; `all` stands for all.
///
/// # Errors
/// There is none of a name.
pub(super) fn chosen(names: &[String]) -> anyhow::Result<Vec<Rival>> {
    if names.iter().any(|name| name == "all") {
        return Ok(ALL.to_vec());
    }
    let find = |name: &String| {
        let known = ALL.map(Rival::name).join(", ");
        let rival = ALL.into_iter().find(|rival| rival.name() == name);
        rival.with_context(|| format!("no server {name}; there are: {known}, or `all`"))
    };
    names.iter().map(find).collect()
}

/// Names of all that are installed, with commas between.
pub(super) fn there() -> String {
    let there = ALL.into_iter().filter(|rival| rival.is_there()).map(Rival::name);
    there.collect::<Vec<_>>().join(",")
}

impl Rival {
    /// In the report and on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::SmtpSink => "smtp-sink",
            Self::Postfix => "postfix",
            Self::Exim => "exim",
            Self::OpenSmtpd => "opensmtpd",
            Self::Haraka => "haraka",
            Self::Aiosmtpd => "aiosmtpd",
        }
    }

    /// Messages a run: only smtp-sink keeps up with the gateway, and OpenSMTPD not with the others.
    pub(super) fn messages(self, arguments: &Arguments) -> u32 {
        match self {
            Self::SmtpSink => arguments.messages,
            // Its listen queue takes 5 connections; of a burst the others try again after a second.
            Self::OpenSmtpd => (arguments.rival_messages / 10).max(1),
            _ => arguments.rival_messages,
        }
    }

    /// What it says of itself.
    pub(super) fn version(self) -> String {
        match self {
            Self::SmtpSink | Self::Postfix => machine::said("postconf", &["-d", "-h", "mail_version"]),
            Self::Exim => {
                let said = machine::said(&EXIM.file().display().to_string(), &["-bV"]);
                said.lines().next().unwrap_or("?").to_owned()
            }
            Self::OpenSmtpd => {
                let said = Command::new(OPENSMTPD.file()).arg("-h").output();
                let said = said.map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
                said.unwrap_or_default().lines().next().unwrap_or("?").to_owned()
            }
            Self::Haraka => format!("{HARAKA}, node {}", machine::said("node", &["--version"])),
            Self::Aiosmtpd => format!("{AIOSMTPD}, {}", machine::said("python3", &["--version"])),
        }
    }

    /// Installs it, unless it is there.
    ///
    /// # Errors
    /// We are not root, or a package manager fails.
    pub(super) fn install(self) -> anyhow::Result<()> {
        run::step(self.name());
        if self.is_there() {
            println!("   there");
            return Ok(());
        }
        let minutes = Duration::from_secs(10 * 60);
        let folder = folder(self);
        match self {
            // Part of what the tests need.
            Self::SmtpSink | Self::Postfix => packages::ensure()?,
            Self::Exim => EXIM.install()?,
            Self::OpenSmtpd => {
                packages::install(OPENSMTPD.libraries)?;
                OPENSMTPD.install()?;
            }
            Self::Haraka => {
                if run::program("npm").is_none() {
                    packages::install(&["nodejs", "npm"])?;
                }
                fs::create_dir_all(&folder)?;
                let words = ["install", "--omit=dev", "--no-save", "--no-audit", "--no-fund", HARAKA];
                run::must(Command::new("npm").args(words).current_dir(&folder), minutes)?;
            }
            Self::Aiosmtpd => {
                let pip = Command::new("python3").args(["-m", "pip", "--version"]).output();
                if !pip.is_ok_and(|output| output.status.success()) {
                    packages::install(&["python3-pip"])?;
                }
                let words = ["-m", "pip", "install", "--quiet", "--target"];
                run::must(Command::new("python3").args(words).arg(&folder).arg(AIOSMTPD), minutes)?;
            }
        }
        ensure!(self.is_there(), "{} was installed, but its program is not there", self.name());
        Ok(())
    }

    /// # Errors
    /// It is not installed; the message names the command.
    pub(super) fn ensure_there(self) -> anyhow::Result<()> {
        if !self.is_there() {
            bail!(
                "{0} is not installed; as root: cargo xtask bench compare --install --servers {0}",
                self.name()
            );
        }
        Ok(())
    }

    fn is_there(self) -> bool {
        match self {
            Self::SmtpSink | Self::Postfix => run::program("smtp-sink").is_some(),
            Self::Exim => EXIM.is_there(),
            Self::OpenSmtpd => OPENSMTPD.is_there(),
            Self::Haraka => folder(self).join("node_modules/Haraka/bin/haraka").is_file(),
            Self::Aiosmtpd => folder(self).join("aiosmtpd/smtp.py").is_file(),
        }
    }

    /// Starts it with its queue below `folder`.
    ///
    /// # Errors
    /// It does not start.
    pub(super) fn start(self, folder: &Path) -> anyhow::Result<Subject> {
        let own = folder.join(self.name());
        fs::create_dir_all(&own)?;
        let address = free_port();
        let words = match self {
            Self::SmtpSink => return Subject::smtp_sink(),
            Self::Postfix => return Ok(Subject::postfix(&own)),
            Self::Exim => {
                let spool = own.join("spool");
                fs::create_dir_all(&spool)?;
                for folder in [&own, &spool] {
                    chown(folder, Some(USERS[0].1), Some(USERS[0].1))?;
                }
                let file = self.settings("exim.conf", &own, address.port(), &EXIM.file())?;
                in_namespace(&own, &[], &format!("{} -C {} -bdf", EXIM.file().display(), file.display()))?
            }
            Self::OpenSmtpd => {
                let (spool, empty) = (own.join("spool"), own.join("empty"));
                for (folder, mode) in [(&spool, 0o711), (&empty, 0o755)] {
                    fs::create_dir_all(folder)?;
                    fs::set_permissions(folder, fs::Permissions::from_mode(mode))?;
                }
                let file = self.settings("smtpd.conf", &own, address.port(), &OPENSMTPD.file())?;
                // It looks up the name of each client, and nothing turns that off: from /etc/hosts, as with a resolver that answers at once.
                let resolver = own.join("resolv.conf");
                fs::write(&resolver, "lookup file\n")?;
                let binds = [
                    (spool.as_path(), "/var/spool/smtpd"),
                    (&empty, "/var/lib/opensmtpd/empty"),
                    (&resolver, "/etc/resolv.conf"),
                ];
                let command =
                    format!("{} -d -P mta -P mda -f {}", OPENSMTPD.file().display(), file.display());
                in_namespace(&own, &binds, &command)?
            }
            Self::Haraka => {
                for name in [
                    "smtp.ini",
                    "plugins",
                    "relay.ini",
                    "outbound.ini",
                    "plugin_timeout",
                    "connection.ini",
                    "log.ini",
                ] {
                    self.settings(&format!("config/{name}"), &own, address.port(), Path::new(""))?;
                }
                self.settings("plugins/hold.js", &own, address.port(), Path::new(""))?;
                let program = self::folder(self).join("node_modules/Haraka/bin/haraka");
                ["node", &program.display().to_string(), "-c", &own.display().to_string()]
                    .map(str::to_owned)
                    .to_vec()
            }
            Self::Aiosmtpd => {
                let file = self.settings("server.py", &own, address.port(), Path::new(""))?;
                let path = format!("PYTHONPATH={}", self::folder(self).display());
                let (port, mail) = (address.port().to_string(), own.join("mail").display().to_string());
                let file = file.display().to_string();
                ["env", &path, "python3", &file, &port, &mail].map(str::to_owned).to_vec()
            }
        };
        Subject::spawn(self.name(), &address.to_string(), &words, Some(&own.join("output")))
    }

    /// Writes a file of bench/rivals to the same place below `own`, with the places that it names filled in.
    fn settings(self, name: &str, own: &Path, port: u16, program: &Path) -> anyhow::Result<PathBuf> {
        let template = run::root().join("bench/rivals").join(self.name()).join(name);
        let text = fs::read_to_string(&template).with_context(|| template.display().to_string())?;
        let text = text
            .replace("@FOLDER@", &own.display().to_string())
            .replace("@PORT@", &port.to_string())
            .replace("@PROGRAM@", &program.display().to_string());
        let file = own.join(name);
        fs::create_dir_all(file.parent().unwrap_or(own))?;
        fs::write(&file, text)?;
        Ok(file)
    }
}

fn folder(rival: Rival) -> PathBuf {
    run::root().join(INSTALLED_TO).join(rival.name())
}

/// The command with the users that it is built for, and with these folders in the place of those of the system, all of it for itself alone.
fn in_namespace(own: &Path, binds: &[(&Path, &str)], command: &str) -> anyhow::Result<Vec<String>> {
    let (mut passwd, mut group) = (fs::read_to_string("/etc/passwd")?, fs::read_to_string("/etc/group")?);
    for (user, number) in USERS {
        passwd.push_str(&format!("{user}:x:{number}:{number}::/nonexistent:/usr/sbin/nologin\n"));
        group.push_str(&format!("{user}:x:{number}:\n"));
    }
    fs::write(own.join("passwd"), passwd)?;
    fs::write(own.join("group"), group)?;
    let own = own.display();
    let mut script =
        format!("mount --bind {own}/passwd /etc/passwd && mount --bind {own}/group /etc/group && ");
    for (folder, place) in binds {
        // A place that does not exist yet is made on a file system that goes with the namespace.
        let above = Path::new(place).parent().unwrap_or(Path::new("/")).display();
        script.push_str(&format!(
            "{{ test -e {place} || {{ mkdir -p {above} && mount -t tmpfs none {above} && mkdir {place}; }}; }} && \
             mount --bind {} {place} && ",
            folder.display()
        ));
    }
    script.push_str(&format!("exec {command}"));
    let unshare = process::program("unshare").display().to_string();
    Ok([&unshare, "--mount", "sh", "-c", &script].map(str::to_owned).to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            chosen(&names(&["exim", "postfix"])).expect("both are known"),
            [Rival::Exim, Rival::Postfix]
        );
        assert_eq!(chosen(&names(&["all"])).expect("all").len(), ALL.len());
        let error = chosen(&names(&["sendmail"])).expect_err("not one of them");
        assert!(error.to_string().contains("no server sendmail; there are: smtp-sink, postfix"), "{error}");
    }

    #[test]
    fn settings_of_each_are_in_the_tree_and_have_their_places() -> anyhow::Result<()> {
        let own = tempfile::tempdir()?;
        for (rival, name) in [
            (Rival::Exim, "exim.conf"),
            (Rival::OpenSmtpd, "smtpd.conf"),
            (Rival::Haraka, "config/smtp.ini"),
            (Rival::Aiosmtpd, "server.py"),
        ] {
            let file = rival.settings(name, own.path(), 2525, Path::new("/usr/sbin/x"))?;
            let text = fs::read_to_string(file)?;
            assert!(
                !text.contains("@PORT@") && !text.contains("@FOLDER@") && !text.contains("@PROGRAM@"),
                "{text}"
            );
        }
        Ok(())
    }
}
