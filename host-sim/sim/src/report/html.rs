//! The page: one file of HTML with its style sheet and its figures, and no script.

mod tables;

use std::fmt::Write as _;

use super::format::{Escaped, grouped, method_label, percent_estimate, points_estimate, si};
use super::plots::{self, Curve};
use super::{Report, Summary, figures};
use crate::chart::palette::{self, FACTORY, look};

/// Layout and type; the colours come from [`palette::variables`].
const STYLE: &str = include_str!("style.css");

/// The whole page.
pub(super) fn page(report: &Report) -> anyhow::Result<String> {
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
    let loss = plots::learning_curve(report, Curve::Loss)?;
    let accuracy = plots::learning_curve(report, Curve::Accuracy)?;
    if loss.is_none() && accuracy.is_none() {
        html.push_str("<p class=\"note\">No epoch was run.</p>\n");
    } else {
        figures::legend(html, report, "dashed")?;
        html.push_str("<div class=\"pair\">\n");
        for (svg, curve) in [(loss, Curve::Loss), (accuracy, Curve::Accuracy)] {
            if let Some(svg) = svg {
                let alternative = format!("{} by epoch", curve.title());
                figure(html, &svg, &alternative)?;
            }
        }
        html.push_str("</div>\n");
        if summary.subjects > 1 {
            html.push_str(
                "<p class=\"note\">Bold: mean over subjects. Faint: single subjects. Dashed: the \
                 factory model\u{2019}s mean accuracy.</p>\n",
            );
        }
    }

    if let Some(svg) = plots::subjects(report)? {
        html.push_str("<h2>Factory and tuned accuracy by subject</h2>\n");
        figures::legend(html, report, "tick")?;
        html.push_str("<div class=\"column\">\n");
        figure(html, &svg, "Factory and tuned int8 test accuracy of each subject")?;
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

/// An SVG with a description for those who cannot see it.
fn figure(html: &mut String, svg: &str, alternative: &str) -> anyhow::Result<()> {
    let label = Escaped(alternative);
    let labelled = format!("<svg role=\"img\" aria-label=\"{label}\" ");
    writeln!(html, "<figure>{}</figure>", svg.replacen("<svg ", &labelled, 1))?;
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
        let html = page(&samples::report(6, 20)).unwrap();
        balanced(&html);
        assert!(html.contains("<h1>Tuning &lt;six&gt; held-out wearers &amp; co</h1>"));
        assert!(html.contains("&lt;lie&gt;") && !html.contains("<lie>"));
        assert!(html.contains("a &lt; b") && html.contains("ASAM, ρ 0.5"));
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
            let html = page(&report).unwrap();
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
        let html = page(&report).unwrap();
        assert!(!html.contains("NaN") && !html.contains("<h2>Confusion"));
    }
}
