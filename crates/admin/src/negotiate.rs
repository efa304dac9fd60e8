//! Which format a scrape gets.

use inrush_metrics::Format;

/// What a client has to name, with its parameters, to get protobuf: there are others that we do not speak.
const PROTOBUF: &str = "application/vnd.google.protobuf";
const PROTOBUF_PARAMETERS: [(&str, &str); 2] =
    [("proto", "io.prometheus.client.MetricFamily"), ("encoding", "delimited")];

/// The format that `accept` prefers (RFC 9110 §12.5.1); OpenMetrics when it does not care. Protobuf is for those who name it: nobody can read it.
pub(crate) fn format(accept: &str) -> Format {
    let ranges: Vec<Range<'_>> = accept.split(',').map(Range::parse).collect();
    let open = quality(&ranges, "application/openmetrics-text", "application/*");
    let classic = quality(&ranges, "text/plain", "text/*");
    let protobuf = ranges.iter().filter(|range| range.is_protobuf()).map(|range| range.quality).max();
    match protobuf {
        Some(protobuf) if protobuf > 0 && protobuf >= open.max(classic) => Format::Protobuf,
        _ if classic > open => Format::Classic,
        _ => Format::OpenMetrics,
    }
}

/// One media range with its weight.
struct Range<'a> {
    media: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    /// In thousandths.
    quality: u32,
}

impl<'a> Range<'a> {
    fn parse(range: &'a str) -> Self {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let parameters: Vec<_> = parts.filter_map(|part| part.split_once('=')).collect();
        let quality = parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case("q"));
        Self { media, quality: quality.map_or(1_000, |(_, quality)| thousandths(quality)), parameters }
    }

    fn is_protobuf(&self) -> bool {
        let has = |name: &str, value: &str| {
            let unquoted = |given: &str| given.trim_matches('"') == value;
            self.parameters.iter().any(|(given, of)| given.eq_ignore_ascii_case(name) && unquoted(of))
        };
        self.media.eq_ignore_ascii_case(PROTOBUF)
            && PROTOBUF_PARAMETERS.iter().all(|(name, value)| has(name, value))
    }
}

/// The weight of a media type in thousandths; the most specific range counts.
fn quality(ranges: &[Range<'_>], media: &str, family: &str) -> u32 {
    let weight = |wanted: &str| {
        let named = ranges.iter().filter(|range| range.media.eq_ignore_ascii_case(wanted));
        named.map(|range| range.quality).max()
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

    /// What Prometheus 2.42 sends with `--enable-feature=native-histograms`.
    const PROMETHEUS_2_42: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    /// What Prometheus 3 sends with native histograms.
    const PROMETHEUS_3: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";

    #[test]
    fn the_preferred_format_wins() {
        for (accept, expected) in [
            ("", Format::OpenMetrics),
            ("*/*", Format::OpenMetrics),
            ("application/*", Format::OpenMetrics),
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
            (PROMETHEUS_2_42, Format::Protobuf),
            (PROMETHEUS_3, Format::Protobuf),
            (
                "application/vnd.google.protobuf; encoding=\"delimited\"; proto=\"io.prometheus.client.MetricFamily\"",
                Format::Protobuf,
            ),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.4,text/plain;q=0.5",
                Format::Classic,
            ),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0",
                Format::OpenMetrics,
            ),
            // Other messages, other framing.
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text,text/plain;q=0.1",
                Format::Classic,
            ),
            ("application/vnd.google.protobuf;proto=other;encoding=delimited", Format::OpenMetrics),
            ("application/vnd.google.protobuf", Format::OpenMetrics),
        ] {
            assert_eq!(format(accept), expected, "{accept}");
        }
    }
}
