//! Reads everything, checks every checksum, and names what was put aside.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use indicatif::ProgressBar;
use inrush_log::{BadReason, BadRecord, OpenError, Reader, VerifyEvent, segment_name};
use serde::Serialize;

use super::{cannot_be_read, code, files, find, is_meta_gone, time};
use crate::cli::DataDir;
use crate::output;

/// Something worth a line, as JSON. Field names and meanings stay as they are; new ones may come.
#[derive(Serialize)]
struct Finding {
    log: String,
    /// What it is.
    finding: &'static str,
    /// Whether mail that was answered with 250 is concerned.
    damage: bool,
    /// File in the log's directory.
    file: String,
    /// The same, where it is a segment; kept for those who read it before there was `file`.
    segment: Option<String>,
    offset: u64,
    octets: u64,
    id: Option<String>,
    reason: String,
}

impl Finding {
    fn record(log: &str, bad: &BadRecord) -> Self {
        let finding = match bad.reason {
            BadReason::SegmentHeader(_) | BadReason::ForeignSegment => "segment",
            BadReason::Seal => "seal",
            _ => "record",
        };
        let file = segment_name(bad.segment);
        Self {
            log: log.to_owned(),
            finding,
            damage: true,
            segment: Some(file.clone()),
            file,
            offset: bad.offset,
            octets: bad.octets,
            id: bad.id.map(|id| id.to_string()),
            reason: bad.reason.to_string(),
        }
    }

    fn file(log: &str, finding: &'static str, damage: bool, file: String, octets: u64, reason: &str) -> Self {
        let (log, reason) = (log.to_owned(), reason.to_owned());
        Self { log, finding, damage, file, segment: None, offset: 0, octets, id: None, reason }
    }

    fn text(&self) -> String {
        let word = if self.damage { "BAD" } else { "NOTE" };
        let Self { log, file, offset, octets, reason, .. } = self;
        let id = self.id.as_ref().map(|id| format!(" id {id}")).unwrap_or_default();
        let what = if self.segment.is_some() { "segment" } else { "file" };
        format!("{log}: {word} {what} {file} offset {offset} octets {octets}{id}: {reason}")
    }
}

/// The result for one log, as JSON.
#[derive(Serialize)]
struct Summary {
    log: String,
    segments: u64,
    segments_sealed: u64,
    records: u64,
    messages: u64,
    recipients: u64,
    body_octets: u64,
    chunks: u64,
    chunks_orphaned: u64,
    oldest: Option<String>,
    newest: Option<String>,
    bad: u64,
    quarantined: u64,
}

/// Prints findings, and counts those that are damage.
struct Report<'a> {
    log: &'a str,
    json: bool,
    bar: &'a ProgressBar,
    damage: u64,
}

impl Report<'_> {
    fn say(&mut self, finding: &Finding) -> anyhow::Result<()> {
        self.damage += u64::from(finding.damage);
        self.bar
            .suspend(|| if self.json { output::json(finding) } else { Ok(output::line(&finding.text())?) })
    }

    fn file(
        &mut self,
        finding: &'static str,
        damage: bool,
        file: String,
        octets: u64,
        reason: &str,
    ) -> anyhow::Result<()> {
        self.say(&Finding::file(self.log, finding, damage, file, octets, reason))
    }
}

/// Verifies the logs: exit code 1 when something does not hold or was put aside as damaged, 2 when a log cannot be read at all.
pub(super) fn run(data: &DataDir, json: bool) -> anyhow::Result<ExitCode> {
    match verify(data, json) {
        Err(error) if !output::is_broken_pipe(&error) => Ok(cannot_be_read(&error)),
        other => Ok(code(other?)),
    }
}

