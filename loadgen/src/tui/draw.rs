//! The view on the screen: the most important first, the rest as far as there is room.
//!
//! ```text
//!   rows    title, state                        always
//!   4+      numbers                             6+   rate over time
//!   12+     phases | errors, threads (side by side from 90 columns on)      the rest: heat map, from 6 rows on
//! ```

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Sparkline};

use super::view::{View, row_from};
use crate::html::number;

/// From few to many.
const SHADES: [(char, Color); 5] =
    [('·', Color::Blue), ('░', Color::Cyan), ('▒', Color::Green), ('▓', Color::Yellow), ('█', Color::Red)];
/// Width of the names of the heat map's rows.
const LABEL: u16 = 9;
/// Rows from label to label.
const LABEL_EVERY: i32 = 2;
/// Fewer rows of a heat map say nothing.
const HEAT_ROWS_MIN: u16 = 6;
/// Columns from which two parts stand side by side.
const WIDE: u16 = 90;

pub(super) fn draw(frame: &mut Frame<'_>, view: &View, colours: bool) {
    let area = frame.area();
    let mut rest = area;
    line(frame, take(&mut rest, 1), title(view, colours));
    line(frame, take(&mut rest, 1), state(view, colours));
    if !view.note.is_empty() {
        line(frame, take(&mut rest, 1), Line::raw(view.note.as_str()));
    }
    if rest.height >= 3 {
        let height = if rest.height >= 20 { 5 } else { 3 };
        rate(frame, take(&mut rest, height), view, colours);
    }
    if rest.height >= 3 {
        let lists = lists(view, colours);
        let phases = phases(view, colours);
        if rest.width >= WIDE {
            let height = rows(phases.len().max(lists.len()));
            let part = take(&mut rest, height);
            let [left, right] = Layout::horizontal([Constraint::Length(62), Constraint::Min(0)]).areas(part);
            frame.render_widget(Paragraph::new(phases), left);
            frame.render_widget(Paragraph::new(lists), right);
        } else {
            // Total is the most important one and the last.
            let shown = rows(phases.len());
            frame.render_widget(Paragraph::new(phases), take(&mut rest, shown));
            if rest.height >= rows(lists.len()) {
                let shown = rows(lists.len());
                frame.render_widget(Paragraph::new(lists), take(&mut rest, shown));
            }
        }
    }
    if rest.height >= HEAT_ROWS_MIN && rest.width > LABEL + 10 {
        heat(frame, rest, view, colours);
    }
}

fn rows(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

/// Cuts rows off the top.
fn take(rest: &mut Rect, rows: u16) -> Rect {
    let height = rows.min(rest.height);
    let top = Rect { height, ..*rest };
    rest.y += height;
    rest.height -= height;
    top
}

fn line(frame: &mut Frame<'_>, area: Rect, line: Line<'_>) {
    frame.render_widget(Paragraph::new(line), area);
}

fn coloured(colours: bool, colour: Color) -> Style {
    if colours { Style::new().fg(colour) } else { Style::new() }
}

fn title(view: &View, colours: bool) -> Line<'_> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    Line::from(vec![
        Span::styled("inrush-load", bold.patch(coloured(colours, Color::Cyan))),
        Span::raw(format!("  {}  {}  ", view.target, view.pace)),
        Span::styled("q ends", Style::new().add_modifier(Modifier::DIM)),
    ])
}

