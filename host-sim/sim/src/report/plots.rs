//! Learning curves and accuracy by subject, drawn with plotters as SVG.
//!
//! Plotters rounds to whole units: everything is drawn at [`SCALE`] units a pixel.

use std::ops::Range;

use plotters::coord::types::{RangedCoordf64, RangedCoordu32};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::format::shortened;
use super::{CurvePoint, Report};
use crate::chart::palette::{self, FACTORY, GRID, Look, MUTED, PAPER, TEXT, look};
use crate::chart::{self, Canvas};

/// Units of the drawing a CSS pixel.
pub(super) const SCALE: u32 = 2;
/// Width of a figure in CSS pixels, before the page scales it.
const WIDTH: u32 = 500;
/// Width of a panel of learning curves.
const PANEL_WIDTH: u32 = 400;
/// Height of the learning curves.
const HEIGHT: u32 = 280;
/// The method that takes no steps: two points are no curve.
const WITHOUT_EPOCHS: &str = "closed-form";
/// Text size in CSS pixels; plotters divides by 1.24 what it is asked for.
const TEXT_SIZE: f64 = 14.0 * 1.24;

/// A chart over epochs.
type EpochChart<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<RangedCoordu32, RangedCoordf64>>;

/// What a learning curve shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Curve {
    /// Loss on the samples tuned on, with the labels as given.
    Loss,
    /// Accuracy on the test set.
    Accuracy,
}

impl Curve {
    /// Caption of the vertical axis, which is also the figure's.
    pub(super) fn title(self) -> &'static str {
        match self {
            Curve::Loss => "Loss on the samples tuned on",
            Curve::Accuracy => "Test accuracy, %",
        }
    }

    /// The value to draw: percent of an accuracy.
    fn value(self, point: &CurvePoint) -> Option<f64> {
        match self {
            Curve::Loss => Some(point.adaptation_loss),
            Curve::Accuracy => point.test_accuracy.map(|accuracy| 100.0 * accuracy),
        }
    }
}

/// A line over epochs.
type Line = Vec<(u32, f64)>;

/// The curves of one method.
struct Group {
    look: Look,
    single: Vec<Line>,
    mean: Line,
}

/// A panel per method on one pair of axes, so that no curve hides another: the method, its place, and the mean over its
/// subjects with each subject's own in the background. None without epochs: a head in closed form has none.
pub(super) fn learning_curves(report: &Report, curve: Curve) -> anyhow::Result<Vec<(&str, usize, String)>> {
    let groups = groups(report, curve);
    let lines = || groups.iter().flat_map(|group| &group.single);
    let points = || lines().flatten();
    let Some(last) = points().map(|(epoch, _)| *epoch).max() else {
        return Ok(Vec::new());
    };
    let factory = (curve == Curve::Accuracy)
        .then(|| 100.0 * report.summary().factory_accuracy.mean)
        .filter(|accuracy| accuracy.is_finite());
    let values = points().map(|(_, value)| *value).chain(factory);
    let range = match curve {
        Curve::Loss => loss_range(values),
        Curve::Accuracy => percent_range(values),
    };

    let panels = report.methods().into_iter().enumerate().zip(&groups);
    let drawn = panels.filter(|((_, method), group)| !group.single.is_empty() && *method != WITHOUT_EPOCHS);
    let draw = |group: &Group| {
        let svg = panel(group, 0..last.max(1), range.clone(), factory)?;
        anyhow::Ok(palette::adopt(&svg))
    };
    drawn.map(|((place, method), group)| Ok((method, place, draw(group)?))).collect()
}

