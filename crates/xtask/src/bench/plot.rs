//! Plots of results as SVG: bars of medians with their spread, and curves over an axis.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::result::{Series, shown};

const COLOURS: [RGBColor; 6] = [
    RGBColor(0x1f, 0x77, 0xb4),
    RGBColor(0xd6, 0x6b, 0x1e),
    RGBColor(0x2c, 0x8a, 0x3c),
    RGBColor(0x94, 0x4f, 0xbd),
    RGBColor(0xb5, 0x2b, 0x33),
    RGBColor(0x55, 0x55, 0x55),
];

/// Above this ratio of the greatest to the least value an axis is logarithmic.
const LINEAR_MOST: f64 = 30.0;

const FONT: &str = "sans-serif";
const WIDTH: u32 = 820;
const BAR_HEIGHT: u32 = 22;

/// A bar for each series: its median, and a line from its least to its greatest. `name` gives the text beside it. Where they differ too much to be
/// seen side by side, the axis is logarithmic, and the title says so.
///
/// # Errors
/// The file cannot be written.
pub(super) fn bars(
    file: &Path,
    title: &str,
    series: &[&Series],
    name: impl Fn(&Series) -> String,
) -> anyhow::Result<()> {
    let most = series.iter().map(|series| series.greatest).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let least = series.iter().map(|series| series.least).fold(f64::MAX, f64::min);
    // The least value keeps a bar to be seen.
    let begin = least / 2.0;
    let logarithmic = least > 0.0 && most / least > LINEAR_MOST;
    let share = |value: f64| {
        if logarithmic { (value / begin).ln() / (most / begin).ln() } else { value / most }
    };
    let title = if logarithmic { format!("{title} (logarithmic)") } else { title.to_owned() };
    let height = 70 + BAR_HEIGHT * u32::try_from(series.len())?;
    let area = SVGBackend::new(file, (WIDTH, height)).into_drawing_area();
    let draw = || -> Result<(), Box<dyn std::error::Error>> {
        area.fill(&WHITE)?;
        area.draw(&Text::new(title, (12, 12), (FONT, 16)))?;
        let (left, right) = (330, i32::try_from(WIDTH)? - 90);
        #[expect(clippy::cast_possible_truncation, reason = "between the edges of the picture")]
        let to_x = |value: f64| left + (f64::from(right - left) * share(value)).round() as i32;
        for (index, series) in series.iter().enumerate() {
            let top = 44 + i32::try_from(index * BAR_HEIGHT as usize)?;
            let middle = top + 8;
            let colour = COLOURS[colour_of(&series.subject)];
            let beside = TextStyle::from((FONT, 12)).pos(Pos::new(HPos::Right, VPos::Center));
            area.draw(&Text::new(name(series), (left - 8, middle), beside))?;
            area.draw(&Rectangle::new(
                [(left, top), (to_x(series.median), top + 16)],
                colour.mix(0.75).filled(),
            ))?;
            area.draw(&PathElement::new(
                [(to_x(series.least), middle), (to_x(series.greatest), middle)],
                BLACK,
            ))?;
            let behind = TextStyle::from((FONT, 12)).pos(Pos::new(HPos::Left, VPos::Center));
            let text = format!("{} {}", shown(series.median), series.unit);
            area.draw(&Text::new(text, (to_x(series.greatest) + 6, middle), behind))?;
        }
        area.present()?;
        Ok(())
    };
    draw().map_err(|error| anyhow!("{error}")).with_context(|| file.display().to_string())
}

/// A curve for each subject over the axis of its series, which is logarithmic.
///
/// # Errors
/// The file cannot be written.
pub(super) fn curves(file: &Path, title: &str, series: &[&Series]) -> anyhow::Result<()> {
    let mut subjects: Vec<&str> = Vec::new();
    for series in series {
        if !subjects.contains(&series.subject.as_str()) {
            subjects.push(&series.subject);
        }
    }
    let ats: Vec<f64> = series.iter().filter_map(|series| series.at).collect();
    let (first, last) =
        (ats.iter().copied().fold(f64::MAX, f64::min), ats.iter().copied().fold(1.0, f64::max));
    let most = series.iter().map(|series| series.greatest).fold(0.0, f64::max) * 1.1;
    let unit = series.first().map(|series| series.unit.clone()).unwrap_or_default();
    let area = SVGBackend::new(file, (WIDTH, 380)).into_drawing_area();
    let draw = || -> Result<(), Box<dyn std::error::Error>> {
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, (FONT, 16))
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(64)
            .build_cartesian_2d(
                (first.max(1.0)..last.max(2.0)).log_scale(),
                0.0..most.max(f64::MIN_POSITIVE),
            )?;
        chart
            .configure_mesh()
            .y_desc(unit.clone())
            .light_line_style(WHITE)
            .x_label_formatter(&|x| x.to_string())
            .y_label_formatter(&|y| shown(*y))
            .draw()?;
        for subject in &subjects {
            let colour = COLOURS[colour_of(subject)];
            let mut points: Vec<(f64, f64)> = series
                .iter()
                .filter(|series| series.subject == *subject)
                .filter_map(|series| Some((series.at?, series.median)))
                .collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            chart
                .draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))?
                .label((*subject).to_owned())
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
            chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .border_style(BLACK)
            .background_style(WHITE)
            .draw()?;
        area.present()?;
        Ok(())
    };
    draw().map_err(|error| anyhow!("{error}")).with_context(|| file.display().to_string())
}

/// The same subject has the same colour in every plot.
fn colour_of(subject: &str) -> usize {
    match subject {
        "inrush" => 0,
        "floor" => 5,
        "inrush, relaxed" => 2,
        ratio if ratio.contains(" : ") => 3,
        _ => 1,
    }
}
