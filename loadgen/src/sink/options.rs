//! Options of `inrush-load sink`. Short names are those of Postfix's `smtp-sink` where they mean the same.

use std::fs;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::dialog::{KEPT_OCTETS_MAX, Manner, Replies};
use super::script::{Act, Delay, Moment, Rule, Rules, check_reply};
use super::store::Store;
use crate::plan::Engine;
use crate::units;

/// Largest message that `-m` of the keyword SIZE may name, and the default.
const SIZE_DEFAULT: &str = "PIPELINING,SIZE 104857600,8BITMIME,ENHANCEDSTATUSCODES,DSN,CHUNKING,SMTPUTF8";

/// Options of `sink`.
#[derive(Clone, Debug, Args)]
#[command(disable_help_flag = true)]
pub struct SinkOptions {
    /// Where to listen, HOST:PORT; several, separated by commas. Port 0 takes a free one, which is told.
    #[arg(default_value = "127.0.0.1:2526", value_delimiter = ',')]
    pub listen: Vec<String>,

    /// Name in the greeting and in the replies to HELO and EHLO.
    #[arg(short = 'h', long, value_name = "NAME", default_value = "sink.inrush.example")]
    pub hostname: String,
    /// Speak LMTP.
    #[arg(short = 'L', long)]
    pub lmtp: bool,
    /// Extensions in the reply to EHLO, as they are to be said.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = SIZE_DEFAULT)]
    pub keywords: Vec<String>,
    /// Do not offer 8BITMIME.
    #[arg(short = '8', long = "no-8bitmime")]
    pub no_8bitmime: bool,
    /// Do not know EHLO.
    #[arg(short = 'e', long)]
    pub no_esmtp: bool,
    /// No enhanced status codes.
    #[arg(short = 'E', long)]
    pub no_enhanced: bool,
    /// Do not offer DSN.
    #[arg(short = 'N', long)]
    pub no_dsn: bool,
    /// Do not offer PIPELINING.
    #[arg(short = 'p', long)]
    pub no_pipelining: bool,

    /// Refuse these commands for good (5xx), without PIPELINING: connect helo ehlo lhlo mail rcpt data bdat . vrfy rset noop quit.
    #[arg(short = 'f', long, value_name = "COMMANDS")]
    pub hard_reject: Vec<String>,
    /// Refuse these commands with 4xx, without PIPELINING.
    #[arg(short = 'r', long, value_name = "COMMANDS")]
    pub soft_reject: Vec<String>,
    /// Reply of --hard-reject.
    #[arg(short = 'B', long, value_name = "REPLY", default_value = "500 5.3.0 Error: command failed")]
    pub hard_reply: String,
    /// Reply of --soft-reject.
    #[arg(short = 'b', long, value_name = "REPLY", default_value = "450 4.3.0 Error: command failed")]
    pub soft_reply: String,
    /// Close the connection after these commands without a reply.
    #[arg(short = 'q', long, value_name = "COMMANDS")]
    pub disconnect: Vec<String>,
    /// Say 421 and close after these commands.
    #[arg(short = 'Q', long, value_name = "COMMANDS")]
    pub disconnect_421: Vec<String>,
    /// Say nothing more after these commands.
    #[arg(long, value_name = "COMMANDS")]
    pub stall: Vec<String>,
    /// Wait before the reply to DATA: 20ms, uniform:10ms-50ms, lognormal:MEDIAN,SIGMA.
    #[arg(short = 'w', long, value_name = "DELAY", value_parser = Delay::parse)]
    pub data_delay: Option<Delay>,
    /// Wait before the reply to a command; with ODDS, percent, a random multiple of it.
    #[arg(short = 'W', long, value_name = "COMMAND:DELAY[:ODDS]")]
    pub command_delay: Vec<String>,
    /// Wait after the reply to DATA, then say 550 and close without reading on.
    #[arg(short = 'A', long, value_name = "TIME", value_parser = units::duration)]
    pub data_abort: Option<Duration>,
    /// Wait after the reply to DATA before the mail data is read.
    #[arg(short = 'H', long, value_name = "TIME", value_parser = units::duration)]
    pub data_pause: Option<Duration>,
    /// Rules, TOML, tried before those of the options above.
    #[arg(long, value_name = "FILE")]
    pub script: Option<PathBuf>,
    /// Start of the random choices.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// Write each message to a file: the template is expanded as by strftime(3), the id of the message is appended.
    #[arg(short = 'd', long, value_name = "TEMPLATE", group = "kept")]
    pub dump: Option<String>,
    /// Append messages to the file named by the template.
    #[arg(short = 'D', long, value_name = "TEMPLATE", group = "kept")]
    pub dump_all: Option<String>,
    /// Keep messages in maildir:DIR or mbox:FILE.
    #[arg(long, value_name = "STORE", group = "kept")]
    pub store: Option<Store>,

