//! A run as bytes, at any slice boundary: saved, and resumed with the same bits.
//!
//! Format version 1, little endian throughout. Behind the head ([`RUN_HEAD_BYTES`], fields at the offsets in
//! [`format`]) of a [`Tuner`]:
//!
//! | part | bytes | what |
//! | --- | --- | --- |
//! | weights | 4 a parameter | f32, `w + e` in the midst of a step that has moved them there |
//! | velocity | 4 for each of [`crate::Recipe::velocity_floats`] | f32, Adam's moments behind it |
//! | gradient | 4 a parameter | f32, or `w` where the weights are `w + e`; only where the recipe's ascent is stored |
//! | best | 4 a parameter | f32; only with [`crate::Recipe::keep_best`] |
//! | losses | 4 a sample | f32; only with [`crate::Recipe::sample_losses`] |
//! | order | 2 a sample | u16 |
//!
//! of a [`CompactTuner`]:
//!
//! | part | bytes | what |
//! | --- | --- | --- |
//! | weights, residuals | 1 a weight each | int8 |
//! | biases, scales | 4 an output each | int32, f32 |
//! | velocity | 2 a weight, 4 an output | int16, int32 of the biases |
//! | order | 2 a sample | u16 |
//!
//! The samples are not in it, nor the tuned int8 tail: a store keeps that.

mod format;
mod full;

use super::order::Division;
use super::parts::{self, checksum};
use super::stored::Stored;
use super::{Tuner, TunerError};
use crate::CompactTuner;
use crate::optim::Recipe;
use crate::pack::CRC;
use crate::replay::Replay;
pub(crate) use format::State;
#[cfg(test)]
pub(crate) use format::assert_fits;
use format::{Fields, Head};
pub use format::{RUN_HEAD_BYTES, RUN_VERSION};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The buffers that a run has; some are empty.
pub(crate) const RUN_PARTS: usize = 7;

/// A tuner of whichever kind, as one that saves its run and resumes it.
pub(crate) trait Resumes: Stored {
    /// What of a run's state only this kind has.
    type Own: Serialize + DeserializeOwned;

    fn replay(&self) -> &Replay<'_>;
    fn division(&self) -> &Division<'_>;
    /// The run under way.
    fn state(&self) -> Option<State<Self::Own>>;
    /// `recipe` with what was settled when the tuner was made, if the tuner and its arena take it.
    fn fitting(&self, recipe: &Recipe) -> Result<Recipe, TunerError>;
    /// Samples of the epoch under way: none before the first one's shuffle.
    fn ordered(own: &Self::Own) -> usize;
    /// Whether a run of a fitting recipe can stand so: that goes through at most `trained` samples in an epoch, of which
    /// `judging` judge, of `held` in all.
    fn is_sound(&self, state: &State<Self::Own>, counts: [usize; 3]) -> bool;
    /// A run's buffers.
    fn run_parts(&self, recipe: &Recipe) -> [&[u8]; RUN_PARTS];
    /// The same, to be filled.
    fn run_parts_mut(&mut self) -> [&mut [u8]; RUN_PARTS];
    /// Makes ready for a run of this recipe, none being under way: from now on one is expected, and of the last nothing
    /// is left.
    fn expect(&mut self, recipe: Recipe);
    fn expects(&self) -> bool;
    /// The recipe of the run that is expected.
    fn expected(&self) -> &Recipe;
    /// Goes on with what lies in the buffers. False, with the run still expected, where no run leaves such.
    fn go_on(&mut self, state: State<Self::Own>) -> bool;
}

