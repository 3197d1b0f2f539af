//! The arithmetic of integers for any layers: see [`crate::integer`].

use super::layer_weights::Ascent;
use super::pass::{MOST_VALUES, Network, Scratch};
use super::plan::IntegerPlan;
use super::pointwise::left_out;
use super::step::Ascended;
use super::weights::{DEAD_SCALE, Parameters, place_of, places, scale_of};
use crate::compact::softmax::{LOGIT_BITS, SmoothLabel};
use crate::optim::BiasTreatment;
use crate::pack::{Pack, Sizes, TrainedLayer};
use crate::part::Part;
use crate::quant::Affine;
use crate::recipe::{self, Method, Optimizer, Recipe};
use crate::requant::{Range, TunedTail, packed_scales};
use crate::step::Phase;
use crate::store::Contents;
use crate::tail::{Loss, TailError, Target};
use crate::tuner::{
    Backup, Counts, Cutter, Former, Numbers, Progress, RUN_PARTS, Run, Shared, Tuner, TunerError,
    WEIGHT_PARTS, Work, bytes, bytes_mut,
};

/// A [`Tuner`] that trains layers of any kind in integers, in little more than a byte per weight: for devices whose RAM does not hold
/// the tail in f32, and for cores without FPU. It is made by [`IntegerTuner::in_arena`](Tuner::in_arena), in an arena of
/// [`crate::Sizes::integer_bytes`], and takes recipes like [`Recipe::INTEGER`].
///
/// It takes tails that are no chains ([`crate::Sizes::tail_is_chain`]) with softmax cross-entropy, and SGD, SAM and ASAM on
/// one sample at a time: `src/integer` has the number formats, and what is left out.
pub type IntegerTuner<'a> = Tuner<'a, Integer<'a>>;

/// Differences of 8 bits to the weights in flash, and what trains them in integers.
/// [`crate::Tuner`] has an example that takes either.
#[derive(Debug)]
pub struct Integer<'a> {
    pub(super) pack: Pack<'a>,
    pub(super) sizes: Sizes,
    pub(super) parameters: Parameters<'a>,
    /// The ascent of a step under way; empty of an arena that was planned for SGD.
    pub(super) ascent: &'a mut [u8],
    /// Part of the step under way that lies there; `None` where it was overwritten since.
    pub(super) ascended: Option<Ascended>,
    /// The head is solved, and no step taken since.
    pub(super) solved: bool,
    /// What is kept of a tail in force that has given its place to the differences.
    former: Former<'a>,
}

/// Where a run stands between two slices; with its buffers all there is to it. An ascent is no part of it: it is made anew.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
pub struct Step {
    /// Seed of the next step's rounding.
    pub(super) dither: u32,
    /// What the mean squares have kept of their start.
    pub(super) kept: f32,
    /// [`Phase::Prepare`], or within a step [`Phase::Descent`].
    pub(super) phase: Phase,
    /// Samples of the step under way, 0 or 1.
    pub(super) count: usize,
    pub(super) learning_rate: f32,
}

/// Refuses what the integer tail leaves out.
fn check(recipe: &Recipe) -> Result<(), TunerError> {
    recipe.check()?;
    let asked = [
        ("minibatches of more than one sample", recipe.minibatch > 1),
        ("momentum", recipe.momentum != 0.0),
        ("weight decay", recipe.weight_decay != 0.0),
        ("shared ascents (sharpness_batch above 1)", recipe.sharpness_batch > 1),
        ("stored perturbations (store_perturbation)", recipe.store_perturbation),
        ("Adam", recipe.optimizer == Optimizer::Adam),
        ("SAM-ON", recipe.method == Method::SamOn),
        ("element-wise bias treatment", recipe.bias == BiasTreatment::Elementwise),
        ("best epoch's weights (keep_best)", recipe.keep_best),
        ("losses of its samples (sample_losses)", recipe.sample_losses),
    ];
    let asked = asked.into_iter().find(|(_, asked)| *asked);
    asked.map_or(Ok(()), |(what, _)| Err(TunerError::LeftOut { what }))
}

