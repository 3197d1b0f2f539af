//! The compact tuner: observe, start, step.

use super::chain::Chain;
use super::pass::Workspace;
use super::plan::CompactPlan;
use super::softmax::Losses;
use super::weights::{Int8Layer, Velocity, Weights};
use crate::memory::{ALIGNMENT, Region, TUNED_WORDS};
use crate::optim::{BiasTreatment, Recipe, RecipeError};
use crate::pack::{CRC, Pack};
use crate::random::Random;
use crate::replay::{Policy, Replay};
use crate::requant::{TunedTail, fold, packed_scales};
use crate::step::Phase;
use crate::tail::{Loss, TailError};
use crate::trunk;
use crate::tuner::{Position, Progress, StepReport, TunerError, Work, copy, order, region};

/// What a run has under way.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Run {
    random: Random,
    pub epoch: u16,
    /// Samples of this epoch done, but for those of the step under way.
    position: usize,
    /// Samples in this epoch.
    samples: usize,
    step: u32,
    steps: u32,
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
    pub(super) tuned: TunedTail<'a>,
    pub(super) replay: Replay<'a>,
    /// In a run that holds samples out: `trained` slots to train on, then `held_out` slots to judge with.
    pub(super) order: &'a mut [u16],
    pub(super) trained: usize,
    pub(super) held_out: usize,
    pub(super) scratch: &'a mut [i32],
    pub(super) run: Option<Run>,
    pub(super) macs: u64,
}

/// A shared view of scratch memory as int8.
pub(super) fn int8(scratch: &mut [i32]) -> &mut [i8] {
    bytemuck::try_cast_slice_mut(scratch).unwrap_or(&mut [])
}

