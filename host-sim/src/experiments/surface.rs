//! Ways of two parameters on the surface of their loss, seen from the side.

use super::figure::colour;
use anyhow::Result;
use plotters::prelude::*;

const X: std::ops::Range<f64> = -0.25..1.8;
const Y: std::ops::Range<f64> = -0.45..0.75;
/// Lines of the mesh along each side.
const LINES: u32 = 24;

/// A way and its name; points are on the ground.
pub struct Way {
    /// Legend.
    pub name: String,
    /// From start to end.
    pub points: Vec<(f64, f64)>,
    /// Index of its colour.
    pub colour: usize,
}

/// The surface as a mesh, and the ways on it.
///
/// # Errors
/// Those of plotters.
pub fn figure(title: &str, loss: impl Fn(f64, f64) -> f64, ways: &[Way]) -> Result<String> {
    let corners = [X.start, X.end].into_iter().flat_map(|x| [Y.start, Y.end].map(|y| (x, y)));
    let highest = corners.map(|(x, y)| loss(x, y)).fold(0.0, f64::max);
    let mut svg = String::new();
    {
        let canvas = SVGBackend::with_string(&mut svg, (760, 480)).into_drawing_area();
        canvas.fill(&WHITE)?;
        // Height is plotters' second axis.
        let mut chart = ChartBuilder::on(&canvas)
            .caption(title, ("sans-serif", 18))
            .margin(8)
            .build_cartesian_3d(X, 0.0..highest, Y)?;
        chart.with_projection(|mut projection| {
            projection.pitch = 0.5;
            projection.yaw = 0.55;
            projection.scale = 0.9;
            projection.into_matrix()
        });
        chart.configure_axes().light_grid_style(TRANSPARENT).max_light_lines(1).draw()?;
        let along = |range: &std::ops::Range<f64>, i: u32, of: u32| {
            range.start + (range.end - range.start) * f64::from(i) / f64::from(of)
        };
        let on = |(x, y): (f64, f64)| (x, loss(x, y), y);
        let mesh = RGBColor(0xBB, 0xC3, 0xCD);
        for i in 0..=LINES {
            let (x, y) = (along(&X, i, LINES), along(&Y, i, LINES));
            let across = (0..=60).map(|j| on((x, along(&Y, j, 60))));
            chart.draw_series(LineSeries::new(across, mesh))?;
            let down = (0..=60).map(|j| on((along(&X, j, 60), y)));
            chart.draw_series(LineSeries::new(down, mesh))?;
        }
        for Way { name, points, colour: index } in ways {
            let ink = colour(*index);
            chart
                .draw_series(LineSeries::new(points.iter().map(|&point| on(point)), ink.stroke_width(3)))?
                .label(name)
                .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 20, y)], ink.stroke_width(3)));
            let ends = points.first().into_iter().chain(points.last());
            chart.draw_series(ends.map(|&point| Circle::new(on(point), 5, ink.filled())))?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .label_font(("sans-serif", 15))
            .draw()?;
        canvas.present()?;
    }
    Ok(svg)
}
