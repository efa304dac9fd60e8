//! From figures to plots, each with a table of what it shows.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

use super::axis::{Axis, number};
use super::chart::{self, Caption, Heat, Line, Mark};
use super::escape;
use crate::figures::{Figures, Slices};
use crate::report::QUANTILES;

/// Rows of a table over time at most; slices are put together until it holds.
const ROWS_MAX: usize = 40;
/// Columns of the heat map and points of a line at most.
const COLUMNS_MAX: usize = 400;
/// Rows of the heat map for a factor of ten.
const ROWS_PER_DECADE: f64 = 12.0;
/// Percentiles over time.
const OVER_TIME: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)];

/// All plots of a run.
///
/// # Errors
/// A part of the file does not hold.
pub(super) fn run(run: &Figures, index: usize) -> Result<String, String> {
    let mut html = String::new();
    if let Some(slices) = run.slices()?.filter(|slices| !slices.acknowledged.is_empty()) {
        let drawn = grouped(&slices, COLUMNS_MAX);
        let told = grouped(&slices, ROWS_MAX);
        html.push_str(&rate(&drawn, &told, index));
        html.push_str(&latencies(&drawn, &told, index));
        html.push_str(&heat(&drawn, index));
    } else {
        html.push_str("<p class=\"soft\">The file has no figures over time.</p>");
    }
    let mut curves = Vec::new();
    for phase in run.phases() {
        if let Some(histogram) = run.histogram(phase)? {
            curves.push((phase.to_owned(), histogram));
        }
    }
    if !curves.is_empty() {
        html.push_str(&percentiles("Latency by percentile and phase", &format!("p-{index}"), &curves));
    }
    Ok(html)
}

/// The percentile curves of the total of all runs in one plot.
///
/// # Errors
/// A part of a file does not hold.
pub(super) fn all_totals(runs: &[Figures]) -> Result<String, String> {
    let mut curves = Vec::new();
    for run in runs {
        if let Some(histogram) = run.histogram("total")? {
            curves.push((run.name.clone(), histogram));
        }
    }
    Ok(if curves.is_empty() {
        String::new()
    } else {
        percentiles("Total latency of all runs", "p-all", &curves)
    })
}

/// Slices put together until there are at most `most`.
fn grouped(slices: &Slices, most: usize) -> Slices {
    let together = slices.acknowledged.len().div_ceil(most).max(1);
    let sums = |column: &[f64]| column.chunks(together).map(|chunk| chunk.iter().sum()).collect::<Vec<f64>>();
    let latencies = slices.latencies.chunks(together).map(|chunk| {
        let mut sum: Option<Histogram<u64>> = None;
        for histogram in chunk.iter().flatten() {
            match &mut sum {
                None => sum = Some(histogram.clone()),
                // Different bounds are only in a file that somebody has changed; what does not fit is left out.
                Some(sum) => sum.add(histogram).unwrap_or_default(),
            }
        }
        sum
    });
    Slices {
        slice_s: slices.slice_s * together as f64,
        lead_s: slices.lead_s,
        planned: slices.planned.as_deref().map(sums),
        acknowledged: sums(&slices.acknowledged),
        errors: sums(&slices.errors),
        latencies: latencies.collect(),
    }
}

/// Time of a slice's start in seconds from the start of the measured window.
fn time(slices: &Slices, index: usize) -> f64 {
    index as f64 * slices.slice_s - slices.lead_s
}

fn time_axis(slices: &Slices) -> Axis {
    Axis::linear("seconds of the measured window", -slices.lead_s, time(slices, slices.acknowledged.len()))
}

fn window_mark(slices: &Slices) -> Option<Mark> {
    (slices.lead_s > 0.0).then_some(Mark { x: 0.0, name: "measured from here" })
}

