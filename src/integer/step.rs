//! One step in integers: the ascent of a sample's gradient, and the descent.

use super::backward::backward;
use super::gradient::{bits_above, round_shift};
use super::layer_weights::{Ascent, LayerWeights};
use super::pass::{Channel, Network, Scratch, dither};
use super::tuner::{Integer, IntegerTuner, Step};
use super::weights::{ChannelStep, DEAD_SCALE, FADE, Parameters, narrow, rate, scale_of, sum_of_squares};
use crate::compact::softmax::{Losses, SmoothLabel};
use crate::optim::{BiasTreatment, Geometry};
use crate::pack::Sizes;
use crate::part::Part;
use crate::recipe;
use crate::requant::packed_scales;
use crate::step::Phase;
use crate::tuner::{Numbers, Progress, Run, TunerError};

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
        let Self { pack, sizes, parameters, ascent: room, .. } = self;
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
                let elements = elements.part_mut(place.weights..place.weights + layer.tuned_weights());
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
        let Self { pack, sizes, parameters, ascent: room, .. } = self;
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
        let Self { pack, sizes, parameters, ascent: room, .. } = self;
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
                let packed = (packed, pack.chosen_inputs(layer));
                parameters.step((layer, place), packed, output, &by, (sums, by_bias), &mut dither);
            };
        if backward(pack, parameters, ascent, unit, scratch, &mut descend).is_none() {
            debug_assert!(false, "a tail that was checked");
        }
    }
}

impl IntegerTuner<'_> {
    /// The next slice of a step: the sample's ascent, if there is one, or its descent.
    pub(super) fn integer_slice(&mut self) -> Result<Progress, TunerError> {
        let phase = self.run.as_ref().ok_or(TunerError::NotRunning)?.step.phase;
        if phase == Phase::Prepare {
            let (learning_rate, count) = self.begin_step();
            let Some(Run { step, .. }) = &mut self.run else { return Err(TunerError::NotRunning) };
            (step.learning_rate, step.count, step.phase) = (learning_rate, count, Phase::Descent);
            self.arithmetic.ascended = None;
        }
        let sizes = self.pack.sizes();
        let Self { arithmetic, recipe, replay, division, scratch, pack, run, macs, .. } = self;
        let Some(Run { course, radius, step }) = run else { return Err(TunerError::NotRunning) };
        let recipe = recipe.at(course.step, radius.known());
        let slot = course.slots(division).first().map_or(0, |&slot| slot.into());
        let (mut loss, mut rise) = (0.0, 0.0);
        if let Some((latent, label)) = replay.get(slot).filter(|_| step.count > 0) {
            let label = SmoothLabel { label: label.into(), smoothing: recipe.label_smoothing };
            if let Some(own) = recipe.ascent().filter(|_| arithmetic.ascended.is_none()) {
                arithmetic.write_features(pack, latent, scratch);
                let Some(mut divided) = Scratch::new(&sizes, scratch) else {
                    return Err(TunerError::NotRunning);
                };
                arithmetic.ascended = Some(arithmetic.ascend(&own, label, &mut divided));
                // After a resumption, which has lost it, the ascent is no slice of its own.
                if phase == Phase::Prepare {
                    return self.underway();
                }
            }
            let ascended = arithmetic.ascended.take();
            arithmetic.write_features(pack, latent, scratch);
            let Some(mut divided) = Scratch::new(&sizes, scratch) else { return Err(TunerError::NotRunning) };
            let perturbed = ascended.as_ref().is_some_and(|own| own.has_length);
            let (losses, unit) = match perturbed {
                true => arithmetic.perturbed_loss(label, &mut divided),
                false => {
                    let (losses, _, unit) = arithmetic.network().loss(label, &mut divided);
                    (losses, unit)
                }
            };
            loss = ascended.as_ref().map_or_else(|| losses.sum(), |own| own.loss);
            rise = if perturbed { losses.sum() - loss } else { 0.0 };
            step.dither = step.dither.wrapping_add(1);
            step.kept *= FADE;
            arithmetic.descend((perturbed, unit), step.learning_rate, recipe.bias, step, &mut divided);
            let passes = if perturbed { 6 } else { 3 };
            *macs = macs.saturating_add(arithmetic.forward_macs().saturating_mul(passes));
        }
        step.phase = Phase::Prepare;
        let report = course.end_step(&recipe, step.count, [loss, rise, step.learning_rate]);
        if report.finished {
            self.run = None;
        }
        Ok(Progress::Stepped(report))
    }
}

impl IntegerTuner<'_> {
    /// Adds the squares of a sample's gradients by the weights, in steps of these, one for every trained weight: what a desktop
    /// chooses input channels by.
    #[doc(hidden)]
    pub fn add_energies(&mut self, latent: &[i8], label: usize, energies: &mut [f64]) {
        let sizes = self.pack.sizes();
        let Self { arithmetic, scratch, pack, .. } = self;
        arithmetic.write_features(pack, latent, scratch);
        let Some(mut divided) = Scratch::new(&sizes, scratch) else { return };
        let (_, _, unit) = arithmetic.network().loss(label.into(), &mut divided);
        let mut add = |_: &mut Parameters, channel: Channel, sums: &mut [i32], _: i32, unit: f32| {
            let Channel { layer, place, output } = channel;
            let scale = scale_of(packed_scales(pack, layer), output);
            let unit = f64::from(unit * (layer.input.scale * scale / layer.output.scale));
            let own = energies.part_mut(place.weights..place.weights + layer.tuned_weights());
            for ((at, _), &sum) in layer.trained_row(output, pack.chosen_inputs(layer)).zip(sums.iter()) {
                if let Some(energy) = own.get_mut(at) {
                    *energy += (f64::from(sum) * unit) * (f64::from(sum) * unit);
                }
            }
        };
        let backward = backward(pack, &mut arithmetic.parameters, Ascent::NONE, unit, &mut divided, &mut add);
        debug_assert!(backward.is_some(), "a tail that was checked");
    }
}

/// The ascent of a step under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ascended {
    /// The loss in front of it.
    loss: f32,
    /// There is a gradient to go along.
    has_length: bool,
}

impl Integer<'_> {
    /// Leaves the ascent of the sample whose features are in the workspace in its place.
    fn ascend(&mut self, ascent: &recipe::Ascent, label: SmoothLabel, scratch: &mut Scratch) -> Ascended {
        let (losses, _, unit) = self.network().loss(label, scratch);
        let norm = self.begin_ascent(&ascent.geometry, unit, scratch);
        let length = ascent.geometry.step_length(ascent.rho, norm);
        if let Some(c) = length {
            self.settle_ascent(c);
        }
        Ascended { loss: losses.sum(), has_length: length.is_some() }
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
    for ((at, _), sum) in own.indices(output).zip(sums.iter()) {
        if let Some(element) = elements.get_mut(at) {
            *element = round_shift(*sum, shift) as i8;
        }
    }
    ChannelAscent { unit: unit * (1u32 << shift.min(31)) as f32, norm: norm as f32 * (unit * unit) }
}
