//! Ways of two parameters on the surface of their loss, seen from the side.

use anyhow::Result;
use flatmin_sim::chart::palette::series as colour;
use flatmin_sim::chart::svg_on_white;
use plotters::prelude::*;

const X: std::ops::Range<f64> = -0.25..1.65;
const Y: std::ops::Range<f64> = -0.25..0.65;
/// Cells of the mesh along x and y.
const CELLS: (u32, u32) = (38, 18);

/// A way and its name; points are on the ground.
pub struct Way {
    /// Legend.
    pub name: String,
    /// From start to end.
    pub points: Vec<(f64, f64)>,
    /// Index of its colour.
    pub colour: usize,
}

/// The surface as a mesh, and the ways on it: x to the right, y into the depth, the loss upwards.
///
/// # Errors
/// Those of plotters.
pub fn figure(title: &str, loss: impl Fn(f64, f64) -> f64, ways: &[Way]) -> Result<String> {
    // A parallel projection, by hand: plotters' own has no room for labels.
    let seen = |(x, y): (f64, f64)| (x + 0.55 * y, 0.45 * loss(x, y) + 0.6 * y);
    svg_on_white((760, 440), |canvas| {
        let mut chart = ChartBuilder::on(canvas)
            .caption(title, ("sans-serif", 18))
            .margin(8)
            .build_cartesian_2d(-0.45f64..2.05, -0.3f64..1.85)?;
        let along = |range: &std::ops::Range<f64>, i: u32, of: u32| {
            range.start + (range.end - range.start) * f64::from(i) / f64::from(of)
        };
        // From back to front, so that what is nearer hides what is behind.
        for j in (0..CELLS.1).rev() {
            for i in 0..CELLS.0 {
                let [left, right] = [i, i + 1].map(|i| along(&X, i, CELLS.0));
                let [near, far] = [j, j + 1].map(|j| along(&Y, j, CELLS.1));
                let corners = [(left, near), (right, near), (right, far), (left, far)].map(seen);
                let height = loss(0.5 * (left + right), 0.5 * (near + far));
                let light = (250.0 - 60.0 * (height / 2.0).sqrt().min(1.0)) as u8;
                chart.draw_series(std::iter::once(Polygon::new(
                    corners.to_vec(),
                    RGBColor(light, light, 252),
                )))?;
                let outline = [corners.as_slice(), &corners[..1]].concat();
                chart.draw_series(std::iter::once(PathElement::new(outline, RGBColor(0xB4, 0xBD, 0xC9))))?;
            }
        }
        let valley = [(X.start, 0.0), (X.end, 0.0)].map(seen);
        chart.draw_series(std::iter::once(PathElement::new(valley, BLACK.mix(0.5))))?;
        for Way { name, points, colour: index } in ways {
            let ink = colour(*index);
            chart
                .draw_series(LineSeries::new(points.iter().map(|&point| seen(point)), ink.stroke_width(2)))?
                .label(name)
                .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 20, y)], ink.stroke_width(3)));
            let ends = points.first().into_iter().chain(points.last());
            chart.draw_series(ends.map(|&point| Circle::new(seen(point), 5, ink.filled())))?;
        }
        let words = ("sans-serif", 15);
        for (text, place) in [
            ("flat end, x = 0", (-0.42, -0.2)),
            ("sharp end", (1.35, -0.2)),
            ("the loss is 0 along the dark line", (0.3, -0.2)),
        ] {
            chart.draw_series(std::iter::once(Text::new(text, place, words)))?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .label_font(words)
            .draw()?;
        Ok(())
    })
}
