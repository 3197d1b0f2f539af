//! The page: one file of HTML with its style sheet and its figures, and no script.

mod tables;

use std::fmt::Write as _;

use super::format::{Escaped, grouped, method_label, method_name, percent_estimate, points_estimate, si};
use super::plots::{self, Curve};
use super::{Overview, Part, Report, Summary, coverage, depth, figures};
use crate::chart::palette::{self, FACTORY, look};

/// Layout and type; the colours come from [`palette::variables`].
const STYLE: &str = include_str!("style.css");

/// The whole page; of the main job with all depths in front.
pub(super) fn page(report: &Report, main: Option<(&Overview, &Part)>) -> anyhow::Result<String> {
    let summary = report.summary();
    let title = Escaped(&report.title);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"generator\" content=\"flatmin\">\n\
         <title>{title}</title>\n<style>\n{}{STYLE}</style></head>\n<body><main>\n\
         <h1>{title}</h1>\n",
        palette::variables(),
    );
    if let Some((overview, part)) = main {
        depth::section(&mut html, overview)?;
        let layers = match part.layers {
            layers if part.all => format!("all {layers} layers"),
            1 => "the last layer".to_owned(),
            layers => format!("the last {layers} layers"),
        };
        writeln!(html, "<h2>On {layers}, {}</h2>", depth::noise_caption(part.label_noise))?;
    }
    lead(&mut html, report, &summary)?;
    headline(&mut html, &summary)?;
    if report.runs.is_empty() {
        html.push_str("<p class=\"note\">There are no runs to show.</p>\n");
    } else {
        results(&mut html, report, &summary)?;
    }
    if !report.settings.is_empty() {
        html.push_str("<h2>Settings</h2>\n");
        tables::settings(&mut html, &report.settings)?;
    }
    html.push_str("</main></body></html>\n");
    Ok(html)
}

/// What the page is about, in one sentence.
fn lead(html: &mut String, report: &Report, summary: &Summary) -> anyhow::Result<()> {
    let plural = |count: usize, noun: &str| match count {
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    };
    let subjects = plural(summary.subjects, "subject");
    let methods = plural(summary.methods.len(), "method");
    write!(html, "<p class=\"lead\">{subjects}, {methods}")?;
    match report.classes.len() {
        0 => {}
        1 => html.push_str(", 1 class"),
        count => write!(html, ", {count} classes")?,
    }
    if let Some(parameters) = summary.methods.iter().map(|m| m.tail_parameters).max() {
        write!(html, ", {} trainable parameters", grouped(parameters))?;
    }
    html.push('.');
    if summary.subjects > 1 {
        html.push_str(" Figures are means over subjects ± standard error, differences paired by subject.");
    }
    if let Some(split) = &report.split {
        write!(html, " {}.", Escaped(&split.to_string()))?;
    }
    html.push_str("</p>\n");
    for warning in &report.warnings {
        writeln!(html, "<p class=\"note\">Warning: {}.</p>", Escaped(warning))?;
    }
    Ok(())
}

/// One card for the factory model, one a method.
fn headline(html: &mut String, summary: &Summary) -> anyhow::Result<()> {
    let card = |html: &mut String, ink: &str, name: &str, figure: &str| {
        let (name, open) = (Escaped(name), "<section class=\"card\" style=\"--ink:");
        let error = figure.split_once(" ± ");
        let (value, error) = match error {
            Some((value, error)) => (format!("{value} %"), format!("± {error}")),
            None => (figure.to_owned(), String::new()),
        };
        write!(html, "{open}{ink}\"><h3>{name}</h3><p class=\"figure\">{value}<small>{error}</small></p>")
    };
    html.push_str("<div class=\"cards\">\n");
    let factory = percent_estimate(&summary.factory_accuracy);
    card(html, &FACTORY.css(), "Factory", &factory)?;
    html.push_str("<p>test accuracy, int8, as shipped</p></section>\n");
    for (place, method) in summary.methods.iter().enumerate() {
        let ink = look(&method.method, place).ink.css();
        let accuracy = percent_estimate(&method.accuracy_int8);
        card(html, &ink, &method_label(method), &accuracy)?;
        let over = tables::typeset(&points_estimate(&method.over_factory));
        write!(html, "<p><b>{over}</b> pp over factory")?;
        if let Some(gain) = method.over_sgd_int8.as_ref().filter(|_| summary.compares()) {
            let gain = tables::typeset(&points_estimate(gain));
            write!(html, "<br><b>{gain}</b> pp over SGD")?;
        }
        let (ram, macs) = (grouped(method.train_ram_bytes), si(method.macs));
        writeln!(html, "<br>{ram} bytes of RAM<br>{macs} MACs</p></section>")?;
    }
    html.push_str("</div>\n");
    Ok(())
}

