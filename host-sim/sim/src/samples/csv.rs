//! Samples as rows of text.

use std::fs;
use std::path::Path;

use super::{Problem, error, sample_size};

/// Values of all samples, and their labels.
pub(super) fn read(
    path: &Path,
    sample_shape: &[usize],
    classes: usize,
) -> Result<(Vec<f32>, Vec<usize>), Problem> {
    let bytes = fs::read(path)?;
    let mut reader = ::csv::ReaderBuilder::new()
        .has_headers(false)
        // Lengths are checked below, where the message can say what a row is.
        .flexible(true)
        .trim(::csv::Trim::All)
        .from_reader(&bytes[..]);
    let expected = sample_size(sample_shape).saturating_add(1);
    let (mut values, mut labels) = (Vec::new(), Vec::new());
    let mut row = ::csv::StringRecord::new();
    let mut first = true;
    while reader.read_record(&mut row)? {
        let line = || line(&bytes, &row);
        if row.len() != expected {
            return Err(Problem::Columns { line: line(), expected, found: row.len() });
        }
        let label = row.get(0).unwrap_or_default();
        let header = std::mem::take(&mut first) && label.parse::<f64>().is_err();
        if header {
            continue;
        }
        labels.push(class(label, classes).ok_or_else(|| Problem::Label {
            at: format!("line {}", line()),
            label: error::excerpt(label),
            classes,
        })?);
        for (position, text) in row.iter().skip(1).enumerate() {
            let value: f32 = text.parse().map_err(|_| Problem::Number {
                line: line(),
                position,
                found: error::excerpt(text),
            })?;
            if !value.is_finite() {
                return Err(Problem::NotFinite {
                    at: format!("line {}", line()),
                    position,
                    value: error::excerpt(text),
                });
            }
            values.push(value);
        }
    }
    if labels.is_empty() {
        return Err(Problem::Empty);
    }
    Ok((values, labels))
}

/// A class index. Tools that know one type for a whole table write it as `3.0` or `3e+00`.
fn class(text: &str, classes: usize) -> Option<usize> {
    let label: f64 = text.parse().ok()?;
    let valid = label.fract() == 0.0 && label >= 0.0 && label < classes as f64;
    valid.then_some(label as usize)
}

/// The line that a row is on. The parser's own count is where it began to look for the row, before
/// any empty lines.
fn line(bytes: &[u8], row: &::csv::StringRecord) -> usize {
    let start = row.position().map_or(0, |position| position.byte() as usize);
    let (before, after) = bytes.split_at(start.min(bytes.len()));
    let skipped = after.iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
    1 + before.iter().chain(skipped).filter(|&&byte| byte == b'\n').count()
}
