//! The loss in the plane through three points: the start and two solutions.

use super::bench::{Bench, Stand};
use super::landscape::{Landscape, dot};
use super::trial::{Draw, Setting, Trial};
use anyhow::Result;
use flatmin::internals::tail::DenseChain;
use flatmin_sim::chart::palette::series as colour;
use flatmin_sim::chart::svg_on_white;
use plotters::prelude::*;

/// Cells along each side.
const CELLS: usize = 40;

/// A plane in the space of weights: origin, two axes of length 1, and where three points lie on it.
struct Plane {
    origin: Vec<f64>,
    axes: [Vec<f64>; 2],
    points: [[f64; 2]; 3],
}

impl Plane {
    /// Through the first point; the first axis leads to the second one.
    fn through(points: [&[f32]; 3]) -> Self {
        let wide = points.map(|point| point.iter().map(|&w| f64::from(w)).collect::<Vec<f64>>());
        let minus = |a: &[f64], b: &[f64]| -> Vec<f64> { a.iter().zip(b).map(|(a, b)| a - b).collect() };
        let unit = |v: Vec<f64>| -> Vec<f64> {
            let norm = dot(&v, &v).sqrt().max(1e-12);
            v.into_iter().map(|x| x / norm).collect()
        };
        let (first, second) = (minus(&wide[1], &wide[0]), minus(&wide[2], &wide[0]));
        let along = unit(first.clone());
        let share = dot(&second, &along);
        let across = unit(second.iter().zip(&along).map(|(s, a)| s - share * a).collect());
        let points = [[0.0; 2], [dot(&first, &along), 0.0], [share, dot(&second, &across)]];
        Self { origin: wide[0].clone(), axes: [along, across], points }
    }

    fn at(&self, [x, y]: [f64; 2]) -> Vec<f32> {
        let places = self.origin.iter().zip(self.axes[0].iter().zip(&self.axes[1]));
        places.map(|(o, (a, b))| (o + x * a + y * b) as f32).collect()
    }

    /// Lowest and highest of a coordinate, with as much around as lies between.
    fn range(&self, axis: usize) -> std::ops::Range<f64> {
        let values = self.points.map(|point| point[axis]);
        let (low, high) =
            values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &v| (l.min(v), h.max(v)));
        let margin = 0.5 * (high - low).max(1e-3);
        low - margin..high + margin
    }
}

/// The adaptation loss of a draw around its start and what two settings make of it.
///
/// # Errors
/// What the runtime refuses; those of plotters.
pub fn figure(bench: &Bench, draw: Draw, solutions: [(&str, Setting); 2]) -> Result<String> {
    let buffer = solutions.iter().any(|(_, setting)| setting.sharpness_batch > 1);
    bench.with_stand(draw, buffer, |stand| drawn(stand, draw, solutions))
}

fn drawn(stand: &mut Stand, draw: Draw, solutions: [(&str, Setting); 2]) -> Result<String> {
    stand.tuner.factory_reset();
    let start = stand.tuner.weights().to_vec();
    let mut ends = Vec::new();
    for (_, setting) in solutions {
        stand.tune(&Trial { draw, setting })?;
        ends.push(stand.tuner.weights().to_vec());
    }
    let plane = Plane::through([&start, &ends[0], &ends[1]]);
    let tail = DenseChain::of(stand.tuner.pack())?;
    let windows = stand.features()?;
    let mut landscape = Landscape::new(&tail, windows, Vec::new());
    let (across, up) = (plane.range(0), plane.range(1));
    let step = [(across.end - across.start) / CELLS as f64, (up.end - up.start) / CELLS as f64];
    let corner = |i: usize, j: usize| [across.start + i as f64 * step[0], up.start + j as f64 * step[1]];
    let mut cells = Vec::with_capacity(CELLS * CELLS);
    for i in 0..CELLS {
        for j in 0..CELLS {
            let [x, y] = corner(i, j);
            let middle = [x + 0.5 * step[0], y + 0.5 * step[1]];
            cells.push((i, j, landscape.loss(&plane.at(middle), None)?));
        }
    }
    let lowest = cells.iter().fold(f64::INFINITY, |m, cell| m.min(cell.2));
    let highest = cells.iter().fold(0.0, |m: f64, cell| m.max(cell.2));
    svg_on_white((720, 480), |canvas| {
        let mut chart = ChartBuilder::on(canvas)
            .caption(
                format!("Adaptation loss, {lowest:.2} (light) to {highest:.2} (dark)"),
                ("sans-serif", 18),
            )
            .margin(8)
            .x_label_area_size(40)
            .y_label_area_size(60)
            .build_cartesian_2d(across.clone(), up.clone())?;
        chart
            .configure_mesh()
            .disable_mesh()
            .label_style(("sans-serif", 14))
            .x_desc(format!("from the start towards {}, distance", solutions[0].0))
            .y_desc("across")
            .draw()?;
        // Twelve shades show level lines.
        let shade = |loss: f64| {
            let share = ((loss - lowest) / (highest - lowest).max(1e-9)).sqrt();
            let dark = 245.0 - 170.0 * (share * 12.0).floor() / 12.0;
            RGBColor(dark as u8, dark as u8, (dark + 8.0) as u8)
        };
        chart.draw_series(cells.iter().map(|&(i, j, loss)| {
            let [[x, y], [right, top]] = [corner(i, j), corner(i + 1, j + 1)];
            Rectangle::new([(x, y), (right, top)], shade(loss).filled())
        }))?;
        for (index, (name, [x, y])) in
            ["start", solutions[0].0, solutions[1].0].into_iter().zip(plane.points).enumerate()
        {
            let ink = colour(index + 1);
            chart
                .draw_series(std::iter::once(Circle::new((x, y), 6, ink.filled())))?
                .label(name)
                .legend(move |(x, y)| Circle::new((x + 10, y), 5, ink.filled()));
        }
        chart
            .configure_series_labels()
            .background_style(WHITE.mix(0.8))
            .label_font(("sans-serif", 15))
            .draw()?;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_points_lie_on_their_plane() {
        let points: [&[f32]; 3] = [&[1.0, 0.0, 2.0, 0.0], &[1.0, 3.0, 2.0, 4.0], &[0.0, 1.0, 2.0, -1.0]];
        let plane = Plane::through(points);
        assert!((plane.points[1][0] - 5.0).abs() < 1e-6);
        for (point, place) in points.iter().zip(plane.points) {
            for (a, b) in point.iter().zip(plane.at(place)) {
                assert!((a - b).abs() < 1e-6);
            }
        }
    }
}
