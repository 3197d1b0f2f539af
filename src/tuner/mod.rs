//! The tuner: observe, step, requantize, classify, in whichever arithmetic. No arithmetic of its own.

mod anomalies;
mod arithmetic;
mod backup;
mod beliefs;
pub(crate) mod bytes;
mod classes;
pub(crate) mod code;
mod commit;
mod criterion;
mod cutter;
mod discriminant;
mod drift;
mod error;
mod float;
mod former;
mod imprint;
mod judge;
mod order;
mod outputs;
mod radius;
#[cfg(feature = "wire")]
mod resume;
mod run;
mod sample;
mod solve;

use crate::pack::Pack;
use crate::recipe::Recipe;
use crate::replay::Replay;
use crate::requant::TunedTail;
use crate::tail::Loss;
pub use arithmetic::Arithmetic;
pub(crate) use arithmetic::{Counts, Numbers, RUN_PARTS, Shared, WEIGHT_PARTS};
pub(crate) use backup::Backup;
pub(crate) use bytes::{bytes, bytes_mut, front};
pub use criterion::{Acceptance, Criterion, Evidence, Judgement, Labels, Pairs};
pub(crate) use cutter::Cutter;
pub use drift::{Drift, Watch};
pub use error::TunerError;
pub use float::{Best, Float, Suspect};
pub(crate) use former::Former;
pub use judge::{Evaluation, Score};
use order::Division;
pub use outputs::Answer;
#[cfg(all(test, feature = "wire"))]
pub(crate) use resume::assert_fits;
#[cfg(feature = "wire")]
pub use resume::{RUN_HEAD_BYTES, RUN_VERSION};
pub(crate) use run::{Course, Run};
pub use run::{Position, Progress, StepReport, Work};
pub(crate) use solve::solvable;

/// Which tail answers.
/// [`Tuner::judge`] has an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Version {
    /// The tail as packed.
    Factory,
    /// The tail that [`Tuner::requantize`] made or [`Tuner::accept`] accepted last.
    Tuned,
}

