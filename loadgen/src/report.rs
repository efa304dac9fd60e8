//! What people read after a run, and the distribution file.

use std::fmt::{self, Display, Formatter};
use std::io::{self, Write};

use hdrhistogram::Histogram;

use crate::cpu_share::CpuShare;
use crate::details;
use crate::record::{Phase, Record};
use crate::run::Outcome;
use crate::verify::Verification;
use crate::worker::Ending;

/// Quantiles of the table.
pub const QUANTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999)];

/// The report as text.
#[derive(Debug)]
pub struct Table<'a>(pub &'a Outcome);

impl Display for Table<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Outcome { record, elapsed, .. } = self.0;
        let counts = &record.counts;
        let seconds = elapsed.as_secs_f64();
        let rate = |value: u64| if seconds > 0.0 { value as f64 / seconds } else { 0.0 };
        details::head(f, self.0)?;
        writeln!(
            f,
            "{} messages in {seconds:.3} s: {:.0}/s, {:.1} MB/s, {} connections, {}",
            counts.acknowledged,
            rate(counts.acknowledged),
            rate(counts.octets) / 1e6,
            counts.connections,
            self.0.engine,
        )?;
        latencies(f, record)?;
        if let Some(share) = &self.0.server_cpu {
            match share {
                Ok(share) => cpu(f, "server", share)?,
                Err(error) => writeln!(f, "server CPU: {error}")?,
            }
        }
        if let Some(share) = &self.0.own_cpu {
            cpu(f, "generator", share)?;
        }
        details::parts(f, self.0)?;
        if self.0.backlog_max > 0 {
            writeln!(
                f,
                "waiting for a free session: {} at most, {} never sent",
                self.0.backlog_max, self.0.not_sent
            )?;
            if self.0.not_sent_own_pace > 0 {
                writeln!(
                    f,
                    "never sent by slow or thinking senders: {}; their sessions are too few for the rate",
                    self.0.not_sent_own_pace
                )?;
            }
        }
        let closed_idle = counts.closed_idle + record.warmup.closed_idle;
        if closed_idle > 0 {
            writeln!(f, "closed by the server while idle, and made anew: {closed_idle} connections")?;
        }
        if record.warmup.started > 0 {
            writeln!(f, "warm-up: {} messages, left out", record.warmup.acknowledged)?;
        }
        writeln!(
            f,
            "errors: {} refused, {} failed, {} unfinished, {} recipients refused, {} connections failed, {} for want of something here",
            counts.refused + record.warmup.refused,
            counts.failed + record.warmup.failed,
            counts.unfinished + record.warmup.unfinished,
            counts.recipients_refused + record.warmup.recipients_refused,
            counts.connections_failed + record.warmup.connections_failed,
            counts.not_possible + record.warmup.not_possible,
        )?;
        for (cause, occurrences) in &record.causes {
            let code = if cause.code == 0 { String::new() } else { format!(" {}", cause.code) };
            writeln!(f, "  {:>8} x {}{code} {}", occurrences.count, cause.place, occurrences.example)?;
        }
        if let Some(ending) = &self.0.ended_by {
            writeln!(f, "ended early: {}", explain(ending))?;
        }
        match &self.0.verification {
            None => Ok(()),
            Some(Err(error)) => writeln!(f, "verification: not possible: {error}"),
            Some(Ok(verification)) => verified(f, verification),
        }
    }
}

/// Why a run ended early, as a clause.
#[must_use]
pub fn explain(ending: &Ending) -> String {
    match ending {
        Ending::Unreachable(error) => format!("the target cannot be reached: {error}"),
        Ending::NotPossible(error) => format!("the generator cannot connect from here: {error}"),
        Ending::Lost(error) => format!("the target is gone: {error}"),
        Ending::Errors => "more errors than --errors-max".to_owned(),
        Ending::Acks(error) => format!("the file of acknowledgements cannot be written: {error}"),
        Ending::NotOffered(extension) => format!("the server does not offer {extension}"),
        Ending::Interrupted => "interrupted".to_owned(),
    }
}

