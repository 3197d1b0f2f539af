//! A trainable fully connected layer in f32: forward, backward, and both at `w + e` without touching `w`.
//!
//! For one sample the weights' gradient is `d_weight = delta a^T`, rank one, and the ascent step is
//! `e = c T^2 * delta a^T`; what `w + e` does to a vector then needs `delta` and `a` alone
//! (Foret et al. 2020, equation 2; Kwon et al. 2021, equation 3, written out for one sample).
//!
//! `parameters` is always the layer's own: weights `[outputs, inputs]` row-major, then `outputs` biases.

use crate::cpu::block::{self, ROWS, add_to_rows, combine, combine_sixteen, descend_along, descend_row};
use crate::cpu::lanes::{
    add_scaled, descend, dot, dots, mix, norm_squared, scaled_norm_squared, weighted_dot,
};
use crate::optim::sgd::Descent;
use crate::optim::{BiasTreatment, Geometry};
use crate::pack::Activation;
use crate::part::Part;
use core::array::from_fn;

/// Shape of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct DenseShape {
    /// Length of the input.
    pub inputs: usize,
    /// Length of the output.
    pub outputs: usize,
    /// Fused activation.
    pub activation: Activation,
}

impl DenseShape {
    /// Number of weights.
    pub const fn weights(&self) -> usize {
        self.inputs * self.outputs
    }

    /// Weights and biases.
    pub const fn parameters(&self) -> usize {
        self.weights() + self.outputs
    }

    fn split<'a>(&self, parameters: &'a [f32]) -> (impl Iterator<Item = &'a [f32]> + use<'a>, &'a [f32]) {
        let (weights, biases) = parameters.split_at(self.weights().min(parameters.len()));
        (weights.chunks_exact(self.inputs.max(1)), biases)
    }
}

/// What one layer keeps of the first pass, which is all that its ascent step is made of.
#[derive(Debug, Clone, Copy)]
pub struct FirstPass<'a> {
    /// The layer's input at `w`.
    pub a: &'a [f32],
    /// The gradient of the loss by the layer's output before its activation, at `w`.
    pub delta: &'a [f32],
}

/// `z = W a + b`.
pub fn forward(shape: &DenseShape, parameters: &[f32], a: &[f32], z: &mut [f32]) {
    let (weights, biases) = parameters.split_at(shape.weights().min(parameters.len()));
    if block::dense_together(weights, biases, &mut [(a, &mut *z)]) == 1 {
        return;
    }
    let done = block::dense(weights, biases, a, z);
    let weights = weights.part(done * shape.inputs..);
    let (biases, z) = (biases.part(done..), z.part_mut(done..));
    for_each_four(shape, weights, biases, z, |rows, biases, z| {
        for ((z, sum), &b) in z.iter_mut().zip(dots(rows, a)).zip(biases) {
            *z = sum + b;
        }
    });
}

/// [`forward`] of several samples, an `a` and a `z` each, which takes the weights from memory once.
pub(super) fn forward_together(shape: &DenseShape, parameters: &[f32], samples: &mut [(&[f32], &mut [f32])]) {
    let (weights, biases) = parameters.split_at(shape.weights().min(parameters.len()));
    let done = block::dense_together(weights, biases, samples);
    samples.iter_mut().skip(done).for_each(|(a, z)| forward(shape, parameters, a, z));
}

/// Calls `each(rows, their biases, their z)` for every four; after the last row it stands again.
#[inline(always)]
fn for_each_four(
    shape: &DenseShape,
    mut weights: &[f32],
    biases: &[f32],
    z: &mut [f32],
    mut each: impl FnMut([&[f32]; ROWS], &[f32], &mut [f32]),
) {
    for (biases, z) in biases.chunks(ROWS).zip(z.chunks_mut(ROWS)) {
        let mut rows: [&[f32]; ROWS] = [&[]; ROWS];
        let mut last: &[f32] = &[];
        for (r, row) in rows.iter_mut().enumerate() {
            if r < z.len() {
                (last, weights) = weights.split_at(shape.inputs.min(weights.len()));
            }
            *row = last;
        }
        each(rows, biases, z);
    }
}

/// `z = activation(z)`. Comparisons rather than `max`: NaN must pass through to the loss, where it is noticed.
pub fn activate(activation: Activation, z: &mut [f32]) {
    match activation {
        Activation::None => {}
        Activation::Relu => z.iter_mut().for_each(|z| *z = if *z < 0.0 { 0.0 } else { *z }),
        Activation::Relu6 => {
            for z in z {
                *z = z.clamp(0.0, 6.0);
            }
        }
    }
}

/// Backward of [`activate`]: zeroes `delta` where the activation is flat; `y` is the activation's output.
pub fn mask(activation: Activation, y: &[f32], delta: &mut [f32]) {
    let ceiling = match activation {
        Activation::None => return,
        Activation::Relu => f32::INFINITY.to_bits(),
        Activation::Relu6 => 6f32.to_bits(),
    };
    for (d, &y) in delta.iter_mut().zip(y) {
        // Bits of positive floats are ordered as they are; a comparison of integers takes fewer instructions.
        if y.to_bits().wrapping_sub(1) >= ceiling - 1 && !y.is_nan() {
            *d = 0.0;
        }
    }
}

