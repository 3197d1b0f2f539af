//! Charts as SVG: the page's figures, the plans' and the laboratory's.

pub mod palette;

use anyhow::Result;
use plotters::coord::Shift;
use plotters::prelude::*;

/// Where a chart is drawn.
pub type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// What `draw` makes of an empty canvas of this width and height in pixels.
///
/// # Errors
/// Errors of `draw`, and of the backend.
pub fn svg(size: (u32, u32), draw: impl FnOnce(&Canvas<'_>) -> Result<()>) -> Result<String> {
    let mut text = String::new();
    let canvas = SVGBackend::with_string(&mut text, size).into_drawing_area();
    draw(&canvas)?;
    canvas.present()?;
    drop(canvas);
    Ok(text)
}

/// Drawing as [`svg`] makes it, on white paper: for figures that are looked at outside of a page.
///
/// # Errors
/// Errors of `draw`, and of the backend.
pub fn svg_on_white(size: (u32, u32), draw: impl FnOnce(&Canvas<'_>) -> Result<()>) -> Result<String> {
    svg(size, |canvas| {
        canvas.fill(&WHITE)?;
        draw(canvas)
    })
}
