//! Samples: through the trunk to a latent, into the replay with what they are compared with, and on to the tail's features.

use super::arithmetic::Arithmetic;
use super::{Tuner, TunerError, copy, int8_scratch};
use crate::pack::{Pack, crc32};
use crate::part::Part;
use crate::quant::Affine;
use crate::replay::Replay;
use crate::tail::{Kept, Loss, Target};
use crate::trunk;

impl<'a, A: Arithmetic<'a>> Tuner<'a, A> {
    /// Runs the backbone on `input`, [`crate::Sizes::input_length`] values, and returns the feature that it gives the tail,
    /// [`crate::Sizes::feature_length`] values. Nothing is kept.
    ///
    /// # Errors
    /// [`TunerError::InputLength`].
    pub fn latent(&mut self, input: &[i8]) -> Result<&[i8], TunerError> {
        let arena = int8_scratch(self.scratch);
        enter(&self.pack, arena, input)?;
        trunk::run_trunk(&self.pack, arena);
        self.gather();
        Ok(self.seen())
    }

    /// The latent that the trunk gave last.
    fn seen(&self) -> &[i8] {
        if self.is_gathered() {
            return self.latent;
        }
        self.pack.feature().of(bytemuck::must_cast_slice(self.scratch))
    }

    /// Whether the features are put together apart from where the trunk writes them, as they may lie in several places.
    fn is_gathered(&self) -> bool {
        A::ANY_TAIL && !self.latent.is_empty()
    }

    /// Puts the features of the sample that the trunk saw last one after the other.
    fn gather(&mut self) {
        if !self.is_gathered() {
            return;
        }
        let arena = int8_scratch(self.scratch);
        let mut rest = &mut *self.latent;
        for feature in self.pack.features() {
            let (own, behind) = core::mem::take(&mut rest).parts_mut_at(feature.len());
            copy(own, feature.of(arena));
            rest = behind;
        }
    }

    /// The way back: features to where the tail's int8 operators read them.
    pub(super) fn scatter(pack: &Pack, latent: &[i8], arena: &mut [i8]) {
        if !A::ANY_TAIL {
            return copy(pack.feature().of_mut(arena), latent);
        }
        let mut rest = latent;
        for feature in pack.features() {
            let (own, behind) = rest.split_at(feature.len().min(rest.len()));
            copy(feature.of_mut(arena), own);
            rest = behind;
        }
    }

    /// Makes the latent that the trunk gave last the tail's features, in place of a chain's latent; false where that has no
    /// room, which a pack excludes.
    pub(super) fn latent_to_features(&mut self) -> bool {
        let Self { arithmetic, pack, latent, scratch, .. } = self;
        if A::ANY_TAIL && !latent.is_empty() {
            arithmetic.write_features(pack, latent, scratch);
            return true;
        }
        let feature = pack.feature();
        let arena = int8_scratch(scratch);
        let start = feature.arena_offset;
        if arena.get(start..start.saturating_add(feature.len())).is_none() {
            return false;
        }
        // The features take more bytes than the latent, and their place may begin anywhere before or after it. With the
        // latent at the front and taken from its end on, none is overwritten before it is read.
        for i in 0..feature.len() {
            let q = arena.get(start + i).copied().unwrap_or(0);
            if let Some(place) = arena.get_mut(i) {
                *place = q;
            }
        }
        for i in (0..feature.len()).rev() {
            let q = int8_scratch(scratch).get(i).copied().unwrap_or(0);
            arithmetic.write_feature(pack, i, q, scratch);
        }
        true
    }

    /// Runs the network as it was packed on `input`; `see` is called with each operator's index and the CRC-32 of
    /// its output's bytes. An operator with several outputs is seen with its first.
    ///
    /// # Errors
    /// [`TunerError::InputLength`].
    ///
    /// ```no_run
    /// # fn compare(tuner: &mut flatmin::Tuner, window: &[i8], desktop: &[u32]) -> Result<(), flatmin::TunerError> {
    /// tuner.trace(window, |operator, crc32| assert_eq!(crc32, desktop[operator]))?; // bit by bit as there
    /// # Ok(())
    /// # }
    /// ```
    pub fn trace(&mut self, input: &[i8], mut see: impl FnMut(usize, u32)) -> Result<(), TunerError> {
        let (pack, arena) = (&self.pack, int8_scratch(self.scratch));
        enter(pack, arena, input)?;
        for index in 0..pack.operator_count() {
            let operator = pack.operator(index);
            trunk::run_operator(pack, &operator, arena);
            let output = pack.tensor(operator.output).of(arena);
            see(index.into(), crc32(bytemuck::must_cast_slice(output)));
        }
        Ok(())
    }

    /// Runs the backbone on a labelled sample, [`crate::Sizes::input_length`] values quantized as
    /// `tuner.pack().input().affine` says, and keeps its feature with the label; when the replay is full, a sample gives way as
    /// [`crate::Recipe::replay_policy`] has it, with [`crate::replay::Policy::Balanced`] sometimes this very one. A
    /// label is what the tail's [`Loss`] says; where a spare class is left, it may also be a spare output's: such samples
    /// wait for [`Self::add_class`].
    ///
    /// # Errors
    /// [`TunerError::InputLength`], [`TunerError::Label`]; [`TunerError::Running`] for one that would wait, since it might
    /// take the place of a sample that is trained on; [`TunerError::WantsTarget`] with [`Loss::SquaredError`].
    pub fn observe(&mut self, input: &[i8], label: usize) -> Result<(), TunerError> {
        let label = self.observed_label(label)?;
        self.keep(input, None, label)
    }

    /// [`Self::observe`] with the values that the outputs are to have, quantized as the packed network's output is:
    /// [`Self::quantize_target`]. They are kept beside the latent. For [`Loss::SquaredError`].
    ///
    /// # Errors
    /// [`TunerError::InputLength`], [`TunerError::TargetLength`]; [`TunerError::WantsLabel`] with another loss.
    pub fn observe_target(&mut self, input: &[i8], target: &[i8]) -> Result<(), TunerError> {
        self.check_target(input, Some(target))?;
        self.keep(input, Some(target), 0)
    }

    /// [`Self::observe_target`] with the sample as its own target, as it is: an autoencoder's.
    ///
    /// # Errors
    /// As [`Self::observe_target`]: [`TunerError::TargetLength`] if the network's output is not as long as its input.
    pub fn observe_itself(&mut self, input: &[i8]) -> Result<(), TunerError> {
        self.check_target(input, None)?;
        self.keep(input, Some(input), Kept::ITSELF)
    }

    /// Keeps a sample that is known to be anomalous, for [`Self::auc`]: it is never trained on, and no tail is judged by
    /// it. Else as [`Self::observe_itself`].
    ///
    /// # Errors
    /// As [`Self::observe_itself`]; [`TunerError::Running`], since it might take the place of a sample that is trained on.
    pub fn observe_anomaly(&mut self, input: &[i8]) -> Result<(), TunerError> {
        self.check_target(input, None)?;
        if self.run.is_some() {
            return Err(TunerError::Running);
        }
        self.keep(input, Some(input), Kept::ITSELF | Kept::ANOMALOUS)
    }

    /// Real values as [`Self::observe_target`] takes them; what lies outside of the packed output's range saturates.
    ///
    /// # Errors
    /// [`TunerError::TargetLength`] if either is not as long as the output; [`TunerError::TargetValue`] for a value that
    /// is NaN or infinite.
    pub fn quantize_target(&self, values: &[f32], target: &mut [i8]) -> Result<(), TunerError> {
        let expected = self.pack.sizes().output_length;
        for found in [values.len(), target.len()] {
            if found != expected {
                return Err(TunerError::TargetLength { expected, found });
            }
        }
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(TunerError::TargetValue { index });
        }
        let affine = self.pack.output().affine;
        target.iter_mut().zip(values).for_each(|(q, &value)| *q = affine.quantize(value));
        Ok(())
    }

    fn keep(&mut self, input: &[i8], target: Option<&[i8]>, label: u16) -> Result<(), TunerError> {
        self.latent(input)?;
        self.macs = self.macs.saturating_add(self.pack.trunk_macs());
        let latent = if A::ANY_TAIL && !self.latent.is_empty() {
            &*self.latent
        } else {
            self.pack.feature().of(int8_scratch(self.scratch))
        };
        if let Some(slot) = self.replay.push_with(latent, target.unwrap_or(&[]), label) {
            self.arithmetic.forget_sample(slot);
        }
        if self.run.is_none() {
            // The solved head has not seen it: the next run is divided anew.
            self.division.trusts = false;
        }
        match target {
            None if self.waits(label) => {}
            None => self.follow(usize::from(label).into()),
            Some(_) if label & Kept::ANOMALOUS != 0 => {}
            Some(values) => {
                let affine = target_affine(&self.pack, label & Kept::ITSELF != 0);
                self.follow(Target::Values { values, affine });
            }
        }
        Ok(())
    }

    /// Whether a label is that of a class which is not added yet.
    fn waits(&self, label: u16) -> bool {
        A::ANY_TAIL
            && self.objective() == Loss::CrossEntropy
            && usize::from(label) >= self.arithmetic.classes()
    }

    /// Whether a sample in the replay is an anomaly, or waits for its class to be added: it trains and judges nothing.
    pub(super) fn is_left_out(&self, slot: usize) -> bool {
        A::ANY_TAIL
            && self.replay.label(slot).is_some_and(|label| match self.objective() {
                Loss::SquaredError => label & Kept::ANOMALOUS != 0,
                _ => self.waits(label),
            })
    }

    /// Whether some samples may be neither trained on nor judge.
    pub(super) fn leaves_out(&self) -> bool {
        self.objective() == Loss::SquaredError || self.spare_classes() > 0
    }

    /// A label as the replay keeps it.
    pub(super) fn label(&self, label: usize) -> Result<u16, TunerError> {
        let (objective, outputs) = (self.objective(), self.arithmetic.classes());
        if objective == Loss::SquaredError {
            return Err(TunerError::WantsTarget);
        }
        let last = objective.last_label(outputs);
        u16::try_from(label)
            .ok()
            .filter(|_| objective.has_label(label, outputs))
            .ok_or(TunerError::Label { label, last })
    }

    /// A label to observe: one that the tail has, or one of a spare class, whose samples wait.
    fn observed_label(&self, label: usize) -> Result<u16, TunerError> {
        let (classes, spare) = (self.arithmetic.classes(), self.spare_classes());
        let outputs = classes + spare;
        if spare == 0 || !(classes..outputs).contains(&label) {
            let last = outputs.saturating_sub(1);
            return self.label(label).map_err(|error| match error {
                TunerError::Label { .. } if spare > 0 => TunerError::Label { label, last },
                error => error,
            });
        }
        if self.run.is_some() {
            return Err(TunerError::Running);
        }
        u16::try_from(label).map_err(|_| TunerError::Label { label, last: u16::MAX.into() })
    }

    /// What `input` is compared with: `target`, or itself.
    pub(super) fn check_target<'t>(
        &self,
        input: &'t [i8],
        target: Option<&'t [i8]>,
    ) -> Result<Target<'t>, TunerError> {
        if self.objective() != Loss::SquaredError {
            return Err(TunerError::WantsLabel);
        }
        let (expected, values) = (self.arithmetic.classes(), target.unwrap_or(input));
        if values.len() != expected {
            return Err(TunerError::TargetLength { expected, found: values.len() });
        }
        Ok(Target::Values { values, affine: target_affine(&self.pack, target.is_none()) })
    }

    /// What the output of a sample in the replay is compared with.
    pub(super) fn target(&self, slot: usize) -> Target<'_> {
        target::<A>(&self.replay, slot, &self.pack)
    }
}

/// Puts a sample where the network reads it; of a window all hops before the last go through the backbone.
fn enter(pack: &Pack, arena: &mut [i8], input: &[i8]) -> Result<(), TunerError> {
    let (expected, found) = (pack.sizes().input_length, input.len());
    let entered = match pack.operators().stream {
        Some(stream) if pack.keeps_state() => (stream.enter)(pack, input, arena),
        _ => trunk::load(pack, 0, input, arena),
    };
    if entered { Ok(()) } else { Err(TunerError::InputLength { expected, found }) }
}

/// What the output of a sample in the replay is compared with.
pub(super) fn target<'r, 'a, A: Arithmetic<'a>>(replay: &'r Replay, slot: usize, pack: &Pack) -> Target<'r> {
    let label = replay.label(slot).unwrap_or(0);
    match pack.loss() {
        Loss::SquaredError if A::ANY_TAIL => {
            let affine = target_affine(pack, label & Kept::ITSELF != 0);
            Target::Values { values: replay.target(slot), affine }
        }
        _ => usize::from(label).into(),
    }
}

/// Quantization of the targets: the input's of samples that are their own.
fn target_affine(pack: &Pack, itself: bool) -> Affine {
    if itself { pack.input().affine } else { pack.output().affine }
}
