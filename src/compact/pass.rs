//! One sample's way through the tail and back, at `w` and at `w + e`, in integers. What is computed once a layer or once
//! an output are f32 factors; whatever is computed once per weight are integers.
//!
//! Names and formulas are those of the f32 chain (`tail/dense.rs`): for one sample the gradient of a layer is
//! `delta a^T`, the ascent `e = c T^2 * delta a^T`, and no perturbed weight is ever written, or rounded.

use super::chain::{Chain, Layer};
use super::number::{Dither, Factor, Step, to_i16};
use super::rows;
use super::softmax::{Losses, SmoothLabel, softmax_cross_entropy};
use super::weights::{BIAS_VELOCITY_BITS, Velocity, Weights};
use crate::optim::{BiasTreatment, Geometry};
use crate::part::Part;
use crate::recipe::Ascent;
use crate::tail::{MAX_CHAIN_LAYERS, argmax};

/// Real values of the steps of every layer's deltas.
type Units = [f32; MAX_CHAIN_LAYERS];

/// Activations and deltas of one pass, of all layers.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    pub outputs: &'a mut [i16],
    pub deltas: &'a mut [i16],
    units: Units,
}

/// What one sample takes, in caller-owned memory.
#[derive(Debug)]
pub(super) struct Workspace<'a> {
    pub features: &'a mut [i16],
    pub first: Pass<'a>,
    pub second: Pass<'a>,
    /// Sums of all layers, before the activation, of the pass that ran last; of the first layer those at `w`.
    pub sums: &'a mut [i32],
    /// ASAM's `sum_i T^2 a_i^2` of every output.
    energies: &'a mut [f32],
    /// Sums of one layer's backward pass, and what the softmax keeps.
    below: &'a mut [i32],
    /// Products of two passes' inputs.
    products: &'a mut [i16],
}

/// 32-bit words that a [`Workspace`] takes.
pub(super) const fn workspace_words(features: usize, outputs: usize) -> usize {
    let longest = if features > outputs { features } else { outputs };
    // Sums, energies, backward sums; then 16 bits each: features, two passes, products.
    let halves = features.saturating_add(outputs.saturating_mul(4)).saturating_add(longest);
    outputs.saturating_mul(3).saturating_add(halves.div_ceil(2))
}

impl<'a> Workspace<'a> {
    /// Divides `words`, of [`workspace_words`] or more; `None` if there are fewer.
    #[inline(always)]
    pub fn new(chain: &Chain, words: &'a mut [i32]) -> Option<Self> {
        let (inputs, outputs) = (chain.shape.features(), chain.shape.outputs());
        let (sums, rest) = words.split_at_mut_checked(outputs)?;
        let (energies, rest) = rest.split_at_mut_checked(outputs)?;
        let (below, rest) = rest.split_at_mut_checked(outputs)?;
        let halves: &mut [i16] = bytemuck::try_cast_slice_mut(rest).ok()?;
        let (features, rest) = halves.split_at_mut_checked(inputs)?;
        let (first_outputs, rest) = rest.split_at_mut_checked(outputs)?;
        let (first_deltas, rest) = rest.split_at_mut_checked(outputs)?;
        let (second_outputs, rest) = rest.split_at_mut_checked(outputs)?;
        let (second_deltas, rest) = rest.split_at_mut_checked(outputs)?;
        let products = rest.get_mut(..inputs.max(outputs))?;
        let pass = |outputs, deltas| Pass { outputs, deltas, units: [0.0; MAX_CHAIN_LAYERS] };
        Some(Self {
            features,
            first: pass(first_outputs, first_deltas),
            second: pass(second_outputs, second_deltas),
            sums,
            energies: bytemuck::try_cast_slice_mut(energies).ok()?,
            below,
            products,
        })
    }
}

/// The input of a layer: the outputs below it, which lie in front of its own, or the features.
fn input<'s>(place: usize, layer: &Layer, features: &'s [i16], outputs: &'s [i16]) -> &'s [i16] {
    match layer.first_output().checked_sub(layer.inputs) {
        Some(start) if place > 0 => outputs.part(start..layer.first_output()),
        _ => features,
    }
}

/// `x^2` sums and `a . b` in real numbers.
fn real_inner(a: &[i16], b: &[i16], unit: f32) -> f32 {
    rows::inner(a, b) as f32 * unit * unit
}

/// Writes `a_i b_i` with as many bits as fit; returns the real value of a step.
fn multiply(a: &[i16], b: &[i16], unit: f32, products: &mut [i16]) -> f32 {
    let product = |(&a, &b): (&i16, &i16)| i32::from(a) * i32::from(b);
    let largest = a.iter().zip(b).map(|pair| product(pair).unsigned_abs()).max().unwrap_or(0);
    let shift = (32 - largest.leading_zeros()).saturating_sub(15);
    for (to, pair) in products.iter_mut().zip(a.iter().zip(b)) {
        *to = round_shift(product(pair), shift);
    }
    unit * unit * (1u64 << shift) as f32
}

