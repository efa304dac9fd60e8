//! Plots as SVG: lines, and a heat map. Colours come from classes of the page's style, so that one drawing serves light, dark and paper.

use std::fmt::Write as _;

use super::axis::Axis;
use super::escape;

/// Units of the drawing; it scales with the page.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 44.0;
/// Different line colours of the style.
const COLOURS: usize = 8;
/// Different shades of the heat map.
const SHADES: usize = 9;

/// A line of a plot.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// In the legend.
    pub(super) name: String,
    /// Index of its colour.
    pub(super) colour: usize,
    /// Dashed: not measured but asked for.
    pub(super) dashed: bool,
    /// Left to right; where nothing is known the line is broken.
    pub(super) points: Vec<(f64, Option<f64>)>,
}

/// What a plot says to those who do not see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caption<'a> {
    /// Unique in the page.
    pub(super) id: &'a str,
    pub(super) title: &'a str,
    pub(super) description: &'a str,
}

/// A time that is marked in a plot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub(super) x: f64,
    pub(super) name: &'static str,
}

/// Lines over two axes.
pub(super) fn lines(caption: Caption<'_>, x: &Axis, y: &Axis, lines: &[Line], mark: Option<Mark>) -> String {
    let mut svg = open(caption);
    grid(&mut svg, x, y);
    if let Some(mark) = mark {
        let at = across(x, mark.x);
        let _ = write!(
            svg,
            "<line class=\"mark\" x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{:.1}\"/><text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            HEIGHT - BOTTOM,
            at + 4.0,
            TOP + 12.0,
            mark.name
        );
    }
    for line in lines {
        let mut path = String::new();
        let mut pen_down = false;
        for &(at, value) in &line.points {
            match value {
                Some(value) if value.is_finite() => {
                    let _ = write!(
                        path,
                        "{}{:.1} {:.1}",
                        if pen_down { 'L' } else { 'M' },
                        across(x, at),
                        up(y, value)
                    );
                    if !pen_down {
                        // A point alone between two gaps is a dot thanks to round line ends.
                        path.push_str("h0");
                    }
                    pen_down = true;
                }
                _ => pen_down = false,
            }
        }
        let dashed = if line.dashed { " dashed" } else { "" };
        let _ = write!(svg, "<path class=\"line c{}{dashed}\" d=\"{path}\"/>", line.colour % COLOURS);
    }
    let mut left = LEFT;
    for line in lines {
        let _ = write!(
            svg,
            "<line class=\"line c{}{}\" x1=\"{left:.0}\" y1=\"12\" x2=\"{:.0}\" y2=\"12\"/><text class=\"legend\" x=\"{:.0}\" y=\"16\">{}</text>",
            line.colour % COLOURS,
            if line.dashed { " dashed" } else { "" },
            left + 18.0,
            left + 23.0,
            escape(&line.name)
        );
        left += 36.0 + 7.0 * line.name.chars().count() as f64;
    }
    svg.push_str("</svg>");
    svg
}

/// A heat map: columns of time, rows of values, darker for more. Each cell is (column, lower and upper value, count).
#[derive(Clone, Debug)]
pub(super) struct Heat {
    /// Left edge of the first column and width of one.
    pub(super) columns_from: f64,
    pub(super) column_width: f64,
    pub(super) cells: Vec<(usize, (f64, f64), u64)>,
}

/// Draws a heat map. Shades follow the logarithm of the count: the few slow ones shall be seen beside the many.
pub(super) fn heat(caption: Caption<'_>, x: &Axis, y: &Axis, heat: &Heat) -> String {
    let mut svg = open(caption);
    grid(&mut svg, x, y);
    let most = heat.cells.iter().map(|&(_, _, count)| count).max().unwrap_or(1).max(2) as f64;
    // One path a shade: a few elements instead of thousands.
    let mut paths = vec![String::new(); SHADES];
    for &(column, (low, high), count) in &heat.cells {
        let from = across(x, heat.columns_from + column as f64 * heat.column_width);
        let to = across(x, heat.columns_from + (column + 1) as f64 * heat.column_width);
        let (bottom, top) = (up(y, low), up(y, high));
        let share = (count as f64).ln() / most.ln();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates")]
        let shade = ((share * SHADES as f64) as usize).min(SHADES - 1);
        let width = (to - from).max(0.5);
        let _ = write!(paths[shade], "M{from:.1} {bottom:.1}h{width:.2}V{top:.1}h-{width:.2}z");
    }
    for (shade, path) in paths.iter().enumerate().filter(|(_, path)| !path.is_empty()) {
        let _ = write!(svg, "<path class=\"h{shade}\" d=\"{path}\"/>");
    }
    let _ = write!(svg, "<text class=\"legend\" x=\"{LEFT}\" y=\"16\">messages: 1</text>");
    for shade in 0..SHADES {
        let _ = write!(
            svg,
            "<rect class=\"h{shade}\" x=\"{:.0}\" y=\"6\" width=\"14\" height=\"12\"/>",
            LEFT + 84.0 + 14.0 * shade as f64
        );
    }
    let _ = write!(
        svg,
        "<text class=\"legend\" x=\"{:.0}\" y=\"16\">{most:.0}</text></svg>",
        LEFT + 90.0 + 14.0 * SHADES as f64
    );
    svg
}

