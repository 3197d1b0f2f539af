//! `trajectory`: SGD and SAM on a surface of two parameters whose valley is sharp at one end and flat at the other,
//! taken step by step with the crate's optimizers.

use super::result::{Figure, Findings, Progress, Row, markdown};
use super::statistics::Estimate;
use super::surface::{self, Way};
use anyhow::Result;
use flatmin::BiasTreatment;
use flatmin::internals::optim::{Geometry, Kind, Segment, sam, sgd};
use flatmin_sim::chart::palette::series as colour;
use flatmin_sim::chart::svg_on_white;
use plotters::prelude::*;

const START: [f32; 2] = [1.5, 0.6];
const LEARNING_RATE: f32 = 0.05;
/// Radii: none is SGD.
const RADII: [f32; 3] = [0.0, 0.05, 0.2];
const STEPS: [usize; 3] = [500, 2_000, 10_000];
/// The table's name.
const TABLE: &str = "curvature across the valley";

/// `L = (1 + 5 x^2) y^2 / 2`: zero all along y = 0, where the curvature across is `1 + 5 x^2`.
fn gradient([x, y]: [f32; 2]) -> [f32; 2] {
    [5.0 * x * y * y, (1.0 + 5.0 * x * x) * y]
}

fn curvature([x, _]: [f32; 2]) -> f64 {
    1.0 + 5.0 * f64::from(x).powi(2)
}

/// Where a step was taken from, and where its ascent led.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Step {
    at: [f32; 2],
    ascended: [f32; 2],
}

/// The way of SAM with this radius, of SGD with 0.
fn path(rho: f32, steps: usize) -> Vec<Step> {
    let geometry = Geometry { weights: true, eta: None, bias: BiasTreatment::Unit };
    let segments = || std::iter::once(Segment { length: 2, kind: Kind::Weight });
    let (mut w, mut v) = (START, [0.0; 2]);
    let mut way = Vec::with_capacity(steps + 1);
    for _ in 0..steps {
        let at = w;
        let mut g = gradient(w);
        let norm = sam::ascent_norm_squared(&w, &g, &geometry, segments());
        let length = geometry.step_length(rho, norm);
        if let Some(c) = length {
            sam::perturb(&mut w, &mut g, c, &geometry, segments());
        }
        way.push(Step { at, ascended: w });
        sgd::prepare(&mut v, &at, 0.0, 0.0, BiasTreatment::Unit, segments());
        for (v, d) in v.iter_mut().zip(gradient(w)) {
            *v += d;
        }
        if length.is_some() {
            sam::restore(&mut w, &g);
        }
        sgd::descend(&mut w, &v, LEARNING_RATE);
    }
    way.push(Step { at: w, ascended: w });
    way
}

fn name(rho: f32) -> String {
    if rho == 0.0 { "SGD".into() } else { format!("SAM, rho = {rho}") }
}

/// Runs it.
///
/// # Errors
/// Those of plotters.
pub fn run() -> Result<Progress> {
    let (mut rows, mut cells) = (Vec::new(), Vec::new());
    for rho in RADII {
        let way = path(rho, STEPS[2]);
        let ends = STEPS.map(|steps| curvature(way[steps].at));
        for (steps, end) in STEPS.into_iter().zip(ends) {
            rows.push(Row {
                table: TABLE.into(),
                method: name(rho),
                noise: 0,
                variable: format!("{steps} steps"),
                value: Estimate::exact(end),
                difference: None,
                baseline: String::new(),
                setting: format!("lr {LEARNING_RATE}"),
                macs: None,
                sharpness: None,
                accuracy_f32: None,
            });
        }
        let numbers = ends.iter().map(|end| format!("{end:.2}"));
        cells.push(std::iter::once(name(rho)).chain(numbers).collect::<Vec<_>>());
    }
    let mut header = vec!["curvature where it is".to_owned()];
    header.extend(STEPS.map(|steps| format!("after {steps} steps")));
    let section = format!(
        "## Where the ways end\n\nL = (1 + 5 x^2) y^2 / 2 is zero all along y = 0; the curvature across that valley is \
        1 + 5 x^2: 12.25 under the start, 1 at its flattest. Gradient descent (learning rate {LEARNING_RATE}, no momentum) \
        stops where it meets the valley; SAM goes on along it to the flat end. Orange: the ascent of some steps.\n\n\
        ![Ways of SGD and SAM](evidence/trajectory.svg)\n\n![The same on the surface](evidence/trajectory-surface.svg)\n\n{}",
        markdown(&header, &cells)
    );
    let ways = [(0.0, 1), (0.2, 4)].map(|(rho, colour)| Way {
        name: name(rho),
        points: path(rho, 600).iter().map(|step| (f64::from(step.at[0]), f64::from(step.at[1]))).collect(),
        colour,
    });
    let loss = |x: f64, y: f64| 0.5 * (1.0 + 5.0 * x * x) * y * y;
    let surface = surface::figure("The same on the surface of the loss", loss, &ways)?;
    let figures = vec![
        Figure { name: "trajectory".into(), svg: figure()? },
        Figure { name: "trajectory-surface".into(), svg: surface },
    ];
    Ok(Progress::Done(Findings { name: "trajectory", rows, section, figures }))
}

