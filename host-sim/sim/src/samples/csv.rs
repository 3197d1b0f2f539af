//! Samples as rows of text.

use std::fs;
use std::path::Path;

use super::{Labels, Problem, Read, Table, error, sample_size};

/// What may stand between columns, the likeliest first.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// How a table is written.
struct Form {
    delimiter: u8,
    decimal_comma: bool,
}

impl Form {
    /// That of the first row with values: the delimiter that cuts it into most cells. A comma beside another delimiter
    /// is a decimal one.
    fn of(bytes: &[u8], given: Option<u8>) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let rows = text.lines().map(str::trim).filter(|row| !row.is_empty() && !row.starts_with('#'));
        // A heading may be quoted or miss; the row after it, if there is one, has the numbers.
        let sample = rows.clone().take(2).last().unwrap_or_default();
        let cells = |delimiter: u8| sample.bytes().filter(|&byte| byte == delimiter).count();
        let comma = rows.clone().any(|row| row.contains(','));
        let delimiter = given.unwrap_or_else(|| {
            let others = DELIMITERS[1..].iter().copied().filter(|&d| cells(d) > 0);
            // Where both stand in a row the comma is a decimal one: `0;1,5;2,5`.
            others.max_by_key(|&d| cells(d)).unwrap_or(b',')
        });
        Self { delimiter, decimal_comma: delimiter != b',' && comma }
    }

    fn number(&self, text: &str) -> Option<f64> {
        match self.decimal_comma {
            true => text.replacen(',', ".", 1).parse().ok(),
            false => text.parse().ok(),
        }
    }

    fn describe(&self) -> String {
        let name = match self.delimiter {
            b'\t' => "tab".to_owned(),
            other => format!("`{}`", char::from(other)),
        };
        let comma = if self.decimal_comma { ", decimal commas" } else { "" };
        format!("columns separated by {name}{comma}")
    }
}

/// Which columns are what.
struct Columns {
    skipped: Vec<usize>,
    group: Option<usize>,
    /// Those before the values.
    labels: Vec<usize>,
    values: Vec<usize>,
}

/// The column that `text` names: by its heading, or by its number from 1.
fn column(text: &str, header: Option<&::csv::StringRecord>) -> Option<usize> {
    let named = header.and_then(|header| header.iter().position(|cell| cell.eq_ignore_ascii_case(text)));
    named.or_else(|| text.parse::<usize>().ok().and_then(|number| number.checked_sub(1)))
}

impl Columns {
    fn new(
        width: usize,
        header: Option<&::csv::StringRecord>,
        table: &Table,
        labels: usize,
    ) -> Result<Self, Problem> {
        let find = |text: &String| {
            column(text, header).filter(|&column| column < width).ok_or_else(|| Problem::NoColumn {
                name: error::excerpt(text),
                found: match header {
                    Some(header) => header.iter().take(8).map(error::excerpt).collect::<Vec<_>>().join(", "),
                    None => format!("1 to {width}, without headings"),
                },
            })
        };
        let skipped = table.skipped_columns.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        let group = table.group_column.as_ref().map(find).transpose()?;
        let label = table.label_column.as_ref().map(find).transpose()?;
        let free = |&column: &usize| !skipped.contains(&column) && group != Some(column);
        let mut rest: Vec<usize> = (0..width).filter(free).collect();
        if let Some(label) = label {
            // The label goes first, wherever it stands.
            rest.sort_by_key(|&column| column != label);
        }
        let values = rest.split_off(labels.min(rest.len()));
        Ok(Self { skipped, group, labels: rest, values })
    }
}

