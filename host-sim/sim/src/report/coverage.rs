//! Risk against coverage: how many answers are wrong if a network gives only those that it is surest of.

use std::fmt::{Result as FmtResult, Write as _};

use plotters::prelude::*;

use super::format::{Escaped, method_name, percent};
use super::html::figure;
use super::plots::{SCALE, marker, text_style};
use super::{Report, TuningRun};
use crate::chart;
use crate::chart::palette::{self, FACTORY, GRID, Look, MUTED, TEXT, look};

/// Parts of the test samples that a curve has a point for.
const POINTS: usize = 20;
/// Shares of the samples that the table has a row for, surest first.
const ROWS: [(f64, &str); 4] = [
    (0.25, "the surest quarter"),
    (0.5, "the surest half"),
    (0.75, "the surest three quarters"),
    (1.0, "all"),
];
/// Pixels of a panel.
const PANEL: (u32, u32) = (400, 240);

/// Answers to the test samples: how sure each is, in any unit that grows with it, and whether it is right.
pub type Answers = Vec<(f32, bool)>;

/// How sure an int8 network is of its answer: the softmax of its largest output.
pub fn sureness(output: &[i8], scale: f32) -> f32 {
    let top = output.iter().copied().max().unwrap_or(0);
    let below = |&own: &i8| (f32::from(own) - f32::from(top)) * scale;
    1.0 / output.iter().map(|own| below(own).exp()).sum::<f32>().max(1.0)
}

/// Share of wrong answers among this share of the samples, the surest first; where several are as sure, the mean over their
/// orders. NaN of no answers.
fn risk(answers: &Answers, coverage: f64) -> f64 {
    let mut sorted = answers.clone();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let wanted = coverage * sorted.len() as f64;
    let (mut taken, mut wrong) = (0.0, 0.0);
    for alike in sorted.chunk_by(|a, b| a.0 == b.0) {
        let share = ((wanted - taken) / alike.len() as f64).clamp(0.0, 1.0);
        wrong += share * alike.iter().filter(|(_, right)| !right).count() as f64;
        taken += share * alike.len() as f64;
    }
    wrong / taken
}

/// Mean over subjects at this coverage; `None` without answers.
fn mean_risk<'a>(subjects: impl Iterator<Item = &'a Answers>, coverage: f64) -> Option<f64> {
    let risks: Vec<f64> = subjects.filter(|own| !own.is_empty()).map(|own| risk(own, coverage)).collect();
    (!risks.is_empty()).then(|| risks.iter().sum::<f64>() / risks.len() as f64)
}

/// The section: a panel per method beside the factory, and the figures in a table. Nothing where no answers are known.
pub(super) fn section(html: &mut String, report: &Report) -> anyhow::Result<()> {
    let factory = |coverage| {
        mean_risk(report.one_run_a_subject().into_iter().map(|run| &run.sureness_factory), coverage)
    };
    let tuned = |method: &str, coverage| {
        mean_risk(report.runs_of(method).map(|run: &TuningRun| &run.sureness_tuned), coverage)
    };
    let methods = report.methods().into_iter().enumerate();
    let methods: Vec<(usize, &str)> = methods.filter(|(_, method)| tuned(method, 1.0).is_some()).collect();
    if methods.is_empty() || factory(1.0).is_none() {
        return Ok(());
    }
    html.push_str(
        "<h2>Risk against coverage</h2>\n<p class=\"note intro\">Wrong answers in percent of those that are given, where only the \
         surest are: an application may leave the others to somebody who knows. Dashed: the factory model. A line that falls to the \
         left is one of a network that knows what it does not know.</p>\n<div class=\"panels\">\n",
    );
    let curve = |of: &dyn Fn(f64) -> Option<f64>| -> Vec<(f64, f64)> {
        let points = (1..=POINTS).map(|place| place as f64 / POINTS as f64);
        points.filter_map(|share| Some((100.0 * share, 100.0 * of(share)?))).collect()
    };
    let before = curve(&factory);
    let lines: Vec<_> = methods.iter().map(|&(_, method)| curve(&|share| tuned(method, share))).collect();
    let largest = lines.iter().flatten().chain(&before).map(|point| point.1).fold(1.0, f64::max);
    for (&(place, method), line) in methods.iter().zip(&lines) {
        let (look, name) = (look(method, place), method_name(method));
        let (name, ink) = (Escaped(&name), look.ink.css());
        writeln!(html, "<figure><figcaption><b style=\"--ink:{ink}\">{name}</b></figcaption>")?;
        let svg = panel(look, line, &before, 1.05 * largest)?;
        figure(
            html,
            &palette::adopt(&svg),
            &format!("Wrong answers by coverage, {name} and the factory model"),
        )?;
        html.push_str("</figure>\n");
    }
    html.push_str("</div>\n");
    let columns = methods.iter().map(|&(_, method)| method);
    table(html, &columns.collect::<Vec<_>>(), &factory, &tuned)?;
    Ok(())
}

