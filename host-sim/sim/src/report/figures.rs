//! Figures made of HTML: confusion matrices, RAM as stacked bars, legends.

use std::fmt::{Result, Write as _};

use super::format::{Escaped, grouped, method_label, method_name, percent};
use super::{Report, Summary};
use crate::chart::palette::{FACTORY, look, purpose};

/// More classes than this are set in smaller type, one matrix a line.
const MANY_CLASSES: usize = 10;

/// Counts by truth (row) and prediction (column).
type Confusion = Vec<Vec<u64>>;

/// Markers and names of the factory model and the methods.
pub(super) fn legend(html: &mut String, report: &Report, factory: &str) -> Result {
    legend_of(html, &report.methods(), factory)
}

/// Markers and names of the factory model and of these methods.
pub(super) fn legend_of(html: &mut String, methods: &[&str], factory: &str) -> Result {
    html.push_str("<p class=\"legend\">");
    let ink = FACTORY.css();
    write!(html, "<span><i class=\"{factory}\" style=\"--ink:{ink}\"></i>Factory</span>")?;
    for (place, method) in methods.iter().enumerate() {
        let look = look(method, place);
        let name = method_name(method);
        write!(html, "<span>{}{}</span>", look.shape.svg(look.ink), Escaped(&name))?;
    }
    html.push_str("</p>\n");
    Ok(())
}

/// What became of the test samples, summed over subjects: one bar per method on one scale, and the counts beneath.
pub(super) fn changes(html: &mut String, report: &Report) -> Result {
    const KINDS: [(&str, &str); 4] = [
        ("stayed-right", "right before and after"),
        ("became-right", "became right"),
        ("became-wrong", "became wrong"),
        ("stayed-wrong", "wrong before and after"),
    ];
    let methods = report.methods();
    let rows: Vec<(String, [u32; 4])> = (methods.into_iter())
        .map(|method| {
            let own = report.runs_of(method).filter_map(|run| run.changes);
            let counts = own.fold([0; 4], |sums, own| {
                let own = [own.stayed_right, own.became_right, own.became_wrong, own.stayed_wrong];
                std::array::from_fn(|kind| sums[kind] + own[kind])
            });
            (method_name(method), counts)
        })
        .filter(|(_, counts)| counts.iter().sum::<u32>() > 0)
        .collect();
    html.push_str("<div class=\"bars\">\n");
    for (name, counts) in &rows {
        let all: u32 = counts.iter().sum();
        write!(html, "<span class=\"name\">{}</span><div class=\"bar\">", Escaped(name))?;
        for ((class, title), count) in KINDS.iter().zip(counts).filter(|(_, count)| **count > 0) {
            let width = 100.0 * f64::from(*count) / f64::from(all);
            write!(html, "<i class=\"{class}\" style=\"width:{width:.3}%\" title=\"{title}: {count}\"></i>")?;
        }
        writeln!(html, "</div><span class=\"total\">{all}</span>")?;
    }
    html.push_str("</div>\n<div class=\"wide\"><table class=\"named\"><thead><tr><th>Test samples</th>");
    rows.iter().try_for_each(|(name, _)| write!(html, "<th>{}</th>", Escaped(name)))?;
    html.push_str("</tr></thead><tbody>\n");
    for (kind, (class, title)) in KINDS.iter().enumerate() {
        write!(html, "<tr><th><i class=\"swatch {class}\"></i>{title}</th>")?;
        rows.iter().try_for_each(|(_, counts)| write!(html, "<td>{}</td>", counts[kind]))?;
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody></table></div>\n");
    Ok(())
}

/// The factory model's confusion matrix, and one a method, each summed over subjects.
pub(super) fn confusions(html: &mut String, report: &Report) -> Result {
    let factory = report.one_run_a_subject();
    let factory = sum(factory.iter().map(|run| &run.confusion_factory));
    let single = if report.classes.len() > MANY_CLASSES { "single" } else { "" };
    writeln!(html, "<div class=\"matrices {single}\">")?;
    matrix(html, "Factory", &FACTORY.css(), &factory, &report.classes)?;
    for (place, method) in report.methods().into_iter().enumerate() {
        let tuned = sum(report.runs_of(method).map(|run| &run.confusion_tuned));
        let ink = look(method, place).ink.css();
        let name = format!("After {}", method_name(method));
        matrix(html, &name, &ink, &tuned, &report.classes)?;
    }
    html.push_str("</div>\n");
    Ok(())
}

/// The sum of square matrices, as large as the largest.
fn sum<'a>(matrices: impl Iterator<Item = &'a Vec<Vec<u32>>>) -> Confusion {
    let mut total = Confusion::new();
    for matrix in matrices {
        let widest = matrix.iter().map(Vec::len).max().unwrap_or(0);
        let size = total.len().max(matrix.len()).max(widest);
        total.resize(size, Vec::new());
        total.iter_mut().for_each(|row| row.resize(size, 0));
        for (sums, counts) in total.iter_mut().zip(matrix) {
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum += u64::from(*count);
            }
        }
    }
    total
}