/// Refuses what the compact tail leaves out.
fn check(recipe: &Recipe) -> Result<(), RecipeError> {
    recipe.check()?;
    let only = |field, found, allowed| RecipeError { field, found, lowest: allowed, highest: allowed };
    let yes = |flag: bool| f32::from(u8::from(flag));
    let fields = [
        only("sharpness_batch of a compact tail", f32::from(recipe.sharpness_batch), 1.0),
        only("store_perturbation of a compact tail", yes(recipe.store_perturbation), 0.0),
        only("label_smoothing of a compact tail", recipe.label_smoothing, 0.0),
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
    pub fn new(pack: Pack<'a>, recipe: Recipe, arena: &'a mut [u8]) -> Result<Self, TunerError> {
        check(&recipe)?;
        if pack.loss() != Loss::CrossEntropy {
            return Err(TailError::Loss.into());
        }
        let chain = Chain::of(&pack)?;
        let sizes = pack.sizes();
        let plan = CompactPlan::new(&sizes, &recipe);
        let too_small = TunerError::ArenaTooSmall { needed: plan.total_bytes(), found: arena.len() };
        let arena_bytes = arena.len();
        if arena_bytes < plan.total_bytes() {
            return Err(too_small);
        }
        if arena.as_ptr().align_offset(ALIGNMENT) != 0 {
            return Err(TunerError::ArenaMisaligned);
        }
        let (mut rest, mut at) = (arena, 0);
        let mut words = |part| region::<i32>(&mut rest, &mut at, part).ok_or(too_small);
        let (biases, bias_velocity) = (words(plan.biases)?, words(plan.bias_velocity)?);
        let scales = region(&mut rest, &mut at, plan.scales).ok_or(too_small)?;
        let high = region(&mut rest, &mut at, plan.weights).ok_or(too_small)?;
        let low = region(&mut rest, &mut at, plan.residuals).ok_or(too_small)?;
        let velocity = region(&mut rest, &mut at, plan.velocity).ok_or(too_small)?;
        let words_region =
            Region { offset: plan.tuned_tail.offset, bytes: sizes.tail_outputs * TUNED_WORDS * 4 };
        let weights_region =
            Region { offset: words_region.offset + words_region.bytes, bytes: sizes.tail_weights };
        let tuned_words = region(&mut rest, &mut at, words_region).ok_or(too_small)?;
        let tuned_weights = region(&mut rest, &mut at, weights_region).ok_or(too_small)?;
        let latents = region(&mut rest, &mut at, plan.replay).ok_or(too_small)?;
        let labels = region(&mut rest, &mut at, plan.labels).ok_or(too_small)?;
        let class_counts = region(&mut rest, &mut at, plan.class_counts).ok_or(too_small)?;
        let order = region(&mut rest, &mut at, plan.order).ok_or(too_small)?;
        let scratch = region(&mut rest, &mut at, plan.scratch).ok_or(too_small)?;
        let length = sizes.feature_length;
        let replay = match recipe.replay_policy {
            Policy::Oldest => Replay::new(latents, labels, length),
            Policy::Balanced => Replay::balanced(latents, labels, length, class_counts, recipe.seed),
        };
        let mut tuner = Self {
            pack,
            chain,
            recipe,
            arena_bytes,
            weights: Weights { high, low, biases, scales },
            velocity: Velocity { weights: velocity, biases: bias_velocity },
            tuned: TunedTail::new(tuned_words, tuned_weights),
            replay,
            order,
            trained: 0,
            held_out: 0,
            scratch,
            run: None,
            macs: 0,
        };
        tuner.factory_reset();
        Ok(tuner)
    }

    /// Back to the factory weights; the samples stay.
    pub fn factory_reset(&mut self) {
        self.load_factory();
        self.tuned.clear();
        self.run = None;
        self.macs = 0;
    }

    /// Loads the weights of the packed tail.
    pub(super) fn load_factory(&mut self) {
        for (layer, packed) in self.chain.layers().zip(self.pack.trained_layers()) {
            let constants = &packed.operator.constants;
            let from = Int8Layer {
                weights: self.pack.int8(constants.weights, packed.weights()),
                biases: self.pack.int32(constants.biases, packed.outputs),
                scales: packed_scales(&self.pack, &packed),
                input_scale: packed.input.scale,
                fold: fold(&self.pack, &packed),
            };
            self.weights.load(layer, &from);
        }
    }

    /// Forgets the samples.
    pub fn forget(&mut self) {
        self.replay.clear();
        (self.trained, self.held_out) = (0, 0);
        self.run = None;
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
        self.run.as_ref().map(|run| run.epoch)
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
        let mut digest = CRC.digest();
        self.weights.for_each_part(|part| digest.update(part));
        digest.finalize()
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
        let expected = self.pack.sizes().input_length;
        if input.len() != expected {
            return Err(TunerError::InputLength { expected, found: input.len() });
        }
        let arena = int8(self.scratch);
        copy(self.pack.input().of_mut(arena), input);
        trunk::run_trunk(&self.pack, arena);
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
        self.replay.push(self.pack.feature().of(int8(self.scratch)), label);
        Ok(())
    }

    pub(super) fn label(&self, label: usize) -> Result<u16, TunerError> {
        let last = self.chain.shape.classes().saturating_sub(1);
        u16::try_from(label).ok().filter(|&l| usize::from(l) <= last).ok_or(TunerError::Label { label, last })
    }

    /// Starts a run from the current weights, with a velocity of zero.
    ///
    /// # Errors
    /// A bad recipe, one with what [`crate::compact`] leaves out, or no samples.
    pub fn start(&mut self, recipe: Recipe) -> Result<(), TunerError> {
        check(&recipe)?;
        if self.replay.is_empty() {
            return Err(TunerError::NoSamples);
        }
        let Recipe { replay_capacity, replay_policy, .. } = self.recipe;
        self.recipe = Recipe { replay_capacity, replay_policy, ..recipe };
        self.velocity.clear();
        self.chain.fit_velocity(self.weights.scales);
        (self.trained, self.held_out) = (self.replay.len(), 0);
        if recipe.held_out > 0.0 {
            let classes = self.chain.shape.classes();
            (self.trained, self.held_out) =
                order::split(self.order, self.replay.labels(), classes, recipe.held_out);
        }
        let steps_an_epoch = self.trained.div_ceil(usize::from(recipe.minibatch).max(1));
        self.run = Some(Run {
            random: Random::new(recipe.seed),
            epoch: 0,
            position: 0,
            samples: 0,
            step: 0,
            steps: u32::try_from(steps_an_epoch).unwrap_or(u32::MAX).saturating_mul(u32::from(recipe.epochs)),
            // Both halves of the seed.
            dither: (recipe.seed ^ (recipe.seed >> 32)) as u32,
            phase: Phase::Prepare,
            count: 0,
            done: 0,
            learning_rate: 0.0,
            losses: StepLosses::NONE,
        });
        crate::fmt::info!("tuning on {} samples, {} epochs", self.trained, recipe.epochs);
        Ok(())
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
        let Self { chain, recipe, weights, velocity, order, held_out, trained, replay, .. } = self;
        let run = self.run.as_mut().ok_or(TunerError::NotRunning)?;
        match run.phase {
            Phase::Prepare => {
                if run.position == 0 {
                    run.samples = match *held_out {
                        0 => order::shuffle(order, replay.len(), &mut run.random),
                        _ => order::shuffle_again(order, *trained, &mut run.random),
                    };
                }
                run.learning_rate = recipe.schedule.rate(recipe.learning_rate, run.step, run.steps);
                run.count = run.samples.saturating_sub(run.position).min(recipe.minibatch.into());
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
        let Run { step, steps, phase, done, .. } = *run;
        Some(Position { step, steps, work: Work::Step(phase), sample: done })
    }

    /// The next sample of the step: its gradient, at `w` or at `w + e`, goes into the velocity.
    fn sample(&mut self) {
        let Self { chain, recipe, weights, velocity, replay, order, scratch, pack, .. } = self;
        let Some(run) = &mut self.run else { return };
        let slot = order.get(run.position + run.done).map_or(0, |&slot| slot.into());
        run.done += 1;
        if run.done >= run.count {
            run.phase = Phase::Update;
        }
        let seed = run.pass();
        let Some(mut workspace) = Workspace::new(chain, scratch) else { return };
        let Some((latent, label)) = replay.get(slot) else { return };
        let label = label.into();
        load(pack, latent, workspace.features);
        let loss = chain.first_pass(weights, label, &mut workspace);
        run.losses.all.add(loss);
        // rho = 0 is the base optimizer, in every bit.
        let step = recipe.geometry().filter(|_| recipe.rho > 0.0).and_then(|geometry| {
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
        let (loss, rise, learning_rate) = (0.0, 0.0, 0.0);
        let none = StepReport { epoch: 0, loss, rise, learning_rate, epoch_finished: false, finished: false };
        let Some(run) = &mut self.run else { return none };
        let geometry = recipe.geometry().filter(|_| recipe.rho > 0.0);
        self.macs += self.chain.shape.step_macs(geometry.as_ref(), false) * run.count as u64;
        let epoch = run.epoch;
        run.phase = Phase::Prepare;
        run.step = run.step.saturating_add(1);
        run.position += run.count;
        let epoch_finished = run.position >= run.samples;
        if epoch_finished {
            (run.position, run.epoch) = (0, epoch.saturating_add(1));
        }
        let finished = epoch_finished && run.epoch >= recipe.epochs;
        let StepLosses { all, before, after, perturbed } = run.losses.clone();
        let loss = all.sum() / run.count.max(1) as f32;
        let rise = (after.sum() - before.sum()) / perturbed.max(1) as f32;
        let learning_rate = run.learning_rate;
        if finished {
            self.run = None;
        }
        StepReport { epoch, loss, rise, learning_rate, epoch_finished, finished }
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