fn table(
    html: &mut String,
    methods: &[&str],
    factory: &dyn Fn(f64) -> Option<f64>,
    tuned: &dyn Fn(&str, f64) -> Option<f64>,
) -> FmtResult {
    let cell = |risk: Option<f64>| risk.map_or_else(|| "–".to_owned(), percent);
    html.push_str(
        "<div class=\"wide\"><table class=\"named\"><thead><tr><th>Wrong answers of</th><th>Factory</th>",
    );
    methods.iter().try_for_each(|method| write!(html, "<th>{}</th>", Escaped(&method_name(method))))?;
    html.push_str("</tr></thead><tbody>\n");
    for (coverage, name) in ROWS {
        write!(html, "<tr><th>{name}</th><td>{}</td>", cell(factory(coverage)))?;
        methods.iter().try_for_each(|method| write!(html, "<td>{}</td>", cell(tuned(method, coverage))))?;
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody></table></div>\n");
    Ok(())
}

fn panel(look: Look, line: &[(f64, f64)], factory: &[(f64, f64)], most: f64) -> anyhow::Result<String> {
    chart::svg((PANEL.0 * SCALE, PANEL.1 * SCALE), |canvas| {
        let mut chart = ChartBuilder::on(canvas)
            .margin_top(12 * SCALE)
            .margin_right(16 * SCALE)
            .margin_bottom(2 * SCALE)
            .x_label_area_size(44 * SCALE)
            .y_label_area_size(40 * SCALE)
            .build_cartesian_2d(0.0..100.0, 0.0..most)?;
        let decimals = usize::from(most < 4.0);
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID.rgb().stroke_width(2))
            .axis_style(MUTED.rgb().stroke_width(2))
            .x_labels(6)
            .y_labels(6)
            .x_label_formatter(&|value| format!("{value:.0}"))
            .y_label_formatter(&|value| format!("{value:.decimals$}"))
            .label_style(text_style(TEXT.rgb()))
            .axis_desc_style(text_style(MUTED.rgb()))
            .x_desc("answers given, % of the test samples")
            .draw()?;
        let dashes = FACTORY.rgb().stroke_width(3);
        chart.draw_series(DashedLineSeries::new(factory.iter().copied(), 12, 8, dashes))?;
        chart.draw_series(LineSeries::new(line.iter().copied(), look.ink.rgb().stroke_width(5)))?;
        for point in line.iter().rev().step_by(4) {
            marker(canvas, look, chart.backend_coord(point), 9)?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn the_surest_come_first_and_ties_are_shared() {
        let answers = vec![(0.1, false), (0.9, true), (0.8, false), (0.8, true)];
        for (coverage, expected) in [(0.25, 0.0), (0.5, 0.25), (0.75, 1.0 / 3.0), (1.0, 0.5)] {
            assert!((risk(&answers, coverage) - expected).abs() < 1e-12, "{coverage}");
        }
        assert!(risk(&Vec::new(), 1.0).is_nan());
    }

    #[test]
    fn sureness_is_the_softmax_of_the_answer() {
        let outputs: [i8; 3] = [10, -20, 4];
        let exponentials = outputs.map(|own| (f64::from(own) * 0.1).exp());
        let softmax = exponentials[0] / exponentials.iter().sum::<f64>();
        assert!((f64::from(sureness(&outputs, 0.1)) - softmax).abs() < 1e-6);
        assert_eq!(sureness(&[127, -128], 100.0), 1.0);
    }

    /// Mean over two subjects, one of whom is always right: captions, and the figures of the table.
    #[test]
    fn the_section_has_a_panel_per_method_and_its_figures() {
        let run = |subject: &str, method: &str, right: bool| TuningRun {
            sureness_factory: vec![(0.9, true), (0.5, false)],
            sureness_tuned: vec![(0.9, true), (0.5, right)],
            ..samples::run(subject, method)
        };
        let mut report = samples::report(1, 0);
        report.runs =
            ["sgd", "sam"].into_iter().flat_map(|m| [run("a", m, true), run("b", m, m == "sam")]).collect();
        let mut html = String::new();
        section(&mut html, &report).unwrap();
        assert_eq!(html.matches("<svg").count(), 2, "{html}");
        assert!(html.contains("<tr><th>all</th><td>50.0 %</td><td>25.0 %</td><td>0.0 %</td></tr>"), "{html}");
        assert!(
            html.contains("<tr><th>the surest half</th><td>0.0 %</td><td>0.0 %</td><td>0.0 %</td></tr>"),
            "{html}"
        );
        for caption in [">SGD</b>", ">SAM</b>", "answers given, % of the test samples"] {
            assert!(html.contains(caption), "{caption}");
        }
        report.runs = vec![samples::run("a", "sgd")];
        let mut none = String::new();
        section(&mut none, &report).unwrap();
        assert_eq!(none, "");
    }
}
