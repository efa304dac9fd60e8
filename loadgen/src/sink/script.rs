//! What the sink does besides saying yes: rules in order, from options and from a script.
//!
//! ```toml
//! [[rule]]
//! on = "rcpt"                       # connect helo ehlo lhlo mail rcpt data bdat . vrfy rset noop quit
//! recipient = "*@busy.example"      # optional; `*` stands for anything
//! percent = 10                      # optional: of the occasions that match
//! delay = "lognormal:20ms,0.8"      # optional: 20ms, uniform:10ms-50ms, lognormal:MEDIAN,SIGMA
//! reply = "450 4.2.1 mailbox busy"  # one of reply, disconnect (with the reply said before, if there is one), stall; or none
//! ```
//! Every rule that matches, and whose dice falls, adds its delay; the first of them with a reply, a disconnection or a stall decides, and those
//! behind it are not looked at. A stalled session says nothing more until the client goes.

use std::time::Duration;

use serde::Deserialize;

use crate::content::mix;
use crate::mistakes;
use crate::units;

/// A moment at which a rule may act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before the greeting.
    Connect,
    /// HELO.
    Helo,
    /// EHLO.
    Ehlo,
    /// LHLO.
    Lhlo,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA, before 354.
    Data,
    /// BDAT, before its reply; of the last chunk before what is said at the end of the mail data.
    Bdat,
    /// The end of the mail data, of DATA or BDAT LAST.
    Final,
    /// VRFY.
    Vrfy,
    /// RSET.
    Rset,
    /// NOOP.
    Noop,
    /// QUIT.
    Quit,
}

impl Moment {
    /// In the order of a session.
    pub const ALL: [Self; 13] = [
        Self::Connect,
        Self::Helo,
        Self::Ehlo,
        Self::Lhlo,
        Self::Mail,
        Self::Rcpt,
        Self::Data,
        Self::Bdat,
        Self::Final,
        Self::Vrfy,
        Self::Rset,
        Self::Noop,
        Self::Quit,
    ];

    /// As in smtp-sink's options.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Helo => "helo",
            Self::Ehlo => "ehlo",
            Self::Lhlo => "lhlo",
            Self::Mail => "mail",
            Self::Rcpt => "rcpt",
            Self::Data => "data",
            Self::Bdat => "bdat",
            Self::Final => ".",
            Self::Vrfy => "vrfy",
            Self::Rset => "rset",
            Self::Noop => "noop",
            Self::Quit => "quit",
        }
    }

    /// The moment of that name, in any case.
    ///
    /// # Errors
    /// A sentence with the names there are.
    pub fn parse(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|moment| moment.name().eq_ignore_ascii_case(name)).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|moment| moment.name()).collect();
            format!("{name:?} is no command of the sink ({})", names.join(" "))
        })
    }
}

/// How long to wait.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Delay {
    /// Always the same.
    Fixed(Duration),
    /// Each time between the two equally likely.
    Uniform(Duration, Duration),
    /// Median and sigma of the logarithm; cut at 64 times the median.
    LogNormal(Duration, f64),
    /// smtp-sink's `-W`: as often the time as a dice of 100 faces is thrown until it shows so much.
    Dice(Duration, u32),
}

