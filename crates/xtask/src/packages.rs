//! The Debian packages that the tests need.
//!
//! A test that cannot run must not look like a test that passed: as root the missing packages are installed, otherwise
//! they are named and the task fails. A package counts as there when all its programs and modules are.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::run;

struct Package {
    name: &'static str,
    programs: &'static [&'static str],
    /// Modules of Perl that it is there for.
    modules: &'static [&'static str],
}

const PACKAGES: &[Package] = &[
    Package { name: "curl", programs: &["curl"], modules: &[] },
    // The browser that looks at the dashboard.
    Package { name: "chromium", programs: &["chromium"], modules: &[] },
    Package { name: "swaks", programs: &["swaks"], modules: &[] },
    Package {
        name: "postfix",
        programs: &["postfix", "postqueue", "sendmail", "smtp-source", "smtp-sink", "smtpd"],
        modules: &[],
    },
    Package { name: "libnet-ssleay-perl", programs: &["perl"], modules: &["Net::SSLeay"] },
    Package { name: "haproxy", programs: &["haproxy"], modules: &[] },
    Package { name: "dovecot-core", programs: &["dovecot"], modules: &[] },
    // By their paths: Postfix has an lmtp too.
    Package { name: "dovecot-lmtpd", programs: &["/usr/lib/dovecot/lmtp"], modules: &[] },
    Package {
        name: "dovecot-imapd",
        programs: &["/usr/lib/dovecot/imap", "/usr/lib/dovecot/imap-login"],
        modules: &[],
    },
    Package { name: "knot", programs: &["knotd", "knotc"], modules: &[] },
    // A whole machine for units and packages; and what reads them.
    Package {
        name: "systemd",
        programs: &["systemctl", "systemd-analyze", "systemd-socket-activate", "/lib/systemd/systemd"],
        modules: &[],
    },
    Package { name: "lintian", programs: &["lintian"], modules: &[] },
    Package { name: "crun", programs: &["crun"], modules: &[] },
    Package { name: "procps", programs: &["sysctl"], modules: &[] },
    Package { name: "openssl", programs: &["openssl"], modules: &[] },
    Package { name: "prometheus", programs: &["prometheus", "promtool"], modules: &[] },
    Package { name: "python3", programs: &["python3"], modules: &[] },
    Package { name: "python3-pip", programs: &["pip3"], modules: &[] },
    Package {
        name: "util-linux",
        programs: &["nsenter", "pivot_root", "prlimit", "setsid", "unshare"],
        modules: &[],
    },
    Package { name: "mount", programs: &["mount", "umount", "losetup"], modules: &[] },
    Package { name: "e2fsprogs", programs: &["mkfs.ext4", "e2fsck"], modules: &[] },
    Package { name: "xfsprogs", programs: &["mkfs.xfs"], modules: &[] },
];

/// A package that cannot stand beside those above: its program is taken out of it.
pub(crate) struct Unpacked {
    pub(crate) name: &'static str,
    /// In the package.
    pub(crate) program: &'static str,
    /// Packages of the libraries that it needs.
    pub(crate) libraries: &'static [&'static str],
}

/// Debian's Exim: client and server of the tests, and a server that is measured.
pub(crate) const EXIM: Unpacked = Unpacked {
    name: "exim4-daemon-light",
    program: "usr/sbin/exim4",
    libraries: &["libdb5.3", "libgnutls-dane0", "libidn12", "libnsl2", "libpcre2-8-0"],
};

const UNPACKED: &[Unpacked] = &[EXIM];

/// A package of the Python Package Index, for nobody but the tests.
struct Python {
    name: &'static str,
    version: &'static str,
}

/// The schemas of Kubernetes with the program that holds manifests against them, and the messages of OTLP.
const PYTHON: &[Python] = &[
    Python { name: "kubernetes-validate", version: "1.37.0" },
    Python { name: "opentelemetry-proto", version: "1.45.2" },
];

impl Python {
    /// Where it goes.
    fn folder(&self) -> PathBuf {
        run::root().join("target/tools").join(self.name)
    }

    fn is_there(&self) -> bool {
        let name = self.name.replace('-', "_");
        self.folder().join(format!("{name}-{}.dist-info", self.version)).is_dir()
    }

    fn install(&self) -> anyhow::Result<()> {
        let folder = self.folder();
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        let mut pip = Command::new("pip3");
        pip.args(["install", "--quiet", "--root-user-action=ignore", "--target"]).arg(folder);
        run::must(pip.arg(format!("{}=={}", self.name, self.version)), Duration::from_secs(15 * 60))
    }
}

/// Makes sure that the packages of Python are there.
fn ensure_python() -> anyhow::Result<()> {
    PYTHON.iter().filter(|package| !package.is_there()).try_for_each(Python::install)
}

/// Where these programs go, below the root of the workspace.
const UNPACKED_TO: &str = "target/packages";

impl Unpacked {
    /// Where the program is, or will be.
    pub(crate) fn file(&self) -> PathBuf {
        let name = Path::new(self.program).file_name().unwrap_or_default();
        run::root().join(UNPACKED_TO).join(name)
    }

