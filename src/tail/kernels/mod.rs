//! Forward and backward of trainable layers in f32, one file a kind of layer.
//!
//! A kernel knows slices and shapes, never the graph. Activations are HWC (NHWC with N = 1). Every sum has one
//! order of operations, written in the source, and products are rounded before they are added: the bits are the
//! same on every target. All are total: a slice that is too short leaves outputs unwritten, it never panics.
//!
//! `forward` overwrites, `backward_input` says to its [`Sink`]; `backward_weights` and `backward_biases` add `scale`
//! times the gradient. Frozen layers run on their int8 weights: see [`Weight`]. Activation functions stand outside: [`super::dense::activate`] and [`super::dense::mask`].

pub mod conv2d;
pub mod depthwise;
mod geometry;

pub use crate::cpu::block::Weight;
pub use geometry::{ConvShape, ShapeError};

/// What becomes of a gradient that is there already: where an input has several readers, all but the first add.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sink {
    /// It is replaced.
    Overwrite,
    /// It is added to.
    Add,
}

impl Sink {
    #[inline(always)]
    pub(super) fn put(self, d: &mut f32, sum: f32) {
        *d = if self == Self::Add { *d + sum } else { sum };
    }
}

/// The taps that see an input pixel where neither stride nor dilation leaves any out: `rows` by `columns` of them from
/// `tap` on, the first at the output pixel `output` and each further one a line or a pixel before it.
struct Seen {
    tap: usize,
    output: usize,
    rows: usize,
    columns: usize,
}

impl Seen {
    /// `None` if there are none, or the window has a stride or a dilation.
    #[inline(always)]
    fn of(shape: &ConvShape, (row, column): (usize, usize)) -> Option<Self> {
        let (window, output) = (shape.window(), shape.output());
        if window.stride != [1; 2] || window.dilation != [1; 2] {
            return None;
        }
        let along = |axis: usize, input: usize, outputs: usize| {
            let reached = input + window.padding[axis];
            let first = (reached + 1).saturating_sub(outputs);
            let count =
                (reached + 1).min(window.filter[axis]).checked_sub(first).filter(|&count| count > 0)?;
            Some((first, reached - first, count))
        };
        let (i, r, rows) = along(0, row, output.height)?;
        let (j, c, columns) = along(1, column, output.width)?;
        Some(Self { tap: i * window.filter[1] + j, output: r * output.width + c, rows, columns })
    }
}

/// `d_biases[o] += scale * sum_p delta[p, o]`, pixel after pixel: the same for both convolutions.
fn backward_biases(channels: usize, scale: f32, delta: &[f32], d_biases: &mut [f32]) {
    for (channel, d) in d_biases.iter_mut().enumerate().take(channels) {
        let own = delta.get(channel..).unwrap_or(&[]).iter().step_by(channels.max(1));
        *d += scale * own.fold(0.0, |sum, &delta| sum + delta);
    }
}
