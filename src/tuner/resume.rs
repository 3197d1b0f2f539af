//! A run as bytes, at any slice boundary: saved, and resumed with the same bits.
//!
//! Format version 1, little endian throughout:
//!
//! | part | bytes | what |
//! | --- | --- | --- |
//! | head | [`RUN_HEAD_BYTES`] | fields at the offsets in [`head`] |
//! | weights | 4 a parameter | f32, `w + e` in the midst of a step that has moved them there |
//! | velocity | 4 for each of [`crate::Recipe::velocity_floats`] | f32, Adam's moments behind it |
//! | gradient | 4 a parameter | f32, or `w` where the weights are `w + e`; only where the recipe's ascent is stored |
//! | best | 4 a parameter | f32; only with [`crate::Recipe::keep_best`] |
//! | losses | 4 a sample | f32; only with [`crate::Recipe::sample_losses`] |
//! | order | 2 a sample | u16 |
//!
//! The samples are not in it, nor the tuned int8 tail: a store keeps that.

use super::parts::{self, bytes, bytes_mut, checksum};
use super::run::Run;
use super::{Best, Tuner, TunerError};
use crate::optim::Recipe;
use crate::pack::CRC;
use crate::pack::bytes::{u16_at, u32_at};
use crate::step;
use crate::tail::Tail;
use serde::{Deserialize, Serialize};

/// Version of this format.
pub const RUN_VERSION: u16 = 1;

/// Bytes in front of a run's buffers.
pub const RUN_HEAD_BYTES: usize = 256;

/// Offsets of the head's fields.
mod head {
    /// u16, [`super::RUN_VERSION`].
    pub const VERSION: usize = 0;
    /// u32, CRC-32 of the pack: [`crate::Pack::crc32`].
    pub const PACK_CRC: usize = 2;
    /// u32, CRC-32 of the samples: labels (u16), then latents and targets, slot after slot.
    pub const SAMPLES_CRC: usize = 6;
    /// u32, CRC-32 of all behind the head.
    pub const BODY_CRC: usize = 10;
    /// u32, bytes behind the head.
    pub const BODY_LENGTH: usize = 14;
    /// Recipe, position and sums, in postcard's encoding; zeros behind it.
    pub const STATE: usize = 18;
    /// u32, CRC-32 of the head's bytes before it.
    pub const CRC: usize = super::RUN_HEAD_BYTES - 4;
}

/// All of a run that is not a buffer.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct State {
    recipe: Recipe,
    run: Run,
    best: Option<Best>,
    losses_of: u16,
    trained: usize,
    held_out: usize,
    macs: u64,
}

type Head = [u8; RUN_HEAD_BYTES];

fn put(head: &mut Head, at: usize, field: &[u8]) {
    head.iter_mut().skip(at).zip(field).for_each(|(place, &byte)| *place = byte);
}

/// A head's fields, if it is whole.
struct Fields {
    pack_crc32: u32,
    samples_crc32: u32,
    body_crc32: u32,
    body_length: usize,
    state: State,
}

impl Fields {
    fn read(bytes: &[u8]) -> Result<Self, TunerError> {
        let bytes: &Head = bytes.first_chunk().ok_or(TunerError::RunDamaged)?;
        let covered = bytes.get(..head::CRC).unwrap_or(&[]);
        if CRC.checksum(covered) != u32_at(bytes, head::CRC) {
            return Err(TunerError::RunDamaged);
        }
        let version = u16_at(bytes, head::VERSION);
        if version != RUN_VERSION {
            let (expected, found) = (RUN_VERSION.into(), version.into());
            return Err(TunerError::RunOfAnother { what: "format version", expected, found });
        }
        let state = covered.get(head::STATE..).unwrap_or(&[]);
        Ok(Self {
            pack_crc32: u32_at(bytes, head::PACK_CRC),
            samples_crc32: u32_at(bytes, head::SAMPLES_CRC),
            body_crc32: u32_at(bytes, head::BODY_CRC),
            body_length: usize::try_from(u32_at(bytes, head::BODY_LENGTH)).unwrap_or(usize::MAX),
            state: postcard::from_bytes(state).map_err(|_| TunerError::RunDamaged)?,
        })
    }
}