fn rate(drawn: &Slices, told: &Slices, index: usize) -> String {
    let columns = |slices: &Slices| {
        let mut columns = Vec::new();
        if let Some(planned) = &slices.planned {
            columns.push(("planned", planned.clone()));
        }
        columns.push(("acknowledged", slices.acknowledged.clone()));
        columns.push(("errors", slices.errors.clone()));
        columns
    };
    let mut most = 0.0_f64;
    let lines: Vec<Line> = columns(drawn)
        .into_iter()
        .map(|(name, column)| {
            let points = column.iter().enumerate().map(|(slice, count)| {
                let rate = count / drawn.slice_s;
                most = most.max(rate);
                (time(drawn, slice) + drawn.slice_s / 2.0, Some(rate))
            });
            let points = points.collect();
            let colour = if name == "errors" {
                1
            } else if name == "planned" {
                7
            } else {
                0
            };
            Line { name: name.to_owned(), colour, dashed: name == "planned", points }
        })
        .collect();
    let caption = Caption {
        id: &format!("r-{index}"),
        title: "Messages a second over time",
        description: "Lines for planned starts, acknowledged messages and errors; the figures stand in the table below.",
    };
    let svg = chart::lines(
        caption,
        &time_axis(drawn),
        &Axis::from_zero("a second", most),
        &lines,
        window_mark(drawn),
    );
    let told_columns = columns(told);
    let head: Vec<String> = std::iter::once("from (s)".to_owned())
        .chain(told_columns.iter().map(|(name, _)| format!("{name} a second")))
        .collect();
    let rows = (0..told.acknowledged.len()).map(|slice| {
        let mut row = vec![number(time(told, slice))];
        row.extend(told_columns.iter().map(|(_, column)| number(column[slice] / told.slice_s)));
        row
    });
    figure(caption.title, &svg, &table(&head, rows))
}

fn latencies(drawn: &Slices, told: &Slices, index: usize) -> String {
    let value = |slices: &Slices, slice: usize, quantile: f64| {
        slices.latencies[slice].as_ref().map(|histogram| milliseconds(histogram.value_at_quantile(quantile)))
    };
    let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
    let lines: Vec<Line> = OVER_TIME
        .into_iter()
        .enumerate()
        .map(|(colour, (name, quantile))| {
            let points = (0..drawn.acknowledged.len()).map(|slice| {
                let value = value(drawn, slice, quantile);
                if let Some(value) = value {
                    (least, most) = (least.min(value), most.max(value));
                }
                (time(drawn, slice) + drawn.slice_s / 2.0, value)
            });
            Line { name: name.to_owned(), colour, dashed: false, points: points.collect() }
        })
        .collect();
    let caption = Caption {
        id: &format!("l-{index}"),
        title: "Total latency over time",
        description: "Median, p90, p99 and the longest total latency of each slice of time, on a logarithmic axis.",
    };
    let y = Axis::log("milliseconds", least, most);
    let svg = chart::lines(caption, &time_axis(drawn), &y, &lines, window_mark(drawn));
    let head: Vec<String> = std::iter::once("from (s)".to_owned())
        .chain(OVER_TIME.iter().map(|(name, _)| format!("{name} (ms)")))
        .collect();
    let rows = (0..told.acknowledged.len()).map(|slice| {
        let mut row = vec![number(time(told, slice))];
        row.extend(
            OVER_TIME
                .iter()
                .map(|&(_, quantile)| value(told, slice, quantile).map_or("–".to_owned(), number)),
        );
        row
    });
    figure(caption.title, &svg, &table(&head, rows))
}

