//! `inrush user`: the file of those who may submit mail.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use inrush_policy::Users;
use inrush_policy::users::{HashKind, NewUser, add_user, hash_password, remove_user};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::cli::{HashName, UserCommand, UserFile};

/// Octets of the line with the password: more than any password may have.
const LINE_OCTETS_MAX: u64 = 4096;

/// Runs a command of `inrush user`.
pub(crate) fn run(command: &UserCommand) -> anyhow::Result<ExitCode> {
    match command {
        UserCommand::Add { file, name, address, hash, replace } => {
            let user = NewUser::new(name, address.iter().map(String::as_str))?;
            let hash = hash_password(kind(*hash), &password(name)?)?;
            add_user(&file.file, &user, &hash, *replace)?;
        }
        UserCommand::List { file, json } => list(file, *json)?,
        UserCommand::Remove { file, name } => remove_user(&file.file, name)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A user as `list --json` shows it.
#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    hash: &'static str,
    addresses: Vec<&'a str>,
}

fn list(file: &UserFile, json: bool) -> anyhow::Result<()> {
    let users = Users::load(&file.file)?;
    let width = users.iter().map(|user| user.name().chars().count()).max().unwrap_or_default();
    let mut out = io::BufWriter::new(io::stdout().lock());
    for user in users.iter() {
        let (name, hash, addresses) = (user.name(), user.hash_kind().label(), user.addresses().collect());
        if json {
            serde_json::to_writer(&mut out, &Listed { name, hash, addresses })?;
            writeln!(out)?;
        } else {
            writeln!(out, "{name:width$}  {hash:12}  {}", addresses.join(","))?;
        }
    }
    Ok(out.flush()?)
}

fn kind(name: HashName) -> HashKind {
    match name {
        HashName::Argon2id => HashKind::Argon2id,
        HashName::Bcrypt => HashKind::Bcrypt,
        HashName::Sha512Crypt => HashKind::Sha512Crypt,
    }
}

/// The password: typed twice on a terminal, which does not show it; else the first line of standard input.
fn password(name: &str) -> anyhow::Result<Zeroizing<String>> {
    if io::stdin().is_terminal() {
        let ask = |prompt: String| rpassword::prompt_password(prompt).map(Zeroizing::new);
        let password = ask(format!("Password of {name}: ")).context("cannot read the password")?;
        let again = ask("Once more: ".to_owned()).context("cannot read the password")?;
        if password != again {
            bail!("the passwords are not the same");
        }
        return Ok(password);
    }
    let mut line = Zeroizing::new(Vec::new());
    let mut input = io::stdin().lock().take(LINE_OCTETS_MAX);
    input.read_until(b'\n', &mut line).context("cannot read the password from standard input")?;
    let octets = line.strip_suffix(b"\n").unwrap_or(&line);
    let octets = octets.strip_suffix(b"\r").unwrap_or(octets);
    let text = std::str::from_utf8(octets).context("the password on standard input is not valid UTF-8")?;
    Ok(Zeroizing::new(text.to_owned()))
}