fn state(view: &View, colours: bool) -> Line<'_> {
    let seconds = view.elapsed.as_secs_f64();
    let length = view.length.map_or(String::new(), |length| format!(" of {}", number(length.as_secs_f64())));
    let state = match (view.ending, view.warming_up) {
        (true, _) => "ending",
        (false, true) => "warm-up",
        (false, false) => "running",
    };
    let messages = view.messages.map_or(String::new(), |messages| format!(" of {}", number(messages as f64)));
    let mut spans = vec![Span::raw(format!(
        "{state} {seconds:.1}{length} s  {}{messages} acknowledged  {}/s  ",
        number(view.acknowledged as f64),
        number(view.rate)
    ))];
    let errors = format!("{} errors", number(view.errors as f64));
    let style = if view.errors > 0 { coloured(colours, Color::Red) } else { Style::new() };
    spans.push(Span::styled(errors, style));
    if let Some(backlog) = view.backlog {
        let style = if backlog > 0 { coloured(colours, Color::Yellow) } else { Style::new() };
        spans.push(Span::styled(format!("  {} waiting", number(backlog as f64)), style));
    }
    Line::from(spans)
}

fn rate(frame: &mut Frame<'_>, mut area: Rect, view: &View, colours: bool) {
    let shown = usize::from(area.width).min(view.rates.len());
    let data: Vec<u64> = view.rates.iter().skip(view.rates.len() - shown).copied().collect();
    let most = data.iter().copied().max().unwrap_or(0);
    line(
        frame,
        take(&mut area, 1),
        Line::raw(format!("acknowledged a second, most {}", number(most as f64))),
    );
    let sparkline = Sparkline::default().data(&data).max(most.max(1)).style(coloured(colours, Color::Green));
    frame.render_widget(sparkline, area);
}

fn phases(view: &View, colours: bool) -> Vec<Line<'static>> {
    let head = format!("{:<11}{:>9}{:>10}{:>10}{:>10}{:>10}", "ms", "count", "p50", "p90", "p99", "max");
    let mut lines = vec![Line::styled(head, Style::new().add_modifier(Modifier::DIM))];
    for (name, count, [p50, p90, p99, max]) in &view.phases {
        let text = format!("{name:<11}{count:>9}{p50:>10.3}{p90:>10.3}{p99:>10.3}{max:>10.3}");
        let style = if *name == "total" { coloured(colours, Color::Cyan) } else { Style::new() };
        lines.push(Line::styled(text, style));
    }
    lines
}

/// Errors by cause, and how busy the generator's threads are.
fn lists(view: &View, colours: bool) -> Vec<Line<'static>> {
    let dim = Style::new().add_modifier(Modifier::DIM);
    let mut lines = Vec::new();
    if !view.threads.is_empty() {
        lines.push(Line::styled("generator threads", dim));
    }
    for (core, share) in view.threads.iter().enumerate() {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of ten characters"
        )]
        let full = (share.clamp(0.0, 1.0) * 10.0).round() as usize;
        let bar: String = "█".repeat(full) + &"·".repeat(10 - full);
        // Beyond it the generator may be the limit.
        let style = if *share > 0.9 { coloured(colours, Color::Red) } else { Style::new() };
        lines.push(Line::styled(format!("load-{core:<3} {bar} {:>3.0} %", share * 100.0), style));
    }
    if !view.causes.is_empty() {
        lines.push(Line::styled("errors by cause", dim));
    }
    for (name, count) in view.causes.iter().take(6) {
        lines.push(Line::styled(format!("{count:>9} {name}"), coloured(colours, Color::Red)));
    }
    lines
}