fn panel(
    group: &Group,
    epochs: Range<u32>,
    range: Range<f64>,
    factory: Option<f64>,
) -> anyhow::Result<String> {
    let last = epochs.end;
    chart::svg((PANEL_WIDTH * SCALE, HEIGHT * SCALE), |canvas| {
        let mut chart = epoch_chart(canvas, epochs, range)?;
        if let Some(accuracy) = factory {
            let line = [(0, accuracy), (last, accuracy)];
            let style = FACTORY.rgb().stroke_width(3);
            chart.draw_series(DashedLineSeries::new(line, 12, 8, style))?;
        }
        let faint = group.look.ink.rgb().mix(0.28).stroke_width(2);
        // A single subject is its own mean.
        for line in group.single.iter().filter(|_| group.single.len() > 1) {
            chart.draw_series(LineSeries::new(line.iter().copied(), faint))?;
        }
        draw_mean(canvas, &mut chart, group)
    })
}

/// The curves by method, without points that are not finite.
fn groups(report: &Report, curve: Curve) -> Vec<Group> {
    let methods = report.methods();
    let groups = methods.into_iter().enumerate().map(|(place, method)| {
        let lines = report.runs_of(method).map(|run| {
            let points = run.curve.iter().filter_map(|point| Some((point.epoch, curve.value(point)?)));
            points.filter(|(_, value)| value.is_finite()).collect()
        });
        let single: Vec<Line> = lines.filter(|line: &Line| !line.is_empty()).collect();
        Group { look: look(method, place), mean: mean_line(&single), single }
    });
    groups.collect()
}

/// The mean at each epoch that every line has.
fn mean_line(lines: &[Line]) -> Line {
    let at = |line: &Line, epoch| line.iter().find(|(e, _)| *e == epoch).map(|(_, v)| *v);
    let epochs = lines.first().into_iter().flatten().map(|(epoch, _)| *epoch);
    let mean = epochs.filter_map(|epoch| {
        let sum = lines.iter().try_fold(0.0, |sum, line| Some(sum + at(line, epoch)?))?;
        Some((epoch, sum / lines.len() as f64))
    });
    mean.collect()
}

/// From zero to a little over the largest value.
fn loss_range(values: impl Iterator<Item = f64>) -> Range<f64> {
    let largest = values.fold(0.0, f64::max);
    0.0..if largest > 0.0 { 1.05 * largest } else { 1.0 }
}

/// The values with some air, in steps of five, at most 0 to 100.
pub(super) fn percent_range(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) =
        values.fold((100.0_f64, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    let low = (((low - 1.0) / 5.0).floor() * 5.0).clamp(0.0, 90.0);
    let high = (((high + 1.0) / 5.0).ceil() * 5.0).clamp(low + 10.0, 100.0);
    low..high
}

/// Axes, labels and grid over epochs.
fn epoch_chart<'a>(
    canvas: &Canvas<'a>,
    epochs: Range<u32>,
    values: Range<f64>,
) -> anyhow::Result<EpochChart<'a>> {
    let decimals = usize::from(values.end - values.start < 4.0);
    let mut chart = ChartBuilder::on(canvas)
        .margin_top(12 * SCALE)
        .margin_right(16 * SCALE)
        .margin_bottom(2 * SCALE)
        .x_label_area_size(44 * SCALE)
        .y_label_area_size(40 * SCALE)
        .build_cartesian_2d(epochs, values)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID.rgb().stroke_width(2))
        .axis_style(MUTED.rgb().stroke_width(2))
        .x_labels(8)
        .y_labels(6)
        .y_label_formatter(&|value| format!("{value:.decimals$}"))
        .label_style(text_style(TEXT.rgb()))
        .axis_desc_style(text_style(MUTED.rgb()))
        .x_desc("epoch")
        .draw()?;
    Ok(chart)
}

/// The mean's line, with up to eight markers.
fn draw_mean<'a>(canvas: &Canvas<'a>, chart: &mut EpochChart<'a>, group: &Group) -> anyhow::Result<()> {
    let style = group.look.ink.rgb().stroke_width(5);
    chart.draw_series(LineSeries::new(group.mean.iter().copied(), style))?;
    let step = group.mean.len().div_ceil(8).max(1);
    // Counted from the end, so that the last point has one.
    for point in group.mean.iter().rev().step_by(step) {
        marker(canvas, group.look, chart.backend_coord(point), 9)?;
    }
    Ok(())
}

