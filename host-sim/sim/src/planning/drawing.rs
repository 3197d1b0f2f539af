//! Held-out loss over RAM: every plan that was measured, and the frontier.

use super::{Findings, Measured};
use crate::chart::palette::series;
use crate::chart::svg_on_white;
use anyhow::Result;
use plotters::prelude::*;

/// Of the drawing, in pixels.
const SIZE: (u32, u32) = (760, 440);

pub(super) fn svg(findings: &Findings) -> Result<String> {
    let at = |own: &Measured| (own.ram_bytes as f64 / 1024.0, own.loss);
    let points: Vec<(f64, f64)> =
        findings.measured.iter().filter(|own| own.loss.is_finite()).map(at).collect();
    let factory = findings.measured.iter().map(|own| own.factory_loss);
    let most = findings.measured.iter().map(|own| own.ram_bytes).max().unwrap_or(1);
    let budget = findings.budget.ram_bytes.unwrap_or(most) as f64 / 1024.0;
    let left = points.iter().map(|point| point.0).fold(budget, f64::min);
    let losses = points.iter().map(|point| point.1).chain(factory.clone());
    let (low, high) = losses.fold((f64::MAX, f64::MIN), |(low, high), loss| (low.min(loss), high.max(loss)));
    let margin = (high - low).max(1e-6) * 0.06;

    svg_on_white(SIZE, |canvas| {
        let title = format!("{}: what training takes and brings", findings.subject);
        let mut chart = ChartBuilder::on(canvas)
            .caption(title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(42)
            .y_label_area_size(60)
            .build_cartesian_2d(0.96 * left..1.02 * budget, low - margin..high + margin)?;
        chart
            .configure_mesh()
            .x_desc("firmware RAM, KiB")
            .y_desc("loss on held-out samples")
            .light_line_style(TRANSPARENT)
            .draw()?;
        let level = factory.fold(f64::MIN, f64::max);
        let (grey, blue) = (series(0), series(1));
        let line = [(0.96 * left, level), (1.02 * budget, level)];
        chart.draw_series(DashedLineSeries::new(line, 6, 4, grey.stroke_width(1)))?;
        chart.draw_series(points.iter().map(|&point| Circle::new(point, 3, grey.mix(0.6).filled())))?;
        // The part of the frontier that nothing cheaper beats in loss: the others are there for their right answers.
        let mut lowest: Vec<&Measured> = Vec::new();
        for own in &findings.frontier {
            if lowest.last().is_none_or(|last| own.loss < last.loss) {
                lowest.push(own);
            }
        }
        let steps: Vec<(f64, f64)> = (lowest.windows(2))
            .flat_map(|pair| [at(pair[0]), (at(pair[1]).0, pair[0].loss), at(pair[1])])
            .collect();
        chart.draw_series(LineSeries::new(steps, blue.stroke_width(2)))?;
        chart.draw_series(findings.frontier.iter().map(|own| Circle::new(at(own), 5, blue.filled())))?;
        Ok(())
    })
}
