//! The compact tuner: observe, start, step.

use super::chain::Chain;
use super::pass::Workspace;
use super::plan::CompactPlan;
use super::softmax::{Losses, SmoothLabel};
use super::weights::{Velocity, Weights};
use crate::optim::{BiasTreatment, Method, Optimizer, Recipe, RecipeError};
use crate::pack::Pack;
use crate::replay::Replay;
use crate::requant::TunedTail;
use crate::step::Phase;
use crate::tail::{Loss, TailError};
use crate::tuner::course::Course;
use crate::tuner::cutter::Cutter;
use crate::tuner::order::Division;
use crate::tuner::parts::checksum;
use crate::tuner::{Drift, Position, Progress, StepReport, TunerError, Watch, Work, as_int8, int8};
use serde::{Deserialize, Serialize};

/// What a run has under way; with its buffers all there is to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub course: Course,
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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

impl Run {
    /// Whether a run of `recipe` can stand so that goes through at most `trained` samples in an epoch.
    pub fn is_sound(&self, recipe: &Recipe, trained: usize) -> bool {
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
            && self.learning_rate.is_finite()
            && self.course.is_sound(trained, count)
    }

    /// One that takes most bytes where it is kept, of so many samples.
    #[cfg(test)]
    pub fn longest(samples: usize) -> Self {
        Self {
            course: Course::longest(samples),
            dither: u32::MAX,
            phase: Phase::Update,
            count: samples,
            done: samples,
            learning_rate: 1.0,
            losses: StepLosses { perturbed: u32::MAX, ..StepLosses::NONE },
        }
    }

    /// A seed that no other pass over the parameters has, within 2^32 of them.
    fn pass(&mut self) -> u32 {
        self.dither = self.dither.wrapping_add(1);
        self.dither
    }
}

/// A pretrained network, its trainable tail in few bytes, and the samples to tune it on, in one caller-owned arena of
/// [`crate::Sizes::compact_bytes`].
///
/// The order of calls is that of [`crate::Tuner`]: [`observe`](Self::observe), [`start`](Self::start),
/// [`step`](Self::step) until it is finished, [`accept`](Self::accept) or [`requantize`](Self::requantize),
/// [`classify`](Self::classify). Each does bounded work; nothing waits, nothing allocates.
#[derive(Debug)]
pub struct CompactTuner<'a> {
    pub(super) pack: Pack<'a>,
    pub(super) chain: Chain,
    pub(super) recipe: Recipe,
    pub(super) arena_bytes: usize,
    pub(super) weights: Weights<'a>,
    pub(super) velocity: Velocity<'a>,
    pub(crate) tuned: TunedTail<'a>,
    pub(crate) replay: Replay<'a>,
    pub(super) division: Division<'a>,
    pub(super) scratch: &'a mut [i32],
    pub(super) run: Option<Run>,
    pub(super) macs: u64,
    /// Between [`Self::expect_run`] and [`Self::adopt_run`].
    pub(super) expects_run: bool,
    /// What is watched, and the running means.
    pub(crate) watched: Option<(Watch, Drift)>,
}

/// Refuses what the compact tail leaves out.
fn check(recipe: &Recipe) -> Result<(), RecipeError> {
    recipe.check()?;
    let only = |field, found, allowed| RecipeError { field, found, lowest: allowed, highest: allowed };
    let yes = |flag: bool| f32::from(u8::from(flag));
    let fields = [
        only("sharpness_batch of a compact tail", f32::from(recipe.sharpness_batch), 1.0),
        only("store_perturbation of a compact tail", yes(recipe.store_perturbation), 0.0),
        only("Adam of a compact tail", yes(recipe.optimizer == Optimizer::Adam), 0.0),
        only("SAM-ON of a compact tail", yes(recipe.method == Method::SamOn), 0.0),
        only("element-wise bias of a compact tail", yes(recipe.bias == BiasTreatment::Elementwise), 0.0),
        only("keep_best of a compact tail", yes(recipe.keep_best), 0.0),
        only("sample_losses of a compact tail", yes(recipe.sample_losses), 0.0),
    ];
    fields.into_iter().find(|field| field.found != field.lowest).map_or(Ok(()), Err)
}

