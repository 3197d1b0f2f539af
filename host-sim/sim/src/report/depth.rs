//! Depth against accuracy and RAM: what the main job's page begins with.

use super::format::{Escaped, NOTHING, grouped, method_name, points_estimate};
use super::html::figure;
use super::overview::{Line, Overview};
use super::plots::{SCALE, marker, percent_range, text_style};
use super::{figures, summary};
use crate::chart;
use crate::chart::palette::{self, FACTORY, GRID, MUTED, TEXT, look};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::fmt::Write as _;

/// Size of a panel in CSS pixels.
const PANEL: (u32, u32) = (400, 320);

/// The heading, a panel for each share of flipped labels, and the figures.
pub(super) fn section(html: &mut String, overview: &Overview) -> anyhow::Result<()> {
    let (lines, noises) = (overview.lines(), overview.noises());
    let methods = summary::distinct(lines.iter().map(|line| line.method.as_str()));
    html.push_str(
        "<h2>Depth, accuracy and RAM</h2>\n<p class=\"note intro\">int8 test accuracy by the RAM that training takes: a \
         point per method and number of layers, mean over subjects. A star: steps begin with the head in closed form.</p>\n",
    );
    figures::legend_of(html, &methods, "dashed")?;
    html.push_str("<div class=\"panels\">\n");
    for (place, noise) in noises.iter().enumerate() {
        let caption = noise_caption(*noise);
        let svg = panel(overview, &lines, &methods, place)?;
        writeln!(html, "<figure><figcaption>{caption}</figcaption>")?;
        figure(html, &svg, &format!("Accuracy by RAM, {caption}"))?;
        html.push_str("</figure>\n");
    }
    html.push_str("</div>\n");
    table(html, &lines, &methods, &noises)
}

pub(super) fn noise_caption(noise: f64) -> String {
    if noise == 0.0 { "clean labels".into() } else { format!("{:.0} % of the labels flipped", 100.0 * noise) }
}

/// Where a line's point lies: KiB as a power of two, and percent.
fn point(line: &Line, place: usize) -> Option<(f64, f64)> {
    let cell = line.cells.get(place)?;
    let (bytes, percent) = (cell.train_ram_bytes as f64, 100.0 * cell.accuracy_int8.mean);
    (bytes > 0.0 && percent.is_finite()).then(|| ((bytes / 1024.0).log2(), percent))
}

fn panel(overview: &Overview, lines: &[Line], methods: &[&str], place: usize) -> anyhow::Result<String> {
    let factory = overview.factory().map(|own| 100.0 * own.mean).filter(|own| own.is_finite());
    // One axis for all panels.
    let all = lines.iter().flat_map(|line| (0..line.cells.len()).filter_map(|place| point(line, place)));
    let all: Vec<(f64, f64)> = all.collect();
    let (low, high) =
        all.iter().fold((f64::MAX, f64::MIN), |(low, high), (x, _)| (low.min(*x), high.max(*x)));
    let (low, high) = if all.is_empty() { (0.0, 1.0) } else { ((low - 0.3).floor(), (high + 0.3).ceil()) };
    let percents = percent_range(all.iter().map(|(_, y)| *y).chain(factory));
    let svg = chart::svg((PANEL.0 * SCALE, PANEL.1 * SCALE), |canvas| {
        let mut chart = ChartBuilder::on(canvas)
            .margin_top(12 * SCALE)
            .margin_right(16 * SCALE)
            .margin_bottom(2 * SCALE)
            .x_label_area_size(44 * SCALE)
            .y_label_area_size(48 * SCALE)
            .build_cartesian_2d(low..high, percents)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID.rgb().stroke_width(2))
            .axis_style(MUTED.rgb().stroke_width(2))
            .x_labels(8)
            .y_labels(6)
            .x_label_formatter(&|power| format!("{:.0}", power.exp2()))
            .y_label_formatter(&|percent| format!("{percent:.0}"))
            .label_style(text_style(TEXT.rgb()))
            .axis_desc_style(text_style(MUTED.rgb()))
            .x_desc("RAM of training, KiB")
            .y_desc("int8 accuracy, %")
            .draw()?;
        if let Some(accuracy) = factory {
            let style = FACTORY.rgb().stroke_width(3);
            chart.draw_series(DashedLineSeries::new([(low, accuracy), (high, accuracy)], 12, 8, style))?;
        }
        for (index, method) in methods.iter().enumerate() {
            let look = look(method, index);
            // What another tuner trains is no point of the same curve.
            for integer in [false, true] {
                let own = lines.iter().filter(|line| line.method == *method && line.is_integer() == integer);
                let mut points: Vec<(f64, f64)> = own.filter_map(|line| point(line, place)).collect();
                points.sort_by(|(x, _), (other, _)| x.total_cmp(other));
                let style = look.ink.rgb().mix(0.6).stroke_width(4);
                chart.draw_series(LineSeries::new(points.iter().copied(), style))?;
                for at in &points {
                    marker(canvas, look, chart.backend_coord(at), 9)?;
                }
            }
        }
        let label = text_style(MUTED.rgb()).pos(Pos::new(HPos::Center, VPos::Top));
        for layers in summary::distinct(lines.iter().map(|line| line.layers.as_str())) {
            let own = lines.iter().filter(|line| line.layers == layers && line.method != "closed-form");
            let points: Vec<(f64, f64)> = own.filter_map(|line| point(line, place)).collect();
            let Some(lowest) = points.iter().map(|(_, y)| *y).min_by(f64::total_cmp) else { continue };
            let middle = points.iter().map(|(x, _)| x).sum::<f64>() / points.len() as f64;
            let (x, y) = chart.backend_coord(&(middle, lowest));
            canvas.draw(&Text::new(layers.to_owned(), (x, y + 11 * SCALE as i32), label.clone()))?;
        }
        Ok(())
    })?;
    Ok(palette::adopt(&svg))
}

