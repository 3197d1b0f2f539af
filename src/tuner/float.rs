//! The arithmetic of f32: every tail, every loss, every recipe.

mod run;

use super::arithmetic::{Counts, Numbers, RUN_PARTS, Shared, WEIGHT_PARTS};
use super::run::Run;
use super::{Cutter, Judgement, Progress, Tuner, TunerError, Version, Work, bytes, bytes_mut, copy, front};
use crate::memory::MemoryPlan;
use crate::optim::{adam, sam};
use crate::pack::{Pack, Sizes};
use crate::part::Part;
use crate::recipe::{Ascent, Recipe};
use crate::requant::{self, Range, TunedTail};
use crate::sound;
use crate::step;
use crate::store::Contents;
use crate::tail::{PackedTail, Tail, Target};
pub use run::Suspect;
use run::{Stage, Stages};

/// The weights that a run with [`crate::Recipe::keep_best`] keeps.
/// [`Tuner::best`] gives it.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(not(feature = "_internals"), non_exhaustive)]
pub struct Best {
    /// Epochs after which they were seen; 0 are the weights that the run began with.
    pub epochs: u16,
    /// How they do, before they are quantized: [`Tuner::judge_weights`].
    pub judgement: Judgement,
}

/// Weights in f32, and what trains them.
/// [`Tuner`] has examples.
#[derive(Debug)]
pub struct Float<'a> {
    pub(super) tail: PackedTail<'a>,
    pub(super) weights: &'a mut [f32],
    pub(super) velocity: &'a mut [f32],
    gradient: &'a mut [f32],
    /// Empty unless the recipe that the arena was planned for keeps the best.
    best_weights: &'a mut [f32],
    best: Option<Best>,
    /// Mean losses of the samples after `losses_of` epochs; empty unless the arena was planned for them.
    losses: &'a mut [f32],
    losses_of: u16,
}

/// What a run leaves, beside its buffers.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
pub struct Kept {
    best: Option<Best>,
    losses_of: u16,
}

impl Float<'_> {
    /// The weights of the last whole step: where a step has moved them to `w + e`, their exact backup.
    fn settled(&self, stages: Option<&Stages>) -> &[f32] {
        if stages.is_some_and(Stages::is_perturbed) { self.gradient } else { self.weights }
    }

    /// Where a sample's features go.
    fn features_in<'w>(&self, workspace: &'w mut [f32]) -> &'w mut [f32] {
        workspace.part_mut(..self.tail.features())
    }

    /// Floats of the velocity that are the run's.
    fn velocity_floats(&self, recipe: &Recipe) -> usize {
        recipe.velocity_floats(self.tail.parameters()).min(self.velocity.len())
    }

    /// After the loss of a sample: its loss at its own worst step, and what of the rise is the gradient's.
    fn risen_after_loss(
        &mut self,
        stages: Option<&Stages>,
        ascent: &Ascent,
        (pack, latent, target): (&Pack, &[i8], Target),
        scratch: &mut [f32],
    ) -> Option<[f32; 2]> {
        if self.tail.ascends_unstored() {
            let at = self.tail.ascend_unstored(self.settled(stages), Some(ascent), target, scratch)?;
            return Some([at.risen()?, at.slope()]);
        }
        if self.gradient.len() < self.tail.parameters() || stages.is_some_and(Stages::holds_gradient) {
            return Some([f32::NAN; 2]);
        }
        let Ascent { rho, geometry } = ascent;
        self.gradient.fill(0.0);
        self.tail.backward(self.weights, 1.0, geometry.bias, scratch, self.gradient);
        let norm = sam::ascent_norm_squared(self.weights, self.gradient, geometry, self.tail.segments());
        let c = geometry.step_length(*rho, norm)?;
        sam::perturb(self.weights, self.gradient, c, geometry, self.tail.segments());
        // The backward pass may have used the features' place.
        self.write_features(pack, latent, scratch);
        let risen = self.tail.forward_loss(self.weights, target, scratch);
        sam::restore(self.weights, self.gradient);
        Some([risen, c * norm])
    }

    /// Reads from the weights which outputs are classes.
    fn count_classes(&mut self, pack: &Pack) {
        if let Some(code) = pack.operators().spare() {
            (code.count)(self, pack);
        }
    }
}

