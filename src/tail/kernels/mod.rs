//! Forward and backward of trainable layers in f32, one file a kind of layer.
//!
//! A kernel knows slices and shapes, never the graph. Activations are HWC (NHWC with N = 1). Every sum has one
//! order of operations, written in the source, and products are rounded before they are added: the bits are the
//! same on every target. All are total: a slice that is too short leaves outputs unwritten, it never panics.
//! (A window that lies in the padding alone begins after its input.) Who hands slices over checks their lengths.
//!
//! `forward` overwrites, `backward_input` says to its [`Sink`]; `backward_weights` and `backward_biases` add `scale`
//! times the gradient. Frozen layers run on their int8 weights: see [`Weight`]. Activation functions stand outside: [`super::dense::activate`] and [`super::dense::mask`].

pub mod conv2d;
pub mod depthwise;
#[cfg(all(test, flatmin_avx))]
mod tests;

use crate::cpu::block;
pub use crate::cpu::block::Weight;

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

/// `d_biases[o] += scale * sum_p delta[p, o]`, pixel after pixel: the same for both convolutions.
fn backward_biases(channels: usize, scale: f32, delta: &[f32], d_biases: &mut [f32]) {
    if d_biases.len() == channels && block::sum_channels(d_biases, scale, delta) > 0 {
        return;
    }
    for (channel, d) in d_biases.iter_mut().enumerate().take(channels) {
        let own = delta.get(channel..).unwrap_or(&[]).iter().step_by(channels.max(1));
        *d += scale * own.fold(0.0, |sum, &delta| sum + delta);
    }
}