fn verify(data: &DataDir, json: bool) -> anyhow::Result<u64> {
    let found = find(data)?;
    let octets = found.iter().filter_map(|(_, reader)| reader.as_ref().ok()).map(Reader::octets).sum();
    let bar = output::progress(octets);
    let (mut damage, mut before) = (0, 0);
    for (log, reader) in found {
        let mut report = Report { log: &log, json, bar: &bar, damage: 0 };
        let dir = data.data_dir.join(&log);
        match reader {
            Ok(mut reader) => {
                one(&mut reader, &dir, &mut report, before)
                    .with_context(|| format!("log {log} cannot be read"))?;
                before += reader.octets();
            }
            // Its segments may be whole, but nothing says whose they are.
            Err(error) if is_meta_gone(&error) => {
                let reason = match error {
                    OpenError::Io { .. } => "missing, but there are segments beside it".to_owned(),
                    error => error.to_string(),
                };
                report.file("log_meta", true, "log.meta".to_owned(), 0, &reason)?;
            }
            Err(error) => return Err(anyhow!(error)),
        }
        damage += report.damage;
    }
    bar.finish_and_clear();
    Ok(damage)
}

/// One log: its segments, then what lies beside them.
fn one(reader: &mut Reader, dir: &Path, report: &mut Report<'_>, before: u64) -> anyhow::Result<()> {
    let mut said = Ok(());
    let verified = reader.verify(|event| match event {
        VerifyEvent::Progress { octets, .. } => report.bar.set_position(before + octets),
        VerifyEvent::Bad(record) if said.is_ok() => said = report.say(&Finding::record(report.log, &record)),
        VerifyEvent::Bad(_) => {}
    })?;
    said?;
    lengths_and_gaps(reader, report)?;
    let mut quarantined = 0;
    for file in files::kept(dir)? {
        let damage = file.kept.is_damage();
        quarantined += u64::from(damage);
        let reason = match file.kept {
            files::Kept::Segment => "segment that recovery has moved away",
            files::Kept::Record => "copy of a damaged record that was acknowledged",
            files::Kept::Tail => "cut off after a crash; it was never acknowledged",
            files::Kept::Other => "not made by recovery",
        };
        report.file(file.kept.word(), damage, file.name, file.octets, reason)?;
    }
    let holds = verified.messages > 0;
    let summary = Summary {
        log: report.log.to_owned(),
        segments: verified.segments,
        segments_sealed: verified.segments_sealed,
        records: verified.records,
        messages: verified.messages,
        recipients: verified.recipients,
        body_octets: verified.body_octets,
        chunks: verified.chunks,
        chunks_orphaned: verified.chunks_orphaned,
        oldest: holds.then(|| time::rfc3339(verified.accepted_min_us)),
        newest: holds.then(|| time::rfc3339(verified.accepted_max_us)),
        bad: report.damage - quarantined,
        quarantined,
    };
    report.bar.suspend(|| {
        if report.json {
            return output::json(&summary);
        }
        let Summary { log, segments, records, messages, body_octets, bad, quarantined, .. } = &summary;
        let text = format!(
            "{log}: {messages} messages hold, {body_octets} octets, {records} records in {segments} segments, {bad} bad, {quarantined} quarantined"
        );
        Ok(output::line(&text)?)
    })
}

/// Files that are too short or too long, and numbers that are left out.
fn lengths_and_gaps(reader: &Reader, report: &mut Report<'_>) -> anyhow::Result<()> {
    let segment_bytes = reader.identity().segment_bytes;
    let mut expected = None;
    for segment in reader.segments() {
        let name = segment_name(segment.number);
        if segment.octets != segment_bytes {
            let reason = format!("{} octets long instead of {segment_bytes}", segment.octets);
            let mut finding = Finding::file(
                report.log,
                "length",
                true,
                name.clone(),
                segment.octets.abs_diff(segment_bytes),
                &reason,
            );
            finding.offset = segment.octets.min(segment_bytes);
            finding.segment = Some(name.clone());
            report.say(&finding)?;
        }
        // Numbers of segments that were never written, retired or moved away: mail that is missing shows as a missing part, or in damaged/.
        if let Some(expected) = expected.filter(|expected| *expected < segment.number) {
            let reason = format!("{} numbers before it are left out", segment.number - expected);
            report.file("gap", false, name, 0, &reason)?;
        }
        expected = Some(segment.number + 1);
    }
    Ok(())
}
