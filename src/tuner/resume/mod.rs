//! A run as bytes, at any slice boundary: saved, and resumed with the same bits.
//!
//! Format version 2, little endian throughout. After the head ([`RUN_HEAD_BYTES`], fields at the offsets in
//! [`format`]) of a [`Tuner`] in f32:
//!
//! | part | bytes | what |
//! | --- | --- | --- |
//! | weights | 4 per parameter | f32, `w + e` in the midst of a step that has moved them there |
//! | velocity | 4 for each of [`crate::Recipe::velocity_floats`] | f32, Adam's moments after it |
//! | gradient | 4 per parameter | f32, or `w` where the weights are `w + e`; only where the recipe's ascent is stored |
//! | best | 4 per parameter | f32; only with [`crate::Recipe::keep_best`] |
//! | losses | 4 per sample | f32; only with [`crate::Recipe::sample_losses`] |
//! | order | 2 per sample | u16 |
//!
//! of a [`CompactTuner`](crate::CompactTuner):
//!
//! | part | bytes | what |
//! | --- | --- | --- |
//! | weights, residuals | 1 per weight, each | int8 |
//! | biases, scales | 4 per output, each | int32, f32 |
//! | velocity | 2 per weight, 4 per output | int16, int32 of the biases |
//! | order | 2 per sample | u16 |
//!
//! The samples are not in it, nor the tuned int8 tail: a store keeps that.

mod format;

use super::arithmetic::{Arithmetic, Counts, RUN_PARTS};
use super::bytes::{self, bytes as as_bytes, bytes_mut};
use super::run::Run;
use super::{Incoming, Tuner, TunerError};
use crate::pack::CRC;
use crate::part::Part;
use crate::recipe::Recipe;
#[cfg(test)]
pub(crate) use format::assert_fits;
use format::{Fields, Head, State};
pub use format::{RUN_HEAD_BYTES, RUN_VERSION};