impl<'a> Numbers<'a> for Float<'a> {
    const CONTENTS: Contents = Contents::Int8AndF32;
    const ANY_TAIL: bool = true;

    type Word = f32;
    type Step = Stages;
    type Kept = Kept;

    fn check(recipe: &Recipe) -> Result<(), TunerError> {
        Ok(recipe.check()?)
    }

    fn arena_bytes(sizes: &Sizes, recipe: &Recipe) -> usize {
        MemoryPlan::new(sizes, recipe).total_bytes()
    }

    fn cut(
        pack: &Pack<'a>,
        recipe: &Recipe,
        arena: &'a mut [u8],
    ) -> Result<(Self, Shared<'a, f32>), TunerError> {
        if pack.is_for_integers() {
            return Err(TunerError::LeftOut {
                what: "shares of input channels, which an integer tuner takes",
            });
        }
        let tail = PackedTail::of(pack)?;
        let sizes = pack.sizes();
        let plan = MemoryPlan::new(&sizes, recipe);
        let mut cutter = Cutter::new(arena, plan.total_bytes())?;
        let (weights, velocity) = (cutter.take(plan.weights)?, cutter.take(plan.velocity)?);
        let (gradient, best_weights) = (cutter.take(plan.gradient)?, cutter.take(plan.best)?);
        let tuned = cutter.tuned_tail(plan.tuned_tail, &sizes)?;
        let replay = cutter.replay([plan.replay, plan.labels, plan.class_counts], &sizes, recipe)?;
        let (losses, order) = (cutter.take(plan.losses)?, cutter.take(plan.order)?);
        let (scratch, latent) = (cutter.take(plan.scratch)?, cutter.take(plan.latent)?);
        let mut own =
            Self { tail, weights, velocity, gradient, best_weights, best: None, losses, losses_of: 0 };
        own.load(pack, None);
        let weights_crc32 = bytes::checksum(&own.parts(None));
        Ok((own, Shared { tuned, replay, order, scratch, latent, weights_crc32 }))
    }

    fn has_room(&self, recipe: &Recipe, capacity: usize) -> bool {
        let parameters = self.tail.parameters();
        let stored = step::stores_perturbation(&self.tail, recipe);
        let holds = |wanted: bool, buffer: &[f32]| !wanted || buffer.len() >= parameters;
        holds(stored, self.gradient)
            && holds(recipe.keep_best, self.best_weights)
            && self.velocity.len() >= recipe.velocity_floats(parameters)
            && (!recipe.sample_losses || self.losses.len() >= capacity)
    }

    fn load(&mut self, pack: &Pack, tuned: Option<&TunedTail>) {
        match tuned {
            Some(tuned) => tuned.dequantize(pack, self.weights),
            None => requant::dequantize(pack, self.weights),
        }
        self.count_classes(pack);
    }

    fn features(&self) -> usize {
        self.tail.features()
    }

    fn classes(&self) -> usize {
        self.tail.classes()
    }

    fn forward_macs(&self) -> u64 {
        self.tail.forward_macs()
    }

    fn write_features(&self, pack: &Pack, latent: &[i8], scratch: &mut [f32]) {
        write_features(pack, latent, self.features_in(scratch));
    }

    #[inline(always)]
    fn write_feature(&self, pack: &Pack, index: usize, q: i8, scratch: &mut [f32]) {
        if let Some(value) = scratch.get_mut(index) {
            *value = pack.feature_unit() * (i32::from(q) - pack.feature().affine.zero_point) as f32;
        }
    }

    fn loss(
        &mut self,
        stages: Option<&Stages>,
        _: &mut TunedTail<'a>,
        target: Target,
        scratch: &mut [f32],
    ) -> (f32, usize) {
        let loss = self.tail.forward_loss(self.settled(stages), target, scratch);
        (loss, self.tail.objective().answer(self.tail.output(scratch)))
    }

    fn risen(
        &mut self,
        stages: Option<&Stages>,
        tuned: &mut TunedTail<'a>,
        ascent: &Ascent,
        sample: (&Pack, &[i8], Target),
        scratch: &mut [f32],
    ) -> (f32, usize, Option<[f32; 2]>) {
        let (loss, answer) = self.loss(stages, tuned, sample.2, scratch);
        let risen =
            if ascent.rho > 0.0 { self.risen_after_loss(stages, ascent, sample, scratch) } else { None };
        (loss, answer, risen)
    }

    fn ranges(
        &mut self,
        stages: Option<&Stages>,
        _: &mut TunedTail<'a>,
        scratch: &mut [f32],
        see: &mut dyn FnMut(usize, f32, f32),
    ) {
        self.tail.forward_ranges(self.settled(stages), scratch, see);
    }

    fn quantize(&self, stages: Option<&Stages>, pack: &Pack, ranges: &[Range], tuned: &mut TunedTail) {
        tuned.quantize(pack, self.settled(stages), ranges);
    }

    fn begin(&mut self, recipe: &Recipe) -> Stages {
        self.velocity.fill(0.0);
        self.forget(true);
        Stages::new(recipe)
    }

    fn run_slice(tuner: &mut Tuner<'a, Self>, grouped: bool) -> Result<Progress, TunerError> {
        tuner.stage_slice(grouped)
    }

    fn work(stages: &Stages) -> (Work, usize) {
        match &stages.stage {
            Stage::Between => (Work::Step(step::Phase::Prepare), 0),
            Stage::Step(step) => (Work::Step(step.phase()), step.sample()),
            Stage::Losses(slot) => (Work::Losses, *slot),
            Stage::Judge(_, index, _) => (Work::Judge, *index),
        }
    }

    fn abandon(&mut self, stages: Stages) {
        if let Stage::Step(mut step) = stages.stage {
            step.restore(self.weights, self.gradient);
        }
    }

    fn finish(&mut self) {
        if self.best.is_some() {
            copy(self.weights, self.best_weights);
        }
    }

    fn parts(&self, stages: Option<&Stages>) -> [&[u8]; WEIGHT_PARTS] {
        [bytes(self.settled(stages)), &[], &[], &[]]
    }

    fn places(&mut self, pack: &Pack, contents: Contents) -> [&mut [u8]; WEIGHT_PARTS] {
        let length = pack.sizes().weight_bytes(contents);
        [front(bytes_mut(self.weights), length), &mut [], &mut [], &mut []]
    }

    fn adopt(&mut self, pack: &Pack) {
        self.count_classes(pack);
    }

    fn are_sound(&self) -> bool {
        sound::weights(self.weights)
    }

    fn spare(&mut self) -> &mut [u8] {
        bytes_mut(self.velocity)
    }

    fn run_parts(&self, recipe: &Recipe, samples: usize) -> [&[u8]; RUN_PARTS] {
        let floats = |wanted: bool, buffer| if wanted { bytes::<f32>(buffer) } else { &[] };
        let losses = if recipe.sample_losses { samples } else { 0 };
        [
            bytes(self.weights),
            bytes(self.velocity.part(..self.velocity_floats(recipe))),
            floats(step::stores_perturbation(&self.tail, recipe), self.gradient),
            floats(recipe.keep_best, self.best_weights),
            bytes(self.losses.part(..losses)),
            &[],
        ]
    }

    fn run_parts_mut(&mut self, recipe: &Recipe, samples: usize) -> [&mut [u8]; RUN_PARTS] {
        let velocity = self.velocity_floats(recipe);
        let gradient = step::stores_perturbation(&self.tail, recipe);
        let losses = if recipe.sample_losses { samples } else { 0 };
        [
            bytes_mut(self.weights),
            bytes_mut(self.velocity.part_mut(..velocity)),
            if gradient { bytes_mut(self.gradient) } else { &mut [] },
            if recipe.keep_best { bytes_mut(self.best_weights) } else { &mut [] },
            bytes_mut(self.losses.part_mut(..losses)),
            &mut [],
        ]
    }

    fn is_sound(&self, run: &Run<Stages>, recipe: &Recipe, counts: Counts) -> bool {
        run.is_sound(recipe, step::stores_perturbation(&self.tail, recipe), counts)
    }

    fn kept(&self) -> Kept {
        Kept { best: self.best, losses_of: self.losses_of }
    }

    fn resume(&mut self, pack: &Pack, recipe: &Recipe, run: &Run<Stages>, kept: Kept) -> bool {
        let velocity = self.velocity.part(..self.velocity_floats(recipe));
        let (sums, moments) = velocity.split_at(self.weights.len().min(velocity.len()));
        let gradient = match &run.step {
            stages if stages.is_perturbed() => sound::weights(self.gradient),
            stages if stages.holds_gradient() => sound::velocity(self.gradient),
            _ => true,
        };
        let best = kept.best.is_none() || recipe.keep_best && sound::weights(self.best_weights);
        if !(self.are_sound() && sound::velocity(sums) && adam::is_sound(moments) && gradient && best) {
            return false;
        }
        (self.best, self.losses_of) = (kept.best, kept.losses_of);
        self.count_classes(pack);
        true
    }

    fn forget(&mut self, samples: bool) {
        self.best = None;
        if samples {
            self.losses_of = 0;
        }
    }

    fn forget_sample(&mut self, slot: usize) {
        if let Some(loss) = self.losses.get_mut(slot) {
            *loss = f32::NAN;
        }
    }

    fn best(&self) -> Option<Best> {
        self.best
    }

    fn add_class(tuner: &mut Tuner<'a, Self>) -> Result<usize, TunerError> {
        let code = tuner.pack.operators().spare().ok_or(TunerError::NoSpareClass { spare: 0 })?;
        (code.add)(tuner)
    }

    fn solve(
        tuner: &mut Tuner<'a, Self>,
        recipe: &Recipe,
        scratch: &mut [u32],
        between: &mut dyn FnMut(),
    ) -> Result<(), TunerError> {
        let solve = tuner.pack.operators().solver().ok_or(TunerError::NoSolver)?;
        solve(tuner, recipe, scratch, between)
    }

    fn auc(
        tuner: &mut Tuner<'a, Self>,
        version: Version,
        between: &mut dyn FnMut(),
    ) -> Result<f32, TunerError> {
        let area = tuner.pack.operators().auc().ok_or(TunerError::OneKind)?;
        area(tuner, version, between)
    }
}

impl Tuner<'_> {
    /// The f32 parameters, layer after layer: weights `[outputs, inputs]`, biases.
    /// While [`Self::poll`] has moved them to `w + e`, those of the last whole step; none while a tail or a run is being
    /// written.
    pub fn weights(&self) -> &[f32] {
        if self.check_weights().is_err() {
            return &[];
        }
        self.arithmetic.settled(self.step_under_way())
    }
}

/// Writes `unit * (q - zero_point)` for every element: see [`Pack::feature_units`].
fn write_features(pack: &Pack, latent: &[i8], features: &mut [f32]) {
    let (mut latent, mut features) = (latent, features);
    for (tensor, unit) in pack.feature_units() {
        let (own, rest) = latent.split_at(tensor.len().min(latent.len()));
        let (own_features, features_rest) = core::mem::take(&mut features).parts_mut_at(own.len());
        for (feature, &q) in own_features.iter_mut().zip(own) {
            *feature = unit * (i32::from(q) - tensor.affine.zero_point) as f32;
        }
        (latent, features) = (rest, features_rest);
    }
}