/// All samples of a table.
pub(super) fn read(
    path: &Path,
    sample_shape: &[usize],
    labels: &Labels,
    table: &Table,
) -> Result<Read, Problem> {
    let bytes = fs::read(path)?;
    let form = Form::of(&bytes, table.delimiter);
    let mut reader = ::csv::ReaderBuilder::new()
        .has_headers(false)
        .delimiter(form.delimiter)
        .comment(Some(b'#'))
        // Lengths are checked below, where the message can say what a row is.
        .flexible(true)
        .trim(::csv::Trim::All)
        .from_reader(&bytes[..]);
    let leading = match labels {
        Labels::None => 0,
        Labels::Classes { .. } => 1,
        Labels::Numbers { width } => *width,
    };
    let values = sample_size(sample_shape);
    let mut rows = Vec::new();
    let mut row = ::csv::StringRecord::new();
    while reader.read_record(&mut row)? {
        rows.push((line(&bytes, &row), row.clone()));
    }
    let header = match rows.first() {
        Some((_, first)) if is_header(first, rows.get(1).map(|(_, row)| row), &form) => {
            Some(rows.remove(0).1)
        }
        _ => None,
    };
    let mut read = Read::default();
    let Some((_, first)) = rows.first() else { return Err(Problem::Empty) };
    let columns = Columns::new(first.len(), header.as_ref(), table, leading)?;
    let named = header.as_ref().and_then(|header| header.get(*columns.labels.first()?));
    let classes = match labels {
        Labels::Classes { count, names, .. } => Some((*count, class_names(names, named, *count)?)),
        _ => None,
    };
    read.notes = Some(note(&form, header.as_ref(), &columns));
    let expected =
        values.saturating_add(leading) + columns.skipped.len() + usize::from(columns.group.is_some());
    for (line, row) in &rows {
        let line = *line;
        if row.len() != expected {
            return Err(Problem::Columns {
                line,
                expected,
                found: row.len(),
                separated: form.describe(),
                label: leading > 0,
                time: header.as_ref().and_then(time_column),
            });
        }
        let at = || format!("line {line}");
        let cell = |&column: &usize| row.get(column).unwrap_or_default();
        let finite = |position: usize, text: &str| -> Result<f32, Problem> {
            let value = form.number(text).ok_or_else(|| Problem::Number {
                line,
                position,
                found: error::excerpt(text),
            })? as f32;
            let found = || Problem::NotFinite { at: at(), position, value: error::excerpt(text) };
            if value.is_finite() { Ok(value) } else { Err(found()) }
        };
        if let Some((count, names)) = &classes {
            let text = columns.labels.first().map(cell).unwrap_or_default();
            let class = class(text, &form, *count, names);
            let first = table.label_column.is_none();
            read.labels.push(
                class.ok_or_else(|| unknown(at(), text, (*count, names), &form, &rows, &columns, first))?,
            );
        } else {
            for (position, column) in columns.labels.iter().enumerate() {
                read.targets.push(finite(position, cell(column))?);
            }
        }
        for (position, column) in columns.values.iter().enumerate() {
            read.values.push(finite(position, cell(column))?);
        }
        if let Some(group) = &columns.group {
            read.groups.push(cell(group).to_owned());
        }
    }
    read.classes = classes.map(|(_, names)| names).unwrap_or_default();
    read.count = rows.len();
    Ok(read)
}

/// Whether a first row has headings: it is not numbers where the row after it is.
fn is_header(first: &::csv::StringRecord, second: Option<&::csv::StringRecord>, form: &Form) -> bool {
    let numbers = |row: &::csv::StringRecord| row.iter().filter(|cell| form.number(cell).is_some()).count();
    let labelled = |row: &::csv::StringRecord| row.get(0).is_some_and(|cell| form.number(cell).is_some());
    match second {
        // Names of classes stand beside numbers, headings beside headings or, as pandas counts columns, 0, 1, 2.
        Some(second) => {
            let counts = |(place, cell): (usize, &str)| cell.parse() == Ok(place);
            let counted = first.len() > 3 && first.iter().skip(1).enumerate().all(counts);
            !labelled(first) && (labelled(second) || numbers(first) < numbers(second) || counted)
                || numbers(first) == 0 && numbers(second) > 0
        }
        None => first.len() > 1 && numbers(first) == 0,
    }
}

