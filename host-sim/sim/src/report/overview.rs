//! One screen for all: methods, layers and shares of flipped labels, over the same subjects.

use super::format::{NOTHING, grouped, method_name, points_estimate};
use super::summary::BASELINE;
use super::{Estimate, MethodSummary, Report};
use anyhow::Context;
use flatmin_model::table::Table;
use std::path::Path;

/// A report on so many layers, with this share of the labels flipped.
#[derive(Debug)]
pub struct Part {
    /// Layers with weights that are trained, from the end.
    pub layers: usize,
    /// Whether those are all that the network has.
    pub all: bool,
    /// Whether gradient steps begin with the head in closed form.
    pub closed_form: bool,
    /// Whether training is in integers.
    pub integer: bool,
    /// Share of the labels that are flipped.
    pub label_noise: f64,
    /// Its runs.
    pub report: Report,
}

/// Reports on the same subjects.
#[derive(Debug)]
pub struct Overview {
    /// Layer by layer, the shares of flipped labels in the same order.
    pub parts: Vec<Part>,
}

/// A method on so many layers: what it came to at each share of flipped labels.
pub(super) struct Line {
    pub(super) layers: String,
    pub(super) method: String,
    pub(super) cells: Vec<MethodSummary>,
    /// What became of the subjects at the first share of flipped labels.
    verdict: Option<String>,
}

/// After the layers of what is trained in integers.
const INTEGER: &str = ", integer";

impl Line {
    /// Whether its training is in integers.
    pub(super) fn is_integer(&self) -> bool {
        self.layers.trim_end_matches('*').ends_with(INTEGER)
    }
}

impl Overview {
    /// The table and one line on what it says.
    pub fn to_text(&self) -> String {
        let noises = self.noises();
        let mut heading = vec!["layers".to_owned(), "method".to_owned()];
        heading.extend(noises.iter().map(|noise| match noise {
            0.0 => "clean labels".to_owned(),
            _ => format!("{:.0} % flipped", 100.0 * noise),
        }));
        heading.extend(["RAM, bytes", "time, ms"].map(str::to_owned));
        let mut table = Table::new(2, heading);
        let factory = self.factory();
        let mut first = vec![NOTHING.to_owned(), "factory".to_owned()];
        let shown = factory.map_or_else(|| NOTHING.to_owned(), |own| format!("{:.1}", 100.0 * own.mean));
        first.extend(noises.iter().map(|_| shown.clone()));
        first.extend([NOTHING, NOTHING].map(str::to_owned));
        table.add_row(first);
        let lines = self.lines();
        let mut before = "";
        for line in &lines {
            let layers = if line.layers == before { "" } else { line.layers.as_str() };
            before = &line.layers;
            let mut row = vec![layers.to_owned(), method_name(&line.method)];
            row.extend(line.cells.iter().map(|cell| {
                let gain = points_estimate(&cell.over_factory);
                format!("{:.1}  {gain}", 100.0 * cell.accuracy_int8.mean)
            }));
            let bytes = line.cells.iter().map(|cell| cell.train_ram_bytes).max();
            row.push(bytes.map_or_else(|| NOTHING.to_owned(), grouped));
            let seconds = line.cells.iter().map(|cell| cell.train_seconds).sum::<f64>();
            row.push(format!("{:.1}", 1000.0 * seconds / line.cells.len().max(1) as f64));
            table.add_row(row);
        }
        let subjects = factory.map_or(0, |own| own.count);
        let mut text = format!("{}\n\n int8 accuracy in percent, mean of {subjects} subjects", table);
        text += ", and points over the factory, paired by subject ± standard error.";
        if self.parts.iter().any(|part| part.closed_form) {
            text += "\n * Samples whose label the head in closed form contradicts are left out; steps in f32 begin with it.";
        }
        text.extend(verdict(factory, &lines).map(|verdict| format!("\n {verdict}")));
        text
    }

    /// The page of one of its reports, with all depths in front of what that one comes to.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write_html(&self, of: &Part, path: &Path) -> anyhow::Result<()> {
        let page = super::html::page(&of.report, Some((self, of))).context("laying out the report")?;
        flatmin_model::output::write_file(path, page.as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Shares of flipped labels, in their order.
    pub(super) fn noises(&self) -> Vec<f64> {
        let mut noises = Vec::new();
        for part in &self.parts {
            if !noises.contains(&part.label_noise) {
                noises.push(part.label_noise);
            }
        }
        noises
    }

    /// Accuracy of the int8 network as shipped.
    pub fn factory(&self) -> Option<Estimate> {
        Some(self.parts.first()?.report.summary().factory_accuracy)
    }

    pub(super) fn lines(&self) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        for part in &self.parts {
            let mut layers = match part.layers {
                layers if part.all => format!("all {layers}"),
                1 => "last".to_owned(),
                layers => format!("last {layers}"),
            };
            if part.integer {
                layers += INTEGER;
            }
            if part.closed_form {
                layers += "*";
            }
            for cell in part.report.summary().methods {
                let verdict = part.report.verdict(&cell.method);
                match lines.iter_mut().find(|line| line.layers == layers && line.method == cell.method) {
                    Some(line) => line.cells.push(cell),
                    None => lines.push(Line {
                        layers: layers.clone(),
                        method: cell.method.clone(),
                        cells: vec![cell],
                        verdict,
                    }),
                }
            }
        }
        lines
    }
}

/// What the table says, in one line: the closed form's gain, the best line, and SAM against SGD in it.
fn verdict(factory: Option<Estimate>, lines: &[Line]) -> Option<String> {
    let accuracies = |line: &Line| {
        let own: Vec<String> =
            line.cells.iter().map(|cell| format!("{:.1}", 100.0 * cell.accuracy_int8.mean)).collect();
        own.join(" / ")
    };
    let mean = |line: &&Line| line.cells.iter().map(|cell| cell.accuracy_int8.mean).sum::<f64>();
    let best = lines.iter().max_by(|a, b| mean(a).total_cmp(&mean(b)))?;
    let name = |line: &Line| match line.method.as_str() {
        "closed-form" => "the head in closed form".to_owned(),
        method => format!("{} on {}", method_name(method), line.layers),
    };
    let mut text = format!("Factory {:.1} %", 100.0 * factory?.mean);
    if let Some(solved) =
        lines.iter().find(|line| line.method == "closed-form").filter(|own| own.method != best.method)
    {
        text += &format!("; {}: {} %", name(solved), accuracies(solved));
    }
    text += &format!("; best, {}: {} %", name(best), accuracies(best));
    let over = best.cells.iter().filter_map(|cell| cell.over_sgd_int8.as_ref()).map(points_estimate);
    let over: Vec<String> = over.collect();
    if best.method != BASELINE && !over.is_empty() {
        text += &format!(", {} points over SGD", over.join(" / "));
    }
    text += ".";
    if let Some(verdict) = &best.verdict {
        text += &format!("\n On {}, {verdict}.", best.layers);
    }
    Some(text)
}
