//! The page's tables: methods, subjects, settings.

use std::fmt::{Result, Write as _};

use crate::chart::palette::look;
use crate::report::format::{
    Escaped, NOTHING, crc, grouped, method_label, method_name, percent, percent_estimate, points,
    points_estimate, si, significant,
};
use crate::report::summary::Row;
use crate::report::{Report, Summary, TuningRun};

/// The same table as in the terminal, with the gain over the factory model.
pub(super) fn methods(html: &mut String, summary: &Summary) -> Result {
    let counted = summary.methods.iter().any(|m| m.instructions.is_some());
    let compared = summary.compares();
    let mut header = vec!["Method", "Accuracy f32", "Accuracy int8", "int8 over factory, pp"];
    header.extend(compared.then_some("int8 over SGD, pp"));
    header.extend(["Loss", "Sharpness", "RAM, bytes", "MACs"]);
    header.extend(counted.then_some("Instructions"));
    header.push("CRC-32");
    head(html, "methods", &header)?;

    let factory = percent_estimate(&summary.factory_accuracy);
    write!(html, "<tr><th>Factory</th><td>{NOTHING}</td><td>{factory}</td>")?;
    html.push_str(&format!("<td>{NOTHING}</td>").repeat(header.len() - 3));
    html.push_str("</tr>\n");
    for (place, method) in summary.methods.iter().enumerate() {
        let look = look(&method.method, place);
        let (mark, label) = (look.shape.svg(look.ink), method_label(method));
        write!(html, "<tr><th>{mark}{}</th>", Escaped(&label))?;
        cell(html, &percent_estimate(&method.accuracy_f32))?;
        cell(html, &percent_estimate(&method.accuracy_int8))?;
        cell(html, &typeset(&points_estimate(&method.over_factory)))?;
        if compared {
            let gain = method.over_sgd_int8.as_ref().map(points_estimate);
            cell(html, &typeset(gain.as_deref().unwrap_or(NOTHING)))?;
        }
        cell(html, &significant(method.loss.mean))?;
        cell(html, &significant(method.sharpness.mean))?;
        cell(html, &grouped(method.train_ram_bytes))?;
        cell(html, &si(method.macs))?;
        if counted {
            let count = method.instructions.map(si);
            cell(html, count.as_deref().unwrap_or(NOTHING))?;
        }
        writeln!(html, "<td class=\"code\">{}</td></tr>", crc(method.weights_crc32))?;
    }
    html.push_str("</tbody></table></div>\n");
    Ok(())
}

/// Every run, by subject.
pub(super) fn runs(html: &mut String, report: &Report) -> Result {
    let counted = report.runs.iter().any(|run| run.instructions.is_some());
    let mut header = vec!["Subject", "Method", "ρ", "Factory", "f32", "int8", "Gain, pp"];
    header.extend(["Loss", "Sharpness", "RAM, bytes", "MACs"]);
    header.extend(counted.then_some("Instructions"));
    header.push("CRC-32");
    head(html, "named", &header)?;
    let methods = report.methods();
    for subject in report.one_run_a_subject() {
        let own = report.runs.iter().filter(|run| run.subject == subject.subject);
        for (index, run) in own.enumerate() {
            let class = if index == 0 { "first" } else { "" };
            let name = if index == 0 { run.subject.as_str() } else { "" };
            write!(html, "<tr class=\"{class}\"><th>{}</th>", Escaped(name))?;
            let place = methods.iter().position(|method| *method == run.method);
            run_cells(html, run, place.unwrap_or(0), counted)?;
        }
    }
    html.push_str("</tbody></table></div>\n");
    Ok(())
}

