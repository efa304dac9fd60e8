//! Axes of a plot: from values to places, and where the ticks stand.

/// How values spread over an axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scale {
    /// Equal distances, equal lengths.
    Linear,
    /// Equal ratios, equal lengths; for values above 0.
    Log,
    /// Percentiles as HdrHistogram draws them: each further 9 takes the same length. Values are quantiles from 0 to below 1.
    Nines,
}

/// An axis.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    scale: Scale,
    least: f64,
    most: f64,
    /// Name and unit.
    pub(super) name: &'static str,
}

impl Axis {
    /// From 0 to `most` rounded up to a tick.
    pub(super) fn from_zero(name: &'static str, most: f64) -> Self {
        let most = if most > 0.0 && most.is_finite() { most } else { 1.0 };
        let step = step(most);
        Self { scale: Scale::Linear, least: 0.0, most: (most / step).ceil() * step, name }
    }

    /// Exactly from `least` to `most`.
    pub(super) fn linear(name: &'static str, least: f64, most: f64) -> Self {
        Self { scale: Scale::Linear, least, most: if most > least { most } else { least + 1.0 }, name }
    }

    /// Decades around the values.
    pub(super) fn log(name: &'static str, least: f64, most: f64) -> Self {
        let least = if least > 0.0 && least.is_finite() { least } else { 0.001 };
        let least = 10_f64.powf(least.log10().floor());
        let most = 10_f64.powf(most.max(least).log10().ceil());
        Self { scale: Scale::Log, least, most: if most > least { most } else { least * 10.0 }, name }
    }

    /// Percentiles up to the last that so many values can tell.
    pub(super) fn nines(name: &'static str, values: u64) -> Self {
        let nines = (values.max(10) as f64).log10().ceil().clamp(1.0, 9.0);
        Self { scale: Scale::Nines, least: 0.0, most: 1.0 - 10_f64.powf(-nines), name }
    }

    /// Where a value lies: 0 at the start, 1 at the end.
    pub(super) fn place(&self, value: f64) -> f64 {
        let at = |value: f64| match self.scale {
            Scale::Linear => value,
            Scale::Log => value.max(f64::MIN_POSITIVE).log10(),
            Scale::Nines => -(1.0 - value.min(self.most)).log10(),
        };
        ((at(value) - at(self.least)) / (at(self.most) - at(self.least))).clamp(0.0, 1.0)
    }

    /// Values with their labels.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        match self.scale {
            Scale::Linear => {
                let step = step(self.most - self.least);
                let first = (self.least / step).ceil();
                let mut ticks = Vec::new();
                let mut index = 0.0;
                while (first + index) * step <= self.most + step * 1e-9 {
                    let value = (first + index) * step;
                    ticks.push((value, number(value)));
                    index += 1.0;
                }
                ticks
            }
            Scale::Log => {
                let mut ticks = Vec::new();
                let mut value = self.least;
                while value <= self.most * 1.000_001 {
                    ticks.push((value, number(value)));
                    value *= 10.0;
                }
                ticks
            }
            Scale::Nines => {
                let mut ticks = vec![(0.0, "0 %".to_owned()), (0.5, "50 %".to_owned())];
                let mut missing = 0.1_f64;
                let mut digits = 0;
                while 1.0 - missing <= self.most + 1e-12 {
                    let decimals = usize::try_from(digits - 1).unwrap_or(0);
                    ticks.push((1.0 - missing, format!("{:.decimals$} %", 100.0 - missing * 100.0)));
                    missing /= 10.0;
                    digits += 1;
                }
                ticks
            }
        }
    }
}

/// A step of 1, 2 or 5 times a power of ten that cuts `span` into four to ten parts.
fn step(span: f64) -> f64 {
    let raw = span / 5.0;
    let power = 10_f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= raw).unwrap_or(10.0);
    step * power
}

/// A number as people read it: three significant digits, thousands apart.
pub(crate) fn number(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    let size = value.abs();
    if size >= 1000.0 {
        let digits = format!("{size:.0}");
        let mut text = String::new();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        return if value < 0.0 { format!("-{text}") } else { text };
    }
    let decimals = match size {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        0.01.. => 3,
        0.0001.. => 4,
        _ if size > 0.0 => return format!("{value:.0e}"),
        _ => 0,
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<String> {
        axis.ticks().into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(labels(&Axis::from_zero("", 4321.0)), ["0", "1,000", "2,000", "3,000", "4,000", "5,000"]);
        assert_eq!(labels(&Axis::linear("", -2.0, 3.0)), ["-2", "-1", "0", "1", "2", "3"]);
        assert_eq!(labels(&Axis::log("", 0.02, 130.0)), ["0.01", "0.1", "1", "10", "100", "1,000"]);
        assert_eq!(labels(&Axis::nines("", 900)), ["0 %", "50 %", "90 %", "99 %", "99.9 %"]);
        for axis in [Axis::from_zero("", f64::NAN), Axis::log("", 0.0, 0.0), Axis::linear("", 1.0, 1.0)] {
            assert!(axis.ticks().len() >= 2, "{axis:?}");
        }
    }

    #[test]
    fn places_lie_on_the_axis() {
        let axis = Axis::log("", 1.0, 100.0);
        assert!((axis.place(10.0) - 0.5).abs() < 1e-9);
        assert!(axis.place(0.0) == 0.0 && axis.place(1e9) == 1.0);
        let axis = Axis::nines("", 1000);
        assert!((axis.place(0.9) - 1.0 / 3.0).abs() < 1e-9 && axis.place(1.0) == 1.0);
    }

    #[test]
    fn numbers_for_people() {
        let texts = [0.0, 0.00001, 0.1234, 1.0, 12.345, 123.4, 1234567.0, -1500.0, f64::NAN].map(number);
        assert_eq!(texts, ["0", "1e-5", "0.123", "1", "12.3", "123", "1,234,567", "-1,500", "–"]);
    }
}