impl Delay {
    /// Reads `20ms`, `uniform:10ms-50ms`, `lognormal:20ms,0.8`.
    ///
    /// # Errors
    /// A sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(match text.split_once(':') {
            None => Self::Fixed(units::duration(text)?),
            Some(("uniform", range)) => {
                let (least, most) = range.split_once('-').ok_or("uniform needs LEAST-MOST")?;
                let (least, most) = (units::duration(least)?, units::duration(most)?);
                if least > most {
                    return Err(format!("{text:?}: the first time is longer"));
                }
                Self::Uniform(least, most)
            }
            Some(("lognormal", parameters)) => {
                let (median, sigma) = parameters.split_once(',').ok_or("lognormal needs MEDIAN,SIGMA")?;
                let sigma: f64 = sigma.parse().map_err(|_| format!("{sigma:?} is not a sigma"))?;
                if !(0.0..=10.0).contains(&sigma) {
                    return Err(format!("sigma {sigma} is outside of 0 to 10"));
                }
                Self::LogNormal(units::duration(median)?, sigma)
            }
            Some((other, _)) => return Err(format!("{other:?} is no kind of delay (uniform, lognormal)")),
        })
    }

    fn pick(&self, dice: &mut Dice) -> Duration {
        match *self {
            Self::Fixed(time) => time,
            Self::Uniform(least, most) => least + (most - least).mul_f64(dice.share()),
            Self::LogNormal(median, sigma) => {
                // Box and Muller; 1 - share is never 0.
                let radius = (-2.0 * (1.0 - dice.share()).ln()).sqrt();
                let normal = radius * (std::f64::consts::TAU * dice.share()).cos();
                median.mul_f64((sigma * normal).exp().min(64.0))
            }
            Self::Dice(time, odds) => {
                let mut times = 1;
                while dice.share() * 100.0 < f64::from(odds) && times < 1000 {
                    times += 1;
                }
                time * times
            }
        }
    }
}

/// What a rule decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// This reply in place of the usual one, without CRLF.
    Reply(String),
    /// Close, after this reply if there is one.
    Disconnect(Option<String>),
    /// Say nothing more.
    Stall,
}

/// A rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// When.
    pub on: Moment,
    /// For which recipients; None: whatever it is about.
    pub recipient: Option<String>,
    /// Of 100 occasions.
    pub percent: f64,
    /// Waited for before anything is said.
    pub delay: Option<Delay>,
    /// What then.
    pub act: Option<Act>,
}

/// What a moment comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Before anything is said.
    pub delay: Duration,
    /// None: as usual.
    pub act: Option<Act>,
}

/// Random numbers of a session: the same for the same seed, core and session.
#[derive(Clone, Debug)]
pub struct Dice {
    seed: u64,
    thrown: u64,
}

impl Dice {
    /// The numbers of a session.
    #[must_use]
    pub fn new(seed: u64, session: u64) -> Self {
        Self { seed: mix(seed, session), thrown: 0 }
    }