    /// Whether the program is there with all of its libraries.
    pub(crate) fn is_there(&self) -> bool {
        let file = self.file();
        let libraries = || run::output(Command::new("ldd").arg(&file));
        file.is_file() && libraries().is_ok_and(|listed| !listed.contains("not found"))
    }

    /// Downloads the package and takes the program out of it; installs its libraries.
    ///
    /// # Errors
    /// We are not root, or apt fails.
    pub(crate) fn install(&self) -> anyhow::Result<()> {
        let minutes = Duration::from_secs(15 * 60);
        let install = ["install", "-y", "--no-install-recommends", "--no-upgrade"];
        run::must(apt().args(install).args(self.libraries), minutes)?;
        let folder = tempfile::tempdir()?;
        // The user that apt downloads as has to get in.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777))?;
        run::must(apt().args(["download", self.name]).current_dir(folder.path()), minutes)?;
        let package = fs::read_dir(folder.path())?.next().context("apt-get has downloaded nothing")??;
        run::must(Command::new("dpkg-deb").arg("-x").arg(package.path()).arg(folder.path()), minutes)?;
        fs::create_dir_all(run::root().join(UNPACKED_TO))?;
        fs::copy(folder.path().join(self.program), self.file())?;
        Ok(())
    }
}

/// While this file says 101, Debian's packages start no service (`invoke-rc.d(8)`).
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Makes sure that every package is there.
///
/// # Errors
/// A package is missing and we are not root, or apt fails.
pub(crate) fn ensure() -> anyhow::Result<()> {
    run::step("packages");
    let missing = missing();
    let unpacked = UNPACKED.iter().filter(|package| !package.is_there()).collect::<Vec<_>>();
    if missing.is_empty() && unpacked.is_empty() {
        ensure_python()?;
        println!("   all there");
        return Ok(());
    }
    let names = missing.iter().map(|package| package.name).collect::<Vec<_>>();
    if !is_root()? {
        let unpacked = unpacked.iter().map(|package| package.name).collect::<Vec<_>>();
        bail!(
            "missing Debian packages: {0}\n  apt-get install --no-install-recommends {0}\n  to be unpacked into {UNPACKED_TO}: {1}",
            names.join(" "),
            unpacked.join(" ")
        );
    }
    install(&names)?;
    unpacked.iter().try_for_each(|package| package.install())?;
    let left = self::missing();
    let unpacked = UNPACKED.iter().filter(|package| !package.is_there()).map(|package| package.program);
    let programs = left.iter().flat_map(|package| package.programs).copied().chain(unpacked);
    let programs = programs.collect::<Vec<_>>();
    if !programs.is_empty() {
        bail!("installed, but some of these programs are not there: {}", programs.join(" "));
    }
    ensure_python()
}

fn missing() -> Vec<&'static Package> {
    let programs = |package: &Package| package.programs.iter().all(|program| run::program(program).is_some());
    let there =
        |package: &Package| programs(package) && package.modules.iter().all(|module| has_module(module));
    PACKAGES.iter().filter(|package| !there(package)).collect()
}

fn has_module(module: &str) -> bool {
    let mut perl = Command::new("perl");
    perl.args([&format!("-M{module}"), "-e", "1"]).stderr(Stdio::null());
    perl.status().is_ok_and(|status| status.success())
}

/// Installs these packages; no service of theirs is started.
///
/// # Errors
/// We are not root, or apt fails.
pub(crate) fn install(names: &[&str]) -> anyhow::Result<()> {
    let _policy = NoServices::begin()?;
    let minutes = Duration::from_secs(15 * 60);
    run::must(apt().arg("update"), minutes)?;
    if names.is_empty() {
        return Ok(());
    }
    if names.contains(&"postfix") {
        preseed("postfix postfix/main_mailer_type select No configuration\n")?;
    }
    run::must(apt().args(["install", "-y", "--no-install-recommends"]).args(names), minutes)
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    command.args([
        "-q",
        "-o",
        "Dpkg::Use-Pty=0",
        "-o",
        "DPkg::Lock::Timeout=300",
        "-o",
        "Acquire::Retries=3",
    ]);
    command
}

fn preseed(line: &str) -> anyhow::Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), line)?;
    run::must(Command::new("debconf-set-selections").arg(file.path()), Duration::from_secs(60))
}

fn is_root() -> anyhow::Result<bool> {
    Ok(run::output(Command::new("id").arg("-u"))?.trim() == "0")
}

/// Keeps the installed packages from starting their services; takes its rule back at the end.
struct NoServices {
    ours: bool,
}

impl NoServices {
    fn begin() -> anyhow::Result<Self> {
        let policy = Path::new(POLICY);
        if policy.exists() {
            return Ok(Self { ours: false });
        }
        fs::write(policy, "#!/bin/sh\nexit 101\n").with_context(|| format!("cannot write {POLICY}"))?;
        fs::set_permissions(policy, fs::Permissions::from_mode(0o755))?;
        Ok(Self { ours: true })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = fs::remove_file(POLICY)
        {
            eprintln!("cannot remove {POLICY}: {error}");
        }
    }
}