/// Refuses a tail that has what the integer tail leaves out.
fn check_pack(pack: &Pack) -> Result<(), TunerError> {
    if pack.loss() != Loss::CrossEntropy {
        return Err(TailError::Loss.into());
    }
    let partly = |layer: &TrainedLayer| layer.trains_scales || layer.chosen.is_some();
    let asked = [
        ("chains of fully connected layers, which a compact tuner takes", pack.tail_is_chain()),
        ("spare classes", pack.spare_classes() > 0),
        (
            "layers that train scales or a share of output channels alone",
            pack.trained_layers().any(|l| partly(&l)),
        ),
        ("more than 128 arrays", usize::from(pack.value_count()) > MOST_VALUES),
    ];
    let of_nodes =
        pack.nodes().filter(|node| node.output.delta.is_some()).find_map(|node| left_out(pack, &node));
    let asked = asked.into_iter().find_map(|(what, asked)| asked.then_some(what)).or(of_nodes);
    asked.map_or(Ok(()), |what| Err(TunerError::LeftOut { what }))
}

/// The label of a target; a tail with cross-entropy has no other.
fn label(target: Target) -> SmoothLabel {
    match target {
        Target::Label { label, smoothing } => SmoothLabel { label, smoothing },
        Target::Values { .. } => 0.into(),
    }
}

impl<'a> Integer<'a> {
    pub(super) fn network(&self) -> Network<'_, 'a> {
        Network { pack: &self.pack, parameters: &self.parameters, ascent: Ascent::NONE, factory: false }
    }
}

impl<'a> Integer<'a> {
    /// Reads the parameters: where a tail in force has their place, those that it stands for.
    fn reading<R>(&mut self, tuned: &mut TunedTail<'a>, read: impl FnOnce(&mut Self) -> R) -> R {
        if !self.parameters.held.is_empty() {
            return read(self);
        }
        self.take_back(tuned);
        self.parameters.in_force = true;
        let read = read(self);
        self.parameters.in_force = false;
        self.lend(tuned);
        read
    }

    #[inline(never)] // Once in a firmware.
    fn risen_of(
        &mut self,
        ascent: &recipe::Ascent,
        (pack, latent, target): (&Pack, &[i8], Target),
        scratch: &mut [i32],
    ) -> (f32, usize, Option<[f32; 2]>) {
        let sizes = self.sizes;
        let Some(mut divided) = Scratch::new(&sizes, scratch) else { return (f32::NAN, 0, None) };
        let (losses, answer, unit) = self.network().loss(label(target), &mut divided);
        if self.ascent.is_empty() {
            return (losses.sum(), answer, Some([f32::NAN; 2]));
        }
        self.ascended = None;
        let norm = self.begin_ascent(&ascent.geometry, unit, &mut divided);
        let risen = ascent.geometry.step_length(ascent.rho, norm).and_then(|c| {
            self.settle_ascent(c);
            // The backward pass may have used the features' place.
            self.write_features(pack, latent, scratch);
            let mut divided = Scratch::new(&sizes, scratch)?;
            let (losses, _) = self.perturbed_loss(label(target), &mut divided);
            Some([losses.sum(), c * norm])
        });
        (losses.sum(), answer, risen)
    }
}

/// Quantization of a layer's output: of the last one it follows the logits' range.
fn output_of(layer: &TrainedLayer, range: Option<&Range>) -> Affine {
    match range.filter(|_| layer.refit) {
        Some(range) => Affine::covering(range.low, range.high),
        None => layer.output,
    }
}

