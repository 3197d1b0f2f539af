//! SGD with momentum and weight decay: `v = mu v + (g + lambda w)`, `w = w - lr v`, as PyTorch's without
//! dampening. The velocity is the gradient's accumulator: no buffer holds `g` alone.

use super::{BiasTreatment, Kind, Segment, take, take_mut};
use crate::cpu::lanes::{add_scaled, mix};

/// `v = mu v + lambda w`, to be called before the minibatch's gradient is added to `v`. Frozen biases keep a
/// velocity of zero; a weight decay of 0 leaves w out.
pub fn prepare(
    v: &mut [f32],
    w: &[f32],
    momentum: f32,
    weight_decay: f32,
    bias: BiasTreatment,
    segments: impl Iterator<Item = Segment>,
) {
    let (mut v, mut w) = (v, w);
    for segment in segments {
        let (v, w) = (take_mut(&mut v, segment.length), take(&mut w, segment.length));
        if segment.kind == Kind::Bias && bias == BiasTreatment::Frozen {
            v.fill(0.0);
            continue;
        }
        mix(v, momentum, w, weight_decay);
    }
}

/// `w = w - lr v`.
pub fn descend(w: &mut [f32], v: &[f32], learning_rate: f32) {
    add_scaled(w, -learning_rate, v);
}

/// A minibatch of one sample without weight decay: [`prepare`], its gradient and [`descend`] in one pass, where the
/// layers can do that ([`DenseChain::descend_alone`](crate::tail::DenseChain::descend_alone)).
#[derive(Debug, Clone, Copy)]
pub struct Descent {
    /// mu.
    pub momentum: f32,
    /// Factor of the gradient.
    pub scale: f32,
    /// Whether biases move.
    pub bias: BiasTreatment,
    /// lr.
    pub learning_rate: f32,
}
