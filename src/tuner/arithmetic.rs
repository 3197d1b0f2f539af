//! What tuners differ in: the numbers that a tail's weights are made of, and how a run changes them.

use super::backup::Backup;
use super::former::Former;
use super::run::Run;
use super::{Best, Progress, Tuner, TunerError, Version, Work};
use crate::pack::{Pack, Sizes};
use crate::recipe::{Ascent, Recipe};
use crate::replay::Replay;
use crate::requant::{Range, TunedTail};
use crate::store::Contents;
use crate::tail::Target;
use core::fmt::Debug;

/// The numbers that a [`Tuner`] trains: [`Float`](super::Float), which takes every tail and every recipe, or
/// [`Compact`](crate::Compact), which takes few bytes. Sealed: a firmware names one of them, and links that one alone.
pub trait Arithmetic<'a>: Numbers<'a> {}

impl<'a, A: Numbers<'a>> Arithmetic<'a> for A {}

/// Parts that weights have in a payload; some are empty.
pub const WEIGHT_PARTS: usize = 4;

/// Buffers that a run has beside its order of samples; some are empty.
pub const RUN_PARTS: usize = 6;

/// Buffers that every tuner has.
pub struct Shared<'a, Word> {
    pub tuned: TunedTail<'a>,
    pub replay: Replay<'a>,
    pub order: &'a mut [u16],
    pub scratch: &'a mut [Word],
    pub latent: &'a mut [i8],
    /// Checksum of the packed tail's weights: taken where they are loaded, as a second frame would hold a second tuner.
    pub weights_crc32: u32,
}

/// What a saved run keeps in postcard's encoding; anything without the feature `wire`, where no run is saved.
#[cfg(feature = "wire")]
pub trait Saved: serde::Serialize + serde::de::DeserializeOwned {}

#[cfg(feature = "wire")]
impl<T: serde::Serialize + serde::de::DeserializeOwned> Saved for T {}

#[cfg(not(feature = "wire"))]
pub trait Saved {}

#[cfg(not(feature = "wire"))]
impl<T> Saved for T {}

/// How many samples a saved run can have gone through.
#[derive(Debug, Clone, Copy)]
pub struct Counts {
    /// In an epoch.
    pub trained: usize,
    /// That judge.
    pub judging: usize,
    /// In the replay.
    pub held: usize,
}