/// Calls of both tuners.
macro_rules! run_calls {
    ($tuner:ident) => {
        impl $tuner<'_> {
            /// Bytes of the run under way, as [`Self::save_run`] writes it; 0 without one.
            pub fn run_bytes(&self) -> usize {
                bytes_of(self)
            }

            /// Copies the run's bytes from `offset` on into `into`, as many as there are and fit, and returns how many:
            /// [`Self::run_bytes`] at once, or part by part without a slice in between. A fresh tuner of this kind with
            /// the same pack, recipe and samples ends, after [`Self::resume_run`], with the bits of a run that was never
            /// interrupted. The tuned int8 tail is not in it: [`Self::commit`] keeps that.
            ///
            /// # Errors
            /// [`TunerError::NotRunning`].
            pub fn save_run(&self, offset: usize, into: &mut [u8]) -> Result<usize, TunerError> {
                save(self, offset, into)
            }

            /// Goes on with a run that [`Self::save_run`] saved, in place of one under way. The samples must be those
            /// that it was saved with, in the same slots: [`Self::observe`] them in the same order first. Where a tuned
            /// tail was in force, [`Self::restore`] that before, too.
            ///
            /// # Errors
            /// [`TunerError::RunDamaged`], [`TunerError::RunOfAnother`], [`TunerError::ArenaTooSmall`]: with the tuner as
            /// it was.
            pub fn resume_run(&mut self, bytes: &[u8]) -> Result<(), TunerError> {
                resume(self, bytes)
            }

            /// Makes ready for a saved run that comes part by part: takes its head, the first [`RUN_HEAD_BYTES`], and
            /// returns the bytes of all. A run under way is abandoned. Until [`Self::adopt_run`] the weights are neither
            /// here nor there; int8 tails are not touched.
            ///
            /// # Errors
            /// [`TunerError::RunDamaged`], [`TunerError::RunOfAnother`], [`TunerError::ArenaTooSmall`]: with the tuner as
            /// it was.
            pub fn expect_run(&mut self, head: &[u8]) -> Result<usize, TunerError> {
                expect(self, head)
            }

            /// Takes bytes of the run that is expected, from `offset` on, which is behind the head.
            ///
            /// # Errors
            /// [`TunerError::NotRunning`] before [`Self::expect_run`], [`TunerError::TailRange`].
            pub fn write_run(&mut self, offset: usize, bytes: &[u8]) -> Result<(), TunerError> {
                write(self, offset, bytes)
            }

            /// Goes on with the run that was expected and written; `head` is its head again.
            ///
            /// # Errors
            /// [`TunerError::NotRunning`] before [`Self::expect_run`]. [`TunerError::RunDamaged`], where the bytes are
            /// not those announced, [`TunerError::RunOfAnother`]: the weights are then those of the int8 tail in force.
            pub fn adopt_run(&mut self, head: &[u8]) -> Result<(), TunerError> {
                adopt_expected(self, head)
            }
        }
    };
}

run_calls!(Tuner);
run_calls!(CompactTuner);

fn bytes_of<T: Resumes>(tuner: &T) -> usize {
    tuner.state().map_or(0, |state| body_bytes(tuner, &state.recipe).saturating_add(RUN_HEAD_BYTES))
}

fn body_bytes<T: Resumes>(tuner: &T, recipe: &Recipe) -> usize {
    parts::length(&tuner.run_parts(recipe))
}

fn save<T: Resumes>(tuner: &T, offset: usize, into: &mut [u8]) -> Result<usize, TunerError> {
    let state = tuner.state().ok_or(TunerError::NotRunning)?;
    let parts = tuner.run_parts(&state.recipe);
    // The head takes a pass over all of it.
    let head = if offset < RUN_HEAD_BYTES { head_of(tuner, state)? } else { [0; RUN_HEAD_BYTES] };
    Ok(parts::read(core::iter::once(head.as_slice()).chain(parts), offset, into))
}

#[inline(never)] // what it has on the stack does not last as long as the caller
fn head_of<T: Resumes>(tuner: &T, state: State<T::Own>) -> Result<Head, TunerError> {
    let parts = tuner.run_parts(&state.recipe);
    let fields = Fields {
        pack_crc32: tuner.pack().crc32(),
        samples_crc32: tuner.replay().crc32(),
        body_crc32: checksum(&parts),
        body_length: parts::length(&parts),
        state,
    };
    fields.write(T::WHOLE)
}