    /// Show running counters.
    #[arg(short = 'c', long)]
    pub counters: bool,
    /// Connections at the same time, over all cores; more wait to be accepted.
    #[arg(short = 'm', long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_connections: u32,
    /// End after so many messages.
    #[arg(short = 'M', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub messages: Option<u64>,
    /// End after so many sessions.
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub sessions: Option<u64>,
    /// End after so much time.
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub duration: Option<Duration>,
    /// Longest wait for a command, for mail data, or for a reply to be taken.
    #[arg(short = 't', long, value_name = "TIME", default_value = "100s", value_parser = units::duration)]
    pub timeout: Duration,
    /// Write the counters as JSON at the end, `-` for standard output.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Threads.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub cores: u16,
    /// CPUs to pin the threads to, in turn, e.g. 0,2.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub cpus: Vec<usize>,
    /// How to wait for the network.
    #[arg(long, value_enum, default_value = "auto")]
    pub engine: Engine,
    /// Print help.
    #[arg(long, action = clap::ArgAction::Help)]
    pub help: Option<bool>,
}

impl SinkOptions {
    /// Where to listen.
    ///
    /// # Errors
    /// A sentence.
    pub fn addresses(&self) -> Result<Vec<SocketAddr>, String> {
        let resolve = |listen: &String| {
            let mut addresses = listen
                .to_socket_addrs()
                .map_err(|error| format!("{listen}: {error} (HOST:PORT is expected)"))?;
            addresses.next().ok_or_else(|| format!("{listen} has no address"))
        };
        self.listen.iter().map(resolve).collect()
    }

    /// Where mail is kept, if it is.
    #[must_use]
    pub fn kept(&self) -> Option<Store> {
        let files = self.dump.clone().map(Store::Files);
        files.or_else(|| self.dump_all.clone().map(Store::File)).or_else(|| self.store.clone())
    }

    /// How the sink behaves.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn manner(&self) -> Result<Manner, String> {
        if self.hostname.is_empty() || self.hostname.bytes().any(|octet| !octet.is_ascii_graphic()) {
            return Err(format!("--hostname {:?} is not a name", self.hostname));
        }
        let rules = self.rules()?;
        let keywords = self.keywords()?;
        let has = |name: &str| keywords.iter().any(|keyword| first_word(keyword).eq_ignore_ascii_case(name));
        let enhanced = has("ENHANCEDSTATUSCODES");
        let size_max = keywords.iter().find(|keyword| first_word(keyword).eq_ignore_ascii_case("SIZE"));
        let size_max =
            size_max.and_then(|keyword| keyword.split(' ').nth(1)?.parse().ok()).filter(|&most| most > 0);
        let ok = |code: &str| format!("250 {}Ok\r\n", if enhanced { code } else { "" }).into_bytes();
        let mut lines = vec![self.hostname.clone()];
        lines.extend(keywords.iter().cloned());
        let last = lines.len() - 1;
        let ehlo: String = lines
            .iter()
            .enumerate()
            .map(|(index, line)| format!("250{}{line}\r\n", if index == last { ' ' } else { '-' }))
            .collect();
        let protocol = match (self.lmtp, self.no_esmtp) {
            (true, _) => "LMTP",
            (false, false) => "ESMTP",
            (false, true) => "SMTP",
        };
        Ok(Manner {
            lmtp: self.lmtp,
            replies: Replies {
                greeting: format!("220 {} {protocol}\r\n", self.hostname).into_bytes(),
                ehlo: ehlo.into_bytes(),
                helo: format!("250 {}\r\n", self.hostname).into_bytes(),
                sender: ok("2.1.0 "),
                recipient: ok("2.1.5 "),
                ok: ok("2.0.0 "),
            },
            esmtp: !self.no_esmtp,
            chunking: has("CHUNKING"),
            size_max,
            enhanced,
            rules,
            data_pause: self.data_pause,
            data_abort: self.data_abort.map(|time| (time, "550 5.3.0 Error: command failed".to_owned())),
            keep: self.kept().is_some(),
            kept_max: size_max.unwrap_or(KEPT_OCTETS_MAX),
        })
    }

    fn keywords(&self) -> Result<Vec<String>, String> {
        let mut keywords: Vec<String> = Vec::new();
        for keyword in
            self.keywords.iter().map(|keyword| keyword.trim()).filter(|keyword| !keyword.is_empty())
        {
            if keyword.bytes().any(|octet| octet != b' ' && !octet.is_ascii_graphic()) {
                return Err(format!("--keywords {keyword:?} cannot be said"));
            }
            // What it would not do it must not offer.
            if ["STARTTLS", "AUTH", "BINARYMIME"]
                .iter()
                .any(|name| first_word(keyword).eq_ignore_ascii_case(name))
            {
                return Err(format!("--keywords {keyword:?}: the sink does not speak it"));
            }
            keywords.push(keyword.to_owned());
        }
        // As in smtp-sink, -f and -r imply -p: refusals would be lost in a group.
        let no_pipelining =
            self.no_pipelining || !self.hard_reject.is_empty() || !self.soft_reject.is_empty();
        for (off, name) in [
            (self.no_8bitmime, "8BITMIME"),
            (self.no_enhanced, "ENHANCEDSTATUSCODES"),
            (self.no_dsn, "DSN"),
            (no_pipelining, "PIPELINING"),
        ] {
            keywords.retain(|keyword| !off || !first_word(keyword).eq_ignore_ascii_case(name));
        }
        Ok(keywords)
    }

    fn rules(&self) -> Result<Rules, String> {
        let mut rules = Rules::default();
        if let Some(path) = &self.script {
            let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
            let script = Rules::parse(&text).map_err(|error| format!("{}: {error}", path.display()))?;
            script.into_iter().for_each(|rule| rules.push(rule));
        }
        let mut push = |on: Moment, delay: Option<Delay>, act: Option<Act>| {
            rules.push(Rule { on, recipient: None, percent: 100.0, delay, act });
        };
        if let Some(delay) = self.data_delay {
            push(Moment::Data, Some(delay), None);
        }
        for text in &self.command_delay {
            let (command, delay) =
                text.split_once(':').ok_or_else(|| format!("{text:?} is not COMMAND:DELAY[:ODDS]"))?;
            let dice =
                delay.rsplit_once(':').and_then(|(time, odds)| Some((time, odds.parse::<u32>().ok()?)));
            let delay = match dice {
                Some((_, odds)) if !(1..=99).contains(&odds) => {
                    return Err(format!("{text:?}: odds are from 1 to 99"));
                }
                Some((time, odds)) => Delay::Dice(units::duration(time)?, odds),
                None => Delay::parse(delay)?,
            };
            push(Moment::parse(command)?, Some(delay), None);
        }
        check_reply(&self.hard_reply)?;
        check_reply(&self.soft_reply)?;
        let hostname = &self.hostname;
        for (lists, act) in [
            (&self.disconnect, Act::Disconnect(None)),
            (
                &self.disconnect_421,
                Act::Disconnect(Some(format!("421 4.3.2 {hostname} closing the connection"))),
            ),
            (&self.stall, Act::Stall),
            (&self.hard_reject, Act::Reply(self.hard_reply.clone())),
            (&self.soft_reject, Act::Reply(self.soft_reply.clone())),
        ] {
            let words = lists.iter().flat_map(|list| list.split([',', ' '])).filter(|word| !word.is_empty());
            for word in words {
                push(Moment::parse(word)?, None, Some(act.clone()));
            }
        }
        Ok(rules)
    }
}