/// A pretrained network, its trainable tail and the samples to tune it on, in one caller-owned arena.
///
/// The order of calls: [`observe`](Self::observe) labelled samples (or targets, as the pack's loss has it),
/// [`start`](Self::start) a run, [`step`](Self::step) until it is finished ([`poll`](Self::poll), where others must be served
/// in between), [`accept`](Self::accept), which takes the tuned tail if it is the better one, or
/// [`requantize`](Self::requantize), which takes it in any case, then [`classify`](Self::classify). Each does bounded work;
/// nothing waits, nothing allocates.
///
/// A tuner trains in f32, or in another [`Arithmetic`]: [`crate::CompactTuner`]. Functions that take either are generic:
///
/// ```
/// use flatmin::{Arithmetic, StepReport, Tuner, TunerError};
/// /// Steps until the run is over.
/// fn finish<'p, A: Arithmetic<'p>>(tuner: &mut Tuner<'p, A>) -> Result<StepReport, TunerError> {
///     loop {
///         let report = tuner.step()?;
///         if report.finished {
///             return Ok(report);
///         }
///     }
/// }
/// ```
///
/// # Samples and answers
/// ```no_run
/// # use flatmin::{Tuner, TunerError, Version};
/// # fn adapt(tuner: &mut Tuner, window: &[i8]) -> Result<(), TunerError> {
/// if tuner.samples() < tuner.capacity() {
///     tuner.observe(window, 2)?; // class 2 of tuner.classes()
/// }
/// let label = tuner.classify(window)?.label; // by the tail in force: tuner.in_force()
/// let latent = tuner.latent(window)?.to_vec(); // what is kept of a sample; the backbone need not run again
/// let before = tuner.classify_latent(&latent, Version::Factory)?;
/// let raw = tuner.infer_latent(&latent, Version::Tuned)?.to_vec(); // or `infer`, from the input
/// assert!(tuner.infer(window, Version::Tuned)? == raw && tuner.answer(&raw, Version::Tuned) < tuner.classes());
/// let probability = tuner.output_affine(Version::Tuned).dequantize(raw[0]);
/// tuner.forget(); // all samples
/// # Ok(())
/// # }
/// ```
///
/// Samples of a regression or an autoencoder have targets in place of labels:
///
/// ```no_run
/// # use flatmin::{Tuner, TunerError, Version};
/// # fn adapt(tuner: &mut Tuner, window: &[i8]) -> Result<(), TunerError> {
/// let mut target = [0; 3];
/// tuner.quantize_target(&[0.5, -1.0, 2.25], &mut target)?;
/// tuner.observe_target(window, &target)?;
/// let loss = tuner.score_target(window, Some(&target))?.loss; // of the weights in training
/// let error = tuner.error(window, Some(&target), Version::Factory)?; // of an int8 tail
/// tuner.observe_itself(window)?; // an autoencoder's target is its input,
/// tuner.observe_anomaly(window)?; // and what it is to tell apart is not trained on
/// let area = tuner.auc(Version::Tuned)?; // or `auc_between`, with work between two samples
/// # Ok(())
/// # }
/// ```
///
/// # A run, and what it is judged by
/// ```no_run
/// # use flatmin::{Recipe, Tuner, TunerError, Version};
/// # fn tune(tuner: &mut Tuner, window: &[i8], latent: &[i8], feed: impl Fn()) -> Result<(), TunerError> {
/// tuner.start(Recipe { held_out: 0.2, keep_best: true, sample_losses: true, ..*tuner.recipe() })?;
/// while let Some(position) = tuner.position() {
///     tuner.poll()?; // one slice; tuner.epoch(), tuner.radius() and tuner.macs() tell how it goes
/// }
/// let [factory, own] = [tuner.judge(Version::Factory)?, tuner.judge_weights()?]; // by the held-out samples
/// let sharpness = tuner.evaluate(0.05)?.sharpness; // or `evaluate_between`
/// for slot in tuner.held_out() {}
/// for suspect in tuner.suspects() {} // labels that were hard to learn, by tuner.mean_loss(slot)
/// let score = tuner.score(window, 2)?; // `score_latent` of a latent; both with another criterion:
/// let plain = (tuner.score_by(window, 2, tuner.criterion())?, tuner.score_latent_by(latent, 2, tuner.criterion())?);
/// let again = tuner.score_latent(latent, 2)?;
/// let mut counts = [0; 49];
/// tuner.confusion(Version::Factory, &mut counts)?; // all of it, or a part of one row
/// tuner.confusion_row(Version::Factory, 3, 0, &mut counts[..7])?;
/// let verdict = tuner.accept()?; // or `accept_between`; `requantize` and `requantize_between` take it unjudged
/// assert!(tuner.is_tuned() == verdict.accepted && tuner.best().is_some());
/// let (bytes, crc32) = (tuner.arena_bytes(), tuner.weights_crc32()); // weights of tuner.pack()
/// tuner.factory_reset();
/// # tuner.requantize()?; tuner.requantize_between(&feed)?; tuner.accept_between(&feed)?; tuner.evaluate_between(0.05, &feed)?;
/// # Ok(())
/// # }
/// ```
///
/// # What is kept and handed on
/// ```no_run
/// # #[cfg(feature = "wire")]
/// # fn hand_on<F: embedded_storage::nor_flash::NorFlash>(
/// #     tuner: &mut flatmin::Tuner, other: &mut flatmin::Tuner, store: &flatmin::store::Store, flash: &mut F, bytes: &mut [u8],
/// # ) -> Result<(), flatmin::TunerError> {
/// tuner.commit(store, flash)?; // what it holds is tuner.contents(); `commit_async` awaits the flash
/// tuner.restore(store, flash)?; // at a start; `restore_async`
/// tuner.roll_back(store, flash)?; // to the tail before; `roll_back_async`
/// tuner.factory_reset_stored(store, flash)?; // `factory_reset_stored_async`
/// // A run in one piece, where a tuner of the same pack goes on with the same bits:
/// let written = tuner.save_run(0, &mut bytes[..tuner.run_bytes()])?;
/// other.resume_run(&bytes[..written])?;
/// // Part by part, as a link has it; what follows the head is written from 0 on:
/// let (head, rest) = bytes[..written].split_at(flatmin::RUN_HEAD_BYTES);
/// other.expect_run(head)?;
/// other.write_run(0, rest)?;
/// other.adopt_run(head)?;
/// // The int8 tail alone, of tuner.tail_bytes():
/// let read = tuner.read_tail(0, &mut bytes[..64])?;
/// other.write_tail(0, &bytes[..read])?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Tuner<'a, A: Arithmetic<'a> = Float<'a>> {
    pub(crate) pack: Pack<'a>,
    /// The weights, and what trains them.
    pub(crate) arithmetic: A,
    pub(crate) recipe: Recipe,
    arena_bytes: usize,
    tuned: TunedTail<'a>,
    pub(crate) replay: Replay<'a>,
    pub(crate) division: Division<'a>,
    pub(crate) scratch: &'a mut [A::Word],
    /// The features of one sample, gathered; empty where they lie in one place.
    latent: &'a mut [i8],
    pub(crate) run: Option<Run<A::Step>>,
    pub(crate) macs: u64,
    incoming: Incoming,
    /// CRC-32 of the weights that the int8 tail in force came with, or stands for.
    in_force: u32,
    /// What is watched, and the running means.
    watched: Option<(Watch, Drift)>,
}