/// The cells of a run, after its subject's name.
fn run_cells(html: &mut String, run: &TuningRun, place: usize, counted: bool) -> Result {
    let look = look(&run.method, place);
    let (mark, name) = (look.shape.svg(look.ink), method_name(&run.method));
    write!(html, "<td class=\"text\">{mark}{}</td>", Escaped(&name))?;
    let unit = run.rho_unit.map(|unit| format!(" {unit}")).unwrap_or_default();
    let rho = if run.rho > 0.0 { format!("{}{unit}", run.rho) } else { NOTHING.to_owned() };
    cell(html, &rho)?;
    cell(html, &percent(run.factory_accuracy))?;
    cell(html, &percent(run.accuracy_f32))?;
    cell(html, &percent(run.accuracy_int8))?;
    cell(html, &typeset(&points(run.accuracy_int8 - run.factory_accuracy)))?;
    cell(html, &significant(run.loss))?;
    cell(html, &significant(run.sharpness))?;
    cell(html, &grouped(run.train_ram_bytes))?;
    cell(html, &si(run.macs))?;
    if counted {
        cell(html, run.instructions.map(si).as_deref().unwrap_or(NOTHING))?;
    }
    writeln!(html, "<td class=\"code\">{}</td></tr>", crc(run.weights_crc32))
}

/// Rows with a column a method; nothing without rows.
pub(super) fn by_method(html: &mut String, summary: &Summary, title: &str, rows: &[Row]) -> Result {
    if rows.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = summary.methods.iter().map(|m| method_name(&m.method)).collect();
    let mut header = vec![title];
    header.extend(names.iter().map(String::as_str));
    head(html, "named", &header)?;
    for (name, figures) in rows {
        write!(html, "<tr><th>{}</th>", Escaped(name))?;
        for figure in figures {
            let text = figure.and_then(|figure| usize::try_from(figure).ok()).map(grouped);
            cell(html, text.as_deref().unwrap_or(NOTHING))?;
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody></table></div>\n");
    Ok(())
}

/// What was set.
pub(super) fn settings(html: &mut String, settings: &[(String, String)]) -> Result {
    html.push_str("<dl>\n");
    for (name, value) in settings {
        writeln!(html, "<div><dt>{}</dt><dd>{}</dd></div>", Escaped(name), Escaped(value))?;
    }
    html.push_str("</dl>\n");
    Ok(())
}

/// Opens a table that scrolls where it is too wide, with its heading.
fn head(html: &mut String, class: &str, header: &[&str]) -> Result {
    write!(html, "<div class=\"wide\"><table class=\"{class}\"><thead><tr>")?;
    for text in header {
        write!(html, "<th>{}</th>", Escaped(text))?;
    }
    html.push_str("</tr></thead><tbody>\n");
    Ok(())
}

/// A cell; the text is of this module's making and holds no markup.
fn cell(html: &mut String, text: &str) -> Result {
    write!(html, "<td>{text}</td>")
}

/// A signed number with the minus sign that is as wide as the plus.
pub(super) fn typeset(number: &str) -> String {
    number.replace('-', "\u{2212}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    #[test]
    fn every_row_is_as_long_as_the_heading() {
        let mut report = samples::report(3, 0);
        report.runs[2].instructions = None;
        for counted in [true, false] {
            let (mut ours, mut all) = (String::new(), String::new());
            methods(&mut ours, &report.summary()).unwrap();
            runs(&mut all, &report).unwrap();
            let mut counts = String::new();
            let summary = report.summary();
            by_method(&mut counts, &summary, "Instructions", &summary.instructions()).unwrap();
            assert_eq!(counts.is_empty(), !counted, "{counts}");
            for html in [ours, all, counts] {
                let cells = |row: &str| row.matches("<th>").count() + row.matches("<td").count();
                let widths: Vec<usize> = html.split("<tr").skip(1).map(cells).collect();
                assert!(widths.iter().all(|width| Some(width) == widths.first()), "{counted}: {html}");
            }
            report.runs.iter_mut().for_each(|run| run.instructions = None);
        }
    }

    #[test]
    fn settings_are_escaped() {
        let mut html = String::new();
        settings(&mut html, &[("a&b".to_owned(), "<i>".to_owned())]).unwrap();
        assert!(html.contains("<dt>a&amp;b</dt><dd>&lt;i&gt;</dd>"), "{html}");
    }
}