/// A method's marker, with a rim that keeps it apart from what it covers.
pub(super) fn marker(canvas: &Canvas<'_>, look: Look, at: (i32, i32), radius: i32) -> anyhow::Result<()> {
    for (ink, radius) in [(PAPER, radius + 3), (look.ink, radius)] {
        let corners = look.shape.corners(at, radius);
        if corners.is_empty() {
            canvas.draw(&Circle::new(at, radius, ink.rgb().filled()))?;
        } else {
            canvas.draw(&Polygon::new(corners, ink.rgb().filled()))?;
        }
    }
    Ok(())
}

/// The figures' type.
pub(super) fn text_style<'a>(colour: RGBColor) -> TextStyle<'a> {
    let mut style = TextStyle::from(("sans-serif", TEXT_SIZE * f64::from(SCALE)));
    style.color = colour.to_backend_color();
    style
}

/// One row a subject, worst factory model first: the factory's accuracy as a bar, each method's as its
/// marker, joined by a line; `None` without runs.
pub(super) fn subjects(report: &Report) -> anyhow::Result<Option<String>> {
    let mut rows = report.one_run_a_subject();
    rows.retain(|run| run.factory_accuracy.is_finite());
    rows.sort_by(|a, b| a.factory_accuracy.total_cmp(&b.factory_accuracy));
    if rows.is_empty() {
        return Ok(None);
    }
    let methods = report.methods();
    let percents = report.runs.iter();
    let percents = percents.flat_map(|run| [run.factory_accuracy, run.accuracy_int8]);
    let range = percent_range(percents.filter(|a| a.is_finite()).map(|a| 100.0 * a));

    let lane = if rows.len() > 30 { 7 } else { 11 };
    let row_height = lane * methods.len() as u32 + 10;
    let height = row_height * rows.len() as u32 + 62;
    let names = || rows.iter().map(|run| shortened(&run.subject, 22));
    let widest = names().map(|name| name.chars().count()).max().unwrap_or(0) as u32;
    let svg = chart::svg((WIDTH * SCALE, height * SCALE), |canvas| {
        let count = rows.len() as f64;
        let mut chart = ChartBuilder::on(canvas)
            .margin_top(10 * SCALE)
            .margin_right(20 * SCALE)
            .margin_bottom(2 * SCALE)
            .x_label_area_size(44 * SCALE)
            .y_label_area_size((8 * widest + 16) * SCALE)
            .build_cartesian_2d(range, count..0.0)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID.rgb().stroke_width(2))
            .axis_style(MUTED.rgb().stroke_width(2))
            .x_labels(8)
            .y_labels(0)
            .x_label_formatter(&|value| format!("{value:.0}"))
            .label_style(text_style(TEXT.rgb()))
            .axis_desc_style(text_style(MUTED.rgb()))
            .x_desc("test accuracy, %")
            .draw()?;

        let at = |percent: f64, row: f64| chart.backend_coord(&(percent, row));
        let left = chart.plotting_area().get_base_pixel().0 - 8 * SCALE as i32;
        let label = text_style(TEXT.rgb()).pos(Pos::new(HPos::Right, VPos::Center));
        for (index, (name, run)) in names().zip(&rows).enumerate() {
            let top = index as f64;
            let factory = 100.0 * run.factory_accuracy;
            if index > 0 {
                let (_, y) = at(factory, top);
                let (right, _) = at(chart.x_range().end, top);
                let ends = vec![(left, y), (right, y)];
                canvas.draw(&PathElement::new(ends, GRID.rgb().stroke_width(2)))?;
            }
            canvas.draw(&Text::new(name, (left, at(factory, top + 0.5).1), label.clone()))?;
            // The methods share the row but for a pad of 5 pixels above and below.
            let pad = 5.0 / f64::from(row_height);
            let lane = f64::from(lane) / f64::from(row_height);
            let (x, y) = at(factory, top + pad);
            let bar = [(x - 3, y), (x + 3, at(factory, top + 1.0 - pad).1)];
            for (place, method) in methods.iter().enumerate() {
                let look = look(method, place);
                let own = report.runs_of(method).filter(|r| r.subject == run.subject);
                for tuned in own.filter(|r| r.accuracy_int8.is_finite()) {
                    let point = at(100.0 * tuned.accuracy_int8, top + pad + lane * (place as f64 + 0.5));
                    let stem = vec![(x, point.1), point];
                    let style = look.ink.rgb().mix(0.55).stroke_width(4);
                    canvas.draw(&PathElement::new(stem, style))?;
                    marker(canvas, look, point, if lane < 0.2 { 8 } else { 9 })?;
                }
            }
            canvas.draw(&Rectangle::new(bar, FACTORY.rgb().filled()))?;
        }
        Ok(())
    })?;
    Ok(Some(palette::adopt(&svg)))
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn mean_is_taken_where_every_line_has_a_point() {
        let lines = [vec![(0, 1.0), (1, 2.0), (2, 3.0)], vec![(0, 3.0), (2, 5.0)]];
        assert_eq!(mean_line(&lines), [(0, 2.0), (2, 4.0)]);
        assert_eq!(mean_line(&[]), []);
    }

    #[test]
    fn ranges_hold_their_values_and_are_never_empty() {
        assert_eq!(percent_range([72.3, 88.8].into_iter()), 70.0..90.0);
        assert_eq!(percent_range([100.0].into_iter()), 90.0..100.0);
        assert_eq!(percent_range([0.0].into_iter()), 0.0..10.0);
        assert_eq!(percent_range([].into_iter()), 90.0..100.0);
        assert_eq!(loss_range([].into_iter()), 0.0..1.0);
    }

    #[test]
    fn without_epochs_there_is_no_curve() {
        let report = samples::report(2, 0);
        assert_eq!(learning_curves(&report, Curve::Loss).unwrap(), []);
        assert!(subjects(&report).unwrap().is_some());
        let none = samples::report(0, 0);
        assert_eq!(subjects(&none).unwrap(), None);
    }

    #[test]
    fn a_single_epoch_and_values_that_are_not_finite_still_draw() {
        let mut report = samples::report(2, 1);
        report.runs[0].curve[1].adaptation_loss = f64::NAN;
        report.runs[1].accuracy_int8 = f64::INFINITY;
        for curve in [Curve::Loss, Curve::Accuracy] {
            let panels = learning_curves(&report, curve).unwrap();
            let drawn: Vec<_> = panels.iter().map(|(method, place, _)| (*method, *place)).collect();
            assert_eq!(drawn, [("sgd", 0), ("sam", 1), ("asam", 2)]);
            for ((_, place, svg), ink) in panels.iter().zip(["0072B2", "D55E00", "009E73"]) {
                // Its own colour and no other's: nothing can be hidden by another method.
                assert!(
                    svg.contains(&format!("var(--method-{}, #{ink})", place + 1)) && !svg.contains("NaN")
                );
                assert_eq!(svg.matches("var(--method-").count(), svg.matches(ink).count(), "{svg}");
            }
        }
        let svg = subjects(&report).unwrap().unwrap();
        assert!(svg.contains("wearer 2") && !svg.contains("inf"));
    }

    #[test]
    fn names_are_escaped_in_figures() {
        let mut report = samples::report(1, 0);
        for run in &mut report.runs {
            run.subject = "<script>".to_owned();
        }
        let svg = subjects(&report).unwrap().unwrap();
        assert!(svg.contains("&lt;script&gt;") && !svg.contains("<script>"));
    }
}
