//! Sizes, counts and times, as arguments give them.

/// A size such as `65536`, `96k`, `96KiB`, `0.1M` or `100kB`: K and M are KiB and MiB, as of memories, unless a B alone
/// follows.
pub fn parse_bytes(text: &str) -> Result<usize, String> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => Some(1.0),
        "k" | "ki" | "kib" => Some(1024.0),
        "m" | "mi" | "mib" => Some(1024.0 * 1024.0),
        "kb" => Some(1e3),
        "mb" => Some(1e6),
        _ => None,
    };
    let number = number.trim().parse::<f64>().ok().filter(|number| (0.0..=1e12).contains(number));
    let bytes = number.zip(factor).map(|(number, factor)| (number * factor).round() as usize);
    bytes
        .filter(|&bytes| bytes > 0)
        .ok_or_else(|| "must be a number of bytes, such as 65536 or 64K, 96KiB or 0.1M".into())
}

/// A count such as `2000000`, `2M` or `0.5M`, in powers of ten.
pub fn parse_count(text: &str) -> Result<u64, String> {
    let (number, factor) = match text.strip_suffix(['k', 'K']) {
        Some(number) => (number, 1e3),
        None => text.strip_suffix('M').map_or((text, 1.0), |number| (number, 1e6)),
    };
    let number = number.parse::<f64>().ok().filter(|number| (0.0..=1e15).contains(number));
    let count = number.map(|number| (number * factor).round() as u64);
    count.ok_or_else(|| "must be a count, such as 2000000, 2M or 500k".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_counts_with_units() {
        for (text, bytes) in
            [("65536", 65_536), ("96k", 98_304), ("96KiB", 98_304), ("0.1M", 104_858), ("100kB", 100_000)]
        {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["64X", "", "k", "-1K", "0", "1e99M", "NaN"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
        assert_eq!(
            ["2000000", "2M", "500k"].map(|text| parse_count(text).unwrap()),
            [2_000_000, 2_000_000, 500_000]
        );
        assert!(["", "M", "2X", "-1"].iter().all(|text| parse_count(text).is_err()));
    }
}
