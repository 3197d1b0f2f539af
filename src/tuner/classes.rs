//! Classes that are added on the device, to the spare outputs of a pack.

use super::arithmetic::{Arithmetic, Numbers};
use super::imprint;
use super::{Float, Tuner, TunerError};
use crate::pack::Pack;
use crate::part::Part;
use crate::tail::{Loss, Tail};

/// Where the last layer's parameters lie among all.
pub(super) struct LastLayer {
    pub weights: usize,
    pub biases: usize,
    pub taps: usize,
}

fn last_layer(pack: &Pack) -> Option<LastLayer> {
    let layer = pack.trained_layers().last()?;
    let biases = layer.parameters + layer.trained_weights();
    Some(LastLayer { weights: layer.parameters, biases, taps: layer.taps })
}

impl<'a, A: Arithmetic<'a>> Tuner<'a, A> {
    /// Spare classes that [`Self::add_class`] has left.
    pub fn spare_classes(&self) -> usize {
        match self.objective() {
            Loss::CrossEntropy if A::ANY_TAIL => {
                self.pack.sizes().output_length.saturating_sub(self.classes())
            }
            _ => 0,
        }
    }

    /// Makes a class of the first spare output, and returns its label, which is [`Self::classes`] before the call. Its
    /// first weights come from the mean feature of the samples in the replay with this label, of which
    /// [`Self::observe`] takes any number; a handful is enough. From then on they are trained on and judge with all
    /// others; the samples of the old classes in the replay ([`crate::replay::Policy::Balanced`]) keep those alive.
    /// int8 tails know the class from the next [`Self::requantize`] or [`Self::accept`] on.
    ///
    /// The row is imprinted (Qi, Brown and Lowe, CVPR 2018, section 3.2) along the direction of linear discriminant
    /// analysis: `w = mean_k w_k + t S^-1 d`, where `d` is the mean feature of the new class less that of all other samples in
    /// the replay, `S` the covariance within classes, of the pack's statistics or else of the replay's own samples, shrunk, and
    /// `t` the scale of the known rows `w_k`; the bias lets the class begin midway between the mean margins, over the best known
    /// class, of its samples and of all others. Works in the velocity's memory; without statistics it takes about 100 forward
    /// passes of every sample and as many again as there are classes, else two.
    ///
    /// A row of zeros is what makes an output spare, so that a tail in flash, a saved run and a delta carry the number of
    /// classes without a field of their own.
    ///
    /// # Errors
    /// [`TunerError::Running`] in the midst of a run; [`TunerError::NoSpareClass`], [`TunerError::NoSamplesOfClass`],
    /// [`TunerError::ClassFeatures`]; with the tuner as it was.
    ///
    /// ```no_run
    /// # fn add(tuner: &mut flatmin::Tuner, gestures: &[&[i8]]) -> Result<(), flatmin::TunerError> {
    /// let label = tuner.classes();
    /// for gesture in gestures {
    ///     tuner.observe(gesture, label)?; // waits
    /// }
    /// assert_eq!(tuner.add_class()?, label);
    /// tuner.start(*tuner.recipe())?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn add_class(&mut self) -> Result<usize, TunerError> {
        A::add_class(self)
    }
}

impl Tuner<'_> {
    fn imprint_class(&mut self) -> Result<usize, TunerError> {
        self.check_weights()?;
        if self.run.is_some() {
            return Err(TunerError::Running);
        }
        let label = self.classes();
        let Some(layer) = last_layer(&self.pack).filter(|_| self.spare_classes() > 0) else {
            return Err(TunerError::NoSpareClass { spare: self.pack.spare_classes() });
        };
        let held = self.replay.len();
        let own = self.replay.labels().filter(|&other| usize::from(other) == label).count();
        if own == 0 {
            return Err(TunerError::NoSamplesOfClass { label });
        }
        let row = layer.weights + label * layer.taps..layer.weights + (label + 1) * layer.taps;
        // The row of a spare class is zeros: the difference of the means is gathered in its place.
        for slot in 0..held {
            let is_own = self.forward(slot, label);
            let share = if is_own { 1.0 / own as f32 } else { -1.0 / (held - own) as f32 };
            let x = self.arithmetic.tail.last_input(self.scratch);
            // The features may lie anywhere in the scratch, the row never.
            imprint::gather(self.arithmetic.weights.part_mut(row.clone()), share, x);
        }
        // Nothing lives in the velocity between runs.
        let velocity = core::mem::take(&mut self.arithmetic.velocity);
        let scale = self.discriminate(&layer, label, velocity);
        self.arithmetic.velocity = velocity;
        let (known, rest) =
            self.arithmetic.weights.split_at_mut(row.start.min(self.arithmetic.weights.len()));
        let direction = rest.part_mut(..layer.taps);
        let mut found = imprint::imprint(known.part(layer.weights..), direction, scale);
        let mut margins = [0.0f32; 2];
        for slot in 0..held {
            let is_own = self.forward(slot, label);
            let (x, logits) =
                (self.arithmetic.tail.last_input(self.scratch), self.arithmetic.tail.output(self.scratch));
            let margin = imprint::margin(self.arithmetic.weights.part(row.clone()), x, logits);
            margins[usize::from(!is_own)] += margin;
        }
        let others = (held > own).then(|| margins[1] / (held - own) as f32);
        let biases = self.arithmetic.weights.part(layer.biases..layer.biases + label);
        let bias = imprint::bias(margins[0] / own as f32, others, biases);
        found &= bias.is_finite();
        if !found {
            self.arithmetic.weights.part_mut(row).fill(0.0);
            return Err(TunerError::ClassFeatures { label });
        }
        if let Some(place) = self.arithmetic.weights.get_mut(layer.biases + label) {
            *place = bias;
        }
        self.macs = self.macs.saturating_add(self.arithmetic.forward_macs().saturating_mul(2 * held as u64));
        self.arithmetic.tail.set_classes(label + 1);
        // Held-out samples of before say nothing about the new class: those of the next run do.
        self.division.keep_whole(0);
        crate::fmt::info!("class {} added", label);
        Ok(label)
    }

    /// The f32 tail on a sample in the replay; whether it has this label.
    pub(super) fn forward(&mut self, slot: usize, label: usize) -> bool {
        let (arithmetic, scratch) = (&self.arithmetic, &mut *self.scratch);
        if let Some((latent, _)) = self.replay.get(slot) {
            arithmetic.write_features(&self.pack, latent, scratch);
        }
        arithmetic.tail.forward_loss(arithmetic.weights, 0.into(), scratch);
        self.replay.label(slot).is_some_and(|other| usize::from(other) == label)
    }
}

/// [`Tuner::add_class`], of packs with spare ones.
pub(super) fn add(tuner: &mut Tuner) -> Result<usize, TunerError> {
    tuner.imprint_class()
}

/// Reads from the weights which outputs are classes, of packs with spare ones.
pub(super) fn count(float: &mut Float, pack: &Pack) {
    if let Some(layer) = last_layer(pack).filter(|_| pack.spare_classes() > 0) {
        let weights = float.weights.part(layer.weights..layer.biases);
        let classes = pack.classes_of(weights, pack.sizes().output_length);
        float.tail.set_classes(classes);
    }
}