fn heat(drawn: &Slices, index: usize) -> String {
    let mut cells = Vec::new();
    let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
    let mut rows: Vec<(f64, f64, u64)> = Vec::new();
    for (column, histogram) in drawn.latencies.iter().enumerate() {
        let mut counts: Vec<(i32, u64)> = Vec::new();
        for recorded in histogram.iter().flat_map(|histogram| histogram.iter_recorded()) {
            #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates")]
            let row = (milliseconds(recorded.value_iterated_to()).max(1e-6).log10() * ROWS_PER_DECADE).floor()
                as i32;
            match counts.last_mut().filter(|(last, _)| *last == row) {
                Some((_, count)) => *count += recorded.count_at_value(),
                None => counts.push((row, recorded.count_at_value())),
            }
        }
        for (row, count) in counts {
            let edge = |row: f64| 10_f64.powf(row / ROWS_PER_DECADE);
            let range = (edge(f64::from(row)), edge(f64::from(row) + 1.0));
            (least, most) = (least.min(range.0), most.max(range.1));
            cells.push((column, range, count));
            match rows.iter_mut().find(|(low, _, _)| (*low - range.0).abs() < range.0 * 1e-6) {
                Some((_, _, sum)) => *sum += count,
                None => rows.push((range.0, range.1, count)),
            }
        }
    }
    rows.sort_by(|one, other| one.0.total_cmp(&other.0));
    let caption = Caption {
        id: &format!("h-{index}"),
        title: "Total latency, heat map",
        description: "Columns of time, rows of logarithmic latency ranges; the darker, the more messages. The table has the sums of the rows.",
    };
    let map = Heat { columns_from: -drawn.lead_s, column_width: drawn.slice_s, cells };
    let svg = chart::heat(caption, &time_axis(drawn), &Axis::log("milliseconds", least, most), &map);
    let head = ["from (ms)", "to (ms)", "messages"].map(str::to_owned);
    let rows =
        rows.into_iter().map(|(low, high, count)| vec![number(low), number(high), number(count as f64)]);
    figure(caption.title, &svg, &table(&head, rows))
}

fn percentiles(title: &str, id: &str, curves: &[(String, Histogram<u64>)]) -> String {
    let largest = curves.iter().map(|(_, histogram)| histogram.len()).max().unwrap_or(1);
    let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
    let x = Axis::nines("percentile", largest);
    let lines: Vec<Line> = curves
        .iter()
        .enumerate()
        .map(|(colour, (name, histogram))| {
            let points = histogram.iter_quantiles(8).map(|step| {
                let value = milliseconds(step.value_iterated_to());
                (least, most) = (least.min(value), most.max(value));
                (step.quantile_iterated_to(), Some(value))
            });
            Line { name: name.clone(), colour, dashed: colour >= 8, points: points.collect() }
        })
        .collect();
    let caption = Caption {
        id,
        title,
        description: "For each percentile the latency that so many messages did not exceed; each further nine takes the same width.",
    };
    let svg = chart::lines(caption, &x, &Axis::log("milliseconds", least, most), &lines, None);
    let head: Vec<String> = ["", "count", "mean"]
        .into_iter()
        .chain(QUANTILES.iter().map(|(name, _)| *name))
        .chain(["max"])
        .map(str::to_owned)
        .collect();
    let rows = curves.iter().map(|(name, histogram)| {
        let mut row = vec![escape(name), number(histogram.len() as f64), number(histogram.mean() / 1e6)];
        row.extend(
            QUANTILES
                .iter()
                .map(|&(_, quantile)| number(milliseconds(histogram.value_at_quantile(quantile)))),
        );
        row.push(number(milliseconds(histogram.max())));
        row
    });
    figure(title, &svg, &table(&head, rows))
}

fn milliseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}

fn figure(title: &str, svg: &str, table: &str) -> String {
    format!(
        "<figure><figcaption>{}</figcaption><div class=\"scroll\" tabindex=\"0\">{svg}</div><details><summary>Figures</summary><div class=\"scroll\">{table}</div></details></figure>\n",
        escape(title)
    )
}

/// A table of cells that are escaped already.
fn table(head: &[String], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut html = "<table><thead><tr>".to_owned();
    for cell in head {
        let _ = write!(html, "<th scope=\"col\">{cell}</th>");
    }
    html.push_str("</tr></thead><tbody>");
    for row in rows {
        html.push_str("<tr>");
        for cell in row {
            let _ = write!(html, "<td>{cell}</td>");
        }
        html.push_str("</tr>");
    }
    html.push_str("</tbody></table>");
    html
}
