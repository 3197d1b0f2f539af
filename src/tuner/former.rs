//! One place for the tail in force and the weights under training ([`Numbers::ONE_COPY`](super::Numbers)): what is kept of a
//! tail that has given its place up, so that [`Tuner::accept`] still judges the next one beside it.

use super::arithmetic::Arithmetic;
use super::criterion::{Criterion, Judgement};
use super::{Tuner, TunerError, Version};

/// Answer to a sample that the tail has not seen. Labels of classes are smaller.
const UNKNOWN: u16 = u16::MAX;

/// What is kept of the tail that was in force before the weights took its place.
#[derive(Debug)]
pub struct Former<'a> {
    /// Its answer to the sample in each slot.
    answers: &'a mut [u16],
    /// Its mean loss on the samples that judged.
    loss: f32,
    standing: Standing,
    /// Somebody else has the tail in force, too: a store, or the caller.
    has_copy: bool,
}

/// Whether there was such a tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// None: the tail in force is, or the factory's was.
    None,
    /// One whose answers are kept, beside weights that may be accepted in its place.
    Answers,
    /// One in whose place there is nothing any more: it is to be restored.
    Lost,
}

impl<'a> Former<'a> {
    pub fn new(answers: &'a mut [u16]) -> Self {
        Self { answers, loss: 0.0, standing: Standing::None, has_copy: false }
    }

    /// Forgets its answer to the sample in a slot, which has given way to another.
    pub fn forget(&mut self, slot: usize) {
        if let Some(answer) = self.answers.get_mut(slot) {
            *answer = UNKNOWN;
        }
    }

    fn answer(&self, slot: usize) -> Option<usize> {
        self.answers.get(slot).filter(|&&answer| answer != UNKNOWN).map(|&answer| answer.into())
    }
}

impl<'a, A: Arithmetic<'a>> Tuner<'a, A> {
    /// Whether the tail that was in force has given its place to a run, or to a tail that was written, of which nothing came:
    /// a candidate that [`Self::accept`] rejected, or bytes that were damaged. The factory's tail answers until
    /// [`Self::restore`] or [`Self::adopt_tail`] brings the former one back; [`Self::start`] waits for that, or for
    /// [`Self::factory_reset`]. Only an [`crate::IntegerTuner`] ever does.
    pub fn awaits_restore(&self) -> bool {
        self.arithmetic.former().is_some_and(|former| former.standing == Standing::Lost)
    }

    /// Whether the tail in force would be lost with its place: nobody has another copy of it. A [`crate::IntegerTuner`] starts
    /// no run then. [`Self::commit`] makes a copy, [`Self::restore`] finds one, and [`Self::release`] says that the caller has.
    pub fn is_only_copy(&self) -> bool {
        self.is_tuned() && self.arithmetic.former().is_some_and(|former| !former.has_copy)
    }

    /// Lets a run take the place of the tail in force: the caller has a copy ([`Self::read_tail`]), or does not want it back.
    pub fn release(&mut self) {
        if let Some(former) = self.arithmetic.former_mut() {
            former.has_copy = true;
        }
    }

    /// Refuses what takes the place of a tail in force that would be lost, or goes on from where one was lost.
    pub(crate) fn check_place(&self) -> Result<(), TunerError> {
        if self.is_only_copy() {
            return Err(TunerError::OnlyCopy);
        }
        if self.awaits_restore() { Err(TunerError::RestoreExpected) } else { Ok(()) }
    }

    /// Gives the place of the tail in force, if it has one, to the weights that it stands for, and keeps its answers to the
    /// samples in the replay.
    #[inline(never)] // Once in a firmware.
    pub(crate) fn make_way(&mut self, between: &mut dyn FnMut()) {
        if !A::ONE_COPY || self.tuned.is_empty() {
            return;
        }
        let outputs = self.reading(Version::Tuned);
        for slot in 0..self.arithmetic.former().map_or(0, |former| former.answers.len()) {
            let known = slot < self.replay.len() && self.run_int8(slot, Version::Tuned).is_some();
            let answer = if known { outputs.answer(self.last_output()) } else { usize::from(UNKNOWN) };
            if let Some(place) = self.arithmetic.former_mut().and_then(|former| former.answers.get_mut(slot))
            {
                *place = u16::try_from(answer).unwrap_or(UNKNOWN);
            }
            if known {
                between();
            }
        }
        let mut judged = Judgement::NONE;
        for index in 0..self.judging() {
            between();
            judged.add(self.judge_int8(index, Version::Tuned));
        }
        if let Some(former) = self.arithmetic.former_mut() {
            former.loss = judged.mean().map_or(0.0, |judgement| judgement.loss);
            former.standing = Standing::Answers;
        }
        self.arithmetic.take_over(&self.pack, &mut self.tuned);
        self.settle();
    }

    /// The tail in force gives its place to one that is written there; nothing of it is kept.
    pub(super) fn clear_place(&mut self) {
        let was_tuned = self.is_tuned();
        self.tuned.clear();
        if let Some(former) = self.arithmetic.former_mut()
            && (was_tuned || former.standing == Standing::Answers)
        {
            former.standing = Standing::Lost;
        }
        self.arithmetic.lend(&mut self.tuned);
    }

    /// What the weights in the place of a former tail were is gone.
    pub(super) fn lose_former(&mut self) {
        if let Some(former) = self.arithmetic.former_mut().filter(|own| own.standing == Standing::Answers) {
            former.standing = Standing::Lost;
        }
    }

    /// There is no former tail any more: another one is in force, or the factory's by the caller's wish.
    pub(super) fn forget_former(&mut self, has_copy: bool) {
        if let Some(former) = self.arithmetic.former_mut() {
            (former.standing, former.has_copy) = (Standing::None, has_copy);
        }
    }

    /// Forgets a former tail's answers to all samples.
    pub(super) fn forget_answers(&mut self) {
        if let Some(former) = self.arithmetic.former_mut() {
            former.answers.fill(UNKNOWN);
        }
    }

    /// Whether there is a former tail to compare weights with.
    pub(super) fn has_former(&self) -> bool {
        self.arithmetic.former().is_some_and(|former| former.standing == Standing::Answers)
    }

    /// A former tail's answer to the sample in a slot.
    pub(super) fn former_answer(&self, slot: usize) -> Option<usize> {
        self.arithmetic.former()?.answer(slot)
    }

    /// What a former tail adds to a judgement by one of the samples that judge: its mean loss, and whether it was right.
    pub(super) fn judge_former(&self, index: usize) -> Option<(f32, bool)> {
        let slot = self.judging_slot(index)?;
        let (former, answer) = (self.arithmetic.former()?, self.former_answer(slot)?);
        let loss = Criterion::summand(former.loss, self.objective());
        Some((loss, self.is_right(slot, answer)))
    }
}
