//! The trained parameters: differences to the weights in flash, and their step.

use super::difference::{
    BIAS_BITS, LARGEST_BIAS, LEAST_BITS, MOST_BITS, SUM_BITS, bias_steps, bits_for, difference, drop_of,
    effective, factor_of, power, rounded, shifted,
};
use super::gradient::round_shift;
use super::layer_weights::{Ascent, LayerWeights};
use crate::compact::number::{Dither, Factor, Step};
use crate::math;
use crate::pack::{CRC, Pack, TailNode, TrainedLayer};
use crate::part::Part;
use crate::requant::{TunedLayer, packed_scales};
use crate::sound;
use crate::tuner::bytes;

/// Scales below this are those of dead channels: nothing of them is trained.
pub(super) const DEAD_SCALE: f32 = 1e-6;
/// Share of the mean square that stays from step to step.
pub(super) const FADE: f32 = 0.99;
/// A bias moves by at most so many rates.
const BIAS_STEP: f32 = 4.0;
/// Bits that a gradient is narrowed to before it is squared, or makes a step.
const NARROW: u32 = 15;

/// All trained parameters, layer after layer.
#[derive(Debug)]
pub(super) struct Parameters<'a> {
    /// One difference per trained weight, in the order of the layers' weights; while an int8 tail is in force its weights, and
    /// empty where that tail has them. After [`Self::count`] there may be room that solving a head takes.
    pub held: &'a mut [i8],
    /// Trained weights of all layers.
    pub count: usize,
    /// One per output channel: fractional bits of its differences.
    pub bits: &'a mut [i8],
    /// One per output channel: the bias's difference, with [`BIAS_BITS`] fractional bits.
    pub biases: &'a mut [i32],
    /// One per output channel: mean square of its gradient; of a tail in force the packed steps that a step of its weights is.
    pub squares: &'a mut [f32],
    /// What is held are the weights of the tail in force: each difference is what it makes of its weight.
    pub in_force: bool,
}

/// A trained layer's place among all parameters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// First of its weights.
    pub weights: usize,
    /// First of its output channels.
    pub outputs: usize,
}

/// The trained layers with their places. Operators without weights are not among them, even where their outputs are quantized anew.
pub(super) fn places<'p>(pack: &Pack<'p>) -> impl Iterator<Item = (TrainedLayer, Place)> + use<'p> {
    let (pack, mut next) = (*pack, Place { weights: 0, outputs: 0 });
    pack.nodes().filter(TailNode::is_trained).map(move |node| {
        // Without the layers that it reads, which are looked for through all nodes.
        let (own, layer) = (next, pack.layer_of(&node));
        next.weights += layer.tuned_weights();
        next.outputs += layer.outputs;
        (layer, own)
    })
}

/// Place of the layer that is operator `index`.
pub(super) fn place_of(pack: &Pack, index: u16) -> Option<Place> {
    places(pack).find(|(layer, _)| layer.index == index).map(|(_, place)| place)
}

/// Scale of output channel `o`'s weights as packed.
pub(super) fn scale_of(scales: &[f32], o: usize) -> f32 {
    scales.get(o).or(scales.first()).copied().unwrap_or(0.0)
}

/// What one output channel's step is made with.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChannelStep {
    /// Real value of a step of the sums in the row.
    pub unit: f32,
    /// Rate, in steps of q.
    pub rate: f32,
    /// One less what the mean square has kept of its start.
    pub known: f32,
    /// Steps of the input that the real 1 is.
    pub one: f32,
}

/// Rate of a layer with so many weights per output: `learning_rate * taps^-0.75`.
pub(super) fn rate(learning_rate: f32, taps: usize) -> f32 {
    let fourth = math::sqrt(math::sqrt(taps.max(1) as f32));
    learning_rate / (fourth * fourth * fourth)
}

/// Narrows sums to 15 bits; returns the bits dropped.
pub(super) fn narrow(sums: &mut [i32]) -> u32 {
    let largest = sums.iter().map(|sum| sum.unsigned_abs()).max().unwrap_or(0);
    let shift = (u32::BITS - largest.leading_zeros()).saturating_sub(NARROW);
    if shift > 0 {
        sums.iter_mut().for_each(|sum| *sum = round_shift(*sum, shift));
    }
    shift
}