    /// From 0 to below 1.
    fn share(&mut self) -> f64 {
        self.thrown += 1;
        (mix(self.seed, self.thrown) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// All rules of a sink.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    rules: Vec<Rule>,
    /// Moments that any rule is about: the others cost one look here.
    used: [bool; Moment::ALL.len()],
}

impl Rules {
    /// Puts a rule behind the others.
    pub fn push(&mut self, rule: Rule) {
        self.used[rule.on as usize] = true;
        self.rules.push(rule);
    }

    /// Whether there is any rule for this moment.
    #[must_use]
    pub fn are_about(&self, on: Moment) -> bool {
        self.used[on as usize]
    }

    /// Whether a rule looks at recipients.
    #[must_use]
    pub fn ask_for_recipients(&self) -> bool {
        self.rules.iter().any(|rule| rule.recipient.is_some())
    }

    /// What happens at this moment. `addresses`: the recipients it is about.
    pub fn decide<'a>(
        &self,
        on: Moment,
        addresses: &(impl Iterator<Item = &'a [u8]> + Clone),
        dice: &mut Dice,
    ) -> Decision {
        let mut decision = Decision::default();
        if !self.used[on as usize] {
            return decision;
        }
        for rule in self.rules.iter().filter(|rule| rule.on == on) {
            let meant = rule
                .recipient
                .as_ref()
                .is_none_or(|pattern| addresses.clone().any(|address| matches(pattern.as_bytes(), address)));
            if !meant || (rule.percent < 100.0 && dice.share() * 100.0 >= rule.percent) {
                continue;
            }
            if let Some(delay) = &rule.delay {
                decision.delay += delay.pick(dice);
            }
            if rule.act.is_some() {
                decision.act.clone_from(&rule.act);
                break;
            }
        }
        decision
    }

    /// Reads a script.
    ///
    /// # Errors
    /// What is wrong with it, with its line where it is known.
    pub fn parse(text: &str) -> Result<Vec<Rule>, String> {
        let script: Script = mistakes::parse(text)?;
        let rules = script.rule.into_iter().enumerate();
        rules
            .map(|(index, rule)| rule.check().map_err(|error| format!("rule {}: {error}", index + 1)))
            .collect()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    #[serde(default)]
    rule: Vec<RuleText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    on: String,
    recipient: Option<String>,
    percent: Option<f64>,
    delay: Option<String>,
    reply: Option<String>,
    #[serde(default)]
    disconnect: bool,
    #[serde(default)]
    stall: bool,
}

impl RuleText {
    fn check(self) -> Result<Rule, String> {
        let percent = self.percent.unwrap_or(100.0);
        if !(0.0..=100.0).contains(&percent) {
            return Err(format!("percent {percent} is outside of 0 to 100"));
        }
        if let Some(reply) = &self.reply {
            check_reply(reply)?;
        }
        let act = match (self.reply, self.disconnect, self.stall) {
            (_, true, true) | (Some(_), _, true) => {
                return Err("a stall goes with neither reply nor disconnect".to_owned());
            }
            (None, false, true) => Some(Act::Stall),
            (reply, true, false) => Some(Act::Disconnect(reply)),
            (Some(reply), false, false) => Some(Act::Reply(reply)),
            (None, false, false) if self.delay.is_none() => {
                return Err("it does nothing: delay, reply, disconnect or stall is missing".to_owned());
            }
            (None, false, false) => None,
        };
        let on = Moment::parse(&self.on)?;
        if self.recipient.is_some() && !matches!(on, Moment::Rcpt | Moment::Final) {
            return Err(format!("{} is not about a recipient; rcpt and . are", on.name()));
        }
        let delay = self.delay.as_deref().map(Delay::parse).transpose()?;
        Ok(Rule { on, recipient: self.recipient, percent, delay, act })
    }
}

/// A reply line as RFC 5321 §4.2 has it: three digits, a space, printable text.
///
/// # Errors
/// A sentence.
pub fn check_reply(reply: &str) -> Result<(), String> {
    let (code, text) = reply.split_at_checked(3).ok_or_else(|| format!("{reply:?} is no reply"))?;
    let code_holds =
        code.starts_with(['2', '3', '4', '5']) && code.bytes().all(|digit| digit.is_ascii_digit());
    let printable = text.bytes().all(|octet| octet == b' ' || octet.is_ascii_graphic());
    if code_holds && text.starts_with(' ') && printable && reply.len() <= 500 {
        return Ok(());
    }
    Err(format!("{reply:?} is no reply: three digits, a space and up to 500 printable characters are"))
}

/// `*` stands for any octets, everything else for itself in any case.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let Some(star) = pattern.iter().position(|&octet| octet == b'*') else {
        return pattern.eq_ignore_ascii_case(text);
    };
    let (head, rest) = (&pattern[..star], &pattern[star + 1..]);
    let starts = text.len() >= head.len() && text[..head.len()].eq_ignore_ascii_case(head);
    starts && (head.len()..=text.len()).any(|at| matches(rest, &text[at..]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn rules(text: &str) -> Rules {
        let mut rules = Rules::default();
        Rules::parse(text).unwrap().into_iter().for_each(|rule| rules.push(rule));
        rules
    }

    fn decide(rules: &Rules, on: Moment, address: &str, dice: &mut Dice) -> Decision {
        rules.decide(on, &std::iter::once(address.as_bytes()), dice)
    }

    #[test]
    fn the_first_that_acts_decides_and_delays_add_up() {
        let rules = rules(
            "[[rule]]\non = \"rcpt\"\ndelay = \"10ms\"\n[[rule]]\non = \"rcpt\"\nrecipient = \"*@Busy.example\"\ndelay = \"5ms\"\n\
             reply = \"450 4.2.1 busy\"\n[[rule]]\non = \"RCPT\"\ndelay = \"1s\"\nstall = true\n",
        );
        let mut dice = Dice::new(1, 1);
        let busy = decide(&rules, Moment::Rcpt, "a@busy.EXAMPLE", &mut dice);
        assert_eq!(busy.delay, Duration::from_millis(15));
        assert_eq!(busy.act, Some(Act::Reply("450 4.2.1 busy".to_owned())));
        let other = decide(&rules, Moment::Rcpt, "a@other.example", &mut dice);
        assert_eq!((other.delay, other.act), (Duration::from_millis(1010), Some(Act::Stall)));
        assert_eq!(decide(&rules, Moment::Mail, "", &mut dice), Decision::default());
    }

    #[test]
    fn shares_and_delays_follow_the_seed() {
        let rules = rules(
            "[[rule]]\non = \"mail\"\npercent = 20\nreply = \"451 4.3.0 later\"\n[[rule]]\non = \"data\"\ndelay = \"lognormal:10ms,0.5\"\n",
        );
        let count = |session: u64| {
            let mut dice = Dice::new(7, session);
            (0..10_000).filter(|_| decide(&rules, Moment::Mail, "", &mut dice).act.is_some()).count()
        };
        assert!((1800..2200).contains(&count(1)), "{}", count(1));
        assert_eq!(count(1), count(1));
        assert_ne!(count(1), count(2));
        let mut dice = Dice::new(7, 1);
        let mut delays: Vec<Duration> =
            (0..1001).map(|_| decide(&rules, Moment::Data, "", &mut dice).delay).collect();
        delays.sort();
        assert!((9..=11).contains(&delays[500].as_millis()), "{:?}", delays[500]);
        assert!(delays[1000] > Duration::from_millis(20) && delays[1000] <= Duration::from_millis(640));
    }

    #[test]
    fn faulty_scripts_are_told() {
        for (text, word) in [
            ("[[rule]]\non = \"rcpt\"\nrepyl = \"450 a\"\n", "unknown field `repyl`"),
            ("[[rule]]\non = \"turn\"\nstall = true\n", "no command of the sink"),
            ("[[rule]]\non = \"rcpt\"\n", "it does nothing"),
            ("[[rule]]\non = \"rcpt\"\nreply = \"45 a\"\n", "is no reply"),
            ("[[rule]]\non = \"rcpt\"\nreply = \"450 a\\r\\n250 b\"\n", "is no reply"),
            ("[[rule]]\non = \"rcpt\"\nreply = \"450 a\"\nstall = true\n", "a stall goes with"),
            ("[[rule]]\non = \"rcpt\"\ndelay = \"5 parsecs\"\n", "unit of time"),
            ("[[rule]]\non = \"rcpt\"\ndelay = \"normal:5s\"\n", "no kind of delay"),
            ("[[rule]]\non = \"rcpt\"\npercent = 101\nstall = true\n", "outside of 0 to 100"),
            ("[[rule]]\non = \"mail\"\nrecipient = \"a@b\"\nstall = true\n", "not about a recipient"),
        ] {
            let error = Rules::parse(text).unwrap_err();
            assert!(error.contains(word), "{word}: {error}");
        }
        assert!(Rules::parse("[[rule]]\non = \"rcpt\"\nrepyl = \"450 a\"\n").unwrap_err().contains("line 3"));
    }

    #[test]
    fn patterns() {
        for (pattern, text, holds) in [
            ("*", "", true),
            ("a@b", "A@B", true),
            ("a@b", "a@bc", false),
            ("*@b.example", "x@y@b.example", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), holds, "{pattern} {text}");
        }
    }

    #[test]
    fn dice_of_smtp_sink() {
        let mut dice = Dice::new(1, 1);
        let delay = Delay::Dice(Duration::from_millis(1), 90);
        let sum: Duration = (0..1000).map(|_| delay.pick(&mut dice)).sum();
        assert!((8500..11_500).contains(&sum.as_millis()), "one in ten throws ends it: {sum:?}");
    }
}
