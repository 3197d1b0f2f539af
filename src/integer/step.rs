//! One step in integers: the ascent of a sample's gradient, and the descent.

use super::backward::backward;
use super::gradient::{bits_above, round_shift};
use super::pass::{Channel, Network, Scratch, dither};
use super::tuner::{Integer, IntegerTuner, Step};
use super::weights::{
    Ascent, ChannelStep, DEAD_SCALE, FADE, LayerWeights, Parameters, narrow, rate, scale_of, sum_of_squares,
};
use crate::compact::softmax::{Losses, SmoothLabel};
use crate::optim::{BiasTreatment, Geometry};
use crate::pack::Sizes;
use crate::part::Part;
use crate::recipe;
use crate::requant::packed_scales;
use crate::tuner::{Numbers, Run, StepReport, TunerError};

/// The arrays of an ascent: units or biases as f32 while it is being made.
struct AscentParts<'s> {
    units: &'s mut [i32],
    biases: &'s mut [i32],
    elements: &'s mut [i8],
}

impl<'s> AscentParts<'s> {
    fn new(sizes: &Sizes, room: &'s mut [u8]) -> Option<Self> {
        let (words, rest) = room.split_at_mut_checked(8 * sizes.tail_outputs)?;
        let words: &mut [i32] = bytemuck::try_cast_slice_mut(words).ok()?;
        let (units, biases) = words.split_at_mut_checked(sizes.tail_outputs)?;
        let elements = bytemuck::must_cast_slice_mut(rest.get_mut(..sizes.tail_weights)?);
        Some(Self { units, biases, elements })
    }

    fn read(self) -> Ascent<'s> {
        Ascent { elements: self.elements, units: self.units, biases: self.biases }
    }
}

impl Integer<'_> {
    /// After a forward pass: makes the ascent of the sample's gradient, but for its length. Returns `||T g||^2`.
    pub(super) fn begin_ascent(&mut self, geometry: &Geometry, unit: f32, scratch: &mut Scratch) -> f32 {
        let Self { pack, sizes, parameters, ascent: room } = self;
        let Some(AscentParts { units, biases, elements }) = AscentParts::new(sizes, room) else {
            return 0.0;
        };
        let mut norm = 0.0;
        let scales_weights = geometry.eta.is_some();
        let mut keep =
            |parameters: &mut Parameters, channel: Channel, sums: &mut [i32], bias: i32, unit: f32| {
                let Channel { layer, place, output } = channel;
                let own = parameters.of(pack, layer, place, Ascent::NONE);
                let scale = scale_of(packed_scales(pack, layer), output);
                // What all of the channel's sums are less than its gradient by: its factor M.
                let unit = unit * (layer.input.scale * scale / layer.output.scale);
                let elements = elements.part_mut(place.weights..place.weights + layer.weights());
                let element =
                    channel_ascent(&own, output, scale < DEAD_SCALE, scales_weights, (sums, unit), elements);
                norm += element.norm;
                if let Some(place) = units.get_mut(place.outputs + output) {
                    *place = element.unit.to_bits().cast_signed();
                }
                if let Some(place) = biases.get_mut(place.outputs + output) {
                    let frozen = geometry.bias == BiasTreatment::Frozen || scale < DEAD_SCALE;
                    // By a weight of the constant real input 1.
                    let g = if frozen { 0.0 } else { bias as f32 * unit / layer.input.scale };
                    norm += g * g;
                    *place = (g / layer.input.scale).to_bits().cast_signed();
                }
            };
        if backward(pack, parameters, Ascent::NONE, unit, scratch, &mut keep).is_none() {
            debug_assert!(false, "a tail that was checked");
        }
        norm
    }

    /// Gives the ascent its length: `c` steps of q for each of the gradient's.
    pub(super) fn settle_ascent(&mut self, c: f32) {
        let Some(AscentParts { units, biases, .. }) = AscentParts::new(&self.sizes, self.ascent) else {
            return;
        };
        // Float casts saturate.
        for unit in units {
            *unit = crate::math::round(f32::from_bits(unit.cast_unsigned()) * c * 65_536.0) as i32;
        }
        for bias in biases {
            *bias = crate::math::round(f32::from_bits(bias.cast_unsigned()) * c) as i32;
        }
    }

    /// Forward pass at the ascent's end: loss, unit of the gradient by the logits.
    pub(super) fn perturbed_loss(&mut self, label: SmoothLabel, scratch: &mut Scratch) -> (Losses, f32) {
        let Self { pack, sizes, parameters, ascent: room } = self;
        let ascent = AscentParts::new(sizes, room).map_or(Ascent::NONE, AscentParts::read);
        let (losses, _, unit) = Network { pack, parameters, ascent, factory: false }.loss(label, scratch);
        (losses, unit)
    }

    /// Backward pass at `q`, or at the ascent's end, that moves the weights.
    fn descend(
        &mut self,
        (perturbed, unit): (bool, f32),
        learning_rate: f32,
        bias: BiasTreatment,
        step: &Step,
        scratch: &mut Scratch,
    ) {
        let Self { pack, sizes, parameters, ascent: room } = self;
        let ascent = match perturbed {
            true => AscentParts::new(sizes, room).map_or(Ascent::NONE, AscentParts::read),
            false => Ascent::NONE,
        };
        let known = 1.0 - step.kept;
        let mut descend =
            |parameters: &mut Parameters, channel: Channel, sums: &mut [i32], by_bias: i32, unit: f32| {
                let Channel { layer, place, output } = channel;
                if scale_of(packed_scales(pack, layer), output) < DEAD_SCALE {
                    return;
                }
                let rate = rate(learning_rate, layer.taps);
                let by = ChannelStep { unit, rate, known, one: 1.0 / layer.input.scale };
                let packed = pack.int8(layer.operator.constants.weights, layer.weights());
                let by_bias = if bias == BiasTreatment::Frozen { 0 } else { by_bias };
                let mut dither = dither(step.dither, place, output);
                parameters.step((layer, place), packed, output, &by, (sums, by_bias), &mut dither);
            };
        if backward(pack, parameters, ascent, unit, scratch, &mut descend).is_none() {
            debug_assert!(false, "a tail that was checked");
        }
    }
}