/// Names of the classes: those given, or those in the heading of the labels (`label:walk|run|sit`).
fn class_names(given: &[String], heading: Option<&str>, count: usize) -> Result<Vec<String>, Problem> {
    if !given.is_empty() {
        return Ok(given.to_vec());
    }
    let Some((_, names)) = heading.and_then(|heading| heading.split_once(':')) else { return Ok(Vec::new()) };
    let names: Vec<String> = names.split('|').map(|name| name.trim().to_owned()).collect();
    match names.len() == count {
        true => Ok(names),
        false => Err(Problem::Names { expected: count, found: names.len() }),
    }
}

/// A class: by its name, or its index. Tools that know one type for a whole table write it as `3.0` or `3e+00`.
fn class(text: &str, form: &Form, classes: usize, names: &[String]) -> Option<usize> {
    if let Some(class) = names.iter().position(|name| name == text) {
        return Some(class);
    }
    let label = form.number(text)?;
    let valid = label.fract() == 0.0 && label >= 0.0 && label < classes as f64;
    valid.then_some(label as usize)
}

/// A label that is no class: where it is a name, the names of the file are told. `first`: the label's column is the first that is
/// left, for want of another name.
fn unknown(
    at: String,
    text: &str,
    (classes, names): (usize, &[String]),
    form: &Form,
    rows: &[(usize, ::csv::StringRecord)],
    columns: &Columns,
    first: bool,
) -> Problem {
    let label = error::excerpt(text);
    let column = columns.labels.first().copied().unwrap_or(0);
    let cells = || rows.iter().filter_map(|(_, row)| row.get(column));
    if let Some(number) = form.number(text) {
        let from_one =
            |cell| form.number(cell).is_some_and(|n| n >= 1.0 && n <= classes as f64 && n.fract() == 0.0);
        let hint = match cells().all(from_one) {
            true => error::COUNT_FROM_ZERO,
            false if first && number.fract() != 0.0 => {
                "; it is looked for in the first column: name another with --label-column"
            }
            false => "",
        };
        return Problem::Label { at, label, classes, hint };
    }
    if !names.is_empty() {
        return Problem::UnknownName { at, label, names: names.join(", ") };
    }
    Problem::Named { at, label, classes, found: error::names(cells()) }
}

/// A heading that speaks of time.
fn time_column(header: &::csv::StringRecord) -> Option<String> {
    let names = ["time", "timestamp", "t", "date", "datetime", "index", "seconds", "ms"];
    let is_time = |cell: &&str| names.contains(&cell.to_ascii_lowercase().as_str());
    header.iter().find(is_time).map(error::excerpt)
}

/// What was found, for a line to the user; comma-separated values without more are no news.
fn note(form: &Form, header: Option<&::csv::StringRecord>, columns: &Columns) -> String {
    let name = |column: usize| match header.and_then(|header| header.get(column)) {
        Some(name) if !name.is_empty() => format!("`{}`", error::excerpt(name)),
        _ => format!("{}", column + 1),
    };
    let mut text = form.describe();
    if header.is_some() {
        text += ", with headings";
    }
    for &column in &columns.skipped {
        text += &format!(", column {} left out", name(column));
    }
    if let Some(group) = columns.group {
        text += &format!(", groups by column {}", name(group));
    }
    text
}

/// The line that a row is on. The parser's own count is where it began to look for the row, before any empty lines and
/// comments.
fn line(bytes: &[u8], row: &::csv::StringRecord) -> usize {
    let start = row.position().map_or(0, |position| position.byte() as usize);
    let (before, mut after) = bytes.split_at(start.min(bytes.len()));
    let mut line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
    loop {
        match after {
            [b'\n', rest @ ..] => (line, after) = (line + 1, rest),
            [b'\r', rest @ ..] => after = rest,
            [b'#', ..] => {
                let end = after.iter().position(|&byte| byte == b'\n').unwrap_or(after.len());
                after = &after[end..];
            }
            _ => return line,
        }
    }
}