impl<'a> CompactTuner<'a> {
    /// A tuner at the factory weights, without samples. `arena` needs [`crate::Sizes::compact_bytes`].
    ///
    /// # Errors
    /// The arena's size or alignment, a recipe with what [`crate::compact`] leaves out, or a pack whose tail is no chain
    /// of fully connected layers, or whose loss is not softmax cross-entropy.
    // What it has on the stack is not there for as long as the caller lasts.
    #[inline(never)]
    pub fn new(pack: Pack<'a>, recipe: Recipe, arena: &'a mut [u8]) -> Result<Self, TunerError> {
        check(&recipe)?;
        if pack.loss() != Loss::CrossEntropy {
            return Err(TailError::Loss.into());
        }
        let chain = Chain::of(&pack)?;
        let sizes = pack.sizes();
        let plan = CompactPlan::new(&sizes, &recipe);
        let arena_bytes = arena.len();
        let mut cutter = Cutter::new(arena, plan.total_bytes())?;
        let (biases, bias_velocity) = (cutter.take(plan.biases)?, cutter.take(plan.bias_velocity)?);
        let scales = cutter.take(plan.scales)?;
        let (high, low) = (cutter.take(plan.weights)?, cutter.take(plan.residuals)?);
        let velocity = cutter.take(plan.velocity)?;
        let tuned = cutter.tuned_tail(plan.tuned_tail, &sizes)?;
        let replay = cutter.replay([plan.replay, plan.labels, plan.class_counts], &sizes, &recipe)?;
        let (order, scratch) = (cutter.take(plan.order)?, cutter.take(plan.scratch)?);
        let mut weights = Weights { high, low, biases, scales };
        weights.load_packed(&chain, &pack);
        Ok(Self {
            pack,
            chain,
            recipe,
            arena_bytes,
            weights,
            velocity: Velocity { weights: velocity, biases: bias_velocity },
            tuned,
            replay,
            division: Division::new(order),
            scratch,
            run: None,
            macs: 0,
            expects_run: false,
            watched: None,
        })
    }

    /// Back to the factory weights; the samples stay.
    pub fn factory_reset(&mut self) {
        self.load_factory();
        self.tuned.clear();
        (self.run, self.expects_run) = (None, false);
        self.macs = 0;
    }

    /// Loads the weights of the packed tail.
    pub(super) fn load_factory(&mut self) {
        self.weights.load_packed(&self.chain, &self.pack);
    }

    /// Forgets the samples.
    pub fn forget(&mut self) {
        self.replay.clear();
        self.division.keep_whole(0);
        self.abandon();
    }

    /// Ends the run, if there is one; where a saved one is expected, with the weights of the int8 tail in force.
    pub(super) fn abandon(&mut self) {
        self.run = None;
        if core::mem::take(&mut self.expects_run) {
            self.load_in_force();
        }
    }

    /// Loads the weights of the int8 tail in force.
    pub(super) fn load_in_force(&mut self) {
        if self.tuned.is_empty() {
            self.load_factory();
        } else {
            self.load_tuned();
        }
    }