impl IntegerTuner<'_> {
    /// One step, on one sample.
    pub(super) fn integer_step(&mut self) -> Result<StepReport, TunerError> {
        let (learning_rate, count) = self.begin_step();
        let sizes = self.pack.sizes();
        let Self { arithmetic, recipe, replay, division, scratch, pack, run, macs, .. } = self;
        let Some(Run { course, radius, step }) = run else { return Err(TunerError::NotRunning) };
        let recipe = recipe.at(course.step, radius.known());
        step.dither = step.dither.wrapping_add(1);
        step.kept *= FADE;
        let slot = course.slots(division).first().map_or(0, |&slot| slot.into());
        let sample = replay.get(slot).filter(|_| count > 0);
        let (mut loss, mut rise) = (0.0, 0.0);
        if let Some((latent, label)) = sample {
            let label = SmoothLabel { label: label.into(), smoothing: recipe.label_smoothing };
            arithmetic.write_features(pack, latent, scratch);
            let Some(mut divided) = Scratch::new(&sizes, scratch) else { return Err(TunerError::NotRunning) };
            let (losses, _, mut unit) = arithmetic.network().loss(label, &mut divided);
            loss = losses.sum();
            // rho = 0 is the base optimizer, in every bit.
            let ascent = recipe.ascent().and_then(|recipe::Ascent { rho, geometry }| {
                let norm = arithmetic.begin_ascent(&geometry, unit, &mut divided);
                geometry.step_length(rho, norm)
            });
            let passes = if ascent.is_some() { 6 } else { 3 };
            if let Some(c) = ascent {
                arithmetic.settle_ascent(c);
            }
            if recipe.ascent().is_some() {
                // The backward pass may have used the features' place.
                arithmetic.write_features(pack, latent, scratch);
                let Some(mut divided) = Scratch::new(&sizes, scratch) else {
                    return Err(TunerError::NotRunning);
                };
                if ascent.is_some() {
                    let risen;
                    (risen, unit) = arithmetic.perturbed_loss(label, &mut divided);
                    rise = risen.sum() - loss;
                } else {
                    (_, _, unit) = arithmetic.network().loss(label, &mut divided);
                }
                arithmetic.descend((ascent.is_some(), unit), learning_rate, recipe.bias, step, &mut divided);
            } else {
                arithmetic.descend((false, unit), learning_rate, recipe.bias, step, &mut divided);
            }
            *macs = macs.saturating_add(arithmetic.forward_macs().saturating_mul(passes));
        }
        let report = course.end_step(&recipe, count, [loss, rise, learning_rate]);
        if report.finished {
            self.run = None;
        }
        Ok(report)
    }
}

/// What a channel's elements stand for, and what they add to the norm.
struct ChannelAscent {
    unit: f32,
    norm: f32,
}

/// Writes a channel's `T^2 g`.
fn channel_ascent(
    own: &LayerWeights,
    output: usize,
    dead: bool,
    scales_weights: bool,
    (sums, unit): (&mut [i32], f32),
    elements: &mut [i8],
) -> ChannelAscent {
    let dropped = narrow(sums);
    let unit = unit * (1u32 << dropped.min(31)) as f32;
    if dead {
        sums.fill(0);
    }
    let mut norm = if scales_weights { 0 } else { sum_of_squares(sums) };
    if scales_weights {
        for (sum, q) in sums.iter_mut().zip(own.row(output)) {
            // Of 7 and 15 bits.
            let t = i32::from(q.unsigned_abs()) + 1;
            let scaled = *sum * t;
            norm += u64::try_from(i64::from(scaled) * i64::from(scaled)).unwrap_or(0);
            *sum = scaled * t;
        }
    }
    let largest = sums.iter().map(|sum| sum.unsigned_abs()).max().unwrap_or(0);
    let shift = bits_above(largest);
    for (at, sum) in own.indices(output).zip(sums.iter()) {
        if let Some(element) = elements.get_mut(at) {
            *element = round_shift(*sum, shift) as i8;
        }
    }
    ChannelAscent { unit: unit * (1u32 << shift.min(31)) as f32, norm: norm as f32 * (unit * unit) }
}