/// `x / 2^shift`, to nearest, saturating to 16 bits.
fn round_shift(x: i32, shift: u32) -> i16 {
    let half = if shift == 0 { 0 } else { 1 << (shift - 1) };
    to_i16(x.saturating_add(half) >> shift)
}

/// Writes 32-bit sums as 16-bit deltas; returns the real value of a step.
#[inline(always)]
fn narrow(sums: &[i32], unit: f32, deltas: &mut [i16]) -> f32 {
    let largest = sums.iter().map(|sum| sum.unsigned_abs()).max().unwrap_or(0);
    let shift = (32 - largest.leading_zeros()).saturating_sub(15);
    for (d, &sum) in deltas.iter_mut().zip(sums) {
        *d = round_shift(sum, shift);
    }
    unit * (1u32 << shift) as f32
}

/// The factor of deltas that keeps a backward sum over so many outputs, each times `bits` bits, below 2^31; as a shift.
fn shift_for(outputs: usize, bits: u32) -> u32 {
    let count = usize::BITS - outputs.saturating_sub(1).leading_zeros();
    (15 + bits + count).saturating_sub(31)
}

impl Chain {
    /// Loss of the sample in the workspace at `w`, and the class that its logits say.
    pub fn loss_and_answer(
        &self,
        weights: &Weights,
        label: SmoothLabel,
        workspace: &mut Workspace,
    ) -> (f32, usize) {
        let loss = self.first_pass(weights, label, workspace).sum();
        (loss, self.layers().next_back().map_or(0, |last| argmax(last.of(workspace.sums))))
    }

    /// After that: the loss after the sample's own ascent, and what of its rise is the gradient's, `rho ||T g||`; `None` where
    /// there is no such step.
    pub fn risen(
        &self,
        weights: &Weights,
        Ascent { rho, geometry }: &Ascent,
        label: SmoothLabel,
        workspace: &mut Workspace,
    ) -> Option<[f32; 2]> {
        let norm = self.ascent_norm_squared(weights, geometry, workspace);
        let c = geometry.step_length(*rho, norm)?;
        Some([self.perturbed_pass(weights, geometry, c, label, workspace).sum(), c * norm])
    }

    /// The network's function: sums and outputs of all layers at `w`, for the features in the workspace.
    pub fn forward(&self, weights: &Weights, workspace: &mut Workspace) {
        let Workspace { features, first, sums, .. } = workspace;
        for (place, layer) in self.layers().enumerate() {
            layer.forward(weights, input(place, layer, features, first.outputs), layer.of_mut(sums));
            layer.write_outputs(sums, first.outputs);
        }
    }

    /// Forward, loss and deltas at `w`.
    pub fn first_pass(
        &self,
        weights: &Weights,
        label: impl Into<SmoothLabel>,
        workspace: &mut Workspace,
    ) -> Losses {
        self.forward(weights, workspace);
        let Workspace { first, sums, below, .. } = workspace;
        let loss = self.loss(sums, label.into(), below, first);
        self.hand_down(weights, first, sums, below, |_, _, _, _, _| {});
        loss
    }

    fn loss(&self, sums: &[i32], label: SmoothLabel, scratch: &mut [i32], pass: &mut Pass) -> Losses {
        let Some((place, last)) = self.layers().enumerate().next_back() else { return Losses::NONE };
        let (loss, unit) =
            softmax_cross_entropy(last.of(sums), label, last.of_mut(scratch), last.of_mut(pass.deltas));
        if let Some(place) = pass.units.get_mut(place) {
            *place = unit;
        }
        loss
    }

    /// Hands deltas down from the last layer to the first; `shift(place, layer, deltas, unit, sums)` adds to a layer's
    /// backward sums, of that unit.
    fn hand_down(
        &self,
        weights: &Weights,
        pass: &mut Pass,
        forward: &[i32],
        backward: &mut [i32],
        mut shift: impl FnMut(usize, &Layer, &[i16], f32, (&mut [i32], f32)),
    ) {
        let pairs = self.layers().zip(self.layers().skip(1)).enumerate();
        for (place, (below, layer)) in pairs.rev() {
            let unit = pass.units.get(place + 1).copied().unwrap_or(0.0);
            let sums = below.of_mut(backward);
            let deltas = layer.of(pass.deltas);
            let sum_unit = layer.backward_input(weights, deltas, unit, sums);
            shift(place + 1, layer, deltas, unit, (sums, sum_unit));
            let outputs = below.of(forward).iter().zip(below.of(pass.outputs));
            for (sum, (&z, &output)) in sums.iter_mut().zip(outputs) {
                if below.is_flat(z, output) {
                    *sum = 0;
                }
            }
            let unit = narrow(sums, sum_unit, below.of_mut(pass.deltas));
            if let Some(place) = pass.units.get_mut(place) {
                *place = unit;
            }
        }
    }

