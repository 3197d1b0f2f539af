//! The arithmetic of few bytes: see [`crate::compact`].

use super::chain::Chain;
use super::pass::Workspace;
use super::plan::CompactPlan;
use super::softmax::{Losses, SmoothLabel};
use super::weights::{Int8Layer, Velocity, Weights};
use crate::optim::BiasTreatment;
use crate::pack::{Pack, Sizes};
use crate::part::Part;
use crate::recipe::{Ascent, Method, Optimizer, Recipe};
use crate::requant::{Range, TunedTail, fold, packed_scales};
use crate::step::Phase;
use crate::store::Contents;
use crate::tail::{Loss, TailError, Target};
use crate::tuner::{
    Counts, Course, Cutter, Numbers, Progress, RUN_PARTS, Run, Shared, StepReport, Tuner, TunerError,
    WEIGHT_PARTS, Work, bytes, bytes_mut, front,
};

/// A [`Tuner`] that trains in integers, in about 5 bytes per weight: for devices with 8 to 32 KiB of RAM, and for cores
/// without FPU. It is made by [`CompactTuner::in_arena`](Tuner::in_arena), in an arena of [`crate::Sizes::compact_bytes`].
///
/// It takes chains of fully connected layers ([`crate::Sizes::tail_is_chain`]) with softmax cross-entropy, and SGD with
/// momentum, SAM and ASAM. Left out are Adam, SAM-ON, a sharpness batch above 1, stored perturbations, element-wise
/// treatment of biases, the best epoch's weights, and the samples' losses: `src/compact` has the number formats.
pub type CompactTuner<'a> = Tuner<'a, Compact<'a>>;

/// Weights of 16 bits, and what trains them in integers.
/// [`crate::Tuner`] has an example that takes either.
#[derive(Debug)]
pub struct Compact<'a> {
    chain: Chain,
    weights: Weights<'a>,
    velocity: Velocity<'a>,
}

/// Where a step stands; with its buffers all there is to it.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
pub struct Step {
    /// Seed of the next pass over the parameters.
    dither: u32,
    phase: Phase,
    /// Samples of the step, and how many of them are done.
    count: usize,
    done: usize,
    learning_rate: f32,
    losses: StepLosses,
}

/// Sums over the samples of a step.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
struct StepLosses {
    all: Losses,
    /// At `w` and at `w + e`, of those that were perturbed.
    before: Losses,
    after: Losses,
    perturbed: u32,
}

impl StepLosses {
    const NONE: Self = Self { all: Losses::NONE, before: Losses::NONE, after: Losses::NONE, perturbed: 0 };
}

impl Step {
    /// Whether a run of `recipe` can stand so that goes through at most `trained` samples in an epoch.
    fn is_sound(&self, course: &Course, recipe: &Recipe, trained: usize) -> bool {
        let phase = match self.phase {
            Phase::Prepare => true,
            Phase::Descent => self.done < self.count,
            Phase::Update => self.done == self.count,
            _ => false,
        };
        // Before a step nothing of the last one counts.
        let count = if self.phase == Phase::Prepare { 0 } else { self.count };
        let perturbed = usize::try_from(self.losses.perturbed).is_ok_and(|perturbed| perturbed <= self.done);
        phase
            && perturbed
            && self.count <= recipe.minibatch.into()
            && (0.0..=recipe.learning_rate).contains(&self.learning_rate)
            && course.is_sound(recipe, trained, count)
    }

    /// A seed that no other pass over the parameters has, within 2^32 of them.
    fn pass(&mut self) -> u32 {
        self.dither = self.dither.wrapping_add(1);
        self.dither
    }
}

/// Refuses what the compact tail leaves out.
fn check(recipe: &Recipe) -> Result<(), TunerError> {
    recipe.check()?;
    let left_out = [
        ("shared ascents (sharpness_batch above 1)", recipe.sharpness_batch > 1),
        ("stored perturbations (store_perturbation)", recipe.store_perturbation),
        ("Adam", recipe.optimizer == Optimizer::Adam),
        ("SAM-ON", recipe.method == Method::SamOn),
        ("element-wise bias treatment", recipe.bias == BiasTreatment::Elementwise),
        ("best epoch's weights (keep_best)", recipe.keep_best),
        ("losses of its samples (sample_losses)", recipe.sample_losses),
    ];
    let asked = left_out.into_iter().find(|(_, asked)| *asked);
    asked.map_or(Ok(()), |(what, _)| Err(TunerError::LeftOut { what }))
}