fn first_word(keyword: &str) -> &str {
    keyword.split(' ').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Words {
        #[command(flatten)]
        sink: SinkOptions,
    }

    fn manner(line: &str) -> Result<Manner, String> {
        let words = std::iter::once("sink").chain(line.split('|').filter(|word| !word.is_empty()));
        let words = Words::try_parse_from(words).map_err(|error| error.to_string())?;
        words.sink.addresses()?;
        words.sink.manner()
    }

    #[test]
    fn keywords_are_said_as_given() {
        let said = |line: &str| String::from_utf8(manner(line).unwrap().replies.ehlo).unwrap();
        assert!(said("").starts_with("250-sink.inrush.example\r\n250-PIPELINING\r\n"));
        assert_eq!(said("-h|x|--keywords|SIZE 5,PIPELINING"), "250-x\r\n250-SIZE 5\r\n250 PIPELINING\r\n");
        assert_eq!(said("-h|x|--keywords|DSN,8BITMIME,PIPELINING|-N|-8|-p"), "250 x\r\n");
        assert!(!said("-f|rcpt").contains("PIPELINING"), "-f implies -p");
        let limited = manner("--keywords|SIZE 5").unwrap();
        assert_eq!((limited.size_max, limited.chunking, limited.enhanced), (Some(5), false, false));
    }

    #[test]
    fn wrong_words() {
        for line in [
            "nowhere",
            "-f|turn",
            "-W|rcpt",
            "-W|rcpt:1s:100",
            "-w|soon",
            "-b|45 x",
            "--keywords|STARTTLS",
            "-h|",
            "--script|/nowhere",
            "-d|x|-D|y",
            "--store|x",
        ] {
            assert!(manner(line).is_err(), "{line}");
        }
        for line in [
            "-f|MAIL, RCPT|-q|.|-Q|connect|--stall|data",
            "-W|rcpt:1ms:50|-W|mail:uniform:1ms-2ms",
            "[::1]:0|-L",
        ] {
            assert!(manner(line).is_ok(), "{line}");
        }
    }
}