fn latencies(f: &mut Formatter<'_>, record: &Record) -> fmt::Result {
    write!(f, "{:<10}{:>10}{:>10}", "ms", "count", "mean")?;
    for (name, _) in QUANTILES {
        write!(f, "{name:>10}")?;
    }
    writeln!(f, "{:>10}", "max")?;
    for phase in Phase::ALL {
        let histogram = record.histogram(phase);
        if histogram.is_empty() {
            continue;
        }
        write!(f, "{:<10}{:>10}{:>10.3}", phase.name(), histogram.len(), histogram.mean() / 1e6)?;
        for (_, quantile) in QUANTILES {
            write!(f, "{:>10.3}", histogram.value_at_quantile(quantile) as f64 / 1e6)?;
        }
        writeln!(f, "{:>10.3}", histogram.max() as f64 / 1e6)?;
    }
    Ok(())
}

fn verified(f: &mut Formatter<'_>, verification: &Verification) -> fmt::Result {
    let Verification { acknowledged, found, missing, altered, duplicated, unacknowledged, damaged, .. } =
        verification;
    writeln!(
        f,
        "verification: {}: {found} of {acknowledged} found whole, {missing} missing, {altered} altered, {duplicated} duplicated, \
         {damaged} damaged records; {unacknowledged} more not acknowledged",
        if verification.holds() { "every promise kept" } else { "FAILED" },
    )?;
    verification.examples.iter().try_for_each(|example| writeln!(f, "  {example}"))
}

fn cpu(f: &mut Formatter<'_>, who: &str, share: &CpuShare) -> fmt::Result {
    let time = &share.time;
    match share.per_message(time.total_us) {
        None => writeln!(f, "{who} CPU: {:.0} us, no message", time.total_us),
        Some(total) => writeln!(
            f,
            "{who} CPU: {total:.2} us a message (user {:.2}, system {:.2}; {} messages, {} threads{})",
            share.per_message(time.user_us).unwrap_or_default(),
            share.per_message(time.system_us).unwrap_or_default(),
            share.messages,
            time.threads,
            if time.fine { "" } else { ", by ticks" },
        ),
    }
}

/// Writes a distribution as HdrHistogram's percentile text (`.hgrm`), values in microseconds.
///
/// # Errors
/// From `out`.
pub fn write_hgrm(histogram: &Histogram<u64>, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{:>12} {:>14} {:>10} {:>14}", "Value", "Percentile", "TotalCount", "1/(1-Percentile)")?;
    writeln!(out)?;
    let total = histogram.len();
    let mut count = 0;
    for value in histogram.iter_quantiles(5) {
        count += value.count_since_last_iteration();
        let microseconds = value.value_iterated_to() as f64 / 1e3;
        let quantile = value.quantile_iterated_to();
        write!(out, "{microseconds:>12.3} {quantile:>2.12} {count:>10}")?;
        if quantile < 1.0 { writeln!(out, " {:>14.2}", 1.0 / (1.0 - quantile))? } else { writeln!(out)? }
    }
    writeln!(
        out,
        "#[Mean    = {:>12.3}, StdDeviation   = {:>12.3}]",
        histogram.mean() / 1e3,
        histogram.stdev() / 1e3
    )?;
    writeln!(out, "#[Max     = {:>12.3}, Total count    = {total:>12}]", histogram.max() as f64 / 1e3)?;
    writeln!(out, "#[Buckets = {:>12}, SubBuckets     = {:>12}]", histogram.buckets(), 2048)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::time::Duration;

    use super::*;

    #[test]
    fn hgrm_ends_with_the_whole_count() {
        let mut record = Record::new();
        (1..=1000).for_each(|n| record.time(Phase::Total, Duration::from_micros(n)));
        let mut out = Vec::new();
        write_hgrm(record.histogram(Phase::Total), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let last = text.lines().rfind(|line| !line.starts_with('#')).unwrap();
        assert!(last.trim_start().starts_with("1000."), "{last}");
        assert!(last.ends_with(" 1.000000000000       1000"), "{last}");
    }
}
