//! `inrush-load report`: runs as one HTML page that needs nothing else.
//!
//! ```text
//!   command.rs   options and files                                     axis.rs   scales and ticks
//!   mod.rs       the page: head, list of runs, a section each
//!                                                                     chart.rs  lines and heat map as SVG
//!   plots.rs     from figures to plots, a table beside each            tables.rs phases, errors, settings, machine, the rest
//! ```
//! No script and no outside request: a Content-Security-Policy in the page forbids both. Everything that comes from a file is escaped:
//! the replies of a server are the text of a stranger. What the page does not know by name is shown as a table, so that newer files
//! lose nothing.
//!
//! Standards: HTML (living standard), SVG 2, CSP Level 3 §6.1.

mod axis;
mod chart;
mod command;
mod plots;
mod tables;

use std::fmt::Write as _;

use crate::doubts::doubts;
use crate::figures::Figures;
pub(crate) use axis::number;
pub use command::{ReportOptions, report};

const STYLE: &str = include_str!("style.css");
/// Nothing but the style inside of the page.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// The page.
///
/// # Errors
/// A part of a file does not hold.
pub fn page(runs: &[Figures], title: &str) -> Result<String, String> {
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><meta name=\"referrer\" content=\"no-referrer\">\
         <title>{title}</title><style>{STYLE}</style></head><body><header><h1>{title}</h1>",
        title = escape(title)
    );
    let _ = writeln!(
        page,
        "<p class=\"soft\">Written by inrush-load {}. Times in milliseconds unless another unit is named.</p></header><main>",
        env!("CARGO_PKG_VERSION")
    );
    if runs.len() > 1 {
        page.push_str("<nav aria-label=\"Runs\"><ul>");
        for (index, run) in runs.iter().enumerate() {
            let _ = write!(page, "<li><a href=\"#run-{index}\">{}</a></li>", escape(&run.name));
        }
        page.push_str("</ul></nav><h2>All runs</h2>");
        tables::overview(&mut page, runs);
        page.push_str(&plots::all_totals(runs)?);
    }
    for (index, run) in runs.iter().enumerate() {
        section(&mut page, index, run)?;
    }
    page.push_str("</main></body></html>\n");
    Ok(page)
}

fn section(page: &mut String, index: usize, run: &Figures) -> Result<(), String> {
    let _ = write!(
        page,
        "<section id=\"run-{index}\" aria-labelledby=\"run-{index}-h\"><h2 id=\"run-{index}-h\">{}</h2>",
        escape(&run.name)
    );
    let _ = write!(
        page,
        "<p class=\"soft\">{} · run {} · {}</p>",
        escape(run.text("/started_at").unwrap_or("start unknown")),
        escape(run.text("/run").unwrap_or("?")),
        escape(run.text("/generator").unwrap_or("?"))
    );
    let labels = run.json["labels"].as_array().into_iter().flatten().filter_map(|label| label.as_str());
    let labels = labels.map(escape).collect::<Vec<_>>().join(" · ");
    if !labels.is_empty() {
        let _ = write!(page, "<p>{labels}</p>");
    }
    verdict(page, run);
    key_figures(page, run);
    page.push_str(&plots::run(run, index)?);
    tables::phases(page, run);
    tables::causes(page, run);
    tables::cpu(page, run);
    tables::pairs(page, "Settings", &run.json["settings"]);
    tables::words(page, "Command", &run.json["command"]);
    tables::pairs(page, "Machine", &run.json["machine"]);
    tables::rest(page, run);
    page.push_str("</section>\n");
    Ok(())
}

/// May the figures be believed? What speaks against a run stands above its figures.
fn verdict(page: &mut String, run: &Figures) {
    let doubts = doubts(run);
    if doubts.is_empty() {
        page.push_str(
            "<div class=\"verdict\"><strong>Valid.</strong> Everything planned was sent and acknowledged, and the generator had time left.</div>",
        );
        return;
    }
    page.push_str("<div class=\"verdict warn\" role=\"note\"><strong>To be read with care:</strong><ul>");
    for doubt in doubts {
        let _ = write!(page, "<li>{}</li>", escape(&doubt));
    }
    page.push_str("</ul></div>");
}

fn key_figures(page: &mut String, run: &Figures) {
    let percentile = |name: &str| run.number(&format!("/latency_us/total/{name}")).map(|us| us / 1e3);
    let figures = [
        ("acknowledged a second", run.number("/messages_per_second"), ""),
        ("acknowledged", run.number("/counts/acknowledged"), ""),
        ("errors", run.number("/errors"), ""),
        ("measured", run.number("/elapsed_s"), " s"),
        ("total, median", percentile("p50"), " ms"),
        ("total, p99", percentile("p99"), " ms"),
        ("total, p99.9", percentile("p99.9"), " ms"),
        ("total, longest", percentile("max"), " ms"),
        ("server CPU a message", run.number("/server_cpu/us_per_message"), " µs"),
        ("generator CPU a message", run.number("/generator_cpu/us_per_message"), " µs"),
    ];
    page.push_str("<dl class=\"key\">");
    for (name, value, unit) in figures {
        if let Some(value) = value {
            let _ = write!(page, "<div><dt>{name}</dt><dd>{}{unit}</dd></div>", number(value));
        }
    }
    page.push_str("</dl>");
}

/// Text that may stand between tags and in quoted attributes. Control characters are replaced: HTML has no place for them.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() && c != '\n' => out.push('\u{fffd}'),
            // They would change the order of what stands around them (Unicode UAX #9).
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use serde_json::json;

    use super::*;

    #[test]
    fn hostile_text_stays_text() {
        let reply = "</td><script>alert(1)</script>\" onload='x' \u{1b}[2J\u{202e}";
        let run = json!({
            "schema": 1, "counts": { "acknowledged": 1 }, "errors": 1,
            "causes": [{ "place": reply, "code": 550, "count": 1, "example": reply }],
            "settings": { reply: reply }, "command": [reply], "machine": { "cpu": reply },
            "ended_by": reply, "run": reply, "newer": { reply: [reply, { "a": reply }] },
            "verification": { "error": reply }, "server_cpu": { "error": reply },
        });
        let run = Figures::new(reply.to_owned(), run).unwrap();
        let page = page(&[run.clone(), run], reply).unwrap();
        assert!(!page.contains("<script") && !page.contains("onload='") && !page.contains('\u{1b}'));
        assert!(!page.contains('\u{202e}') && page.contains("&lt;script&gt;alert(1)"));
        // Beside its own anchors the page names no address at all.
        assert!(!page.contains("src=\"") && !page.contains("url(") && !page.contains("http://"));
        assert!(page.matches("href=\"").count() == page.matches("href=\"#run-").count());
    }
}
