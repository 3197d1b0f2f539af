//! The parameters in few bytes, and their velocity.

use super::chain::{Chain, Layer};
use super::number::{Dither, Factor, Step};
use super::rows::{self, split};
use crate::optim::BiasTreatment;
use crate::pack::Pack;
use crate::part::Part;
use crate::recipe::Recipe;
use crate::requant::{fold, packed_scales};
use crate::sound;
use crate::tuner::bytes;

/// Scales of int8 weights below this are those of dead channels: their weights stay as they are.
pub(super) const DEAD_SCALE: f32 = 1e-6;
/// Bits of the largest master of a row when it is loaded: twice as large still fits.
const LOADED_BITS: u32 = 14;
/// Fractional bits of a bias's velocity.
pub(super) const BIAS_VELOCITY_BITS: u32 = 20;
const BIAS_VELOCITY_UNIT: f32 = 1.0 / (1u32 << BIAS_VELOCITY_BITS) as f32;

/// Weights and biases: see the table in [`crate::compact`].
#[derive(Debug)]
pub(super) struct Weights<'a> {
    pub high: &'a mut [i8],
    pub low: &'a mut [i8],
    /// One per output, in the unit of the layer's sums.
    pub biases: &'a mut [i32],
    /// Real value of a weight's step, one per output; below 0 that of a dead channel.
    pub scales: &'a mut [f32],
}

/// The velocity of all of it, which is also the gradient's accumulator.
#[derive(Debug)]
pub(super) struct Velocity<'a> {
    pub weights: &'a mut [i16],
    pub biases: &'a mut [i32],
}

/// An int8 layer as it lies in a pack or in a tuned tail.
#[derive(Debug, Clone, Copy)]
pub(super) struct Int8Layer<'l> {
    pub weights: &'l [i8],
    pub biases: &'l [i32],
    /// One per output, or a single one for all.
    pub scales: &'l [f32],
    /// Scales as packed, which say what is dead.
    pub packed_scales: &'l [f32],
    pub input_scale: f32,
    /// Factor from real to stored weights.
    pub fold: f32,
}