/// `d_weight += scale * delta a^T`, `d_bias += scale * delta` (the latter unless frozen).
pub fn accumulate(
    shape: &DenseShape,
    scale: f32,
    bias: BiasTreatment,
    a: &[f32],
    delta: &[f32],
    d: &mut [f32],
) {
    let (d_weights, d_biases) = d.split_at_mut(shape.weights().min(d.len()));
    if bias != BiasTreatment::Frozen {
        add_scaled(d_biases, scale, delta);
    }
    if block::add_rank_ones(d_weights, scale, &[(delta, a)]) == 1
        || block::add_rank_one(d_weights, scale, delta, a) == delta.len()
    {
        return;
    }
    // Four rows share every value of `a` that is loaded.
    let (mut rows, mut factors, mut held) = ([(); ROWS].map(|()| [].as_mut_slice()), [0.0; ROWS], 0);
    for (row, &delta) in d_weights.chunks_exact_mut(shape.inputs.max(1)).zip(delta) {
        // ReLU leaves many exact zeros; adding them would change nothing.
        if delta == 0.0 {
            continue;
        }
        let (Some(place), Some(factor)) = (rows.get_mut(held), factors.get_mut(held)) else { return };
        (*place, *factor) = (row, scale * delta);
        held += 1;
        if held == ROWS {
            add_to_rows(rows.each_mut().map(core::mem::take), factors, a);
            held = 0;
        }
    }
    for (row, factor) in rows.into_iter().zip(factors).take(held) {
        add_scaled(row, factor, a);
    }
}

/// [`accumulate`] of one sample after the other, a `delta` and an `a` each, which takes the gradient from memory once.
pub(super) fn accumulate_together(
    shape: &DenseShape,
    scale: f32,
    bias: BiasTreatment,
    samples: &[(&[f32], &[f32])],
    d: &mut [f32],
) {
    let (d_weights, d_biases) = d.split_at_mut(shape.weights().min(d.len()));
    if block::add_rank_ones(d_weights, scale, samples) != samples.len() {
        return samples.iter().for_each(|(delta, a)| accumulate(shape, scale, bias, a, delta, d));
    }
    if bias != BiasTreatment::Frozen {
        samples.iter().for_each(|(delta, _)| add_scaled(d_biases, scale, delta));
    }
}

/// What [`accumulate`] does, between the velocity's decay before it and the step after it, in one pass over both
/// buffers: bit by bit the same.
pub fn descend_alone(
    shape: &DenseShape,
    descent: &Descent,
    a: &[f32],
    delta: &[f32],
    v: &mut [f32],
    w: &mut [f32],
) {
    let Descent { momentum, scale, bias, learning_rate } = *descent;
    let rate = -learning_rate;
    let (v, v_biases) = v.split_at_mut(shape.weights().min(v.len()));
    let (w, w_biases) = w.split_at_mut(shape.weights().min(w.len()));
    let rows = v.chunks_exact_mut(shape.inputs.max(1)).zip(w.chunks_exact_mut(shape.inputs.max(1)));
    let mut touched = rows.zip(delta).filter_map(|((v, w), &delta)| {
        if delta == 0.0 {
            descend(v, w, momentum, rate);
            return None;
        }
        Some((v, w, scale * delta))
    });
    loop {
        // Four rows share every value of `a` that is loaded.
        match from_fn(|_| touched.next()) {
            [Some((v0, w0, f0)), Some((v1, w1, f1)), Some((v2, w2, f2)), Some((v3, w3, f3))] => {
                descend_along([v0, v1, v2, v3], [w0, w1, w2, w3], [f0, f1, f2, f3], a, momentum, rate);
            }
            last => {
                for (v, w, factor) in last.into_iter().flatten() {
                    descend_row(v, w, factor, a, momentum, rate);
                }
                break;
            }
        }
    }
    if bias == BiasTreatment::Frozen {
        v_biases.fill(0.0);
    } else {
        mix(v_biases, momentum, w_biases, 0.0);
        add_scaled(v_biases, scale, delta);
    }
    add_scaled(w_biases, rate, v_biases);
}

/// `d_input = W^T delta`, outputs ascending.
pub fn backward_input(shape: &DenseShape, parameters: &[f32], delta: &[f32], d_input: &mut [f32]) {
    let (weights, _) = parameters.split_at(shape.weights().min(parameters.len()));
    let (blocks, rest) = d_input.as_chunks_mut::<16>();
    let columns = |first: usize| weights.part(first..);
    for (block, d_input) in blocks.iter_mut().enumerate() {
        combine_sixteen(d_input, delta, columns(block * 16), shape.inputs);
    }
    for (place, d_input) in rest.iter_mut().enumerate() {
        let mut sum = [0.0];
        combine(&mut sum, delta, columns(blocks.len() * 16 + place), shape.inputs);
        [*d_input] = sum;
    }
}