fn resume<T: Resumes>(tuner: &mut T, bytes: &[u8]) -> Result<(), TunerError> {
    let fields = fitting_fields(tuner, bytes)?;
    let body = bytes.get(RUN_HEAD_BYTES..).unwrap_or(&[]);
    if body.len() != fields.body_length || CRC.checksum(body) != fields.body_crc32 {
        return Err(TunerError::RunDamaged);
    }
    expect_run_of(tuner, &fields)?;
    write(tuner, RUN_HEAD_BYTES, body)?;
    adopt(tuner, fields).inspect_err(|_| tuner.abandon())
}

fn expect<T: Resumes>(tuner: &mut T, head: &[u8]) -> Result<usize, TunerError> {
    let fields = fitting_fields(tuner, head)?;
    expect_run_of(tuner, &fields)
}

fn expect_run_of<T: Resumes>(tuner: &mut T, fields: &Fields<T::Own>) -> Result<usize, TunerError> {
    let recipe = tuner.fitting(&fields.state.recipe)?;
    let found = body_bytes(tuner, &recipe);
    if found != fields.body_length {
        return Err(TunerError::ArenaTooSmall { needed: fields.body_length, found });
    }
    tuner.abandon();
    tuner.expect(recipe);
    Ok(RUN_HEAD_BYTES.saturating_add(found))
}

fn write<T: Resumes>(tuner: &mut T, offset: usize, bytes: &[u8]) -> Result<(), TunerError> {
    if !tuner.expects() {
        return Err(TunerError::NotRunning);
    }
    let body = body_bytes(tuner, tuner.expected());
    parts::check_range(offset, bytes, RUN_HEAD_BYTES, RUN_HEAD_BYTES.saturating_add(body))?;
    parts::write(tuner.run_parts_mut(), offset.saturating_sub(RUN_HEAD_BYTES), bytes);
    Ok(())
}

fn adopt_expected<T: Resumes>(tuner: &mut T, head: &[u8]) -> Result<(), TunerError> {
    if !tuner.expects() {
        return Err(TunerError::NotRunning);
    }
    let adopted = fitting_fields(tuner, head).and_then(|fields| adopt(tuner, fields));
    adopted.inspect_err(|_| tuner.abandon())
}

fn adopt<T: Resumes>(tuner: &mut T, fields: Fields<T::Own>) -> Result<(), TunerError> {
    let state = fields.state;
    let recipe = *tuner.expected();
    let expected = tuner.fitting(&state.recipe)? == recipe;
    let held = tuner.replay().len();
    // Before the first epoch's shuffle nothing is in order yet.
    let ordered = match state.held_out {
        0 => T::ordered(&state.own),
        held_out => state.trained.saturating_add(held_out),
    };
    let slots = tuner.division().order.get(..ordered).unwrap_or(&[]);
    let known = slots.iter().all(|&slot| usize::from(slot) < held);
    let whole = checksum(&tuner.run_parts(&recipe)) == fields.body_crc32;
    if expected && known && whole && tuner.go_on(state) { Ok(()) } else { Err(TunerError::RunDamaged) }
}

/// A head's fields, if it belongs to this pack and these samples, and says what a run's can.
fn fitting_fields<T: Resumes>(tuner: &T, head: &[u8]) -> Result<Fields<T::Own>, TunerError> {
    let fields = Fields::<T::Own>::read(head, T::WHOLE)?;
    for (what, expected, found) in [
        ("pack", tuner.pack().crc32(), fields.pack_crc32),
        ("replay's samples", tuner.replay().crc32(), fields.samples_crc32),
    ] {
        if expected != found {
            return Err(TunerError::RunOfAnother { what, expected, found });
        }
    }
    let State { recipe, trained, held_out, macs, .. } = &fields.state;
    recipe.check()?;
    let held = tuner.replay().len();
    let (of_epoch, judging) = if *held_out == 0 { (held, held) } else { (*trained, *held_out) };
    let sound = trained.saturating_add(*held_out) <= held
        && tuner.is_sound(&fields.state, [of_epoch, judging, held])
        && *macs < u64::MAX / 2;
    if sound { Ok(fields) } else { Err(TunerError::RunDamaged) }
}
