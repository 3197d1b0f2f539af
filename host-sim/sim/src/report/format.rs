//! One way to write each kind of number, in the table and on the page.

use std::fmt;

use super::{Estimate, MethodSummary};

/// What stands for a value that is not there or not finite.
pub(super) const NOTHING: &str = "\u{2013}";

/// `93.4 %`.
pub(super) fn percent(fraction: f64) -> String {
    if fraction.is_finite() { format!("{:.1} %", 100.0 * fraction) } else { NOTHING.to_owned() }
}

/// `93.4 ± 0.6 %`, or `93.4 %` of a single subject.
pub(super) fn percent_estimate(estimate: &Estimate) -> String {
    match estimate.standard_error {
        _ if estimate.count == 0 => NOTHING.to_owned(),
        Some(error) if estimate.mean.is_finite() => {
            format!("{:.1} ± {:.1} %", 100.0 * estimate.mean, 100.0 * error)
        }
        _ => percent(estimate.mean),
    }
}

/// `+1.2 ± 0.4`, in percentage points.
pub(super) fn points_estimate(estimate: &Estimate) -> String {
    let points = points(estimate.mean);
    match estimate.standard_error {
        Some(error) if estimate.mean.is_finite() => format!("{points} ± {:.1}", 100.0 * error),
        _ => points,
    }
}

/// `+1.2`, in percentage points; a difference that rounds to nothing has no sign.
pub(super) fn points(difference: f64) -> String {
    let tenths = (1000.0 * difference).round();
    if !tenths.is_finite() {
        NOTHING.to_owned()
    } else if tenths == 0.0 {
        "0.0".to_owned()
    } else {
        format!("{:+.1}", tenths / 10.0)
    }
}

/// Three significant digits without an exponent: `0.312`, `12.3`, `0.00123`.
pub(super) fn significant(value: f64) -> String {
    if !value.is_finite() {
        return NOTHING.to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    // The exponent after rounding: 0.9996 has the one of 1.00.
    let rounded = format!("{value:.2e}");
    let exponent: i32 = rounded.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
    let decimals = usize::try_from(2 - exponent).unwrap_or(0).min(9);
    format!("{value:.decimals$}")
}

/// A count with its SI prefix: `512`, `12.3 k`, `4.56 M`.
pub(super) fn si(count: u64) -> String {
    const PREFIXES: [(&str, f64); 4] = [("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)];
    let value = count as f64;
    for (prefix, unit) in PREFIXES {
        // 999.5 k would be written as 1000 k: it belongs to the next prefix.
        if value >= 0.9995 * unit && count >= 1000 {
            return format!("{} {prefix}", significant(value / unit));
        }
    }
    count.to_string()
}

/// `12 345`, with narrow no-break spaces.
pub(super) fn grouped(count: usize) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(2 * digits.len());
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202F}');
        }
        text.push(digit);
    }
    text
}

/// `0x0123abcd`.
pub(super) fn crc(crc32: u32) -> String {
    format!("0x{crc32:08x}")
}

/// A method as people write it: `SGD`, `SAM`, `ASAM`; any other name as it is.
pub(super) fn method_name(method: &str) -> String {
    match method {
        "sgd" | "sam" | "asam" => method.to_uppercase(),
        other => other.to_owned(),
    }
}

/// The method with its radius, if it has one: `ASAM, ρ 0.3 nats`.
pub(super) fn method_label(summary: &MethodSummary) -> String {
    let name = method_name(&summary.method);
    match summary.rho {
        Some(rho) if rho > 0.0 => {
            let unit = summary.rho_unit.map(|unit| format!(" {unit}")).unwrap_or_default();
            format!("{name}, ρ {rho}{unit}")
        }
        _ => name,
    }
}

/// The text, or its start and end if it is longer than `limit` characters.
pub(super) fn shortened(text: &str, limit: usize) -> String {
    let length = text.chars().count();
    if length <= limit {
        return text.to_owned();
    }
    let head = limit.saturating_sub(1) * 3 / 5;
    let tail = limit.saturating_sub(1) - head;
    let start: String = text.chars().take(head).collect();
    let end: String = text.chars().skip(length - tail).collect();
    format!("{start}…{end}")
}

/// Text that may stand anywhere in HTML, between tags or in a quoted attribute.
pub(super) struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
            f.write_str(&rest[..at])?;
            f.write_str(match rest.as_bytes()[at] {
                b'&' => "&amp;",
                b'<' => "&lt;",
                b'>' => "&gt;",
                b'"' => "&quot;",
                _ => "&#39;",
            })?;
            rest = &rest[at + 1..];
        }
        f.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_one_way() {
        for (count, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1.00 k"),
            (12_345, "12.3 k"),
            (999_499, "999 k"),
            (999_600, "1.00 M"),
            (12_300_000, "12.3 M"),
            (4_560_000_000, "4.56 G"),
        ] {
            assert_eq!(si(count), text);
        }
        for (value, text) in [
            (0.0, "0"),
            (0.31234, "0.312"),
            (0.001234, "0.00123"),
            (0.9996, "1.00"),
            (12.345, "12.3"),
            (1234.5, "1234"),
            (f64::NAN, NOTHING),
        ] {
            assert_eq!(significant(value), text);
        }
        assert_eq!(points(0.0123), "+1.2");
        assert_eq!(points(-0.0004), "0.0");
        assert_eq!(points(-0.02), "-2.0");
        assert_eq!(percent(f64::INFINITY), NOTHING);
        assert_eq!(grouped(1_234_567), "1\u{202F}234\u{202F}567");
        assert_eq!(grouped(12), "12");
        assert_eq!(crc(0xABC), "0x00000abc");
    }

    #[test]
    fn estimates_carry_their_error_only_if_there_is_one() {
        let mut estimate = Estimate { mean: 0.934, standard_error: Some(0.0061), count: 3 };
        assert_eq!(percent_estimate(&estimate), "93.4 ± 0.6 %");
        assert_eq!(points_estimate(&estimate), "+93.4 ± 0.6");
        estimate.standard_error = None;
        assert_eq!(percent_estimate(&estimate), "93.4 %");
        estimate.mean = f64::NAN;
        assert_eq!(percent_estimate(&estimate), NOTHING);
        estimate = Estimate { mean: 0.0, standard_error: None, count: 0 };
        assert_eq!(percent_estimate(&estimate), NOTHING);
    }

    #[test]
    fn markup_is_escaped_and_other_text_is_not() {
        let text = r#"<b a="1" c='2'>å & b</b>"#;
        let escaped = "&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;å &amp; b&lt;/b&gt;";
        assert_eq!(Escaped(text).to_string(), escaped);
        assert_eq!(Escaped("plain ±").to_string(), "plain ±");
    }

    #[test]
    fn long_names_keep_both_ends() {
        assert_eq!(shortened("wearer 1", 8), "wearer 1");
        assert_eq!(shortened("recording-2024.csv", 11), "record….csv");
    }
}