/// Everything between the headline and the settings.
fn results(html: &mut String, report: &Report, summary: &Summary) -> anyhow::Result<()> {
    html.push_str("<h2>Methods</h2>\n");
    tables::methods(html, summary)?;
    html.push_str(
        "<p class=\"note\">Loss: mean cross-entropy on the test set. Sharpness: mean rise of the \
         loss of a sample tuned on at its own worst step; lower is flatter. ",
    );
    html.push_str(if summary.subjects > 1 {
        "MACs and instructions: mean of a run. CRC-32: of the subjects\u{2019} CRCs of their tuned \
         weights, in order.</p>\n"
    } else {
        "MACs and instructions: of the whole run. CRC-32: of the tuned weights.</p>\n"
    });

    html.push_str("<h2>Learning curves</h2>\n");
    curves(html, report, summary)?;
    if report.runs.iter().any(|run| run.changes.is_some()) {
        html.push_str("<h2>Where each test sample went</h2>\n");
        figures::changes(html, report)?;
    }

    coverage::section(html, report)?;

    if let Some(svg) = plots::subjects(report)? {
        html.push_str("<h2>Factory and tuned accuracy by subject</h2>\n");
        figures::legend(html, report, "tick")?;
        html.push_str("<div class=\"column\">\n");
        html.push_str("<figure>");
        figure(html, &svg, "Factory and tuned int8 test accuracy of each subject")?;
        html.push_str("</figure>\n");
        html.push_str("</div>\n");
    }

    let confused = |matrix: &Vec<Vec<u32>>| matrix.iter().flatten().any(|&count| count > 0);
    let mut runs = report.runs.iter();
    if runs.any(|run| confused(&run.confusion_factory) || confused(&run.confusion_tuned)) {
        let several = if summary.subjects > 1 { ", summed over subjects" } else { "" };
        writeln!(
            html,
            "<h2>Confusion</h2>\n<p class=\"note intro\">Counts of the int8 models{several}; shaded by \
             their share of the row.</p>",
        )?;
        figures::confusions(html, report)?;
    }

    html.push_str("<h2>RAM</h2>\n");
    figures::memory(html, summary)?;
    tables::by_method(html, summary, "RAM of the board in bytes", &summary.board_memory())?;
    tables::by_method(html, summary, "Instructions", &summary.instructions())?;
    html.push_str("<h2>Runs</h2>\n");
    tables::runs(html, report)?;
    Ok(())
}

/// Loss and accuracy by epoch, a panel per method on the same axes.
fn curves(html: &mut String, report: &Report, summary: &Summary) -> anyhow::Result<()> {
    let mut drawn = false;
    for curve in [Curve::Loss, Curve::Accuracy] {
        let panels = plots::learning_curves(report, curve)?;
        if panels.is_empty() {
            continue;
        }
        drawn = true;
        writeln!(html, "<h3>{}</h3>\n<div class=\"panels\">", curve.title())?;
        for (method, place, svg) in panels {
            let (name, ink) = (method_name(method), look(method, place).ink.css());
            let name = Escaped(&name);
            writeln!(html, "<figure><figcaption><b style=\"--ink:{ink}\">{name}</b></figcaption>")?;
            figure(html, &svg, &format!("{}, {name}, by epoch", curve.title()))?;
            html.push_str("</figure>\n");
        }
        html.push_str("</div>\n");
    }
    if !drawn {
        html.push_str("<p class=\"note\">No epoch was run.</p>\n");
    } else {
        let subjects = if summary.subjects > 1 {
            "Bold: mean over subjects. Faint: single subjects. Dashed: the factory model\u{2019}s mean accuracy. "
        } else {
            "Dashed: the factory model\u{2019}s accuracy. "
        };
        writeln!(
            html,
            "<p class=\"note\">{subjects}The loss is of the labels as they were given, without label smoothing: where labels are \
             smoothed or wrong, it may rise while the accuracy does, too.</p>",
        )?;
    }
    Ok(())
}

/// An SVG with a description for those who cannot see it.
pub(super) fn figure(html: &mut String, svg: &str, alternative: &str) -> anyhow::Result<()> {
    let label = Escaped(alternative);
    let labelled = format!("<svg role=\"img\" aria-label=\"{label}\" ");
    writeln!(html, "{}", svg.replacen("<svg ", &labelled, 1))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    /// Tags that have to be closed, and never are inside an attribute.
    fn balanced(html: &str) {
        for tag in ["div", "table", "tr", "td", "th", "svg", "figure", "section", "span", "p", "i"] {
            let opened =
                html.matches(&format!("<{tag} ")).count() + html.matches(&format!("<{tag}>")).count();
            let closed = html.matches(&format!("</{tag}>")).count();
            assert_eq!(opened, closed, "<{tag}>");
        }
    }

    #[test]
    fn everything_is_there_escaped_and_nothing_is_loaded() {
        let html = page(&samples::report(6, 20), None).unwrap();
        balanced(&html);
        assert!(html.contains("<h1>Tuning &lt;six&gt; held-out wearers &amp; co</h1>"));
        assert!(html.contains("&lt;lie&gt;") && !html.contains("<lie>"));
        assert!(html.contains("a &lt; b") && html.contains("ASAM, ρ 0.5 weights"));
        assert!(!html.contains("NaN") && !html.contains("<script"));
        for loading in ["src=", "href=", "url(", "@import"] {
            assert!(!html.contains(loading), "{loading}");
        }
    }

    #[test]
    fn degenerate_reports_are_pages_too() {
        for (subjects, epochs) in [(0, 0), (1, 0), (1, 1), (2, 0)] {
            let mut report = samples::report(subjects, epochs);
            report.classes.clear();
            report.settings.clear();
            let html = page(&report, None).unwrap();
            balanced(&html);
            assert!(!html.contains("NaN") && !html.contains("inf"));
            assert_eq!(html.contains("No epoch was run"), subjects > 0 && epochs == 0);
        }
        let mut report = samples::report(1, 2);
        for run in &mut report.runs {
            run.loss = f64::NAN;
            run.accuracy_int8 = f64::NAN;
            run.confusion_factory.clear();
            run.confusion_tuned.clear();
        }
        let html = page(&report, None).unwrap();
        assert!(!html.contains("NaN") && !html.contains("<h2>Confusion"));
    }
}