impl Weights<'_> {
    /// Loads a layer, each row at the largest power of two of its scale at which its largest weight can still double.
    pub fn load(&mut self, layer: &Layer, from: &Int8Layer) {
        let usual = from.scales.iter().fold(0.0f32, |most, &scale| most.max(scale));
        let of = |scales: &[f32], o: usize| scales.get(o).or(scales.first()).copied().unwrap_or(0.0);
        for o in 0..layer.outputs {
            let scale = of(from.scales, o);
            let row = from.weights.part(o * layer.inputs..(o + 1) * layer.inputs);
            let largest = row.iter().fold(0u32, |most, q| most.max(q.unsigned_abs().into()));
            // Of a row of zeros nothing can be told but its neighbours' scale.
            let own = if largest == 0 { usual } else { scale };
            // From 7, for 128, to 14.
            let bits = LOADED_BITS - if largest == 0 { 7 } else { largest.next_power_of_two().ilog2() };
            let step = own * from.fold * 256.0 / (1u32 << bits) as f32;
            let places = layer.row_mut(self.high, o).iter_mut().zip(layer.row_mut(self.low, o));
            for ((high, low), &q) in places.zip(row) {
                (*high, *low) = split(i32::from(q) << bits);
            }
            if let Some(place) = layer.of_mut(self.scales).get_mut(o) {
                *place = if of(from.packed_scales, o) < DEAD_SCALE { -step } else { step };
            }
            if let (Some(place), Some(&bias)) = (layer.of_mut(self.biases).get_mut(o), from.biases.get(o)) {
                // In double precision: the specification's biases have up to 32 bits. A float cast saturates.
                let unit = f64::from(from.input_scale) * f64::from(scale) / f64::from(layer.unit);
                *place = crate::math::round_double(f64::from(bias) * unit) as i32;
            }
        }
    }

    /// Loads the layers of a pack.
    #[inline(never)] // what it has on the stack does not last as long as the caller
    pub fn load_packed(&mut self, chain: &Chain, pack: &Pack) {
        for (layer, packed) in chain.layers().zip(pack.trained_layers()) {
            let constants = &packed.operator.constants;
            let from = Int8Layer {
                weights: pack.int8(constants.weights, packed.weights()),
                biases: pack.int32(constants.biases, packed.outputs),
                scales: packed_scales(pack, &packed),
                packed_scales: packed_scales(pack, &packed),
                input_scale: packed.input.scale,
                fold: fold(pack, &packed),
            };
            self.load(layer, &from);
        }
    }

    /// `v = mu v + lambda w`, before a minibatch's gradient is added to it. Frozen biases, and the weights of dead
    /// channels, keep a velocity of zero.
    pub fn prepare(&self, chain: &Chain, velocity: &mut Velocity, recipe: &Recipe, seed: u32) {
        for layer in chain.layers() {
            for (o, &scale) in layer.of(self.scales).iter().enumerate().filter(|(_, scale)| **scale > 0.0) {
                let mut dither = Dither::new(seed, layer.purpose(o));
                let fade = Step::new(recipe.momentum, &mut dither);
                let decay = recipe.weight_decay * scale / (256.0 * layer.velocity_unit);
                let decay = Step::new(decay, &mut dither);
                let (high, low) = (layer.row(self.high, o), layer.row(self.low, o));
                rows::fade(fade, decay, high, low, layer.row_mut(velocity.weights, o), &mut dither);
            }
            if recipe.bias == BiasTreatment::Frozen {
                continue;
            }
            let mut dither = Dither::new(seed, layer.purpose(layer.outputs));
            let fade = Factor::new(recipe.momentum);
            let decay = Factor::new(recipe.weight_decay * layer.unit / BIAS_VELOCITY_UNIT);
            for (v, &b) in layer.of_mut(velocity.biases).iter_mut().zip(layer.of(self.biases)) {
                let decayed = decay.apply_by_chance(b.into(), &mut dither);
                *v = fade.apply_by_chance((*v).into(), &mut dither).saturating_add(decayed);
            }
        }
    }

    /// `w = w - lr v`.
    pub fn descend(
        &mut self,
        chain: &Chain,
        velocity: &Velocity,
        learning_rate: f32,
        bias: BiasTreatment,
        seed: u32,
    ) {
        for layer in chain.layers() {
            let scales = layer.of(self.scales).iter().enumerate();
            for (o, &scale) in scales.filter(|(_, scale)| **scale > 0.0) {
                let mut dither = Dither::new(seed, layer.purpose(o));
                let step = Step::new(learning_rate * (256.0 * layer.velocity_unit) / scale, &mut dither);
                let (high, low) = (layer.row_mut(self.high, o), layer.row_mut(self.low, o));
                rows::descend(step, layer.row(velocity.weights, o), high, low, &mut dither);
            }
            if bias == BiasTreatment::Frozen {
                continue;
            }
            let factor = Factor::new(learning_rate * BIAS_VELOCITY_UNIT / layer.unit);
            let mut dither = Dither::new(seed, layer.purpose(layer.outputs));
            for (b, &v) in layer.of_mut(self.biases).iter_mut().zip(layer.of(velocity.biases)) {
                *b = b.saturating_sub(factor.apply_by_chance(v.into(), &mut dither));
            }
        }
    }

    /// The bytes of all parameters: weights, residuals, biases, scales.
    pub fn parts(&self) -> [&[u8]; 4] {
        [bytes(self.high), bytes(self.low), bytes(self.biases), bytes(self.scales)]
    }

    /// Whether they are such as are ever written: no weight of -128 steps, no scale beyond what a run can bear.
    pub fn are_sound(&self) -> bool {
        self.high.iter().all(|&q| q > i8::MIN) && sound::weights(self.scales)
    }

    /// Outputs whose channels are dead, counted through all layers.
    pub fn dead(&self) -> impl Iterator<Item = usize> + '_ {
        let scales = self.scales.iter().enumerate();
        scales.filter(|(_, scale)| **scale <= 0.0).map(|(output, _)| output)
    }
}

impl Velocity<'_> {
    pub fn clear(&mut self) {
        self.weights.fill(0);
        self.biases.fill(0);
    }
}
