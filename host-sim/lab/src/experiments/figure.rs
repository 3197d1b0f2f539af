//! Line charts with intervals as SVG, drawn with plotters.

use super::statistics::Interval;
use anyhow::Result;
use flatmin_sim::chart::palette::{GRID, TEXT, series as colour};
use flatmin_sim::chart::svg_on_white;
use plotters::prelude::*;

/// One line: x, and a mean with its interval.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Legend.
    pub name: String,
    /// Points from left to right.
    pub points: Vec<(f64, Interval)>,
}

/// What to draw around the lines.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// Above the chart.
    pub title: String,
    /// Under the horizontal axis.
    pub x: String,
    /// Beside the vertical axis.
    pub y: String,
    /// Logarithmic horizontal axis.
    pub logarithmic: bool,
    /// The lines.
    pub series: Vec<Series>,
}

/// From one series to the next, in widths of the plot.
const SHIFT: f64 = 0.006;
/// Room for the legend, in pixels.
const LEGEND: u32 = 230;
const SIZE: (u32, u32) = (860, 400);

impl Chart {
    /// As SVG.
    ///
    /// # Errors
    /// Those of plotters.
    pub fn svg(&self) -> Result<String> {
        let points = || self.series.iter().flat_map(|s| &s.points);
        let last = self.series.len().saturating_sub(1);
        let ends = points().flat_map(|(x, _)| [self.beside(*x, 0), self.beside(*x, last)]);
        let (x_low, x_high) = bounds(ends);
        let (y_low, y_high) = bounds(points().flat_map(|(_, y)| [y.low, y.high]));
        let air = 0.05 * (y_high - y_low).max(1e-9);
        let y = y_low - air..y_high + air;
        svg_on_white(SIZE, |canvas| {
            let (plot, legend) = canvas.split_horizontally(SIZE.0 - LEGEND);
            if self.logarithmic {
                let ticks = round_numbers(x_low, x_high);
                self.lines(&plot, (x_low..x_high).log_scale().with_key_points(ticks), y)?;
            } else {
                self.lines(&plot, x_low..x_high, y)?;
            }
            for (index, series) in self.series.iter().enumerate() {
                let height = 44 + 22 * index as i32;
                let style = colour(index).stroke_width(3);
                legend.draw(&PathElement::new(vec![(2, height), (22, height)], style))?;
                legend.draw(&Text::new(
                    series.name.clone(),
                    (28, height - 7),
                    ("sans-serif", 15).into_font().color(&TEXT.rgb()),
                ))?;
            }
            Ok(())
        })
    }

    /// A little beside `x`, by turns to the left and to the right, so that bars of several series do not hide each
    /// other.
    fn beside(&self, x: f64, index: usize) -> f64 {
        let (low, high) = bounds(self.series.iter().flat_map(|s| &s.points).map(|(x, _)| *x));
        let aside = SHIFT * (index as f64 - 0.5 * (self.series.len() as f64 - 1.0));
        match self.logarithmic {
            true => x * (high / low).powf(aside),
            false => x + aside * (high - low),
        }
    }

    fn lines<X>(
        &self,
        plot: &DrawingArea<SVGBackend, plotters::coord::Shift>,
        x: X,
        y: std::ops::Range<f64>,
    ) -> Result<()>
    where
        X: plotters::coord::ranged1d::AsRangedCoord<Value = f64>,
        X::CoordDescType: Ranged<ValueType = f64> + plotters::coord::ranged1d::ValueFormatter<f64>,
    {
        let mut chart = ChartBuilder::on(plot)
            .caption(&self.title, ("sans-serif", 18).into_font().color(&TEXT.rgb()))
            .margin(8)
            .x_label_area_size(44)
            .y_label_area_size(58)
            .build_cartesian_2d(x, y)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID.rgb())
            .x_labels(8)
            .y_labels(7)
            .x_label_formatter(&|x| format!("{}", (x * 1e6).round() / 1e6))
            .x_desc(&self.x)
            .y_desc(&self.y)
            .label_style(("sans-serif", 14).into_font().color(&TEXT.rgb()))
            .axis_desc_style(("sans-serif", 15).into_font().color(&TEXT.rgb()))
            .draw()?;
        for (index, series) in self.series.iter().enumerate() {
            let colour = colour(index);
            let points = || series.points.iter().map(|(x, y)| (self.beside(*x, index), y));
            chart.draw_series(LineSeries::new(points().map(|(x, y)| (x, y.mean)), colour.stroke_width(2)))?;
            for (x, y) in points() {
                let bar = vec![(x, y.low), (x, y.high)];
                chart.draw_series(std::iter::once(PathElement::new(bar, colour.mix(0.6).stroke_width(1))))?;
                chart.draw_series(std::iter::once(Circle::new((x, y.mean), 3, colour.filled())))?;
            }
        }
        Ok(())
    }
}

/// 1, 2 and 5 times powers of ten, for a logarithmic axis.
fn round_numbers(low: f64, high: f64) -> Vec<f64> {
    if low <= 0.0 {
        return Vec::new();
    }
    let powers = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let all = powers.flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(power)));
    all.filter(|tick| (low..=high).contains(tick)).collect()
}

/// Lowest and highest, never the same.
fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    match (low < high, low > 0.0 && low.is_finite()) {
        (true, _) => (low, high),
        // A single place, also of a logarithmic axis.
        (_, true) => (0.5 * low, 2.0 * low),
        _ => (0.0, 1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logarithmic_axis_names_round_numbers() {
        assert_eq!(round_numbers(0.4, 60.0), [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0]);
        assert!(round_numbers(0.0, 60.0).is_empty());
        let (low, high) = bounds([16.0].into_iter());
        assert!(0.0 < low && low < 16.0 && 16.0 < high);
    }

    #[test]
    fn one_point_and_none_are_drawn_too() {
        let at = |mean| Interval { mean, low: mean, high: mean };
        for points in [vec![], vec![(16.0, at(1.0))], vec![(16.0, at(-1.0)), (64.0, at(2.0))]] {
            for logarithmic in [false, true] {
                let series = vec![Series { name: "SAM".into(), points: points.clone() }];
                let (title, x, y) = ("t".into(), "x".into(), "y".into());
                let svg = Chart { title, x, y, logarithmic, series }.svg().unwrap();
                assert_eq!(svg.matches("<circle").count(), points.len(), "{logarithmic}");
            }
        }
    }
}