impl Compact<'_> {
    /// The label of a target; a chain with cross-entropy has no other.
    fn label(target: Target) -> SmoothLabel {
        match target {
            Target::Label { label, smoothing } => SmoothLabel { label, smoothing },
            Target::Values { .. } => 0.into(),
        }
    }

    /// Loads the weights of a tuned tail.
    fn load_tuned(&mut self, pack: &Pack, tuned: &TunedTail) {
        for (layer, tuned) in self.chain.layers().zip(tuned.layers(pack)) {
            let from = Int8Layer {
                weights: tuned.weights,
                biases: tuned.biases,
                scales: tuned.scales,
                packed_scales: packed_scales(pack, &tuned.layer),
                input_scale: tuned.input.scale,
                fold: fold(pack, &tuned.layer),
            };
            self.weights.load(layer, &from);
        }
    }
}

impl<'a> Numbers<'a> for Compact<'a> {
    const CONTENTS: Contents = Contents::Int8AndCompact;
    const ANY_TAIL: bool = false;

    type Word = i32;
    type Step = Step;
    type Kept = ();

    fn check(recipe: &Recipe) -> Result<(), TunerError> {
        check(recipe)
    }

    fn arena_bytes(sizes: &Sizes, recipe: &Recipe) -> usize {
        sizes.compact_bytes(recipe)
    }

    #[inline(always)] // In one frame with what puts the tuner together: two would not fit onto the smallest boards' stack.
    fn cut(
        pack: &Pack<'a>,
        recipe: &Recipe,
        arena: &'a mut [u8],
    ) -> Result<(Self, Shared<'a, i32>), TunerError> {
        if pack.loss() != Loss::CrossEntropy {
            return Err(TailError::Loss.into());
        }
        let chain = Chain::of(pack)?;
        let sizes = pack.sizes();
        let plan = CompactPlan::new(&sizes, recipe);
        let mut cutter = Cutter::new(arena, plan.total_bytes())?;
        let (biases, bias_velocity) = (cutter.take(plan.biases)?, cutter.take(plan.bias_velocity)?);
        let scales = cutter.take(plan.scales)?;
        let (high, low) = (cutter.take(plan.weights)?, cutter.take(plan.residuals)?);
        let velocity = cutter.take(plan.velocity)?;
        let tuned = cutter.tuned_tail(plan.tuned_tail, &sizes)?;
        let replay = cutter.replay([plan.replay, plan.labels, plan.class_counts], &sizes, recipe)?;
        let (order, scratch) = (cutter.take(plan.order)?, cutter.take(plan.scratch)?);
        let mut weights = Weights { high, low, biases, scales };
        weights.load_packed(&chain, pack);
        let weights_crc32 = bytes::checksum(&weights.parts());
        let velocity = Velocity { weights: velocity, biases: bias_velocity };
        let own = Self { chain, weights, velocity };
        Ok((own, Shared { tuned, replay, order, scratch, latent: &mut [], weights_crc32 }))
    }

    fn load(&mut self, pack: &Pack, tuned: Option<&TunedTail>) {
        match tuned {
            Some(tuned) => self.load_tuned(pack, tuned),
            None => self.weights.load_packed(&self.chain, pack),
        }
    }

    fn features(&self) -> usize {
        self.chain.shape.features()
    }

    fn classes(&self) -> usize {
        self.chain.shape.classes()
    }

    fn forward_macs(&self) -> u64 {
        self.chain.shape.forward_macs()
    }

    fn write_features(&self, pack: &Pack, latent: &[i8], scratch: &mut [i32]) {
        let Some(workspace) = Workspace::new(&self.chain, scratch) else { return };
        let zero_point = pack.feature().affine.zero_point;
        for (feature, &q) in workspace.features.iter_mut().zip(latent) {
            // From -255 to 255.
            *feature = (i32::from(q) - zero_point) as i16;
        }
    }

    #[inline(always)]
    fn write_feature(&self, pack: &Pack, index: usize, q: i8, scratch: &mut [i32]) {
        let Some(workspace) = Workspace::new(&self.chain, scratch) else { return };
        if let Some(feature) = workspace.features.get_mut(index) {
            // From -255 to 255.
            *feature = (i32::from(q) - pack.feature().affine.zero_point) as i16;
        }
    }

    fn loss(
        &mut self,
        _: Option<&Step>,
        _: &mut TunedTail<'a>,
        target: Target,
        scratch: &mut [i32],
    ) -> (f32, usize) {
        // Planned for the chain.
        let Some(mut workspace) = Workspace::new(&self.chain, scratch) else { return (f32::NAN, 0) };
        self.chain.loss_and_answer(&self.weights, Self::label(target), &mut workspace)
    }

    fn risen(
        &mut self,
        _: Option<&Step>,
        _: &mut TunedTail<'a>,
        ascent: &Ascent,
        (_, _, target): (&Pack, &[i8], Target),
        scratch: &mut [i32],
    ) -> (f32, usize, Option<[f32; 2]>) {
        let (chain, label) = (&self.chain, Self::label(target));
        let Some(mut workspace) = Workspace::new(chain, scratch) else { return (f32::NAN, 0, None) };
        let (loss, answer) = chain.loss_and_answer(&self.weights, label, &mut workspace);
        (loss, answer, chain.risen(&self.weights, ascent, label, &mut workspace))
    }

    fn ranges(
        &mut self,
        _: Option<&Step>,
        _: &mut TunedTail<'a>,
        scratch: &mut [i32],
        see: &mut dyn FnMut(usize, f32, f32),
    ) {
        let Some(mut workspace) = Workspace::new(&self.chain, scratch) else { return };
        self.chain.forward(&self.weights, &mut workspace);
        for (place, layer) in self.chain.layers().enumerate() {
            let outputs = || layer.of(workspace.sums).iter().map(|&sum| layer.real_output(sum));
            let low = outputs().fold(f32::INFINITY, f32::min);
            see(place, low, outputs().fold(f32::NEG_INFINITY, f32::max));
        }
    }

    fn quantize(&self, _: Option<&Step>, pack: &Pack, ranges: &[Range], tuned: &mut TunedTail) {
        self.weights.requantize(&self.chain, pack, ranges, tuned);
    }

    fn begin(&mut self, recipe: &Recipe) -> Step {
        self.velocity.clear();
        self.chain.fit_velocity(self.weights.scales);
        Step {
            // Both halves of the seed.
            dither: (recipe.seed ^ (recipe.seed >> 32)) as u32,
            phase: Phase::Prepare,
            count: 0,
            done: 0,
            learning_rate: 0.0,
            losses: StepLosses::NONE,
        }
    }

    fn run_slice(tuner: &mut Tuner<'a, Self>, _: bool) -> Result<Progress, TunerError> {
        let phase = tuner.run.as_ref().ok_or(TunerError::NotRunning)?.step.phase;
        match phase {
            Phase::Prepare => tuner.prepare(),
            Phase::Update => return Ok(Progress::Stepped(tuner.update())),
            _ => tuner.sample(),
        }
        tuner.underway()
    }

    fn work(step: &Step) -> (Work, usize) {
        (Work::Step(step.phase), step.done)
    }

    // No perturbed weight is ever written.
    fn abandon(&mut self, _: Step) {}

    fn parts(&self, _: Option<&Step>) -> [&[u8]; WEIGHT_PARTS] {
        self.weights.parts()
    }

    fn places(&mut self, _: &Pack, contents: Contents) -> [&mut [u8]; WEIGHT_PARTS] {
        let Self { weights, velocity, .. } = self;
        let [high, low] = [bytes_mut(weights.high), bytes_mut(weights.low)];
        match contents {
            Contents::Int8AndCompact => [high, low, bytes_mut(weights.biases), bytes_mut(weights.scales)],
            // 4 bytes per weight and a bias, for nothing: what is there is made anew of the int8 tail.
            Contents::Int8AndF32 => {
                let velocity_bytes = 2 * high.len();
                let velocities = front(bytes_mut(velocity.weights), velocity_bytes);
                [high, low, velocities, bytes_mut(velocity.biases)]
            }
            Contents::Int8 => [&mut [], &mut [], &mut [], &mut []],
        }
    }

    fn are_sound(&self) -> bool {
        self.weights.are_sound()
    }

    fn spare(&mut self) -> &mut [u8] {
        bytes_mut(self.velocity.weights)
    }

    fn run_parts(&self, _: &Recipe, _: usize) -> [&[u8]; RUN_PARTS] {
        let Self { weights, velocity, .. } = self;
        // Of a tail that has more int8 bytes it is longer.
        let velocities = velocity.weights.part(..weights.high.len());
        let [high, low, biases, scales] = weights.parts();
        [high, low, biases, scales, bytes(velocities), bytes(velocity.biases)]
    }

    fn run_parts_mut(&mut self, _: &Recipe, _: usize) -> [&mut [u8]; RUN_PARTS] {
        let Self { weights, velocity, .. } = self;
        let velocities = velocity.weights.part_mut(..weights.high.len());
        [
            bytes_mut(weights.high),
            bytes_mut(weights.low),
            bytes_mut(weights.biases),
            bytes_mut(weights.scales),
            bytes_mut(velocities),
            bytes_mut(velocity.biases),
        ]
    }

    fn is_sound(&self, run: &Run<Step>, recipe: &Recipe, counts: Counts) -> bool {
        run.step.is_sound(&run.course, recipe, counts.trained)
    }

    fn kept(&self) {}

    fn resume(&mut self, _: &Pack, _: &Recipe, _: &Run<Step>, (): ()) -> bool {
        // Scales last as long as a run: the velocity's steps are those of its start.
        self.chain.fit_velocity(self.weights.scales);
        self.weights.are_sound()
    }
}

