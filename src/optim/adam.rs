//! AdamW (Loshchilov and Hutter 2017, arXiv 1711.05101, algorithm 2) with its moments in 8 bits, in blocks with a scale
//! each, in the spirit of Dettmers et al. 2021 (arXiv 2110.02861): 2.125 bytes per parameter instead of 8.
//!
//! `m = mu m + (1 - mu) g`, `v = 0.999 v + 0.001 g^2`, `w = w - lr lambda w - lr (m / c1) / (sqrt(v / c2) + 1e-8)`, with
//! `c1 = 1 - mu^t` and `c2 = 1 - 0.999^t` at step t from 1: the weights move by moments before they are rounded. A block
//! is [`BLOCK`] parameters. It keeps m to the nearest of 127 steps on either side, and the root of v, which spans half
//! the decades that v does, rounded up to one of 255: rounded down to 0 it would divide.

use super::{BiasTreatment, Kind, Segment, take_mut};
use crate::math;
use crate::sound;

/// Parameters that share a scale.
pub const BLOCK: usize = 64;

/// Two scales, m and the root of v.
const BLOCK_FLOATS: usize = 2 + 2 * BLOCK / 4;

const SECOND: f32 = 0.999;
const EPSILON: f32 = 1e-8;
/// Below it, a block's largest is taken for 0: its inverse might overflow.
const SMALLEST: f32 = 1e-30;

/// Floats of the moments of so many parameters: `c1`, `c2` and the blocks. All zero before the first step.
///
/// ```
/// assert_eq!(flatmin::internals::optim::adam::state_floats(12_800), 2 + 200 * 34); // 2.125 bytes per parameter
/// ```
pub const fn state_floats(parameters: usize) -> usize {
    parameters.div_ceil(BLOCK).saturating_mul(BLOCK_FLOATS).saturating_add(2)
}

/// Whether moments are such as a run leaves: a block's scales are those of gradients that were taken.
pub(crate) fn is_sound(state: &[f32]) -> bool {
    let [c1, c2, blocks @ ..] = state else { return state.is_empty() };
    let share = |c: f32| (0.0..=1.0).contains(&c);
    let scale = |scale: f32| (0.0..=sound::GRADIENT).contains(&scale);
    share(*c1)
        && share(*c2)
        && blocks.as_chunks::<BLOCK_FLOATS>().0.iter().all(|[m, root, ..]| scale(*m) && scale(*root))
}

/// A step's hyperparameters.
#[derive(Debug, Clone, Copy)]
pub struct Descent {
    /// mu, the first moment's.
    pub momentum: f32,
    /// lambda.
    pub weight_decay: f32,
    /// Whether biases move.
    pub bias: BiasTreatment,
    /// lr.
    pub learning_rate: f32,
}

/// One step by the minibatch's gradient `g`, which is 0 for frozen biases. `state` has [`state_floats`].
///
/// ```
/// use flatmin::{BiasTreatment, internals::optim::{Kind, Segment, adam}};
/// let descent = adam::Descent { momentum: 0.9, weight_decay: 0.0, bias: BiasTreatment::Unit, learning_rate: 0.1 };
/// let (mut w, mut state) = ([1.0, 1.0], [0.0; adam::state_floats(2)]);
/// adam::descend(&mut w, &[3.0, -0.5], &mut state, &descent, core::iter::once(Segment { length: 2, kind: Kind::Weight }));
/// assert!((w[0] - 0.9).abs() < 1e-6 && (w[1] - 1.1).abs() < 1e-6); // the first step goes by signs
/// ```
pub fn descend(
    w: &mut [f32],
    g: &[f32],
    state: &mut [f32],
    descent: &Descent,
    segments: impl Iterator<Item = Segment>,
) {
    let &Descent { momentum, weight_decay, bias, learning_rate } = descent;
    let mut rest = &mut *w;
    for segment in segments {
        let own = take_mut(&mut rest, segment.length);
        if weight_decay > 0.0 && !(segment.kind == Kind::Bias && bias == BiasTreatment::Frozen) {
            own.iter_mut().for_each(|w| *w -= learning_rate * weight_decay * *w);
        }
    }
    let [c1, c2, blocks @ ..] = state else { return };
    *c1 = momentum * *c1 + (1.0 - momentum);
    *c2 = SECOND * *c2 + (1.0 - SECOND);
    let (rate, root_c2) = (learning_rate / *c1, math::sqrt(*c2));
    let (blocks, _) = blocks.as_chunks_mut::<BLOCK_FLOATS>();
    for ((w, g), block) in w.chunks_mut(BLOCK).zip(g.chunks(BLOCK)).zip(blocks) {
        let [m_scale, root_scale, bytes @ ..] = block;
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(bytes);
        let (ms, roots) = bytes.split_at_mut(BLOCK);
        let (mut new_ms, mut new_roots) = ([0.0f32; BLOCK], [0.0f32; BLOCK]);
        let (mut m_largest, mut root_largest) = (0.0f32, 0.0f32);
        let old = ms.iter().zip(&*roots);
        let new = new_ms.iter_mut().zip(&mut new_roots);
        for (((w, &g), (&m, &root)), (new_m, new_root)) in w.iter_mut().zip(g).zip(old).zip(new) {
            let m = momentum * (f32::from(m.cast_signed()) * *m_scale) + (1.0 - momentum) * g;
            let root = f32::from(root) * *root_scale;
            let root = math::sqrt(SECOND * (root * root) + (1.0 - SECOND) * (g * g));
            *w -= rate * m / (root / root_c2 + EPSILON);
            (*new_m, *new_root) = (m, root);
            m_largest = m_largest.max(m.abs());
            root_largest = root_largest.max(root);
        }
        let m_steps = if m_largest > SMALLEST { 127.0 / m_largest } else { 0.0 };
        let root_steps = if root_largest > SMALLEST { 255.0 / root_largest } else { 0.0 };
        (*m_scale, *root_scale) = (m_largest / 127.0, root_largest / 255.0);
        for (to, m) in ms.iter_mut().zip(new_ms) {
            // Saturates; no more than 127 by the choice of the scale.
            *to = (math::round(m * m_steps) as i8).cast_unsigned();
        }
        for (to, root) in roots.iter_mut().zip(new_roots) {
            let steps = root * root_steps;
            let down = steps as u8;
            *to = if f32::from(down) < steps { down.saturating_add(1) } else { down };
        }
    }
}
