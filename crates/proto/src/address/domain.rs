//! Domain names in the one form in which they can be compared.

use std::fmt::Write as _;

/// Writes `domain` in lower case with every U-label as its A-label (RFC 5890 §2.3.2.1) at the end of `out`. Address
/// literals come out in lower case.
///
/// A U-label is by definition already mapped and normalised (RFC 5890 §2.3.2.1), so nothing but its encoding is left to
/// do; a label that is none only fails to match anything.
pub fn normalise_domain(domain: &str, out: &mut String) {
    for (index, label) in domain.split('.').enumerate() {
        if index > 0 {
            out.push('.');
        }
        if label.is_ascii() {
            out.extend(label.chars().map(|c| c.to_ascii_lowercase()));
        } else {
            let _ = out.write_str("xn--");
            punycode(label, out);
        }
    }
}

/// True when both names mean the same domain: without regard to case (RFC 5321 §2.4), U-label or A-label.
pub fn domain_eq(a: &str, b: &str) -> bool {
    if a.is_ascii() && b.is_ascii() {
        return a.eq_ignore_ascii_case(b);
    }
    let (mut left, mut right) = (String::new(), String::new());
    normalise_domain(a, &mut left);
    normalise_domain(b, &mut right);
    left == right
}

// RFC 3492 §5: the parameters of Punycode.
const BASE: u32 = 36;
const T_MIN: u32 = 1;
const T_MAX: u32 = 26;
const SKEW: u32 = 38;
const DAMP: u32 = 700;
const INITIAL_BIAS: u32 = 72;
const INITIAL_N: u32 = 0x80;

// RFC 3492 §6.3. A label has at most 63 octets, so that no sum below comes near the bounds of u32.
fn punycode(label: &str, out: &mut String) {
    let basic = label.chars().filter(char::is_ascii).count();
    out.extend(label.chars().filter(char::is_ascii).map(|c| c.to_ascii_lowercase()));
    if basic > 0 {
        out.push('-');
    }
    let total = label.chars().count();
    let mut handled = basic;
    let (mut n, mut delta, mut bias) = (INITIAL_N, 0u32, INITIAL_BIAS);
    while handled < total {
        let Some(next) = label.chars().map(u32::from).filter(|&c| c >= n).min() else { return };
        let step = u32::try_from(handled + 1).unwrap_or(u32::MAX);
        delta = delta.saturating_add((next - n).saturating_mul(step));
        n = next;
        for c in label.chars().map(u32::from) {
            if c < n {
                delta = delta.saturating_add(1);
            }
            if c == n {
                write_number(delta, bias, out);
                bias = adapt(delta, u32::try_from(handled + 1).unwrap_or(u32::MAX), handled == basic);
                delta = 0;
                handled += 1;
            }
        }
        delta = delta.saturating_add(1);
        n += 1;
    }
}

fn write_number(mut value: u32, bias: u32, out: &mut String) {
    let mut k = BASE;
    loop {
        let threshold = k.saturating_sub(bias).clamp(T_MIN, T_MAX);
        if value < threshold {
            out.push(digit(value));
            return;
        }
        out.push(digit(threshold + (value - threshold) % (BASE - threshold)));
        value = (value - threshold) / (BASE - threshold);
        k += BASE;
    }
}

fn digit(value: u32) -> char {
    char::from_digit(if value < 26 { value + 10 } else { value - 26 }, BASE).unwrap_or('0')
}

fn adapt(delta: u32, points: u32, first: bool) -> u32 {
    let mut delta = if first { delta / DAMP } else { delta / 2 };
    delta += delta / points;
    let mut k = 0;
    while delta > ((BASE - T_MIN) * T_MAX) / 2 {
        delta /= BASE - T_MIN;
        k += BASE;
    }
    k + (BASE - T_MIN + 1) * delta / (delta + SKEW)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(domain: &str) -> String {
        let mut out = String::new();
        normalise_domain(domain, &mut out);
        out
    }

    #[test]
    fn names_in_one_form() {
        for (domain, expected) in [
            ("Example.COM", "example.com"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("München.De", "xn--mnchen-3ya.de"),
            ("例え.テスト", "xn--r8jz45g.xn--zckzah"),
            ("faß.de", "xn--fa-hia.de"),
            // RFC 3492 §7.1 (B) and (S)
            ("他们为什么不说中文", "xn--ihqwcrb4cv8a8dqg056pqjye"),
            ("そのスピードで", "xn--d9juau41awczczp"),
            ("[IPv6:2001:DB8::1]", "[ipv6:2001:db8::1]"),
        ] {
            assert_eq!(normal(domain), expected);
        }
    }

    #[test]
    fn comparison() {
        assert!(domain_eq("Example.com", "eXample.COM"));
        assert!(domain_eq("bücher.example", "XN--BCHER-KVA.example"));
        assert!(!domain_eq("bücher.example", "bucher.example"));
        assert!(!domain_eq("example.com", "example.com.org"));
    }
}