    /// The network.
    pub fn pack(&self) -> &Pack<'a> {
        &self.pack
    }

    /// The recipe of the current or last run.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Bytes of the arena that this tuner was given.
    pub fn arena_bytes(&self) -> usize {
        self.arena_bytes
    }

    /// Labelled samples held.
    pub fn samples(&self) -> usize {
        self.replay.len()
    }

    /// Labelled samples that the arena holds.
    pub fn capacity(&self) -> usize {
        self.replay.capacity()
    }

    /// Epoch of the run under way, from 0.
    pub fn epoch(&self) -> Option<u16> {
        self.run.as_ref().map(|run| run.course.epoch)
    }

    /// Whether there is a tuned tail to classify with.
    pub fn is_tuned(&self) -> bool {
        !self.tuned.is_empty()
    }

    /// Output channels whose weights are left as they are, because their scale is below 1e-6: counted from 0 through all
    /// tuned layers.
    pub fn dead_channels(&self) -> impl Iterator<Item = usize> + '_ {
        self.weights.dead()
    }

    /// CRC-32 of the parameters' bytes (weights, residuals, biases, scales): the same on every target after the same
    /// calls, with or without FPU.
    pub fn weights_crc32(&self) -> u32 {
        checksum(&self.weights.parts())
    }

    /// Multiply-adds since the factory reset, as [`crate::Tuner::macs`] counts them.
    pub fn macs(&self) -> u64 {
        self.macs
    }

    /// Runs the trunk on `input` and returns the latent.
    ///
    /// # Errors
    /// [`TunerError::InputLength`].
    pub fn latent(&mut self, input: &[i8]) -> Result<&[i8], TunerError> {
        let arena = as_int8(self.scratch);
        int8::run_trunk(&self.pack, arena, input)?;
        Ok(self.pack.feature().of(arena))
    }

    /// Runs the trunk on a labelled sample and keeps its latent; when the replay is full, a sample gives way as
    /// [`Recipe::replay_policy`] has it.
    ///
    /// # Errors
    /// [`TunerError::InputLength`], [`TunerError::Label`].
    pub fn observe(&mut self, input: &[i8], label: usize) -> Result<(), TunerError> {
        let label = self.label(label)?;
        self.latent(input)?;
        self.macs += self.pack.trunk_macs();
        self.replay.push(self.pack.feature().of(as_int8(self.scratch)), label);
        self.follow(label.into());
        Ok(())
    }

    pub(crate) fn label(&self, label: usize) -> Result<u16, TunerError> {
        let last = self.chain.shape.classes().saturating_sub(1);
        u16::try_from(label).ok().filter(|&l| usize::from(l) <= last).ok_or(TunerError::Label { label, last })
    }

    /// Starts a run from the current weights, with a velocity of zero.
    ///
    /// # Errors
    /// A bad recipe, one with what [`crate::compact`] leaves out, or no samples.
    pub fn start(&mut self, recipe: Recipe) -> Result<(), TunerError> {
        let fits = self.fitting(&recipe)?;
        if self.replay.is_empty() {
            return Err(TunerError::NoSamples);
        }
        self.abandon();
        self.recipe = fits;
        self.velocity.clear();
        self.chain.fit_velocity(self.weights.scales);
        self.division.keep_whole(self.replay.len());
        if recipe.held_out > 0.0 {
            self.division.split(self.replay.labels(), self.chain.shape.classes(), recipe.held_out);
        }
        self.run = Some(Run {
            course: Course::new(&recipe, self.division.trained),
            // Both halves of the seed.
            dither: (recipe.seed ^ (recipe.seed >> 32)) as u32,
            phase: Phase::Prepare,
            count: 0,
            done: 0,
            learning_rate: 0.0,
            losses: StepLosses::NONE,
        });
        crate::fmt::info!("tuning on {} samples, {} epochs", self.division.trained, recipe.epochs);
        Ok(())
    }

    /// `recipe` with what was settled when the tuner was made.
    pub(super) fn fitting(&self, recipe: &Recipe) -> Result<Recipe, TunerError> {
        check(recipe)?;
        let Recipe { replay_capacity, replay_policy, .. } = self.recipe;
        Ok(Recipe { replay_capacity, replay_policy, ..*recipe })
    }

    /// One minibatch: [`Self::poll`] until it is done.
    ///
    /// # Errors
    /// [`TunerError::NotRunning`].
    pub fn step(&mut self) -> Result<StepReport, TunerError> {
        loop {
            if let Progress::Stepped(report) = self.poll()? {
                return Ok(report);
            }
        }
    }

    /// One slice of a step: a sample's pass, forward and backward, or a sweep over the parameters. As
    /// [`crate::Tuner::poll`], every other call is possible between two of them, and finds the weights of the last whole
    /// step: no perturbed weight is ever written.
    ///
    /// # Errors
    /// [`TunerError::NotRunning`].
    pub fn poll(&mut self) -> Result<Progress, TunerError> {
        let Self { chain, recipe, weights, velocity, division, replay, .. } = self;
        let run = self.run.as_mut().ok_or(TunerError::NotRunning)?;
        match run.phase {
            Phase::Prepare => {
                let held = (division.held_out == 0).then_some(replay.len());
                (run.learning_rate, run.count) = run.course.begin(recipe, division, held);
                (run.done, run.losses) = (0, StepLosses::NONE);
                let seed = run.pass();
                weights.prepare(chain, velocity, recipe, seed);
                run.phase = if run.count == 0 { Phase::Update } else { Phase::Descent };
            }
            Phase::Update => {
                let seed = run.pass();
                weights.descend(chain, velocity, run.learning_rate, recipe.bias, seed);
                return Ok(Progress::Stepped(self.stepped()));
            }
            _ => self.sample(),
        }
        self.position().map(Progress::Underway).ok_or(TunerError::NotRunning)
    }

    /// Where the run under way stands.
    pub fn position(&self) -> Option<Position> {
        let run = self.run.as_ref()?;
        Some(run.course.at(Work::Step(run.phase), run.done))
    }

    /// The next sample of the step: its gradient, at `w` or at `w + e`, goes into the velocity.
    fn sample(&mut self) {
        let Self { chain, recipe, weights, velocity, replay, division, scratch, pack, .. } = self;
        let Some(run) = &mut self.run else { return };
        let slot = run.course.slots(division).get(run.done).map_or(0, |&slot| slot.into());
        run.done += 1;
        if run.done >= run.count {
            run.phase = Phase::Update;
        }
        let seed = run.pass();
        let Some(mut workspace) = Workspace::new(chain, scratch) else { return };
        let Some((latent, label)) = replay.get(slot) else { return };
        let label = SmoothLabel { label: label.into(), smoothing: recipe.label_smoothing };
        load(pack, latent, workspace.features);
        let loss = chain.first_pass(weights, label, &mut workspace);
        run.losses.all.add(loss);
        // rho = 0 is the base optimizer, in every bit.
        let step = recipe.at(run.course.step).geometry().filter(|_| recipe.rho > 0.0).and_then(|geometry| {
            let norm = chain.ascent_norm_squared(weights, &geometry, &mut workspace);
            Some((geometry, geometry.step_length(recipe.rho, norm)?))
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
    fn stepped(&mut self) -> StepReport {
        let recipe = &self.recipe;
        let Some(run) = &mut self.run else { return StepReport::NONE };
        let geometry = recipe.at(run.course.step).geometry().filter(|_| recipe.rho > 0.0);
        self.macs += self.chain.shape.step_macs(geometry.as_ref(), false) * run.count as u64;
        run.phase = Phase::Prepare;
        let StepLosses { all, before, after, perturbed } = run.losses.clone();
        let loss = all.sum() / run.count.max(1) as f32;
        let rise = (after.sum() - before.sum()) / perturbed.max(1) as f32;
        let report = run.course.advance(recipe, run.count, [loss, rise, run.learning_rate]);
        if report.finished {
            self.run = None;
        }
        report
    }
}

/// Writes a latent as the tail's features.
pub(super) fn load(pack: &Pack, latent: &[i8], features: &mut [i16]) {
    let zero_point = pack.feature().affine.zero_point;
    for (feature, &q) in features.iter_mut().zip(latent) {
        // From -255 to 255.
        *feature = (i32::from(q) - zero_point) as i16;
    }
}
