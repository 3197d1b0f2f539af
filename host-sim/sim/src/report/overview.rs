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
/// After the layers of what begins with the factory's weights, where the same layers begin with the head in closed form, too.
const FACTORY: &str = ", factory's start";

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
        text.extend(from_factory(&lines).map(|verdict| format!("\n {verdict}")));
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

    /// Whether steps in f32 on so many layers begin with the head in closed form.
    fn begins_with_head(&self, layers: usize) -> bool {
        self.parts.iter().any(|part| part.layers == layers && part.closed_form && !part.integer)
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
            } else if !part.integer && self.begins_with_head(part.layers) {
                layers += FACTORY;
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

/// What SAM and ASAM add to SGD where layers begin with the factory's weights, as without the factory's statistics.
fn from_factory(lines: &[Line]) -> Option<String> {
    let own = || lines.iter().filter(|line| line.layers.ends_with(FACTORY));
    let layers = own().next()?.layers.trim_end_matches(FACTORY).to_owned();
    let over = |line: &Line| -> Option<String> {
        let cells: Option<Vec<String>> =
            line.cells.iter().map(|cell| cell.over_sgd_int8.as_ref().map(points_estimate)).collect();
        Some(format!("{} {}", method_name(&line.method), cells?.join(" / ")))
    };
    let added: Vec<String> = own().filter_map(over).collect();
    let text = format!("On {layers} from the factory's weights, points over SGD: {}.", added.join("; "));
    (!added.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    /// Two shares of flipped labels, on all seven layers by three methods: from the head in closed form, and from the factory,
    /// where ASAM is two points better than SGD.
    #[test]
    fn layers_from_the_factory_have_rows_of_their_own_and_a_line_on_what_sam_adds() {
        let part = |closed_form: bool, label_noise| {
            let mut report = samples::report(3, 2);
            for run in &mut report.runs {
                let gain = if run.method == "asam" && !closed_form { 0.03 } else { 0.01 };
                run.accuracy_int8 = run.factory_accuracy + gain;
            }
            Part { layers: 7, all: true, closed_form, integer: false, label_noise, report }
        };
        let parts = vec![part(true, 0.0), part(true, 0.2), part(false, 0.0), part(false, 0.2)];
        let text = Overview { parts }.to_text();
        let row = |start: &str| text.lines().filter(|line| line.trim().starts_with(start)).count();
        assert_eq!((row("all 7*"), row("all 7, factory's start")), (1, 1), "{text}");
        let line = "On all 7 from the factory's weights, points over SGD: SAM 0.0 ± 0.0 / 0.0 ± 0.0; ASAM +2.0 ± 0.0 / +2.0 ± 0.0.";
        assert!(text.contains(line), "{text}");
        let parts = vec![part(false, 0.0), part(false, 0.2)];
        assert!(!Overview { parts }.to_text().contains("factory's start"));
    }
}
