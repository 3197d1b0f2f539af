//! Ties it together: observe, step, requantize, classify. No arithmetic of its own.

pub(crate) mod accept;
pub(crate) mod anomalies;
#[cfg(feature = "async")]
mod awaited;
mod best;
pub(crate) mod classes;
pub(crate) mod code;
mod commit;
mod confusion;
pub(crate) mod course;
pub(crate) mod cutter;
mod drift;
mod error;
mod features;
pub(crate) mod int8;
mod judge;
mod observe;
pub(crate) mod order;
pub(crate) mod outputs;
pub(crate) mod parts;
pub(crate) mod payload;
pub(crate) mod resume;
mod run;
pub(crate) mod stored;
mod suspects;
pub(crate) mod trace;
mod transfer;

use crate::memory::MemoryPlan;
use crate::optim::Recipe;
use crate::pack::{CRC, Pack};
use crate::replay::Replay;
use crate::requant::{self, TunedTail};
use crate::tail::{PackedTail, Tail};
pub use accept::{Acceptance, Judgement};
pub use best::Best;
use cutter::Cutter;
pub use drift::{Drift, Watch};
pub use error::TunerError;
use features::{load, write_features};
use order::Division;
pub use resume::{RUN_HEAD_BYTES, RUN_VERSION};
pub use run::{Position, Progress, StepReport, Work};
use run::{Run, settled};
pub use suspects::Suspect;

/// Which tail answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Version {
    /// The tail as packed.
    Factory,
    /// The tail that [`Tuner::requantize`] made or [`Tuner::accept`] accepted last.
    Tuned,
}

/// The f32 tail on one sample.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Score {
    /// Loss against the label or the target.
    pub loss: f32,
    /// The answer: the class with the largest logit, or the bits of the outputs above 0; 0 of real values.
    pub class: usize,
}

/// Means over the replay, at the current weights.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Evaluation {
    /// Mean loss.
    pub loss: f32,
    /// Share of samples whose label is the answer; NaN of a squared error.
    pub accuracy: f32,
    /// Mean rise of a sample's loss at its own worst step of length rho (SAM's geometry, m = 1).
    pub sharpness: f32,
}

/// A pretrained network, its trainable tail and the samples to tune it on, in one caller-owned arena.
///
/// The order of calls: [`observe`](Self::observe) labelled samples (or targets, as the pack's loss has it), [`start`](Self::start) a run,
/// [`step`](Self::step) until it is finished ([`poll`](Self::poll), where others must be served in between), [`accept`](Self::accept), which takes the tuned tail if it is the
/// better one, or [`requantize`](Self::requantize), which takes it in any case, then [`classify`](Self::classify). Each does bounded work; nothing waits, nothing allocates.
#[derive(Debug)]
pub struct Tuner<'a> {
    pack: Pack<'a>,
    tail: PackedTail<'a>,
    recipe: Recipe,
    arena_bytes: usize,
    weights: &'a mut [f32],
    velocity: &'a mut [f32],
    gradient: &'a mut [f32],
    /// Empty unless the recipe that the arena was planned for keeps the best.
    best_weights: &'a mut [f32],
    best: Option<Best>,
    tuned: TunedTail<'a>,
    replay: Replay<'a>,
    /// Mean losses of the samples after `losses_of` epochs; empty unless the arena was planned for them.
    losses: &'a mut [f32],
    losses_of: u16,
    division: Division<'a>,
    scratch: &'a mut [f32],
    /// The features of one sample, gathered; empty where they lie in one place.
    latent: &'a mut [i8],
    run: Option<Run>,
    macs: u64,
    /// Between [`Self::expect_run`] and [`Self::adopt_run`].
    expects_run: bool,
    /// What is watched, and the running means.
    watched: Option<(Watch, Drift)>,
}

/// A shared view of scratch memory, of whichever words, as int8.
pub(crate) fn as_int8<T: bytemuck::Pod>(scratch: &mut [T]) -> &mut [i8] {
    bytemuck::try_cast_slice_mut(scratch).unwrap_or(&mut [])
}