fn heat(frame: &mut Frame<'_>, mut area: Rect, view: &View, colours: bool) {
    let title = take(&mut area, 1);
    let columns = usize::from(area.width - LABEL).min(view.heat.len());
    let shown = || view.heat.iter().skip(view.heat.len() - columns);
    let cells = || shown().flatten();
    line(frame, title, Line::styled("total latency over time, ms", Style::new().add_modifier(Modifier::DIM)));
    let Some(least) = cells().map(|(row, _)| *row).min() else { return };
    let most = cells().map(|(row, _)| *row).max().unwrap_or(least);
    // Rows put together until they fit.
    let span = i64::from(most) - i64::from(least) + 1;
    let height = i64::from(area.height);
    let together = i32::try_from((span + height - 1) / height).unwrap_or(1).max(1);
    let largest = cells().map(|(_, count)| *count).max().unwrap_or(1).max(2) as f64;
    let lowest = area.bottom() - 1;
    let place = |row: i32| lowest - u16::try_from((row - least) / together).unwrap_or(0).min(area.height - 1);
    let buffer = frame.buffer_mut();
    let mut row = least;
    let label_every = if together == 1 { LABEL_EVERY } else { together };
    while row <= most {
        let label = format!("{:>8} ", number(row_from(row)));
        buffer.set_string(area.x, place(row), label, Style::new().add_modifier(Modifier::DIM));
        row += label_every;
    }
    for (column, counts) in shown().enumerate() {
        let x = area.x + LABEL + rows(column);
        let mut at: Option<(u16, u64)> = None;
        for &(row, count) in counts {
            let y = place(row);
            let sum = at.filter(|(last, _)| *last == y).map_or(count, |(_, sum)| sum + count);
            at = Some((y, sum));
            let share = (sum as f64).ln() / largest.ln();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a float cast saturates"
            )]
            let (shade, colour) = SHADES[((share * SHADES.len() as f64) as usize).min(SHADES.len() - 1)];
            buffer.set_string(x, y, shade.to_string(), coloured(colours, colour));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::live::LiveCells;
    use crate::options::{Cli, Command};
    use crate::record::Phase;
    use crate::worker::{Live, Shared};

    fn view() -> View {
        use clap::Parser as _;
        let words = ["inrush-load", "run", "-D", "10s", "--rate", "50", "--warmup", "1s", "127.0.0.1:25"];
        let Command::Run(options) = Cli::try_parse_from(words).unwrap().command else { panic!("run") };
        let plan = Arc::new(options.plan(1, "Sat, 21 Nov 2026 21:44:57 +0000").unwrap());
        let start = Instant::now();
        let mut view = View::new(&plan, start);
        let live = Arc::new(Live { cells: Some(Arc::new(LiveCells::new())), ..Live::default() });
        let cells = live.cells.as_ref().unwrap();
        for column in 1..200_u64 {
            for n in 0..20 {
                cells.time(Phase::Total, 1_000_000 * (n + 1) * (1 + column % 7));
                cells.time(Phase::Body, 100_000);
            }
            cells.cause("rcpt", 550);
            live.acknowledged.fetch_add(20, std::sync::atomic::Ordering::Relaxed);
            let shared = Shared::default();
            view.look(start + Duration::from_millis(500 * column), std::slice::from_ref(&live), &shared);
        }
        view
    }

    fn screen(view: &View, width: u16, height: u16, colours: bool) -> (String, bool) {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, view, colours)).unwrap();
        let cells = terminal.backend().buffer().content();
        let coloured = cells.iter().any(|cell| cell.fg != Color::Reset);
        let text: Vec<String> = cells
            .chunks(usize::from(width))
            .map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>())
            .collect();
        (text.join("\n"), coloured)
    }

    #[test]
    fn a_large_screen_shows_everything() {
        let view = view();
        let (text, coloured) = screen(&view, 120, 40, true);
        for part in [
            "127.0.0.1:25",
            "50 a second planned",
            "running 99.5 of 11",
            "3,980 acknowledged",
            "40/s",
            "0 waiting",
            "body",
            "total",
            "199 rcpt 550",
            "total latency over time",
            "█",
        ] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
        assert!(coloured);
        assert!(!screen(&view, 120, 40, false).1, "NO_COLOR");
    }

    #[test]
    fn any_size_can_be_drawn() {
        let view = view();
        for width in [1, 2, 10, 19, 20, 40, 89, 90, 300] {
            for height in [1, 2, 3, 5, 8, 12, 20, 21, 100] {
                let (text, _) = screen(&view, width, height, true);
                assert!(width < 40 || text.contains("inrush-load"), "{width} x {height}");
            }
        }
        let (text, _) = screen(&view, 60, 4, true);
        assert!(text.contains("acknowledged") && !text.contains("latency over time"), "{text}");
    }
}