/// A horizontal bar for a table cell: a share from 0 to 1.
pub(super) fn bar(share: f64) -> String {
    format!(
        "<svg class=\"bar\" viewBox=\"0 0 100 10\" aria-hidden=\"true\"><rect class=\"b\" width=\"{:.1}\" height=\"10\"/></svg>",
        share.clamp(0.0, 1.0) * 100.0
    )
}

fn open(Caption { id, title, description }: Caption<'_>) -> String {
    format!(
        "<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-labelledby=\"{id}-t {id}-d\"><title id=\"{id}-t\">{}</title><desc id=\"{id}-d\">{}</desc>",
        escape(title),
        escape(description)
    )
}

fn grid(svg: &mut String, x: &Axis, y: &Axis) {
    for (value, label) in y.ticks() {
        let at = up(y, value);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\"/><text class=\"tick end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0,
            escape(&label)
        );
    }
    for (value, label) in x.ticks() {
        let at = across(x, value);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{:.1}\"/><text class=\"tick middle\" x=\"{at:.1}\" y=\"{:.1}\">{}</text>",
            HEIGHT - BOTTOM,
            HEIGHT - BOTTOM + 16.0,
            escape(&label)
        );
    }
    let _ = write!(
        svg,
        "<text class=\"name middle\" x=\"{:.1}\" y=\"{:.1}\">{}</text><text class=\"name middle\" transform=\"translate(12 {:.1}) rotate(-90)\">{}</text>",
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 8.0,
        escape(x.name),
        (TOP + HEIGHT - BOTTOM) / 2.0,
        escape(y.name)
    );
}

fn across(x: &Axis, value: f64) -> f64 {
    LEFT + x.place(value) * (WIDTH - RIGHT - LEFT)
}

fn up(y: &Axis, value: f64) -> f64 {
    HEIGHT - BOTTOM - y.place(value) * (HEIGHT - BOTTOM - TOP)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPTION: Caption<'_> = Caption { id: "a", title: "<t>", description: "d" };

    #[test]
    fn lines_break_where_nothing_is_known() {
        let points =
            vec![(0.0, Some(1.0)), (1.0, Some(2.0)), (2.0, None), (3.0, Some(f64::NAN)), (4.0, Some(1.0))];
        let line = Line { name: "a<b".to_owned(), colour: 9, dashed: true, points };
        let svg = lines(CAPTION, &Axis::linear("s", 0.0, 4.0), &Axis::from_zero("n", 2.0), &[line], None);
        let path = svg.split("class=\"line c1 dashed\" d=\"").nth(1).unwrap_or_default();
        let path = path.split('"').next().unwrap_or_default();
        assert_eq!((path.matches('M').count(), path.matches('L').count()), (2, 1), "{path}");
        assert!(svg.contains("a&lt;b") && svg.contains("<title id=\"a-t\">&lt;t&gt;</title>"));
    }

    #[test]
    fn every_cell_is_drawn() {
        let cells = vec![(0, (1.0, 2.0), 1), (1, (2.0, 4.0), 100), (1, (4.0, 8.0), 10)];
        let map = Heat { columns_from: 0.0, column_width: 1.0, cells };
        let svg = heat(CAPTION, &Axis::linear("s", 0.0, 2.0), &Axis::log("ms", 1.0, 10.0), &map);
        assert_eq!(svg.matches('z').count(), 3, "{svg}");
        assert!(svg.contains("class=\"h8\"") && svg.contains("class=\"h0\""));
    }
}