/// One matrix: counts, shaded by their share of the row, and each class's recall at the end of its row.
fn matrix(html: &mut String, title: &str, ink: &str, counts: &Confusion, classes: &[String]) -> Result {
    let title = Escaped(title);
    let total: u64 = counts.iter().flatten().sum();
    if total == 0 {
        return Ok(());
    }
    let name = |index: usize| match classes.get(index) {
        Some(class) => class.clone(),
        None => index.to_string(),
    };
    let right: u64 = counts.iter().enumerate().map(|(i, row)| row[i]).sum();
    let share = percent(right as f64 / total as f64);
    let longest = (0..counts.len()).map(|i| name(i).chars().count()).max();
    let upright = if longest > Some(5) { "upright" } else { "" };
    let many = if counts.len() > MANY_CLASSES { "many" } else { "" };
    write!(
        html,
        "<figure><figcaption><b style=\"--ink:{ink}\">{title}</b> {share} of {}</figcaption>\n\
         <div class=\"wide\"><table class=\"confusion {many}\"><thead><tr>\
         <th class=\"corner\">truth \\ predicted</th>",
        grouped(usize::try_from(total).unwrap_or(usize::MAX)),
    )?;
    for column in 0..counts.len() {
        let class = name(column);
        write!(html, "<th class=\"{upright}\"><span>{}</span></th>", Escaped(&class))?;
    }
    html.push_str("<th class=\"recall\">recall</th></tr></thead><tbody>\n");
    for (truth, row) in counts.iter().enumerate() {
        let samples: u64 = row.iter().sum();
        write!(html, "<tr><th>{}</th>", Escaped(&name(truth)))?;
        for (column, &count) in row.iter().enumerate() {
            let share = count as f64 / samples.max(1) as f64;
            let strong = if share >= 0.7 { " strong" } else { "" };
            let hit = if column == truth { "hit" } else { "" };
            write!(
                html,
                "<td class=\"{hit}{strong}\" style=\"--share:{share:.3}\">{}</td>",
                if count == 0 { "·".to_owned() } else { count.to_string() },
            )?;
        }
        let recall = row[truth] as f64 / samples.max(1) as f64;
        let recall = if samples == 0 { f64::NAN } else { recall };
        writeln!(html, "<td class=\"recall\">{}</td></tr>", percent(recall))?;
    }
    html.push_str("</tbody></table></div></figure>\n");
    Ok(())
}