/// What is being written, part by part, over weights that are then neither here nor there. Until the whole of it is adopted
/// the int8 tail of before answers, and what reads the weights is refused ([`Tuner::check_weights`]); a run that is started,
/// or a reset, gives up what is incoming.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Incoming {
    Nothing,
    /// From the first [`Tuner::write_tail`] to [`Tuner::adopt_tail`]: its int8 part lies in [`Numbers::spare`].
    Tail,
    /// From [`Tuner::expect_run`] to [`Tuner::adopt_run`].
    Run,
}

/// The scratch memory, of whichever words, as int8.
fn int8_scratch<T: bytemuck::Pod>(scratch: &mut [T]) -> &mut [i8] {
    bytemuck::must_cast_slice_mut(scratch)
}

impl<'a> Tuner<'a> {
    /// A tuner in f32 at the factory weights, without samples. `arena` needs [`crate::Sizes::train_bytes`].
    ///
    /// # Errors
    /// The arena's size or alignment, the recipe, or a pack without trainable layers.
    ///
    /// [The crate's example](crate) begins with it.
    pub fn new(pack: Pack<'a>, recipe: Recipe, arena: &'a mut [u8]) -> Result<Self, TunerError> {
        Self::in_arena(pack, recipe, arena)
    }
}

impl<'a, A: Arithmetic<'a>> Tuner<'a, A> {
    /// A tuner at the factory weights, without samples, in the arithmetic that its type names. `arena` needs
    /// [`crate::Sizes::train_bytes`] for f32, [`crate::Sizes::compact_bytes`] for a [`crate::CompactTuner`].
    ///
    /// # Errors
    /// The arena's size or alignment; a recipe or a pack that the arithmetic does not take.
    ///
    /// [`Self::new`] is this call of a tuner in f32.
    #[inline(never)] // What it has on the stack is not there for as long as the caller lasts.
    pub fn in_arena(pack: Pack<'a>, recipe: Recipe, arena: &'a mut [u8]) -> Result<Self, TunerError> {
        A::check(&recipe)?;
        let arena_bytes = arena.len();
        // Moved once, from there to here: on the stack of the smallest boards another copy would have no room.
        A::cut(&pack, &recipe, arena).map(|(arithmetic, shared)| Self {
            in_force: shared.weights_crc32,
            pack,
            arithmetic,
            recipe,
            arena_bytes,
            tuned: shared.tuned,
            replay: shared.replay,
            division: Division::new(shared.order),
            scratch: shared.scratch,
            latent: shared.latent,
            run: None,
            macs: 0,
            incoming: Incoming::Nothing,
            watched: None,
        })
    }

    /// Back to the factory weights; the samples stay. A run under way is abandoned, and so is what is being written. What is
    /// watched is followed anew.
    pub fn factory_reset(&mut self) {
        self.tuned.clear();
        (self.run, self.incoming) = (None, Incoming::Nothing);
        self.division.trusts = false;
        self.load_in_force();
        self.forget_former(false);
        self.arithmetic.forget(false);
        self.watch(self.watched.map(|(watch, _)| watch));
        self.macs = 0;
    }

    /// Forgets the samples.
    pub fn forget(&mut self) {
        self.replay.clear();
        self.division.keep_whole(0);
        self.abandon();
        self.forget_answers();
        self.arithmetic.forget(true);
    }

    /// Makes the weights those of the int8 tail in force.
    fn load_in_force(&mut self) {
        let tuned = Some(&self.tuned).filter(|tuned| !tuned.is_empty());
        if A::ONE_COPY && tuned.is_none() {
            self.arithmetic.take_back(&mut self.tuned);
            self.lose_former();
            self.arithmetic.load(&self.pack, None);
        } else {
            self.arithmetic.load(&self.pack, tuned);
        }
        self.settle();
    }

    /// The weights are now those of the int8 tail in force.
    fn settle(&mut self) {
        self.in_force = match A::ONE_COPY && self.is_tuned() {
            true => self.arithmetic.crc32_in_force(&self.pack, &mut self.tuned),
            false => self.weights_crc32(),
        };
    }

    /// Refuses what reads the weights, or the memory that nothing lives in between runs, while they are being written.
    fn check_weights(&self) -> Result<(), TunerError> {
        match self.incoming {
            Incoming::Nothing => Ok(()),
            Incoming::Tail => Err(TunerError::TailExpected),
            Incoming::Run => Err(TunerError::RunExpected),
        }
    }

    /// Refuses weights that have left the range in which runs stay within f32.
    fn check_range(&self) -> Result<(), TunerError> {
        if self.arithmetic.are_sound() { Ok(()) } else { Err(TunerError::Diverged) }
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

    /// Classes that the current weights know: the packed ones, and those that were added.
    pub fn classes(&self) -> usize {
        self.arithmetic.classes()
    }

    /// CRC-32 of the parameters' bytes, little endian: the same on every target after the same calls. In f32 those of
    /// [`Self::weights`]; compact ones are weights, residuals, biases and scales, with or without FPU. While a tail or a run
    /// is being written there are none: 0, the CRC-32 of no bytes.
    pub fn weights_crc32(&self) -> u32 {
        if A::ONE_COPY && self.is_tuned() {
            return self.in_force;
        }
        bytes::checksum(&self.weight_parts())
    }

    /// Multiply-adds since the factory reset, of what tunes: the trunk's of samples that were observed; of the tail the
    /// steps, [`Recipe::keep_best`]'s and [`Recipe::sample_losses`]' passes, the ranges of [`Self::requantize`], and
    /// [`Self::add_class`]. Classifications, judgements, scores, [`Self::evaluate`] and what is watched are not counted.
    pub fn macs(&self) -> u64 {
        self.macs
    }

    /// What a payload of the tail with its weights is.
    pub fn contents(&self) -> crate::store::Contents {
        A::CONTENTS
    }

    /// The best weights of the current or last run; `None` where it does not keep them ([`Recipe::keep_best`]).
    pub fn best(&self) -> Option<Best> {
        self.arithmetic.best()
    }

    /// The loss that the tail is trained with.
    fn objective(&self) -> Loss {
        if A::ANY_TAIL { self.pack.loss() } else { Loss::CrossEntropy }
    }

    fn step_under_way(&self) -> Option<&A::Step> {
        self.run.as_ref().map(|run| &run.step)
    }
}

/// Copies what both have room for: all of it, as their lengths are those of the pack. No panic is in sight of the linker.
pub(crate) fn copy<T: Copy>(to: &mut [T], from: &[T]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
}
