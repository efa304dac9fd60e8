//! Which text format a scrape gets.

use inrush_metrics::Format;

/// The format that `accept` prefers (RFC 9110 §12.5.1); OpenMetrics when it does not care.
pub(crate) fn format(accept: &str) -> Format {
    let open = quality(accept, "application/openmetrics-text", "application/*");
    let classic = quality(accept, "text/plain", "text/*");
    if classic > open { Format::Classic } else { Format::OpenMetrics }
}

/// The weight of a media type in thousandths; the most specific range counts.
fn quality(accept: &str, media: &str, family: &str) -> u32 {
    let weight = |wanted: &str| {
        let ranges = accept.split(',').filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            parts.next()?.eq_ignore_ascii_case(wanted).then(|| {
                let quality =
                    parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
                quality.map_or(1_000, thousandths)
            })
        });
        ranges.max()
    };
    weight(media).or_else(|| weight(family)).or_else(|| weight("*/*")).unwrap_or(0)
}

/// RFC 9110 §12.4.2: 0 to 1 with at most three digits; anything else counts as 0.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=1000 before")]
fn thousandths(quality: &str) -> u32 {
    (quality.parse::<f32>().unwrap_or(0.0).clamp(0.0, 1.0) * 1_000.0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preferred_format_wins() {
        for (accept, expected) in [
            ("", Format::OpenMetrics),
            ("*/*", Format::OpenMetrics),
            ("text/plain", Format::Classic),
            ("text/*", Format::Classic),
            ("text/plain;version=0.0.4", Format::Classic),
            ("text/html, */*;q=0.1", Format::OpenMetrics),
            (
                "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Format::OpenMetrics,
            ),
            ("application/openmetrics-text;q=0.3, text/plain;q=0.4", Format::Classic),
            ("application/openmetrics-text;q=0, */*", Format::Classic),
            ("text/plain;q=nonsense", Format::OpenMetrics),
            ("APPLICATION/OpenMetrics-Text, text/plain;q=0.9", Format::OpenMetrics),
        ] {
            assert_eq!(format(accept), expected, "{accept}");
        }
    }
}
