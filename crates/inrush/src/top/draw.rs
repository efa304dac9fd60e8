//! The view on the screen: the most important first, the rest as far as there is room.
//!
//! ```text
//!   rows    title, trouble, reasons             always
//!           figures                             4-5
//!           rate over time                      3, from 16 rows on
//!           cores                               one each, a third of the rest at most
//!           the panel that was chosen           the rest
//! ```

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Sparkline};

use super::{Panel, View, text};
use crate::output::printable;

const KEYS: &str = "q ends  p holds  1 overview  2 destinations  3 sessions";
/// Rows from which the rate over time has room.
const RATE_FROM: u16 = 16;

pub(super) fn draw(frame: &mut Frame<'_>, view: &View, colours: bool) {
    let mut rest = frame.area();
    let colour = |colour| if colours { Style::new().fg(colour) } else { Style::new() };
    let dim = Style::new().add_modifier(Modifier::DIM);
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let ready = view.sample.as_ref().is_none_or(|sample| sample["ready"] == true);
    let title =
        view.sample.as_ref().map_or_else(|| "inrush: waiting for the first sample".to_owned(), text::title);
    let held = if view.held { "  HELD" } else { "" };
    let style = bold.patch(colour(if ready { Color::Cyan } else { Color::Red }));
    put(
        frame,
        &mut rest,
        vec![Line::from(vec![Span::styled(title, style), Span::raw(format!("  {}{held}", view.address))])],
    );
    if let Some(trouble) = &view.trouble {
        let trouble = format!("no connection, these are old figures: {}", printable(trouble.as_bytes()));
        put(frame, &mut rest, vec![Line::styled(trouble, colour(Color::Yellow).patch(bold))]);
    }
    let Some(sample) = &view.sample else {
        return put(frame, &mut rest, vec![Line::styled(KEYS, dim)]);
    };
    let reasons = text::texts(&sample["reasons"]);
    let reasons =
        reasons.map(|reason| Line::styled(format!("NOT READY: {reason}"), colour(Color::Red).patch(bold)));
    put(frame, &mut rest, reasons.collect());
    put(frame, &mut rest, text::figures(sample).into_iter().map(Line::raw).collect());
    if frame.area().height >= RATE_FROM && rest.height > 3 {
        rate(frame, take(&mut rest, 3), view, colour(Color::Green));
    }
    let cores = text::cores(sample);
    let shown = cores.len().min(usize::from(rest.height / 3));
    let hidden = cores.len() - shown;
    let mut lines: Vec<_> = cores.into_iter().take(shown).map(Line::raw).collect();
    if hidden > 0 && shown > 0 {
        lines.pop();
        lines.push(Line::styled(format!("… and {} cores more", hidden + 1), dim));
    }
    put(frame, &mut rest, lines);
    let keys = (rest.height > 1).then(|| {
        rest.height -= 1;
        Rect { y: rest.bottom(), height: 1, ..rest }
    });
    put(frame, &mut rest, panel(view, sample, dim));
    if let Some(keys) = keys {
        frame.render_widget(Paragraph::new(Line::styled(KEYS, dim)), keys);
    }
}

/// The lines of the panel that was chosen, each part below its head.
fn panel(view: &View, sample: &serde_json::Value, dim: Style) -> Vec<Line<'static>> {
    let part = |head: &'static str, lines: Vec<String>| {
        let head = (!lines.is_empty() && !head.is_empty()).then(|| Line::styled(head, dim));
        head.into_iter().chain(lines.into_iter().map(Line::raw)).collect::<Vec<_>>()
    };
    match view.panel {
        Panel::Overview => [
            part("latency by phase", text::phases(sample)),
            part("refusals by reason", text::refusals(sample)),
            part("queue", text::queue(sample)),
        ]
        .concat(),
        Panel::Destinations => {
            let mut lines = text::destinations(sample);
            if lines.is_empty() {
                lines.push("nothing waits".to_owned());
            }
            part("destinations with the most waiting, and their last reply", lines)
        }
        Panel::Sessions => match &view.sessions {
            Some(answer) => part("live sessions, the oldest first", text::sessions(answer)),
            None => part("", vec!["asking for the sessions".to_owned()]),
        },
    }
}