impl CompactTuner<'_> {
    /// Output channels whose weights are left as they are, because their scale is below 1e-6: counted from 0 through all
    /// tuned layers.
    ///
    /// ```no_run
    /// # fn look(tuner: &flatmin::CompactTuner) {
    /// let dead = tuner.dead_channels().count();
    /// # }
    /// ```
    pub fn dead_channels(&self) -> impl Iterator<Item = usize> + '_ {
        self.arithmetic.weights.dead()
    }

    /// Begins a step.
    fn prepare(&mut self) {
        let (learning_rate, count) = self.begin_step();
        let Self { arithmetic: Compact { chain, weights, velocity }, recipe, run: Some(run), .. } = self
        else {
            return;
        };
        let step = &mut run.step;
        (step.learning_rate, step.count) = (learning_rate, count);
        (step.done, step.losses) = (0, StepLosses::NONE);
        let seed = step.pass();
        weights.prepare(chain, velocity, recipe, seed);
        step.phase = if count == 0 { Phase::Update } else { Phase::Descent };
    }

    /// The next sample of the step: its gradient, at `w` or at `w + e`, goes into the velocity.
    fn sample(&mut self) {
        let Self { arithmetic, recipe, replay, division, scratch, pack, run, .. } = self;
        let Some(Run { course, radius, step: run }) = run else { return };
        let recipe = recipe.at(course.step, radius.known());
        let slot = course.slots(division).get(run.done).map_or(0, |&slot| slot.into());
        run.done += 1;
        if run.done >= run.count {
            run.phase = Phase::Update;
        }
        let seed = run.pass();
        let Some((latent, label)) = replay.get(slot) else { return };
        let label = SmoothLabel { label: label.into(), smoothing: recipe.label_smoothing };
        arithmetic.write_features(pack, latent, scratch);
        let Compact { chain, weights, velocity } = arithmetic;
        let Some(mut workspace) = Workspace::new(chain, scratch) else { return };
        let loss = chain.first_pass(weights, label, &mut workspace);
        run.losses.all.add(loss);
        // rho = 0 is the base optimizer, in every bit.
        let step = recipe.ascent().and_then(|Ascent { rho, geometry }| {
            let norm = chain.ascent_norm_squared(weights, &geometry, &mut workspace);
            Some((geometry, geometry.step_length(rho, norm)?))
        });
        if let Some((geometry, c)) = step {
            run.losses.before.add(loss);
            run.losses.after.add(chain.perturbed_pass(weights, &geometry, c, label, &mut workspace));
            run.losses.perturbed += 1;
        }
        let scale = 1.0 / run.count.max(1) as f32;
        chain.accumulate(weights, (scale, recipe.bias), (&workspace, step.is_some()), velocity, seed);
    }

    /// Ends a step.
    fn update(&mut self) -> StepReport {
        let Self { arithmetic: Compact { chain, weights, velocity }, recipe, .. } = self;
        let Some(Run { course, radius, step }) = &mut self.run else { return StepReport::NONE };
        let seed = step.pass();
        weights.descend(chain, velocity, step.learning_rate, recipe.bias, seed);
        let ascent = recipe.at(course.step, radius.known()).ascent();
        let geometry = ascent.map(|ascent| ascent.geometry);
        self.macs += chain.shape.step_macs(geometry.as_ref(), false) * step.count as u64;
        step.phase = Phase::Prepare;
        let StepLosses { all, before, after, perturbed } = step.losses.clone();
        let loss = all.sum() / step.count.max(1) as f32;
        let rise = (after.sum() - before.sum()) / perturbed.max(1) as f32;
        let report = course.end_step(recipe, step.count, [loss, rise, step.learning_rate]);
        if report.finished {
            self.run = None;
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tuner::assert_fits;

    #[test]
    fn the_longest_state_fits() {
        let most = usize::from(u16::MAX);
        let losses = StepLosses { perturbed: u32::MAX, ..StepLosses::NONE };
        let (phase, count, done) = (Phase::Update, most, most);
        assert_fits(Step { dither: u32::MAX, phase, count, done, learning_rate: 1.0, losses }, ());
    }
}