impl<'a> Numbers<'a> for Integer<'a> {
    // The differences are those of the int8 weights to the ones in flash, but for a fraction of a step.
    const CONTENTS: Contents = Contents::Int8;
    const ANY_TAIL: bool = true;
    const INPUT_SHARES: bool = true;
    const ONE_COPY: bool = true;

    type Word = i32;
    type Step = Step;
    type Kept = ();

    fn check(recipe: &Recipe) -> Result<(), TunerError> {
        check(recipe)
    }

    fn arena_bytes(sizes: &Sizes, recipe: &Recipe) -> usize {
        sizes.integer_bytes(recipe)
    }

    fn cut(
        pack: &Pack<'a>,
        recipe: &Recipe,
        arena: &'a mut [u8],
    ) -> Result<(Self, Shared<'a, i32>), TunerError> {
        check_pack(pack)?;
        let sizes = pack.sizes();
        let plan = IntegerPlan::new(&sizes, recipe);
        let mut cutter = Cutter::new(arena, plan.total_bytes())?;
        let (biases, squares) = (cutter.take(plan.biases)?, cutter.take(plan.squares)?);
        let tuned = TunedTail::without_weights(cutter.take(plan.tail_words)?, sizes.tail_weights);
        let (bits, held) = (cutter.take(plan.bits)?, cutter.take(plan.weights)?);
        let ascent = cutter.take(plan.ascent)?;
        let replay = cutter.replay([plan.replay, plan.labels, plan.class_counts], &sizes, recipe)?;
        let (order, former) = (cutter.take(plan.order)?, Former::new(cutter.take(plan.answers)?));
        let (scratch, latent) = (cutter.take(plan.scratch)?, cutter.take(plan.latent)?);
        let count = sizes.tail_weights;
        let mut parameters = Parameters { held, count, bits, biases, squares, in_force: false };
        parameters.reset();
        let own = Self { pack: *pack, sizes, parameters, ascent, ascended: None, solved: false, former };
        let weights_crc32 = bytes::checksum(&own.parts(None));
        Ok((own, Shared { tuned, replay, order, scratch, latent, weights_crc32 }))
    }

    fn has_room(&self, recipe: &Recipe, _: usize) -> bool {
        recipe.method == Method::Sgd || !self.ascent.is_empty()
    }

    #[inline(never)] // Once in a firmware.
    fn load(&mut self, pack: &Pack, tuned: Option<&TunedTail>) {
        self.solved = false;
        let Some(tuned) = tuned else { return self.parameters.reset() };
        for layer in tuned.layers(pack) {
            if let Some(place) = place_of(pack, layer.layer.index) {
                self.parameters.load(pack, place, &layer);
            }
        }
    }

    fn features(&self) -> usize {
        self.sizes.feature_length
    }

    fn classes(&self) -> usize {
        self.sizes.output_length
    }

    fn forward_macs(&self) -> u64 {
        let macs = |node: crate::pack::TailNode| self.pack.operator_macs(&node.operator);
        self.pack.nodes().map(macs).sum()
    }

    fn write_features(&self, _: &Pack, latent: &[i8], scratch: &mut [i32]) {
        // The features begin the workspace, one after the other.
        let bytes: &mut [i8] = bytemuck::must_cast_slice_mut(scratch);
        bytes.iter_mut().zip(latent).for_each(|(place, &q)| *place = q);
    }

    fn write_feature(&self, _: &Pack, index: usize, q: i8, scratch: &mut [i32]) {
        let bytes: &mut [i8] = bytemuck::must_cast_slice_mut(scratch);
        if let Some(place) = bytes.get_mut(index) {
            *place = q;
        }
    }

    fn loss(
        &mut self,
        _: Option<&Step>,
        tuned: &mut TunedTail<'a>,
        target: Target,
        scratch: &mut [i32],
    ) -> (f32, usize) {
        let sizes = self.sizes;
        // Planned for the tail.
        let Some(mut scratch) = Scratch::new(&sizes, scratch) else { return (f32::NAN, 0) };
        self.reading(tuned, |own| {
            let (losses, answer, _) = own.network().loss(label(target), &mut scratch);
            (losses.sum(), answer)
        })
    }

    fn risen(
        &mut self,
        _: Option<&Step>,
        tuned: &mut TunedTail<'a>,
        ascent: &recipe::Ascent,
        sample: (&Pack, &[i8], Target),
        scratch: &mut [i32],
    ) -> (f32, usize, Option<[f32; 2]>) {
        self.reading(tuned, |own| own.risen_of(ascent, sample, scratch))
    }

    fn ranges(
        &mut self,
        _: Option<&Step>,
        tuned: &mut TunedTail<'a>,
        scratch: &mut [i32],
        see: &mut dyn FnMut(usize, f32, f32),
    ) {
        let sizes = self.sizes;
        let Some(mut scratch) = Scratch::new(&sizes, scratch) else { return };
        self.reading(tuned, |own| own.network().loss(0.into(), &mut scratch));
        let last = self.sizes.tail_layers.saturating_sub(1);
        // All but the last keep the range that they were trained in.
        for (place, layer) in self.pack.trained_layers().enumerate() {
            if place != last {
                see(place, layer.output.dequantize(-128), layer.output.dequantize(127));
                continue;
            }
            let unit = 1.0 / (1u32 << LOGIT_BITS) as f32;
            let logits = || scratch.logits.iter().map(|&z| z as f32 * unit);
            let low = logits().fold(f32::INFINITY, f32::min);
            see(place, low, logits().fold(f32::NEG_INFINITY, f32::max));
        }
    }

    fn quantize(&self, _: Option<&Step>, _: &Pack, _: &[Range], _: &mut TunedTail) {
        debug_assert!(false, "of one copy a tail is made by `replace`");
    }

    fn lend(&mut self, tuned: &mut TunedTail<'a>) {
        if !self.parameters.held.is_empty() {
            tuned.exchange_weights(&mut self.parameters.held);
        }
    }

    fn take_back(&mut self, tuned: &mut TunedTail<'a>) {
        if self.parameters.held.is_empty() {
            tuned.exchange_weights(&mut self.parameters.held);
        }
    }

    fn take_over(&mut self, pack: &Pack, tuned: &mut TunedTail<'a>) {
        self.take_back(tuned);
        tuned.clear();
        self.parameters.become_differences(pack);
    }

    fn crc32_in_force(&mut self, pack: &Pack, tuned: &mut TunedTail<'a>) -> u32 {
        self.reading(tuned, |own| own.parameters.crc32_in_force(pack))
    }

    fn lent_bytes(&self) -> usize {
        if self.parameters.held.is_empty() { self.sizes.tail_weights } else { 0 }
    }

    fn former(&self) -> Option<&Former<'a>> {
        Some(&self.former)
    }

    fn former_mut(&mut self) -> Option<&mut Former<'a>> {
        Some(&mut self.former)
    }

    fn begin(&mut self, recipe: &Recipe) -> Step {
        // A solved head says which labels are trained on. Steps that began with its weights, which are larger than the
        // packed scales have room for, would end worse than those from the factory's.
        match core::mem::take(&mut self.solved) {
            true => self.parameters.reset(),
            false => self.parameters.squares.fill(0.0),
        }
        // Both halves of the seed.
        let dither = (recipe.seed ^ (recipe.seed >> 32)) as u32;
        Step { dither, kept: 1.0, phase: Phase::Prepare, count: 0, learning_rate: 0.0 }
    }

    fn run_slice(tuner: &mut Tuner<'a, Self>, _: bool) -> Result<Progress, TunerError> {
        tuner.integer_slice()
    }

    fn work(step: &Step) -> (Work, usize) {
        (Work::Step(step.phase), 0)
    }

    // No perturbed weight is ever written.
    fn abandon(&mut self, _: Step) {}

    fn parts(&self, _: Option<&Step>) -> [&[u8]; WEIGHT_PARTS] {
        let [deltas, bits, biases, _] = self.parameters.parts();
        [deltas, bits, biases, &[]]
    }

    fn places(&mut self, _: &Pack, _: Contents) -> [&mut [u8]; WEIGHT_PARTS] {
        [&mut [], &mut [], &mut [], &mut []]
    }

    fn are_sound(&self) -> bool {
        self.parameters.are_sound()
    }

    // What the differences leave free is nothing.
    fn spare(&mut self) -> &mut [u8] {
        &mut []
    }

    fn replace(&mut self, pack: &Pack, ranges: &[Range], tuned: &mut TunedTail<'a>) -> Backup {
        let last = pack.trained_layers().last().map(|layer| layer.index);
        let range = ranges.get(self.sizes.tail_layers.saturating_sub(1));
        self.parameters.become_weights(pack);
        let parameters = &self.parameters;
        tuned.take_integers(pack, |layer, biases| {
            let Some(place) = place_of(pack, layer.index) else { return layer.output };
            let own = parameters.of(pack, layer, place, Ascent::NONE);
            biases.iter_mut().enumerate().for_each(|(o, bias)| *bias = own.bias(o));
            output_of(layer, range.filter(|_| last == Some(layer.index)))
        });
        self.lend(tuned);
        Backup::new()
    }

    fn replaced(&mut self, pack: &Pack, tuned: &TunedTail) {
        self.load(pack, Some(tuned));
    }

    fn run_parts(&self, _: &Recipe, _: usize) -> [&[u8]; RUN_PARTS] {
        let [deltas, bits, biases, squares] = self.parameters.parts();
        [deltas, bits, biases, squares, &[], &[]]
    }

    fn run_parts_mut(&mut self, _: &Recipe, _: usize) -> [&mut [u8]; RUN_PARTS] {
        let Parameters { held, count, bits, biases, squares, .. } = &mut self.parameters;
        let [a, b, c, d] =
            [bytes_mut(held.part_mut(..*count)), bytes_mut(bits), bytes_mut(biases), bytes_mut(squares)];
        [a, b, c, d, &mut [], &mut []]
    }

    fn is_sound(&self, run: &Run<Step>, recipe: &Recipe, counts: Counts) -> bool {
        let Step { kept, phase, count, learning_rate, .. } = &run.step;
        let within = if *phase == Phase::Descent { *count } else { 0 };
        (0.0..=1.0).contains(kept)
            && matches!(phase, Phase::Prepare | Phase::Descent)
            && (*count <= 1 && learning_rate.is_finite())
            && run.course.is_sound(recipe, counts.trained, within)
    }

    fn kept(&self) {}

    fn solve(
        tuner: &mut Tuner<'a, Self>,
        recipe: &Recipe,
        scratch: &mut [u32],
        between: &mut dyn FnMut(),
    ) -> Result<(), TunerError> {
        tuner.solve_head(recipe, scratch, between)
    }

    fn resume(&mut self, _: &Pack, _: &Recipe, _: &Run<Step>, (): ()) -> bool {
        (self.ascended, self.solved) = (None, false);
        self.parameters.are_sound()
    }

    fn forget_sample(&mut self, slot: usize) {
        // It may be the step's.
        self.ascended = None;
        self.former.forget(slot);
    }
}

impl IntegerTuner<'_> {
    /// Output channels that are left as they are, because their weights' scale is below 1e-6: counted from 0 through all
    /// tuned layers.
    ///
    /// ```no_run
    /// # fn look(tuner: &flatmin::IntegerTuner) {
    /// let dead = tuner.dead_channels().count();
    /// # }
    /// ```
    pub fn dead_channels(&self) -> impl Iterator<Item = usize> + '_ {
        places(&self.pack).flat_map(|(layer, place)| {
            let scales = packed_scales(&self.pack, &layer);
            let dead = move |&o: &usize| scale_of(scales, o) < DEAD_SCALE;
            (0..layer.outputs).filter(dead).map(move |o| place.outputs + o)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_state_fits() {
        let (dither, phase) = (u32::MAX, Phase::Descent);
        let step = Step { dither, kept: 1.0, phase, count: 1, learning_rate: 1.0 };
        crate::tuner::assert_fits(step, ());
    }
}
