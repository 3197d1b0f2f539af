//! What an experiment hands on: tables for CSV, JSON and the page, and figures.

use super::statistics::{Estimate, Interval};
use serde::Serialize;

/// One method under one condition. Values are accuracies of the requantized network in percent, and differences are
/// in points, unless the table's name says otherwise.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Which table.
    pub table: String,
    /// The method.
    pub method: String,
    /// Flipped labels in percent.
    pub noise: u32,
    /// What the experiment varies beside; empty if nothing.
    pub variable: String,
    /// The value, usually an accuracy.
    pub value: Estimate,
    /// Paired difference to the baseline of the table.
    pub difference: Option<Estimate>,
    /// What the difference is to.
    pub baseline: String,
    /// The hyperparameters that all wearers together choose; each wearer's own were chosen without it.
    pub setting: String,
    /// Multiply-adds of the tuning steps, mean.
    pub macs: Option<f64>,
    /// Mean sharpness on the adaptation windows.
    pub sharpness: Option<f64>,
    /// f32 accuracy, mean.
    pub accuracy_f32: Option<f64>,
}

/// The header of [`Row::csv`].
pub const CSV_HEADER: &str = "table,method,noise_percent,variable,value,value_low,value_high,accuracy_f32,\
    baseline,difference,wearers_low,wearers_high,draws_low,draws_high,simultaneous_low,simultaneous_high,macs,\
    sharpness,setting";

impl Row {
    /// One record.
    pub fn csv(&self) -> Vec<String> {
        let number = |value: f64| format!("{value:.4}");
        let optional = |value: Option<f64>| value.map_or(String::new(), number);
        let ends = |interval: Option<Interval>| {
            [interval.map(|i| i.low), interval.map(|i| i.high)].map(|end| end.map_or(String::new(), number))
        };
        let mut fields = vec![
            self.table.clone(),
            self.method.clone(),
            self.noise.to_string(),
            self.variable.clone(),
            number(self.value.wearers.mean),
            number(self.value.wearers.low),
            number(self.value.wearers.high),
            optional(self.accuracy_f32),
            self.baseline.clone(),
            self.difference.map_or(String::new(), |d| number(d.wearers.mean)),
        ];
        let difference = self.difference.as_ref();
        fields.extend(ends(difference.map(|d| d.wearers)));
        fields.extend(ends(difference.map(|d| d.draws)));
        fields.extend(ends(difference.map(|d| d.simultaneous)));
        fields.extend([
            self.macs.map_or(String::new(), |macs| format!("{macs:.0}")),
            self.sharpness.map_or(String::new(), |sharpness| format!("{sharpness:.6}")),
            self.setting.clone(),
        ]);
        fields
    }
}

/// A figure as a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// File name without `.svg`.
    pub name: String,
    /// The SVG.
    pub svg: String,
}

/// Everything of one experiment.
#[derive(Debug, Clone, PartialEq)]
pub struct Findings {
    /// The experiment's name.
    pub name: &'static str,
    /// Its rows.
    pub rows: Vec<Row>,
    /// Its section of the page, in Markdown, figures linked as `evidence/NAME.svg`.
    pub section: String,
    /// Its figures.
    pub figures: Vec<Figure>,
}

impl Findings {
    /// All rows of a table.
    pub fn table<'a>(&'a self, table: &'a str) -> impl Iterator<Item = &'a Row> {
        self.rows.iter().filter(move |row| row.table == table)
    }

    /// The row of a method at a share of flipped labels.
    pub fn row(&self, table: &str, method: &str, noise: u32) -> Option<&Row> {
        self.rows.iter().find(|row| row.table == table && row.method == method && row.noise == noise)
    }
}

/// How far an experiment has come.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// So many runs are for other shards to do.
    Missing(usize),
    /// Complete.
    Done(Findings),
}

/// `+1.3 [0.4, 2.1]`, with a star where all comparisons of the table together leave no zero inside.
pub fn difference(estimate: &Estimate) -> String {
    let Interval { mean, low, high } = estimate.wearers;
    let star = if estimate.simultaneous.excludes_zero() { "*" } else { "" };
    format!("{mean:+.2} [{low:+.2}, {high:+.2}]{star}")
}

/// A Markdown table.
pub fn markdown(header: &[String], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let rule: Vec<String> = header.iter().map(|_| "---".to_owned()).collect();
    let body: String = rows.iter().map(|row| line(row)).collect();
    format!("{}{}{body}\n", line(header), line(&rule))
}

/// A table with a line for every method and variable, a column for every share of flipped labels.
pub fn table_by_noise(findings: &Findings, table: &str) -> String {
    let mut noises: Vec<u32> = findings.table(table).map(|row| row.noise).collect();
    noises.sort_unstable();
    noises.dedup();
    let mut header = vec!["method".to_owned(), String::new()];
    header.extend(noises.iter().map(|noise| format!("{noise} % flipped")));
    let mut lines: Vec<(String, String, Vec<String>)> = Vec::new();
    for row in findings.table(table) {
        let own = format!("{:.2}", row.value.wearers.mean);
        let cell = row.difference.as_ref().map_or(own.clone(), |d| format!("{own}: {}", difference(d)));
        match lines
            .iter_mut()
            .find(|(method, variable, _)| *method == row.method && *variable == row.variable)
        {
            Some((_, _, cells)) => cells.push(cell),
            None => lines.push((row.method.clone(), row.variable.clone(), vec![cell])),
        }
    }
    let rows: Vec<Vec<String>> =
        lines.into_iter().map(|(method, variable, cells)| [vec![method, variable], cells].concat()).collect();
    markdown(&header, &rows)
}