/// The weights of a tail with all that trains them. Where a `step` is asked for, it is that of the run under way: between two
/// of its slices the weights may lie elsewhere than between runs.
pub trait Numbers<'a>: Debug + Sized {
    /// A payload with these weights.
    const CONTENTS: Contents;
    /// Tails of any layers, with any loss, are taken; else chains with softmax cross-entropy alone, and the code for others
    /// is not linked.
    const ANY_TAIL: bool;
    /// One place holds either the weights of the int8 tail in force, or those under training: the former until a run begins,
    /// then the factory's tail is in force until the next is made. See [`Former`].
    const ONE_COPY: bool = false;
    /// Layers of which a share of the input channels is trained are taken.
    const INPUT_SHARES: bool = false;

    /// What the scratch memory is made of.
    type Word: bytemuck::Pod + Debug;
    /// Where a run stands, but for its [`Course`](super::Course); with the buffers all there is to it.
    type Step: Clone + Debug + Saved;
    /// What a run leaves when it ends, and a saved one takes along.
    type Kept: Debug + Saved;

    /// Refuses a recipe that is out of range, or asks for what this arithmetic leaves out.
    fn check(recipe: &Recipe) -> Result<(), TunerError>;
    /// Bytes of the arena.
    fn arena_bytes(sizes: &Sizes, recipe: &Recipe) -> usize;
    /// Divides the arena; the weights are those of the packed tail.
    fn cut(
        pack: &Pack<'a>,
        recipe: &Recipe,
        arena: &'a mut [u8],
    ) -> Result<(Self, Shared<'a, Self::Word>), TunerError>;
    /// Whether the buffers are large enough for a run of `recipe`, on so many samples at most.
    fn has_room(&self, _recipe: &Recipe, _capacity: usize) -> bool {
        true
    }

    /// Loads the weights that an int8 tail stands for, or those of the packed tail.
    fn load(&mut self, pack: &Pack, tuned: Option<&TunedTail>);
    /// Elements of a latent.
    fn features(&self) -> usize;
    /// Outputs that are classes, or all of another loss.
    fn classes(&self) -> usize;
    /// Multiply-adds of a forward pass.
    fn forward_macs(&self) -> u64;

    /// Makes a latent the features in the scratch memory.
    fn write_features(&self, pack: &Pack, latent: &[i8], scratch: &mut [Self::Word]);
    /// Makes element `index` of a chain's latent a feature. It lies after the latent's first `index` bytes, which may stand
    /// at the scratch memory's front.
    fn write_feature(&self, pack: &Pack, index: usize, q: i8, scratch: &mut [Self::Word]);
    /// Runs the tail on the features in the scratch memory: the loss, and the answer.
    fn loss(
        &mut self,
        step: Option<&Self::Step>,
        tuned: &mut TunedTail<'a>,
        target: Target,
        scratch: &mut [Self::Word],
    ) -> (f32, usize);
    /// [`Self::loss`], and the loss after the sample's own ascent with what of its rise is the gradient's,
    /// `rho ||T g||`: `None` where there is no such step, NaN where it cannot be had.
    fn risen(
        &mut self,
        step: Option<&Self::Step>,
        tuned: &mut TunedTail<'a>,
        ascent: &Ascent,
        sample: (&Pack, &[i8], Target),
        scratch: &mut [Self::Word],
    ) -> (f32, usize, Option<[f32; 2]>);
    /// Runs the tail on the features in the scratch memory; `see` gets every layer's lowest and highest output.
    fn ranges(
        &mut self,
        step: Option<&Self::Step>,
        tuned: &mut TunedTail<'a>,
        scratch: &mut [Self::Word],
        see: &mut dyn FnMut(usize, f32, f32),
    );
    /// Quantizes the weights to int8, with outputs of these ranges.
    fn quantize(&self, step: Option<&Self::Step>, pack: &Pack, ranges: &[Range], tuned: &mut TunedTail);

    /// Between runs, quantizes the weights over an int8 tail, which is kept in [`Self::spare`] with what is returned. The
    /// weights may be given up for it, until [`Self::replaced`] or [`Self::load`].
    fn replace(&mut self, pack: &Pack, ranges: &[Range], tuned: &mut TunedTail<'a>) -> Backup {
        let outputs = tuned.back_up(self.spare());
        self.quantize(None, pack, ranges, tuned);
        outputs
    }
    /// The tail that [`Self::replace`] wrote stays.
    fn replaced(&mut self, _pack: &Pack, _tuned: &TunedTail) {}

    /// Gives the weights' place to an int8 tail that is to be written there, with [`Self::ONE_COPY`].
    fn lend(&mut self, _tuned: &mut TunedTail<'a>) {}
    /// Takes the place back; what is there is of no use.
    fn take_back(&mut self, _tuned: &mut TunedTail<'a>) {}
    /// Takes the place back, and makes the tail in force the weights that it stands for.
    fn take_over(&mut self, _pack: &Pack, _tuned: &mut TunedTail<'a>) {}
    /// CRC-32 of the weights that the tail in force stands for.
    fn crc32_in_force(&mut self, _pack: &Pack, _tuned: &mut TunedTail<'a>) -> u32 {
        0
    }
    /// Bytes of a run's buffers that the tail in force has.
    fn lent_bytes(&self) -> usize {
        0
    }
    /// What is kept of the tail that was in force before the weights took its place.
    fn former(&self) -> Option<&Former<'a>> {
        None
    }
    /// The same, to change.
    fn former_mut(&mut self) -> Option<&mut Former<'a>> {
        None
    }

    /// Begins a run of a fitting recipe.
    fn begin(&mut self, recipe: &Recipe) -> Self::Step;
    /// A slice of the run under way; of several samples at once where they may be `grouped`.
    fn run_slice(tuner: &mut Tuner<'a, Self>, grouped: bool) -> Result<Progress, TunerError>;
    /// What the next slice is for, and to which sample.
    fn work(step: &Self::Step) -> (Work, usize);
    /// Ends a run, with the weights of its last whole step.
    fn abandon(&mut self, step: Self::Step);
    /// Ends a run that was not abandoned, with the weights that it kept.
    fn finish(&mut self) {}

    /// The weights of the last whole step.
    fn parts(&self, step: Option<&Self::Step>) -> [&[u8]; WEIGHT_PARTS];
    /// Their places in a payload, to be filled: of weights of another arithmetic some that nothing lives in between runs.
    fn places(&mut self, pack: &Pack, contents: Contents) -> [&mut [u8]; WEIGHT_PARTS];
    /// Takes weights that were written in their places.
    fn adopt(&mut self, _pack: &Pack) {}
    /// Whether the weights between runs are such as a run can start from: see [`crate::sound`].
    fn are_sound(&self) -> bool;
    /// Memory that nothing lives in between runs, large enough for an int8 tail.
    fn spare(&mut self) -> &mut [u8];
    /// What of [`Self::spare`] is after so many bytes, and may be written without giving the weights up.
    fn free(&mut self, taken: usize) -> &mut [u8] {
        self.spare().get_mut(taken..).unwrap_or(&mut [])
    }

    /// A run's buffers, of a recipe that fits and so many samples.
    fn run_parts(&self, recipe: &Recipe, samples: usize) -> [&[u8]; RUN_PARTS];
    /// A run's buffers, to be filled.
    fn run_parts_mut(&mut self, recipe: &Recipe, samples: usize) -> [&mut [u8]; RUN_PARTS];
    /// Whether a run of a fitting recipe can stand so.
    fn is_sound(&self, run: &Run<Self::Step>, recipe: &Recipe, counts: Counts) -> bool;
    /// What a saved run takes along.
    fn kept(&self) -> Self::Kept;
    /// Goes on with what lies in the buffers of a run of `recipe`; false where none leaves such.
    fn resume(&mut self, pack: &Pack, recipe: &Recipe, run: &Run<Self::Step>, kept: Self::Kept) -> bool;
    /// Forgets what the last run left; `samples`, what it left of each sample, too.
    fn forget(&mut self, _samples: bool) {}
    /// Forgets what the last run left of a sample that has given way.
    fn forget_sample(&mut self, _slot: usize) {}

    /// The best weights of the current or last run.
    fn best(&self) -> Option<Best> {
        None
    }
    /// Makes a class of the first spare output.
    fn add_class(_tuner: &mut Tuner<'a, Self>) -> Result<usize, TunerError> {
        Err(TunerError::NoSpareClass { spare: 0 })
    }
    /// Solves the last layer in closed form.
    fn solve(
        _tuner: &mut Tuner<'a, Self>,
        _recipe: &Recipe,
        _scratch: &mut [u32],
        _between: &mut dyn FnMut(),
    ) -> Result<(), TunerError> {
        Err(TunerError::NoSolver)
    }
    /// Area under the ROC curve.
    fn auc(
        _tuner: &mut Tuner<'a, Self>,
        _version: Version,
        _between: &mut dyn FnMut(),
    ) -> Result<f32, TunerError> {
        Err(TunerError::OneKind)
    }
}