/// RAM by purpose: one bar a method on one scale, and the bytes beneath.
pub(super) fn memory(html: &mut String, summary: &Summary) -> Result {
    let mut purposes = summary.purposes();
    purposes.retain(|name| summary.methods.iter().any(|method| method.bytes_for(name) > Some(0)));
    let sum = |memory: &[(String, usize)]| memory.iter().map(|(_, bytes)| bytes).sum::<usize>();
    let totals = summary.methods.iter();
    let totals = totals.map(|method| method.train_ram_bytes.max(sum(&method.memory)));
    let full = totals.max().unwrap_or(0).max(1) as f64;
    html.push_str("<div class=\"bars\">\n");
    for method in &summary.methods {
        let label = method_label(method);
        write!(html, "<span class=\"name\">{}</span><div class=\"bar\">", Escaped(&label))?;
        for (index, name) in purposes.iter().enumerate() {
            let bytes = method.bytes_for(name).unwrap_or(0);
            if bytes > 0 {
                let width = 100.0 * bytes as f64 / full;
                let title = Escaped(name);
                let (ink, bytes) = (purpose(index).css(), grouped(bytes));
                write!(
                    html,
                    "<i style=\"width:{width:.3}%;--ink:{ink}\" title=\"{title}: {bytes} bytes\"></i>",
                )?;
            }
        }
        let total = grouped(method.train_ram_bytes);
        writeln!(html, "</div><span class=\"total\">{total}</span>")?;
    }
    html.push_str(
        "</div>\n<div class=\"wide\"><table class=\"named\"><thead><tr><th>RAM in bytes by purpose</th>",
    );
    for method in &summary.methods {
        let name = method_name(&method.method);
        write!(html, "<th>{}</th>", Escaped(&name))?;
    }
    html.push_str("</tr></thead><tbody>\n");
    for (index, name) in purposes.iter().enumerate() {
        let ink = purpose(index).css();
        let name_cell = Escaped(name);
        write!(html, "<tr><th><i class=\"swatch\" style=\"--ink:{ink}\"></i>{name_cell}</th>")?;
        for method in &summary.methods {
            let bytes = method.bytes_for(name);
            let bytes = bytes.map_or_else(|| super::format::NOTHING.to_owned(), grouped);
            write!(html, "<td>{bytes}</td>")?;
        }
        html.push_str("</tr>\n");
    }
    html.push_str("<tr class=\"sum\"><th>In all</th>");
    for method in &summary.methods {
        write!(html, "<td>{}</td>", grouped(method.train_ram_bytes))?;
    }
    html.push_str("</tr>\n</tbody></table></div>\n");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Changes, samples};
    use super::*;

    #[test]
    fn samples_are_summed_by_where_they_went() {
        let mut report = samples::report(2, 0);
        for run in report.runs.iter_mut().filter(|run| run.method == "sam") {
            run.changes =
                Some(Changes { stayed_right: 30, became_right: 6, became_wrong: 1, stayed_wrong: 3 });
        }
        let mut html = String::new();
        changes(&mut html, &report).unwrap();
        assert!(html.contains("<span class=\"name\">SAM</span>") && !html.contains("ASAM"), "{html}");
        assert!(html.contains("width:15.000%\" title=\"became right: 12\""), "{html}");
        assert!(html.contains("became wrong</th><td>2</td>") && html.contains(">80</span>"), "{html}");
    }

    #[test]
    fn what_takes_no_ram_has_no_row() {
        let mut report = samples::report(1, 0);
        report.runs.iter_mut().for_each(|run| run.memory.push(("gradient f32".into(), 0)));
        let mut html = String::new();
        memory(&mut html, &report.summary()).unwrap();
        assert!(html.contains("trunk arena") && !html.contains("gradient f32<"), "{html}");
    }

    #[test]
    fn matrices_add_up_even_when_ragged() {
        let matrices = [vec![vec![1, 2], vec![3, 4]], vec![vec![5]], Vec::new()];
        assert_eq!(sum(matrices.iter()), [[6, 2], [3, 4]]);
        let ragged = vec![vec![1, 0, 7]];
        assert_eq!(sum([&ragged].into_iter()), [[1, 0, 7], [0, 0, 0], [0, 0, 0]]);
    }

    #[test]
    fn shades_are_shares_of_the_row() {
        let mut html = String::new();
        let counts = vec![vec![3, 1], vec![0, 0]];
        matrix(&mut html, "After <x>", "red", &counts, &["a&b".to_owned()]).unwrap();
        assert!(html.contains("After &lt;x&gt;</b> 75.0 % of 4"), "{html}");
        assert!(html.contains("<td class=\"hit strong\" style=\"--share:0.750\">3"), "{html}");
        assert!(html.contains("<th>a&amp;b</th>") && html.contains("<th>1</th>"), "{html}");
        // A class without samples has no recall.
        assert!(html.contains("<td class=\"recall\">–</td>"), "{html}");
    }

    #[test]
    fn factory_counts_each_subject_once() {
        let report = samples::report(2, 0);
        let mut html = String::new();
        confusions(&mut html, &report).unwrap();
        // Two subjects with 5 classes of 40.
        assert_eq!(html.matches("% of 400<").count(), 4, "{html}");
    }
}