/// A run's buffers, of which some are empty.
type Parts<'s> = [&'s [u8]; 6];

impl Tuner<'_> {
    /// Bytes of the run under way, as [`Self::save_run`] writes it; 0 without one.
    pub fn run_bytes(&self) -> usize {
        let body = parts::length(&self.run_parts());
        if self.run.is_some() { RUN_HEAD_BYTES.saturating_add(body) } else { 0 }
    }

    /// Copies the run's bytes from `offset` on into `into`, as many as there are and fit, and returns how many:
    /// [`Self::run_bytes`] at once, or part by part without a slice in between. A fresh tuner with the same pack, recipe
    /// and samples ends, after [`Self::resume_run`], with the bits of a run that was never interrupted. The
    /// tuned int8 tail is not in it: [`Self::commit`] keeps that.
    ///
    /// # Errors
    /// [`TunerError::NotRunning`].
    pub fn save_run(&self, offset: usize, into: &mut [u8]) -> Result<usize, TunerError> {
        let run = self.run.as_ref().ok_or(TunerError::NotRunning)?;
        // The head takes a pass over all of it.
        let head = if offset < RUN_HEAD_BYTES { self.run_head(run)? } else { [0; RUN_HEAD_BYTES] };
        Ok(parts::read(core::iter::once(head.as_slice()).chain(self.run_parts()), offset, into))
    }

    /// Goes on with a run that [`Self::save_run`] saved, in place of one under way. The samples must be those that it
    /// was saved with, in the same slots: [`Self::observe`] them in the same order first. Where a tuned tail was in
    /// force, [`Self::restore`] that before, too.
    ///
    /// # Errors
    /// [`TunerError::RunDamaged`], [`TunerError::RunOfAnother`], [`TunerError::ArenaTooSmall`]: with the tuner as it
    /// was.
    pub fn resume_run(&mut self, bytes: &[u8]) -> Result<(), TunerError> {
        let fields = Fields::read(bytes)?;
        let body = bytes.get(RUN_HEAD_BYTES..).unwrap_or(&[]);
        if body.len() != fields.body_length || CRC.checksum(body) != fields.body_crc32 {
            return Err(TunerError::RunDamaged);
        }
        self.check_run(&fields)?;
        self.expect(&fields)?;
        self.write_run(RUN_HEAD_BYTES, body)?;
        self.adopt(fields)
    }

    /// Makes ready for a saved run that comes part by part: takes its head, the first [`RUN_HEAD_BYTES`], and returns
    /// the bytes of all. A run under way is abandoned. Until [`Self::adopt_run`] the f32 weights are neither here nor
    /// there; int8 tails are not touched.
    ///
    /// # Errors
    /// [`TunerError::RunDamaged`], [`TunerError::RunOfAnother`], [`TunerError::ArenaTooSmall`]: with the tuner as it
    /// was.
    pub fn expect_run(&mut self, head: &[u8]) -> Result<usize, TunerError> {
        let fields = Fields::read(head)?;
        self.check_run(&fields)?;
        self.expect(&fields)
    }

    fn expect(&mut self, fields: &Fields) -> Result<usize, TunerError> {
        let recipe = self.fitting(&fields.state.recipe)?;
        let before = core::mem::replace(&mut self.recipe, recipe);
        let length = parts::length(&self.run_parts());
        if length != fields.body_length {
            self.recipe = before;
            let (needed, found) = (fields.body_length, length);
            return Err(TunerError::ArenaTooSmall { needed, found });
        }
        self.abandon();
        // What a run that never comes would leave behind is nobody's.
        (self.best, self.losses_of) = (None, 0);
        self.division.keep_whole(self.replay.len());
        self.expects_run = true;
        Ok(RUN_HEAD_BYTES.saturating_add(length))
    }

    /// Takes bytes of the run that is expected, from `offset` on, which is behind the head.
    ///
    /// # Errors
    /// [`TunerError::NotRunning`] before [`Self::expect_run`], [`TunerError::TailRange`].
    pub fn write_run(&mut self, offset: usize, bytes: &[u8]) -> Result<(), TunerError> {
        if !self.expects_run {
            return Err(TunerError::NotRunning);
        }
        let body = parts::length(&self.run_parts());
        parts::check_range(offset, bytes, RUN_HEAD_BYTES, RUN_HEAD_BYTES.saturating_add(body))?;
        parts::write(self.run_parts_mut(), offset - RUN_HEAD_BYTES, bytes);
        Ok(())
    }

    /// Goes on with the run that was expected and written; `head` is its head again.
    ///
    /// # Errors
    /// [`TunerError::NotRunning`] before [`Self::expect_run`]. [`TunerError::RunDamaged`], where the bytes are not those
    /// announced, [`TunerError::RunOfAnother`]: the f32 weights are then those of the int8 tail in force.
    pub fn adopt_run(&mut self, head: &[u8]) -> Result<(), TunerError> {
        if !self.expects_run {
            return Err(TunerError::NotRunning);
        }
        let checked = Fields::read(head).and_then(|fields| self.check_run(&fields).map(|()| fields));
        let adopted = checked.and_then(|fields| self.adopt(fields));
        adopted.inspect_err(|_| self.abandon())
    }

    fn adopt(&mut self, fields: Fields) -> Result<(), TunerError> {
        let State { recipe, run, best, losses_of, trained, held_out, macs } = fields.state;
        let expected = self.fitting(&recipe)? == self.recipe;
        // Before the first epoch's shuffle nothing is in order yet.
        let ordered = if held_out == 0 { run.course.samples } else { trained.saturating_add(held_out) };
        let slots = self.division.order.get(..ordered).unwrap_or(&[]);
        let known = slots.iter().all(|&slot| usize::from(slot) < self.replay.len());
        if !expected || !known || checksum(&self.run_parts()) != fields.body_crc32 {
            self.abandon();
            return Err(TunerError::RunDamaged);
        }
        self.expects_run = false;
        (self.best, self.losses_of, self.macs) = (best, losses_of, macs);
        (self.division.trained, self.division.held_out) = (trained, held_out);
        self.run = Some(run);
        self.count_classes();
        Ok(())
    }

    /// Whether a head belongs to this pack and these samples, and says what a run's can.
    fn check_run(&self, fields: &Fields) -> Result<(), TunerError> {
        for (what, expected, found) in [
            ("pack", self.pack.crc32(), fields.pack_crc32),
            ("replay's samples", self.replay.crc32(), fields.samples_crc32),
        ] {
            if expected != found {
                return Err(TunerError::RunOfAnother { what, expected, found });
            }
        }
        let State { recipe, run, trained, held_out, macs, .. } = &fields.state;
        recipe.check()?;
        let held = self.replay.len();
        let (of_epoch, judging) = if *held_out == 0 { (held, held) } else { (*trained, *held_out) };
        let stored = step::stores_perturbation(&self.tail, recipe);
        let sound = trained.saturating_add(*held_out) <= held
            && run.is_sound(recipe, stored, [of_epoch, judging, held])
            && *macs < u64::MAX / 2;
        if sound { Ok(()) } else { Err(TunerError::RunDamaged) }
    }

    /// Refuses what reads the f32 weights while a saved run is expected.
    pub(super) fn check_weights(&self) -> Result<(), TunerError> {
        if self.expects_run { Err(TunerError::RunExpected) } else { Ok(()) }
    }

    /// Floats of the velocity that are the run's.
    fn velocity_floats(&self) -> usize {
        self.recipe.velocity_floats(self.tail.parameters()).min(self.velocity.len())
    }

    fn run_head(&self, run: &Run) -> Result<Head, TunerError> {
        let mut bytes = [0; RUN_HEAD_BYTES];
        let parts = self.run_parts();
        let length = parts::length(&parts);
        let state = State {
            recipe: self.recipe,
            run: run.clone(),
            best: self.best,
            losses_of: self.losses_of,
            trained: self.division.trained,
            held_out: self.division.held_out,
            macs: self.macs,
        };
        let place = bytes.get_mut(head::STATE..head::CRC).unwrap_or(&mut []);
        // It always fits: see the test.
        postcard::to_slice(&state, place).map_err(|_| TunerError::RunDamaged)?;
        put(&mut bytes, head::VERSION, &RUN_VERSION.to_le_bytes());
        put(&mut bytes, head::PACK_CRC, &self.pack.crc32().to_le_bytes());
        put(&mut bytes, head::SAMPLES_CRC, &self.replay.crc32().to_le_bytes());
        put(&mut bytes, head::BODY_CRC, &checksum(&parts).to_le_bytes());
        put(&mut bytes, head::BODY_LENGTH, &u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
        let crc = CRC.checksum(bytes.get(..head::CRC).unwrap_or(&[]));
        put(&mut bytes, head::CRC, &crc.to_le_bytes());
        Ok(bytes)
    }

    /// Which of the optional buffers the recipe's run has: gradient, best weights, losses.
    fn run_has(&self) -> [bool; 3] {
        let Recipe { keep_best, sample_losses, .. } = self.recipe;
        [step::stores_perturbation(&self.tail, &self.recipe), keep_best, sample_losses]
    }

    fn run_parts(&self) -> Parts<'_> {
        let [gradient, best, losses] = self.run_has();
        let samples = self.replay.len();
        let floats = |wanted: bool, buffer| {
            if wanted { bytes::<f32>(buffer) } else { &[] }
        };
        [
            floats(true, self.weights),
            floats(true, self.velocity.get(..self.velocity_floats()).unwrap_or(&[])),
            floats(gradient, self.gradient),
            floats(best, self.best_weights),
            floats(losses, self.losses.get(..samples).unwrap_or(&[])),
            bytes(self.division.order.get(..samples).unwrap_or(&[])),
        ]
    }

    fn run_parts_mut(&mut self) -> [&mut [u8]; 6] {
        let [gradient, best, losses] = self.run_has();
        let (samples, velocity) = (self.replay.len(), self.velocity_floats());
        [
            bytes_mut(self.weights),
            bytes_mut(self.velocity.get_mut(..velocity).unwrap_or(&mut [])),
            if gradient { bytes_mut(self.gradient) } else { &mut [] },
            if best { bytes_mut(self.best_weights) } else { &mut [] },
            bytes_mut(self.losses.get_mut(..if losses { samples } else { 0 }).unwrap_or(&mut [])),
            bytes_mut(self.division.order.get_mut(..samples).unwrap_or(&mut [])),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use crate::step::Step;
    use crate::tuner::course::Course;
    use crate::tuner::run::{Stage, StepReport};
    use crate::{Judgement, Method, Schedule};

    /// Values that postcard writes longest. A replay holds at most 65,535 samples.
    #[test]
    fn the_longest_state_fits() {
        let most = usize::from(u16::MAX);
        let recipe = Recipe {
            method: Method::Asam,
            schedule: Schedule::Cosine,
            sharpness_batch: u16::MAX,
            ascent_every: u16::MAX,
            epochs: u16::MAX,
            minibatch: u16::MAX,
            seed: u64::MAX,
            replay_capacity: u16::MAX,
            ..Recipe::DEFAULT
        };
        let judgement = Judgement { samples: u32::MAX, right: u32::MAX, loss: 1.0 };
        let report = StepReport {
            epoch: u16::MAX,
            loss: 1.0,
            rise: 1.0,
            learning_rate: 1.0,
            epoch_finished: true,
            finished: true,
        };
        for stage in [Stage::Step(Step::longest(most)), Stage::Judge(u16::MAX, most, judgement)] {
            let course = Course {
                random: Random::longest(),
                epoch: u16::MAX,
                position: most,
                samples: most,
                step: u32::MAX,
                steps: u32::MAX,
            };
            let run = Run { course, stage, report };
            let state = State {
                recipe,
                run,
                best: Some(Best { epochs: u16::MAX, judgement }),
                losses_of: u16::MAX,
                trained: most,
                held_out: most,
                macs: u64::MAX,
            };
            let mut place = [0; head::CRC - head::STATE];
            let length = postcard::to_slice(&state, &mut place).unwrap().len();
            // Room for what recipes may get.
            assert!(length + 24 < place.len(), "{length} of {} bytes", place.len());
        }
    }
}