/// Cuts rows off the top.
fn take(rest: &mut Rect, rows: u16) -> Rect {
    let height = rows.min(rest.height);
    let top = Rect { height, ..*rest };
    rest.y += height;
    rest.height -= height;
    top
}

fn put(frame: &mut Frame<'_>, rest: &mut Rect, lines: Vec<Line<'_>>) {
    let rows = u16::try_from(lines.len()).unwrap_or(u16::MAX);
    frame.render_widget(Paragraph::new(lines), take(rest, rows));
}

fn rate(frame: &mut Frame<'_>, mut area: Rect, view: &View, style: Style) {
    let shown = usize::from(area.width).min(view.rates.len());
    let data: Vec<u64> = view.rates.iter().skip(view.rates.len() - shown).copied().collect();
    let most = data.iter().copied().max().unwrap_or(0);
    let head = format!("accepted a second, most {}", text::rate(most as f64));
    put(frame, &mut area, vec![Line::styled(head, Style::new().add_modifier(Modifier::DIM))]);
    frame.render_widget(Sparkline::default().data(&data).max(most.max(1)).style(style), area);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    use super::*;

    fn screen(view: &View, width: u16, height: u16, colours: bool) -> (String, bool) {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, view, colours)).unwrap();
        let cells = terminal.backend().buffer().content();
        let coloured = cells.iter().any(|cell| cell.fg != Color::Reset);
        let rows = cells.chunks(usize::from(width));
        let rows: Vec<String> = rows.map(|row| row.iter().map(|cell| cell.symbol()).collect()).collect();
        (rows.join("\n"), coloured)
    }

    fn view() -> View {
        View {
            address: "127.0.0.1:9925".to_owned(),
            sample: Some(text::tests::sample()),
            rates: [1, 5, 9].into(),
            ..View::default()
        }
    }

    #[test]
    fn a_large_screen_shows_everything() {
        let mut view = view();
        let (shown, coloured) = screen(&view, 130, 40, true);
        for part in [
            "NOT READY",
            "127.0.0.1:9925",
            "12,346/s",
            "most 9",
            "core 0",
            "queue wait",
            "user_unknown",
            "out:evil.example",
            "q ends",
        ] {
            assert!(shown.contains(part), "{part}:\n{shown}");
        }
        assert!(coloured && !screen(&view, 130, 40, false).1, "NO_COLOR");
        view.panel = Panel::Destinations;
        assert!(screen(&view, 130, 40, true).0.contains("go away please"));
        view.panel = Panel::Sessions;
        assert!(screen(&view, 130, 40, true).0.contains("asking for the sessions"));
        view.sessions = Some(
            json!({ "sessions": [{ "client": "192.0.2.7:1234", "age_seconds": 5.0, "listener": "mx", "core": 1,
            "tls": "TLSv1.3", "phase": "held_back", "messages": 3, "octets": 5_000, "last_command": "rcpt" }], "silent_cores": [0] }),
        );
        let (shown, _) = screen(&view, 130, 40, true);
        for part in ["192.0.2.7:1234", "TLSv1.3", "held back", "rcpt", "4.9 KiB", "cores 0 have not answered"]
        {
            assert!(shown.contains(part), "{part}:\n{shown}");
        }
        view.trouble = Some("gone\u{1b}[2J".to_owned());
        assert!(screen(&view, 130, 40, true).0.contains("old figures: gone\\u{1b}[2J"));
    }

    #[test]
    fn any_size_can_be_drawn() {
        let mut view = view();
        for panel in [Panel::Overview, Panel::Destinations, Panel::Sessions] {
            view.panel = panel;
            for width in [1, 10, 40, 80, 300] {
                for height in [1, 2, 3, 6, 9, 16, 24, 100] {
                    let (shown, _) = screen(&view, width, height, true);
                    assert!(width < 40 || shown.contains("inrush"), "{width} x {height}");
                }
            }
        }
        view.sample = None;
        assert!(screen(&view, 80, 24, true).0.contains("waiting for the first sample"));
    }
}