impl<'a> Tuner<'a> {
    /// A tuner at the factory weights, without samples. `arena` needs [`crate::Sizes::train_bytes`].
    ///
    /// # Errors
    /// The arena's size or alignment, the recipe, or a pack without trainable layers.
    pub fn new(pack: Pack<'a>, recipe: Recipe, arena: &'a mut [u8]) -> Result<Self, TunerError> {
        recipe.check()?;
        let tail = PackedTail::of(&pack)?;
        let sizes = pack.sizes();
        let plan = MemoryPlan::new(&sizes, &recipe);
        let arena_bytes = arena.len();
        let mut cutter = Cutter::new(arena, plan.total_bytes())?;
        let (weights, velocity) = (cutter.take(plan.weights)?, cutter.take(plan.velocity)?);
        let (gradient, best_weights) = (cutter.take(plan.gradient)?, cutter.take(plan.best)?);
        let tuned = cutter.tuned_tail(plan.tuned_tail, &sizes)?;
        let replay = cutter.replay([plan.replay, plan.labels, plan.class_counts], &sizes, &recipe)?;
        let (losses, order) = (cutter.take(plan.losses)?, cutter.take(plan.order)?);
        let (scratch, latent) = (cutter.take(plan.scratch)?, cutter.take(plan.latent)?);
        let mut tuner = Self {
            pack,
            tail,
            recipe,
            arena_bytes,
            weights,
            velocity,
            gradient,
            best_weights,
            best: None,
            tuned,
            replay,
            losses,
            losses_of: 0,
            division: Division::new(order),
            scratch,
            latent,
            run: None,
            macs: 0,
            expects_run: false,
            watched: None,
        };
        tuner.factory_reset();
        Ok(tuner)
    }

    /// Back to the factory weights; the samples stay. A run under way is abandoned.
    pub fn factory_reset(&mut self) {
        requant::dequantize(&self.pack, self.weights);
        self.count_classes();
        self.tuned.clear();
        (self.run, self.best, self.expects_run) = (None, None, false);
        self.macs = 0;
    }

    /// Forgets the samples.
    pub fn forget(&mut self) {
        self.replay.clear();
        self.division.keep_whole(0);
        self.losses_of = 0;
        self.abandon();
        self.best = None;
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

    /// The f32 parameters, layer after layer: weights `[outputs, inputs]`, biases.
    /// While [`Self::poll`] has moved them to `w + e`, those of the last whole step.
    pub fn weights(&self) -> &[f32] {
        settled(self.run.as_ref(), self.weights, self.gradient)
    }

    /// CRC-32 of the f32 parameters' bytes, little endian: the same on every target after the same calls.
    pub fn weights_crc32(&self) -> u32 {
        let mut digest = CRC.digest();
        for w in self.weights() {
            digest.update(&w.to_le_bytes());
        }
        digest.finalize()
    }

    /// Multiply-adds since the factory reset: trunk and tail, tuning and evaluation of labelled samples;
    /// classification not counted.
    pub fn macs(&self) -> u64 {
        self.macs
    }

    /// Runs the trunk on `input` and returns the latent.
    ///
    /// # Errors
    /// [`TunerError::InputLength`].
    pub fn latent(&mut self, input: &[i8]) -> Result<&[i8], TunerError> {
        int8::run_trunk(&self.pack, as_int8(self.scratch), input)?;
        Ok(self.gather())
    }

    /// The features of the sample that the trunk saw last, one behind the other.
    fn gather(&mut self) -> &[i8] {
        let arena = as_int8(self.scratch);
        if self.tail.chain().is_some() {
            return self.pack.feature().of(arena);
        }
        let mut rest = &mut *self.latent;
        for feature in self.pack.features() {
            let (own, behind) =
                core::mem::take(&mut rest).split_at_mut_checked(feature.len()).unwrap_or_default();
            copy(own, feature.of(arena));
            rest = behind;
        }
        self.latent
    }

    /// The way back: features to where the tail's int8 operators read them.
    fn scatter(pack: &Pack, latent: &[i8], arena: &mut [i8]) {
        let mut rest = latent;
        for feature in pack.features() {
            let (own, behind) = rest.split_at(feature.len().min(rest.len()));
            copy(feature.of_mut(arena), own);
            rest = behind;
        }
    }
}

/// Copies what both have room for: all of it, as their lengths are those of the pack. No panic is in sight of the linker.
pub(crate) fn copy<T: Copy>(to: &mut [T], from: &[T]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
}