/// What the terminal shows, too.
fn table(html: &mut String, lines: &[Line], methods: &[&str], noises: &[f64]) -> anyhow::Result<()> {
    html.push_str("<div class=\"wide\"><table class=\"methods\"><thead><tr><th>Layers</th><th>Method</th>");
    for noise in noises {
        write!(html, "<th>{}, %</th><th>over factory, pp</th>", noise_caption(*noise))?;
    }
    html.push_str("<th>RAM, bytes</th></tr></thead><tbody>\n");
    let mut before = "";
    for line in lines {
        let shown = if line.layers == before { "" } else { line.layers.as_str() };
        before = &line.layers;
        let place = methods.iter().position(|own| *own == line.method).unwrap_or(0);
        let look = look(&line.method, place);
        let name = method_name(&line.method);
        write!(html, "<tr><th>{}</th><td class=\"text\">", Escaped(shown))?;
        write!(html, "{}{}</td>", look.shape.svg(look.ink), Escaped(&name))?;
        for cell in &line.cells {
            let gain = points_estimate(&cell.over_factory);
            write!(html, "<td>{:.1}</td><td>{gain}</td>", 100.0 * cell.accuracy_int8.mean)?;
        }
        let bytes = line.cells.iter().map(|cell| cell.train_ram_bytes).max();
        writeln!(html, "<td>{}</td></tr>", bytes.map_or_else(|| NOTHING.to_owned(), grouped))?;
    }
    html.push_str("</tbody></table></div>\n");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Part, samples};
    use super::*;

    #[test]
    fn panels_have_their_captions_depths_and_values() {
        let part = |layers, label_noise, gain: f64| {
            let mut report = samples::report(3, 2);
            report.runs.iter_mut().for_each(|run| {
                run.accuracy_int8 = run.factory_accuracy + gain;
                run.train_ram_bytes = 10_000 * layers;
            });
            Part { layers, all: layers == 7, closed_form: layers == 7, integer: false, label_noise, report }
        };
        let parts = vec![part(1, 0.0, 0.01), part(1, 0.2, 0.0), part(7, 0.0, 0.05), part(7, 0.2, 0.04)];
        let overview = Overview { parts };
        let mut html = String::new();
        section(&mut html, &overview).unwrap();
        for text in
            ["<figcaption>clean labels<", "<figcaption>20 % of the labels flipped<", "RAM of training, KiB"]
        {
            assert!(html.contains(text), "{text}");
        }
        // Each depth stands in both panels and once in the table.
        let texts = |text: &str| html.lines().filter(|line| line.trim() == text).count();
        assert_eq!((texts("last"), texts("all 7*")), (2, 2), "{html}");
        assert_eq!(html.matches("<th>all 7*</th>").count(), 1);
        // Three methods gain five points with clean labels, four with flipped ones, on 70,000 bytes.
        assert_eq!(html.matches("<td>+5.0 ± 0.0</td>").count(), 3, "{html}");
        assert_eq!(html.matches("<td>+4.0 ± 0.0</td>").count(), 3);
        assert_eq!(html.matches(&format!("<td>{}</td>", grouped(70_000))).count(), 3);
        assert!(!html.contains("NaN") && !html.contains("inf"));
    }
}