/// For ASAM: `energies[o] = sum_i T_oi^2 a_i^2` where `delta[o]` is not zero, else 0.
pub fn row_energies(
    shape: &DenseShape,
    parameters: &[f32],
    eta: f32,
    first: FirstPass,
    energies: &mut [f32],
) {
    let (rows, _) = shape.split(parameters);
    for ((energy, row), &delta) in energies.iter_mut().zip(rows).zip(first.delta) {
        *energy = if delta != 0.0 { scaled_norm_squared(row, first.a, eta) } else { 0.0 };
    }
}

/// `||T g||^2` of this layer's share of one sample's gradient `g = (delta a^T, delta)`. `energies` as
/// [`row_energies`] left them (ASAM only).
pub fn sample_norm_squared(
    shape: &DenseShape,
    parameters: &[f32],
    geometry: &Geometry,
    first: FirstPass,
    energies: &[f32],
) -> f32 {
    let (_, biases) = shape.split(parameters);
    let mut sum = 0.0;
    if !geometry.weights {
        // Biases alone.
    } else if geometry.eta.is_some() {
        for (&energy, &d) in energies.iter().zip(first.delta) {
            sum += energy * (d * d);
        }
    } else {
        sum += norm_squared(first.delta) * norm_squared(first.a);
    }
    match geometry.even_bias_factor() {
        Some(factor) => first.delta.iter().for_each(|&d| sum += factor * (d * d)),
        None => {
            for (&b, &d) in biases.iter().zip(first.delta) {
                sum += geometry.bias_factor(b) * (d * d);
            }
        }
    }
    sum
}

/// First tail layer at `w + e`: its input is the latent in both passes, so that
/// `z' = z + c delta (energy + T_b^2)`, in place on the first pass's `z`, without one weight being read.
pub fn shift_first_layer(
    shape: &DenseShape,
    parameters: &[f32],
    geometry: &Geometry,
    c: f32,
    first: FirstPass,
    energies: &[f32],
    z: &mut [f32],
) {
    let (_, biases) = shape.split(parameters);
    let norm = if geometry.weights && geometry.eta.is_none() { norm_squared(first.a) } else { 0.0 };
    if let (None, Some(factor)) = (geometry.eta, geometry.even_bias_factor()) {
        // The same for all outputs.
        let reach = norm + factor;
        return z.iter_mut().zip(first.delta).for_each(|(z, &delta)| *z += (c * delta) * reach);
    }
    for (((z, &energy), &b), &delta) in z.iter_mut().zip(energies).zip(biases).zip(first.delta) {
        let energy = if geometry.weights && geometry.eta.is_some() { energy } else { norm };
        *z += (c * delta) * (energy + geometry.bias_factor(b));
    }
}

/// `z' = (W + e) a' + b + e_b`: to `W a' + b` comes `c delta_o (sum_i T_oi^2 a_i a'_i + T_b^2)`.
pub fn forward_perturbed(
    shape: &DenseShape,
    parameters: &[f32],
    geometry: &Geometry,
    c: f32,
    first: FirstPass,
    a: &[f32],
    z: &mut [f32],
) {
    forward(shape, parameters, a, z);
    let (rows, biases) = shape.split(parameters);
    let plain_overlap = if geometry.weights && geometry.eta.is_none() { dot(first.a, a) } else { 0.0 };
    for (((z, row), &b), &delta) in z.iter_mut().zip(rows).zip(biases).zip(first.delta) {
        let overlap = match geometry.eta {
            Some(eta) if geometry.weights && delta != 0.0 => weighted_dot(row, eta, first.a, a),
            _ => plain_overlap,
        };
        *z += (c * delta) * (overlap + geometry.bias_factor(b));
    }
}

/// `d_input = (W + e)^T delta'`: to `W^T delta'` comes `c a_i sum_o T_oi^2 delta_o delta'_o`.
pub fn backward_input_perturbed(
    shape: &DenseShape,
    parameters: &[f32],
    geometry: &Geometry,
    c: f32,
    first: FirstPass,
    delta: &[f32],
    d_input: &mut [f32],
) {
    backward_input(shape, parameters, delta, d_input);
    if !geometry.weights {
        return;
    }
    let Some(eta) = geometry.eta else {
        return add_scaled(d_input, c * dot(first.delta, delta), first.a);
    };
    let (rows, _) = shape.split(parameters);
    for ((row, &d), &first_d) in rows.zip(delta).zip(first.delta) {
        let factor = c * (d * first_d);
        if factor != 0.0 {
            for ((d_input, &w), &a) in d_input.iter_mut().zip(row).zip(first.a) {
                let t = w.abs() + eta;
                *d_input += factor * ((t * t) * a);
            }
        }
    }
}