/// Sum of squares of numbers of 16 bits.
pub(super) fn sum_of_squares(values: &[i32]) -> u64 {
    values.iter().map(|&x| u64::from((x * x).cast_unsigned())).sum()
}

impl Parameters<'_> {
    /// A layer's parameters, to be read.
    pub fn of<'l>(
        &'l self,
        pack: &Pack<'l>,
        layer: &'l TrainedLayer,
        place: Place,
        ascent: Ascent<'l>,
    ) -> LayerWeights<'l> {
        let constants = &layer.operator.constants;
        LayerWeights {
            layer,
            inputs: pack.chosen_inputs(layer),
            packed: pack.int8(constants.weights, layer.weights()),
            packed_biases: pack.int32(constants.biases, layer.outputs),
            deltas: self.held.part(place.weights..place.weights + layer.tuned_weights()),
            bits: self.bits.part(place.outputs..place.outputs + layer.outputs),
            biases: self.biases.part(place.outputs..place.outputs + layer.outputs),
            ascent,
            ratios: match self.in_force {
                true => self.squares.part(place.outputs..place.outputs + layer.outputs),
                false => &[],
            },
        }
    }

    /// The differences.
    fn deltas(&self) -> &[i8] {
        self.held.part(..self.count.min(self.held.len()))
    }

    /// Makes the differences the int8 weights that they stand for.
    #[inline(never)] // Once in a firmware.
    pub fn become_weights(&mut self, pack: &Pack) {
        self.convert(pack, |d, q, bits, _| effective(q, d, drop_of(bits), 0));
    }

    /// Makes the weights of a tail in force the differences that they stand for.
    #[inline(never)] // Once in a firmware.
    pub fn become_differences(&mut self, pack: &Pack) {
        self.convert(pack, |own, q, bits, ratio| rounded(difference(ratio, own, q), bits));
        self.squares.fill(0.0);
    }

    /// Writes `of(what is held, packed weight, the channel's bits, its factor)` over all that is held.
    fn convert(&mut self, pack: &Pack, of: impl Fn(i8, i8, i8, Factor) -> i8) {
        for (layer, place) in places(pack) {
            let (packed, inputs) =
                (pack.int8(layer.operator.constants.weights, layer.weights()), pack.chosen_inputs(&layer));
            for o in 0..layer.outputs {
                let (bits, ratio) = self.channel(place.outputs + o);
                for (own, at) in layer.trained_row(o, inputs) {
                    if let (Some(own), Some(&q)) = (self.held.get_mut(place.weights + own), packed.get(at)) {
                        *own = of(*own, q, bits, ratio);
                    }
                }
            }
        }
    }

    /// Bits of a channel's differences, and [`factor_of`] what stands in the place of its mean square.
    fn channel(&self, index: usize) -> (i8, Factor) {
        let ratio = self.squares.get(index).copied().unwrap_or(1.0);
        (self.bits.get(index).copied().unwrap_or(MOST_BITS), factor_of(ratio))
    }

    /// [`crate::Tuner::weights_crc32`] of the differences that the weights of a tail in force stand for.
    #[inline(never)] // Once in a firmware.
    pub fn crc32_in_force(&self, pack: &Pack) -> u32 {
        let mut digest = CRC.digest();
        for (layer, place) in places(pack) {
            let (packed, inputs) =
                (pack.int8(layer.operator.constants.weights, layer.weights()), pack.chosen_inputs(&layer));
            let mut take = |o: usize, (own, at): (usize, usize)| {
                if let (Some(&own), Some(&q)) = (self.held.get(place.weights + own), packed.get(at)) {
                    let (bits, ratio) = self.channel(place.outputs + o);
                    digest.update(&[rounded(difference(ratio, own, q), bits).cast_unsigned()]);
                }
            };
            if layer.rows_are_contiguous() {
                for o in 0..layer.outputs {
                    layer.trained_row(o, inputs).for_each(|index| take(o, index));
                }
            } else {
                // All channels of a depthwise convolution lie side by side.
                let all = layer.outputs.max(1);
                let side = if layer.inputs.is_some() { inputs.len().max(1) } else { all };
                for own in 0..layer.tuned_weights() {
                    let o = inputs.get(own % side).map_or(own % side, |&o| o.into());
                    take(o, (own, own / side * all + o));
                }
            }
        }
        digest.update(bytes(self.bits));
        digest.update(bytes(self.biases));
        digest.finalize()
    }

    /// Back to the weights in flash.
    pub fn reset(&mut self) {
        self.held.fill(0);
        self.bits.fill(MOST_BITS);
        self.biases.fill(0);
        self.squares.fill(0.0);
    }

    /// Takes a layer of the tail in force, which keeps its weights: each channel's differences have as many fractional bits as
    /// they have room for.
    #[inline(never)] // Once in a firmware.
    pub fn load(&mut self, pack: &Pack, place: Place, tuned: &TunedLayer) {
        let layer = &tuned.layer;
        let scales = packed_scales(pack, layer);
        let packed = pack.int8(layer.operator.constants.weights, layer.weights());
        let packed_biases = pack.int32(layer.operator.constants.biases, layer.outputs);
        for o in 0..layer.outputs {
            let (own, packed_scale) = (scale_of(tuned.scales, o), scale_of(scales, o));
            let ratio = own / packed_scale;
            let factor = factor_of(ratio);
            let difference = |own: usize, at: usize| {
                let [tuned, packed] =
                    [(tuned.weights, own), (packed, at)].map(|(q, index)| q.get(index).copied().unwrap_or(0));
                difference(factor, tuned, packed)
            };
            let bits = bits_for(layer.trained_row(o, tuned.inputs), difference);
            if let Some(place) = self.bits.get_mut(place.outputs + o) {
                *place = bits;
            }
            if let Some(place) = self.squares.get_mut(place.outputs + o) {
                *place = ratio;
            }
            let bias = tuned.biases.get(o).copied().unwrap_or(0);
            let unit = f64::from(tuned.input.scale) * f64::from(own);
            let steps = f64::from(bias) * unit / (f64::from(layer.input.scale) * f64::from(packed_scale));
            let moved = steps - f64::from(packed_biases.get(o).copied().unwrap_or(0));
            if let Some(place) = self.biases.get_mut(place.outputs + o) {
                *place = bias_steps(moved);
            }
        }
    }

    /// Takes a layer in real numbers, for steps of its input: weights, then biases. Where weights are too large for the packed
    /// scales, all of it is made smaller by one factor.
    pub fn load_real(&mut self, pack: &Pack, (layer, place): (&TrainedLayer, Place), real: &[f32]) {
        let scales = packed_scales(pack, layer);
        let packed = pack.int8(layer.operator.constants.weights, layer.weights());
        let packed_biases = pack.int32(layer.operator.constants.biases, layer.outputs);
        let (rows, biases) = real.split_at(layer.weights().min(real.len()));
        let deltas = self.held.part_mut(place.weights..place.weights + layer.tuned_weights());
        let unit = |o: usize| layer.input.scale * scale_of(scales, o);
        let steps = |at: usize, o: usize| rows.get(at).copied().unwrap_or(0.0) / unit(o);
        let every = |o: usize| (o * layer.taps..).take(layer.taps);
        let largest = (0..layer.outputs).flat_map(|o| every(o).map(move |at| (at, o)));
        let largest = largest.fold(0.0f32, |most, (at, o)| most.max(steps(at, o).abs()));
        let shrink = if largest > 127.0 { 127.0 / largest } else { 1.0 };
        for o in 0..layer.outputs {
            let difference = |_: usize, at: usize| {
                let packed = i64::from(packed.get(at).copied().unwrap_or(0));
                // A float cast saturates.
                let own = math::round(steps(at, o) * shrink * (1u32 << SUM_BITS) as f32) as i64;
                own - (packed << SUM_BITS)
            };
            let bits = bits_for(layer.trained_row(o, &[]), difference);
            for (own, at) in layer.trained_row(o, &[]) {
                if let Some(d) = deltas.get_mut(own) {
                    *d = rounded(difference(own, at), bits);
                }
            }
            if let Some(place) = self.bits.get_mut(place.outputs + o) {
                *place = bits;
            }
            let bias = f64::from(biases.get(o).copied().unwrap_or(0.0) * shrink / unit(o));
            let moved = bias - f64::from(packed_biases.get(o).copied().unwrap_or(0));
            if let Some(place) = self.biases.get_mut(place.outputs + o) {
                *place = bias_steps(moved);
            }
        }
    }

    /// Moves output channel `o` of a layer by its gradient: `sums`, one per weight, and `bias`, both in steps of
    /// [`ChannelStep::unit`]. The sums are overwritten.
    pub fn step(
        &mut self,
        (layer, place): (&TrainedLayer, Place),
        (packed, inputs): (&[i8], &[u16]),
        o: usize,
        by: &ChannelStep,
        (sums, bias): (&mut [i32], i32),
        dither: &mut Dither,
    ) {
        let index = place.outputs + o;
        let (Some(square), Some(bits)) = (self.squares.get_mut(index), self.bits.get_mut(index)) else {
            return;
        };
        let dropped = narrow(sums);
        let unit = by.unit * (1u32 << dropped.min(31)) as f32;
        let mean = match sums.len() {
            // A channel that trains its bias alone has the bias's.
            0 => {
                let g = bias as f32 * by.unit * by.one;
                g * g
            }
            taps => sum_of_squares(sums) as f32 / taps as f32 * (unit * unit),
        };
        *square = FADE * *square + (1.0 - FADE) * mean;
        let size = math::sqrt(*square / by.known);
        if let Some(b) = self.biases.get_mut(index) {
            let (step, most) = (by.rate * (bias as f32 * by.unit * by.one) / size, BIAS_STEP * by.rate);
            // 0 / 0 where no gradient moves the bias.
            let step = if step.is_nan() { 0.0 } else { step.max(-most).min(most) };
            let moved = Factor::new(step * by.one).apply_by_chance(1 << BIAS_BITS, dither);
            *b = b.saturating_sub(moved).clamp(-LARGEST_BIAS, LARGEST_BIAS);
        }
        if !size.is_normal() {
            return;
        }
        let factor = by.rate * unit / size;
        let factor = Step::new(factor * power(*bits), dither);
        if factor.is_zero() {
            return;
        }
        let deltas = self.held.part_mut(place.weights..place.weights + layer.tuned_weights());
        let mut largest = 0;
        for (sum, (own, at)) in sums.iter_mut().zip(layer.trained_row(o, inputs)) {
            let (d, q) = (deltas.get(own).copied().unwrap_or(0), packed.get(at).copied().unwrap_or(0));
            let moved = i32::from(d).saturating_sub(factor.apply(*sum, dither));
            // No farther than the weight itself can go.
            let [low, high] = [-127, 127].map(|end| shifted(end - i32::from(q), *bits));
            *sum = moved.clamp(low.min(0), high.max(0));
            largest = largest.max(sum.unsigned_abs());
        }
        while largest > 127 && *bits > LEAST_BITS {
            *bits -= 1;
            largest = 0;
            for sum in sums.iter_mut() {
                *sum = (*sum + dither.bits(1)) >> 1;
                largest = largest.max(sum.unsigned_abs());
            }
        }
        for (&sum, (own, _)) in sums.iter().zip(layer.trained_row(o, inputs)) {
            if let Some(d) = deltas.get_mut(own) {
                *d = sum.clamp(-127, 127) as i8;
            }
        }
    }

    /// The bytes of all parameters: differences, their bits, biases, mean squares.
    pub fn parts(&self) -> [&[u8]; 4] {
        [bytes(self.deltas()), bytes(self.bits), bytes(self.biases), bytes(self.squares)]
    }

    /// Whether they are such as are ever written; of a tail in force, whose weights are its own, what stands beside them.
    pub fn are_sound(&self) -> bool {
        let squares = || self.squares.iter().all(|&square| square >= 0.0) && sound::velocity(self.squares);
        self.deltas().iter().all(|&d| d > i8::MIN)
            && self.bits.iter().all(|bits| (LEAST_BITS..=MOST_BITS).contains(bits))
            && self.biases.iter().all(|bias| (-LARGEST_BIAS..=LARGEST_BIAS).contains(bias))
            && (self.held.is_empty() || squares())
    }
}