impl<'a, A: Arithmetic<'a>> Tuner<'a, A> {
    /// Bytes of the run under way, as [`Self::save_run`] writes it; 0 without one.
    pub fn run_bytes(&self) -> usize {
        self.run.as_ref().map_or(0, |_| self.body_bytes().saturating_add(RUN_HEAD_BYTES))
    }

    /// Copies the run's bytes from `offset` on into `into`, as many as there are and fit, and returns how many:
    /// [`Self::run_bytes`] at once, or part by part without a slice in between. A fresh tuner of this arithmetic with
    /// the same pack, recipe and samples ends, after [`Self::resume_run`], with the bits of a run that was never
    /// interrupted. The tuned int8 tail is not in it: [`Self::commit`] keeps that.
    ///
    /// # Errors
    /// [`TunerError::NotRunning`].
    pub fn save_run(&self, offset: usize, into: &mut [u8]) -> Result<usize, TunerError> {
        let run = self.run.as_ref().ok_or(TunerError::NotRunning)?;
        // The head takes a pass over all of it.
        let head = if offset < RUN_HEAD_BYTES { self.head_of(run.clone())? } else { [0; RUN_HEAD_BYTES] };
        Ok(bytes::read(core::iter::once(head.as_slice()).chain(self.run_parts()), offset, into))
    }

    /// Goes on with a run that [`Self::save_run`] saved, in place of one under way. The samples must be those
    /// that it was saved with, in the same slots: [`Self::observe`] them in the same order first. Where a tuned
    /// tail was in force, [`Self::restore`] that before, too.
    ///
    /// # Errors
    /// [`TunerError::RunOfAnother`], [`TunerError::ArenaTooSmall`], [`TunerError::RunLength`]: with the tuner as it was.
    /// [`TunerError::RunDamaged`], too, but for bytes that match their checksum and are such as no run leaves: then the run
    /// of before is over, and the weights are those of the int8 tail in force.
    pub fn resume_run(&mut self, bytes: &[u8]) -> Result<(), TunerError> {
        let fields = self.fitting_fields(bytes)?;
        let body = bytes.part(RUN_HEAD_BYTES..);
        if body.len() != fields.body_length || CRC.checksum(body) != fields.body_crc32 {
            return Err(TunerError::RunDamaged);
        }
        self.expect_run_of(&fields, &mut || ())?;
        self.write_run(RUN_HEAD_BYTES, body)?;
        self.go_on(fields).inspect_err(|_| self.abandon())
    }

    /// Makes ready for a saved run that comes part by part: takes its head, the first [`RUN_HEAD_BYTES`], and
    /// returns the bytes of all. A run under way is abandoned. Until [`Self::adopt_run`] the weights are neither
    /// here nor there; int8 tails are not touched, but that of an [`crate::IntegerTuner`], which gives its place up as in
    /// [`Self::start`].
    ///
    /// # Errors
    /// [`TunerError::RunDamaged`], [`TunerError::RunOfAnother`], [`TunerError::ArenaTooSmall`], [`TunerError::RunLength`],
    /// [`TunerError::OnlyCopy`], [`TunerError::RestoreExpected`]: with the tuner as it was.
    pub fn expect_run(&mut self, head: &[u8]) -> Result<usize, TunerError> {
        self.expect_run_between(head, || ())
    }

    /// [`Self::expect_run`], with a call of `between` as in [`Self::start_between`].
    ///
    /// # Errors
    /// As [`Self::expect_run`].
    pub fn expect_run_between(
        &mut self,
        head: &[u8],
        mut between: impl FnMut(),
    ) -> Result<usize, TunerError> {
        let fields = self.fitting_fields(head)?;
        self.expect_run_of(&fields, &mut between)
    }

    /// Takes bytes of the run that is expected, from `offset` on, which is past the head.
    ///
    /// # Errors
    /// [`TunerError::NotRunning`] before [`Self::expect_run`], [`TunerError::TailRange`].
    pub fn write_run(&mut self, offset: usize, bytes: &[u8]) -> Result<(), TunerError> {
        if self.incoming != Incoming::Run {
            return Err(TunerError::NotRunning);
        }
        let end = RUN_HEAD_BYTES.saturating_add(self.body_bytes());
        bytes::check_range(offset, bytes, RUN_HEAD_BYTES, end)?;
        bytes::write(self.run_parts_mut(), offset.saturating_sub(RUN_HEAD_BYTES), bytes);
        Ok(())
    }

    /// Goes on with the run that was expected and written; `head` is its head again.
    ///
    /// # Errors
    /// [`TunerError::NotRunning`] before [`Self::expect_run`]. [`TunerError::RunDamaged`], where the bytes are
    /// not those announced, [`TunerError::RunOfAnother`]: the weights are then those of the int8 tail in force.
    pub fn adopt_run(&mut self, head: &[u8]) -> Result<(), TunerError> {
        if self.incoming != Incoming::Run {
            return Err(TunerError::NotRunning);
        }
        let adopted = self.fitting_fields(head).and_then(|fields| self.go_on(fields));
        adopted.inspect_err(|_| self.abandon())
    }

    /// The buffers of a run of the current recipe: the arithmetic's, and the order of the samples.
    fn run_parts(&self) -> [&[u8]; RUN_PARTS + 1] {
        self.run_parts_of(&self.recipe)
    }

    fn run_parts_of(&self, recipe: &Recipe) -> [&[u8]; RUN_PARTS + 1] {
        let held = self.replay.len();
        let [a, b, c, d, e, f] = self.arithmetic.run_parts(recipe, held);
        [a, b, c, d, e, f, as_bytes(self.division.order.part(..held))]
    }

    /// A run's buffers, to be filled.
    fn run_parts_mut(&mut self) -> [&mut [u8]; RUN_PARTS + 1] {
        let held = self.replay.len();
        let [a, b, c, d, e, f] = self.arithmetic.run_parts_mut(&self.recipe, held);
        [a, b, c, d, e, f, bytes_mut(self.division.order.part_mut(..held))]
    }

    fn body_bytes(&self) -> usize {
        bytes::length(&self.run_parts())
    }

    #[inline(never)] // What it has on the stack does not last as long as the caller.
    fn head_of(&self, run: Run<A::Step>) -> Result<Head, TunerError> {
        let parts = self.run_parts();
        let fields = Fields {
            pack_crc32: self.pack.crc32(),
            samples_crc32: self.replay.crc32(),
            body_crc32: bytes::checksum(&parts),
            body_length: bytes::length(&parts),
            state: State {
                recipe: self.recipe,
                run,
                kept: self.arithmetic.kept(),
                trained: self.division.trained,
                held_out: self.division.held_out,
                macs: self.macs,
                trusts: self.division.trusts,
            },
        };
        fields.write(A::CONTENTS)
    }

    /// Makes ready for a run: from now on it is expected, and of the last nothing is left. Returns the bytes of all.
    fn expect_run_of(
        &mut self,
        fields: &Fields<A::Step, A::Kept>,
        between: &mut dyn FnMut(),
    ) -> Result<usize, TunerError> {
        let recipe = self.fitting(&fields.state.recipe)?;
        let found = bytes::length(&self.run_parts_of(&recipe)).saturating_add(self.arithmetic.lent_bytes());
        if found != fields.body_length {
            return Err(TunerError::RunLength { expected: found, found: fields.body_length });
        }
        self.check_place()?;
        self.abandon();
        self.recipe = recipe;
        self.arithmetic.forget(true);
        self.division.keep_whole(self.replay.len());
        self.make_way(between);
        self.incoming = Incoming::Run;
        Ok(RUN_HEAD_BYTES.saturating_add(found))
    }

    /// Goes on with the run whose buffers were written.
    fn go_on(&mut self, fields: Fields<A::Step, A::Kept>) -> Result<(), TunerError> {
        let State { recipe, run, kept, trained, held_out, macs, trusts } = fields.state;
        let expected = self.fitting(&recipe)? == self.recipe;
        // Before the first epoch's shuffle nothing is in order yet.
        let ordered =
            if held_out == 0 && !trusts { run.course.samples } else { trained.saturating_add(held_out) };
        let slots = self.division.order.part(..ordered);
        let known = slots.iter().all(|&slot| usize::from(slot) < self.replay.len());
        let whole = bytes::checksum(&self.run_parts()) == fields.body_crc32;
        if !(expected && known && whole && self.arithmetic.resume(&self.pack, &recipe, &run, kept)) {
            return Err(TunerError::RunDamaged);
        }
        self.incoming = Incoming::Nothing;
        self.macs = macs;
        (self.division.trained, self.division.held_out, self.division.trusts) = (trained, held_out, trusts);
        self.run = Some(run);
        Ok(())
    }

    /// A head's fields, if it belongs to this pack and these samples, and says what a run's can.
    fn fitting_fields(&self, head: &[u8]) -> Result<Fields<A::Step, A::Kept>, TunerError> {
        let fields = Fields::<A::Step, A::Kept>::read(head, A::CONTENTS)?;
        for (what, expected, found) in [
            ("pack", self.pack.crc32(), fields.pack_crc32),
            ("replay's samples", self.replay.crc32(), fields.samples_crc32),
        ] {
            if expected != found {
                return Err(TunerError::RunOfAnother { what, expected, found });
            }
        }
        let State { recipe, run, trained, held_out, macs, trusts, .. } = &fields.state;
        recipe.check()?;
        let held = self.replay.len();
        let of_epoch = if *held_out == 0 && !trusts { held } else { *trained };
        let judging = if *held_out == 0 { held } else { *held_out };
        let counts = Counts { trained: of_epoch, judging, held };
        let sound = trained.saturating_add(*held_out) <= held
            && self.arithmetic.is_sound(run, recipe, counts)
            && run.radius.is_sound(&run.course, *trained)
            && *macs < u64::MAX / 2;
        if sound { Ok(fields) } else { Err(TunerError::RunDamaged) }
    }
}