    /// `||T g||^2` of one sample after the first pass. Leaves ASAM's energies for [`Self::perturbed_pass`].
    pub fn ascent_norm_squared(
        &self,
        weights: &Weights,
        geometry: &Geometry,
        workspace: &mut Workspace,
    ) -> f32 {
        let Workspace { features, first, energies, products, .. } = workspace;
        let bias = bias_factor(geometry);
        let mut sum = 0.0;
        for (place, layer) in self.layers().enumerate() {
            let a = input(place, layer, features, first.outputs);
            let unit = first.units.get(place).copied().unwrap_or(0.0);
            let own = layer.of_mut(energies);
            layer.energies(weights, geometry, (a, a), products, own);
            for (&d, &energy) in layer.of(first.deltas).iter().zip(&*own) {
                let delta = f32::from(d) * unit;
                sum += delta * delta * (energy + bias);
            }
        }
        sum
    }

    /// Forward, loss and deltas at `w + e`, `e = c T^2 g` of this very sample, after [`Self::first_pass`] and
    /// [`Self::ascent_norm_squared`].
    pub fn perturbed_pass(
        &self,
        weights: &Weights,
        geometry: &Geometry,
        c: f32,
        label: impl Into<SmoothLabel>,
        workspace: &mut Workspace,
    ) -> Losses {
        let Workspace { features, first, second, sums, energies, below, products } = workspace;
        let bias = bias_factor(geometry);
        for (place, layer) in self.layers().enumerate() {
            let a = input(place, layer, features, first.outputs);
            let a_now = input(place, layer, features, second.outputs);
            let own = layer.of_mut(sums);
            if place > 0 {
                layer.forward(weights, a_now, own);
                layer.energies(weights, geometry, (a, a_now), products, layer.of_mut(energies));
            }
            let unit = first.units.get(place).copied().unwrap_or(0.0);
            let reach = c * unit / layer.unit;
            let shifts = layer.of(first.deltas).iter().zip(layer.of(energies));
            for (sum, (&d, &energy)) in own.iter_mut().zip(shifts) {
                *sum = sum.saturating_add(Factor::new(reach * (energy + bias)).apply(d.into()));
            }
            layer.write_outputs(sums, second.outputs);
        }
        let loss = self.loss(sums, label.into(), below, second);
        let (features, first) = (&**features, &*first);
        self.hand_down(weights, second, sums, below, |place, layer, deltas, unit, (sums, sum_unit)| {
            let a = input(place, layer, features, first.outputs);
            let first_unit = first.units.get(place).copied().unwrap_or(0.0);
            // Without a gradient, or of dead channels alone, there is nothing to shift.
            if !sum_unit.is_normal() {
                return;
            }
            let factor = c * layer.input_unit * first_unit * unit / sum_unit;
            let deltas = (layer.of(first.deltas), deltas);
            layer.shift_backward(weights, geometry, factor, deltas, a, (sums, &mut *products));
        });
        loss
    }

    /// `velocity += scale dL/dw` of the pass that ran last: the first, or with `second` the perturbed one.
    pub fn accumulate(
        &self,
        weights: &Weights,
        (scale, bias): (f32, BiasTreatment),
        (workspace, second): (&Workspace, bool),
        velocity: &mut Velocity,
        seed: u32,
    ) {
        let pass = if second { &workspace.second } else { &workspace.first };
        for (place, layer) in self.layers().enumerate() {
            let a = input(place, layer, workspace.features, pass.outputs);
            let unit = scale * pass.units.get(place).copied().unwrap_or(0.0);
            let factor = Step::parts(unit * layer.input_unit / layer.velocity_unit);
            let deltas = layer.of(pass.deltas);
            for (o, (&d, &scale)) in deltas.iter().zip(layer.of(weights.scales)).enumerate() {
                let mut dither = Dither::new(seed, layer.purpose(o));
                let step = Step::scaled(factor, d, &mut dither);
                if scale > 0.0 && !step.is_zero() {
                    rows::add_gradient(step, a, layer.row_mut(velocity.weights, o), &mut dither);
                }
            }
            if bias == BiasTreatment::Frozen {
                continue;
            }
            let factor = Factor::new(unit * (1u32 << BIAS_VELOCITY_BITS) as f32);
            let mut dither = Dither::new(seed, layer.purpose(layer.outputs));
            for (v, &d) in layer.of_mut(velocity.biases).iter_mut().zip(deltas) {
                *v = v.saturating_add(factor.apply_by_chance(d.into(), &mut dither));
            }
        }
    }
}

