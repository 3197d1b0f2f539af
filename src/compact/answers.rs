//! The compact tuner's answers: requantization, classification, scores, judgement, and means over the replay.

use super::pass::Workspace;
use super::tuner::{CompactTuner, load};
use crate::requant::{Range, TunedLayer, widen};
use crate::tail::{MAX_LAYERS, argmax};
use crate::tuner::int8::check_latent;
use crate::tuner::outputs::Outputs;
use crate::tuner::stored::Stored;
use crate::tuner::trace::trace;
use crate::tuner::{Acceptance, Evaluation, Judgement, Score, TunerError, Version, as_int8, copy};

impl CompactTuner<'_> {
    /// Quantizes the current weights to int8, with the activation ranges that the replay's samples cause at them. From
    /// then on [`Version::Tuned`] answers with the result.
    ///
    /// # Errors
    /// [`TunerError::NoSamples`].
    pub fn requantize(&mut self) -> Result<(), TunerError> {
        self.requantize_between(|| ())
    }

    /// [`Self::requantize`], with a call of `between` before every sample: there a watchdog is fed.
    ///
    /// # Errors
    /// [`TunerError::NoSamples`].
    pub fn requantize_between(&mut self, mut between: impl FnMut()) -> Result<(), TunerError> {
        self.check_weights()?;
        if self.replay.is_empty() {
            return Err(TunerError::NoSamples);
        }
        let mut ranges = [Range::EMPTY; MAX_LAYERS];
        let Self { chain, weights, replay, pack, scratch, .. } = self;
        for slot in 0..replay.len() {
            between();
            let Some(mut workspace) = Workspace::new(chain, scratch) else { break };
            let Some((latent, _)) = replay.get(slot) else { continue };
            load(pack, latent, workspace.features);
            chain.forward(weights, &mut workspace);
            for (place, layer) in chain.layers().enumerate() {
                let outputs = || layer.of(workspace.sums).iter().map(|&sum| layer.real_output(sum));
                let low = outputs().fold(f32::INFINITY, f32::min);
                widen(&mut ranges, place, low, outputs().fold(f32::NEG_INFINITY, f32::max));
            }
        }
        self.macs += self.chain.shape.forward_macs() * self.replay.len() as u64;
        self.weights.requantize(&self.chain, &self.pack, &ranges, &mut self.tuned);
        Ok(())
    }

    /// The network's int8 output for `input`: int8 trunk, int8 tail.
    ///
    /// # Errors
    /// [`TunerError::InputLength`], [`TunerError::NotTuned`].
    pub fn classify(&mut self, input: &[i8], version: Version) -> Result<&[i8], TunerError> {
        self.tuned.check(version)?;
        self.latent(input)?;
        Ok(self.int8_tail(version))
    }

    /// The same from a latent that [`Self::latent`] gave.
    ///
    /// # Errors
    /// [`TunerError::InputLength`], [`TunerError::NotTuned`].
    pub fn classify_latent(&mut self, latent: &[i8], version: Version) -> Result<&[i8], TunerError> {
        self.tuned.check(version)?;
        check_latent(self.chain.shape.features(), latent)?;
        copy(self.pack.feature().of_mut(as_int8(self.scratch)), latent);
        Ok(self.int8_tail(version))
    }

    /// Runs the network as it was packed on `input`, operator by operator: as [`crate::Tuner::trace`].
    ///
    /// # Errors
    /// [`TunerError::InputLength`].
    pub fn trace(&mut self, input: &[i8], see: impl FnMut(usize, u32)) -> Result<(), TunerError> {
        trace(&self.pack, as_int8(self.scratch), input, see)
    }

    /// The tuned int8 layers that [`Version::Tuned`] runs, first to last; none before [`Self::requantize`].
    pub fn tuned_layers(&self) -> impl Iterator<Item = TunedLayer<'_>> {
        self.tuned.layers(&self.pack)
    }

    fn int8_tail(&mut self, version: Version) -> &[i8] {
        self.tuned.answer(&self.pack, as_int8(self.scratch), version)
    }

    /// Classes of the network.
    pub fn classes(&self) -> usize {
        self.chain.shape.classes()
    }

    /// Samples that judge.
    pub(crate) fn judging(&self) -> usize {
        self.division.judging(self.replay.len())
    }

    /// The slot of one of them.
    pub(crate) fn judging_slot(&self, index: usize) -> Option<usize> {
        self.division.judging_slot(index)
    }

    /// Runs an int8 tail on a sample in the replay, for [`Self::last_output`]; returns its label.
    pub(crate) fn run_int8(&mut self, slot: usize, version: Version) -> Option<u16> {
        let (latent, label) = self.replay.get(slot)?;
        copy(self.pack.feature().of_mut(as_int8(self.scratch)), latent);
        self.int8_tail(version);
        Some(label)
    }

    /// What the int8 tail that ran last gave.
    pub(crate) fn last_output(&self) -> &[i8] {
        self.pack.output().of(bytemuck::try_cast_slice(self.scratch).unwrap_or(&[]))
    }

    /// The current weights on a latent with its label, in the arithmetic of the training.
    ///
    /// # Errors
    /// [`TunerError::InputLength`], [`TunerError::Label`].
    pub fn score_latent(&mut self, latent: &[i8], label: usize) -> Result<Score, TunerError> {
        self.label(label)?;
        check_latent(self.chain.shape.features(), latent)?;
        let Self { chain, weights, pack, scratch, .. } = self;
        // Planned for the chain.
        let Some(mut workspace) = Workspace::new(chain, scratch) else {
            return Ok(Score { loss: f32::NAN, class: 0 });
        };
        load(pack, latent, workspace.features);
        let (loss, class) = chain.loss_and_answer(weights, label, &mut workspace);
        Ok(Score { loss, class })
    }

    /// Loss, accuracy and sharpness of the current weights over the replay.
    ///
    /// # Errors
    /// [`TunerError::NoSamples`].
    pub fn evaluate(&mut self, rho: f32) -> Result<Evaluation, TunerError> {
        self.evaluate_between(rho, || ())
    }

    /// [`Self::evaluate`], with a call of `between` before every sample: there a watchdog is fed.
    ///
    /// # Errors
    /// [`TunerError::NoSamples`].
    pub fn evaluate_between(
        &mut self,
        rho: f32,
        mut between: impl FnMut(),
    ) -> Result<Evaluation, TunerError> {
        let Self { chain, weights, replay, pack, scratch, .. } = self;
        if replay.is_empty() {
            return Err(TunerError::NoSamples);
        }
        let mut sums = Evaluation { loss: 0.0, accuracy: 0.0, sharpness: 0.0 };
        for slot in 0..replay.len() {
            between();
            let Some((latent, label)) = replay.get(slot) else { continue };
            let label = usize::from(label);
            let Some(mut workspace) = Workspace::new(chain, scratch) else { break };
            load(pack, latent, workspace.features);
            let (loss, answer) = chain.loss_and_answer(weights, label, &mut workspace);
            sums.loss += loss;
            sums.accuracy += f32::from(u8::from(answer == label));
            sums.sharpness += chain.rise(weights, rho, label, loss, &mut workspace);
        }
        let mean = 1.0 / replay.len() as f32;
        Ok(Evaluation {
            loss: sums.loss * mean,
            accuracy: sums.accuracy * mean,
            sharpness: sums.sharpness * mean,
        })
    }

    /// An int8 tail, as the device runs it, on the held-out samples, or on all in the replay where none is held out: as
    /// [`crate::Tuner::judge`].
    ///
    /// # Errors
    /// [`TunerError::NoSamples`], [`TunerError::NotTuned`].
    pub fn judge(&mut self, version: Version) -> Result<Judgement, TunerError> {
        self.judge_between(version, &mut || ())
    }

    fn judge_between(
        &mut self,
        version: Version,
        between: &mut impl FnMut(),
    ) -> Result<Judgement, TunerError> {
        self.tuned.check(version)?;
        let output = Outputs::of(&self.pack, (version == Version::Tuned).then_some(&self.tuned));
        let mut sum = Judgement::NONE;
        for index in 0..self.judging() {
            between();
            let slot = self.judging_slot(index);
            let Some(label) = slot.and_then(|slot| self.run_int8(slot, version)) else { continue };
            let (values, label) = (self.last_output(), usize::from(label));
            sum.add(Some((output.loss(values, label.into()), argmax(values) == label)));
        }
        sum.mean().ok_or(TunerError::NoSamples)
    }

    /// Puts the tail that the current weights make in force if on the held-out samples it is strictly better than the
    /// tail in force, and not worse than the factory's; otherwise that stays, bit for bit, and the weights go back to it:
    /// as [`crate::Tuner::accept`].
    ///
    /// # Errors
    /// [`TunerError::NoSamples`].
    pub fn accept(&mut self) -> Result<Acceptance, TunerError> {
        self.accept_between(|| ())
    }

    /// [`Self::accept`], with a call of `between` before every sample of each pass: there a watchdog is fed.
    ///
    /// # Errors
    /// [`TunerError::NoSamples`].
    pub fn accept_between(&mut self, mut between: impl FnMut()) -> Result<Acceptance, TunerError> {
        self.check_weights()?;
        let factory = self.judge_between(Version::Factory, &mut between)?;
        let running = match self.tuned.is_empty() {
            true => factory,
            false => self.judge_between(Version::Tuned, &mut between)?,
        };
        self.run = None;
        // Between runs nothing lives in the velocity, which is planned to be large enough.
        let place = bytemuck::try_cast_slice_mut(self.velocity.weights).unwrap_or(&mut []);
        let outputs = self.tuned.back_up(place);
        self.requantize_between(&mut between)?;
        let candidate = self.judge_between(Version::Tuned, &mut between)?;
        let acceptance = Acceptance::decide(factory, running, candidate);
        if !acceptance.accepted {
            let place = bytemuck::try_cast_slice(self.velocity.weights).unwrap_or(&[]);
            self.tuned.put_back(place, outputs);
            self.load_in_force();
        }
        Ok(acceptance)
    }
}