fn figure() -> Result<String> {
    svg_on_white((760, 400), |canvas| {
        let mut chart = ChartBuilder::on(canvas)
            .caption("SGD and SAM from one start", ("sans-serif", 18))
            .margin(8)
            .x_label_area_size(40)
            .y_label_area_size(50)
            .build_cartesian_2d(-0.25f64..1.8, -0.45f64..0.75)?;
        chart
            .configure_mesh()
            .disable_mesh()
            .x_desc("x (curvature across the valley: 1 + 5 x^2)")
            .y_desc("y")
            .y_label_formatter(&|y| format!("{:.1}", y + 0.0))
            .label_style(("sans-serif", 14))
            .draw()?;
        // Level curves: y = sqrt(2 L / (1 + 5 x^2)).
        for level in [0.002, 0.01, 0.03, 0.08, 0.2, 0.4, 0.8, 1.4, 2.2] {
            for side in [1.0, -1.0] {
                let curve = (0..=60).map(|i| {
                    let x = -0.25 + 2.05 * f64::from(i) / 60.0;
                    (x, side * (2.0 * level / (1.0 + 5.0 * x * x)).sqrt())
                });
                let inside = curve.filter(|(_, y)| (-0.45..=0.75).contains(y));
                chart.draw_series(LineSeries::new(inside, RGBColor(0xC8, 0xCE, 0xD6)))?;
            }
        }
        let point = |[x, y]: [f32; 2]| (f64::from(x), f64::from(y));
        for (index, rho) in [0.0, 0.2].into_iter().enumerate() {
            let way = path(rho, 600);
            let ink = colour(if index == 0 { 1 } else { 4 });
            let sparse = way.iter().enumerate().filter(|(i, _)| *i < 60 || i % 10 == 0);
            let shown: Vec<Step> = sparse.map(|(_, step)| *step).collect();
            let dots: Vec<_> = shown.iter().map(|step| point(step.at)).collect();
            chart
                .draw_series(LineSeries::new(dots.clone(), ink.stroke_width(2)))?
                .label(format!("{}: ends at curvature {:.2}", name(rho), curvature(way[600].at)))
                .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 20, y)], ink.stroke_width(3)));
            if rho > 0.0 {
                for step in shown.iter().take(60).step_by(4) {
                    let ascent = vec![point(step.at), point(step.ascended)];
                    chart.draw_series(std::iter::once(PathElement::new(ascent, colour(3))))?;
                }
            }
            let ends = [START, way[600].at].map(|end| Circle::new(point(end), 5, ink.filled()));
            chart.draw_series(ends)?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
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
    fn gradient_descent_stays_and_sam_goes_to_the_flat_end() {
        // The same way in double precision, without a line of the crate.
        let (mut x, mut y) = (1.5f64, 0.6f64);
        for _ in 0..2_000 {
            (x, y) = (x - 0.05 * 5.0 * x * y * y, y - 0.05 * (1.0 + 5.0 * x * x) * y);
        }
        let end = curvature(path(0.0, 2_000)[2_000].at);
        assert!((end - (1.0 + 5.0 * x * x)).abs() < 1e-3, "{end}");
        assert!(end > 9.0);
        // In the valley SAM swings at y of the order of lr * curvature * rho and drifts to x = 0.
        assert!(curvature(path(0.2, 600)[600].at) < 1.05);
        assert!(curvature(path(0.05, 10_000)[10_000].at) < 1.05);
    }

    #[test]
    fn an_ascent_is_as_long_as_rho() {
        for step in path(0.2, 50).iter().take(50) {
            let [dx, dy] = [0, 1].map(|i| step.ascended[i] - step.at[i]);
            assert!((dx.hypot(dy) - 0.2).abs() < 1e-5, "{step:?}");
        }
    }
}