/// T^2 of a bias.
fn bias_factor(geometry: &Geometry) -> f32 {
    if geometry.bias == BiasTreatment::Frozen { 0.0 } else { 1.0 }
}

impl Layer {
    /// `z = W a + b`, in the layer's unit.
    fn forward(&self, weights: &Weights, a: &[i16], sums: &mut [i32]) {
        let parts = self.rows(weights.high).zip(self.of(weights.scales)).zip(self.of(weights.biases));
        let factor = self.input_unit / self.unit;
        for (sum, ((row, scale), &bias)) in sums.iter_mut().zip(parts) {
            *sum = Factor::new(scale.abs() * factor).apply(rows::dot(row, a)).saturating_add(bias);
        }
    }

    #[inline(always)]
    fn write_outputs(&self, sums: &[i32], outputs: &mut [i16]) {
        for (y, &sum) in self.of_mut(outputs).iter_mut().zip(self.of(sums)) {
            *y = self.activate(sum);
        }
    }

    /// `sums_i = sum_o w_oi delta_o`; returns the real value of a step.
    fn backward_input(&self, weights: &Weights, deltas: &[i16], unit: f32, sums: &mut [i32]) -> f32 {
        let scales = self.of(weights.scales);
        let largest = scales.iter().fold(0.0f32, |most, scale| most.max(scale.abs()));
        let shift = shift_for(self.outputs, 7);
        let relative = if largest > 0.0 { 1.0 / (largest * (1u32 << shift) as f32) } else { 0.0 };
        sums.fill(0);
        for ((row, scale), &d) in self.rows(weights.high).zip(scales).zip(deltas) {
            let d = to_i16(Factor::new(scale.abs() * relative).apply(d.into()));
            rows::add_row(row, d, sums);
        }
        unit * largest * (1u32 << shift) as f32
    }

    /// `sum_i T_oi^2 a_i b_i` of every output, in real numbers; 0 of a dead channel, which is not perturbed.
    fn energies(
        &self,
        weights: &Weights,
        geometry: &Geometry,
        (a, b): (&[i16], &[i16]),
        products: &mut [i16],
        energies: &mut [f32],
    ) {
        let scales = self.of(weights.scales);
        if geometry.eta.is_none() {
            let all = real_inner(a, b, self.input_unit);
            for (energy, &scale) in energies.iter_mut().zip(scales) {
                *energy = if scale > 0.0 { all } else { 0.0 };
            }
            return;
        }
        let products = products.part_mut(..self.inputs);
        let unit = multiply(a, b, self.input_unit, products);
        for ((energy, row), &scale) in energies.iter_mut().zip(self.rows(weights.high)).zip(scales) {
            let steps = if scale > 0.0 { rows::energy(row, products) as f32 } else { 0.0 };
            *energy = scale * scale * unit * steps;
        }
    }

    /// `sums_i += factor a_i sum_o T_oi^2 d_o d'_o`, of the first and the second pass, with `T^2` in real numbers.
    fn shift_backward(
        &self,
        weights: &Weights,
        geometry: &Geometry,
        factor: f32,
        (d, d_now): (&[i16], &[i16]),
        a: &[i16],
        (sums, products): (&mut [i32], &mut [i16]),
    ) {
        let scales = self.of(weights.scales);
        let pairs = d.iter().zip(d_now).zip(scales).filter(|&(_, &scale)| scale > 0.0);
        if geometry.eta.is_none() {
            let both =
                pairs.fold(0i64, |sum, ((&d, &now), _)| sum + i64::from(i32::from(d) * i32::from(now)));
            let factor = Factor::new(factor * both as f32);
            for (sum, &a) in sums.iter_mut().zip(a) {
                *sum = sum.saturating_add(factor.apply(a.into()));
            }
            return;
        }
        let weight = |d: i16, now: i16, scale: f32| f32::from(d) * f32::from(now) * (scale * scale);
        let largest = pairs.fold(0.0f32, |most, ((&d, &now), &scale)| most.max(weight(d, now, scale).abs()));
        let unit = largest / f32::from(i16::MAX);
        if !unit.is_normal() {
            return;
        }
        for (product, ((&d, &now), &scale)) in products.iter_mut().zip(d.iter().zip(d_now).zip(scales)) {
            let alive = if scale > 0.0 { weight(d, now, scale) } else { 0.0 };
            *product = to_i16(Factor::new(alive / unit).apply(1));
        }
        let factor = factor * unit;
        for (i, (sum, &a)) in sums.iter_mut().zip(a).enumerate() {
            let rows = self.rows(weights.high).zip(&*products);
            let own = rows.fold(0i64, |own, (row, &product)| {
                let t_squared = row.get(i).map_or(0, |&q| rows::t_squared(q));
                own + i64::from(t_squared * i32::from(product))
            });
            *sum = sum.saturating_add(Factor::new(factor * own as f32).apply(a.into()));
        }
    }
}
