//! What a tail is trained to make small, one file a loss; and what it is compared with.

mod binary;
mod cross_entropy;
mod squared;

use crate::quant::Affine;
pub use binary::binary_cross_entropy;
pub use cross_entropy::softmax_cross_entropy;
pub use squared::mean_squared_error;

/// The loss of a pack's tail, of its bare outputs: what a softmax or a logistic function at the network's end makes of
/// them is part of the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Loss {
    /// One class of all: [`softmax_cross_entropy`]. A label is the class.
    #[default]
    CrossEntropy,
    /// Up to [`Self::MOST_QUESTIONS`] yes-or-no questions, an output each: [`binary_cross_entropy`]. A label is a set of
    /// bits, bit i the answer of output i: 0 or 1 of a single output.
    BinaryCrossEntropy,
    /// Real values: [`mean_squared_error`]. A sample's target is a vector as long as the output, or the sample itself,
    /// of which an autoencoder is to make a copy. A label is 0, or 1 of an anomaly, which is never trained on.
    SquaredError,
}

impl Loss {
    /// All of them; a loss's code in a pack is its place.
    pub const ALL: [Self; 3] = [Self::CrossEntropy, Self::BinaryCrossEntropy, Self::SquaredError];

    /// Most outputs of [`Self::BinaryCrossEntropy`]: a label has 16 bits.
    pub const MOST_QUESTIONS: usize = 16;

    /// The number that stands for it in a pack.
    pub const fn code(self) -> u16 {
        self as u16
    }

    pub(crate) const fn from_code(code: u16) -> Option<Self> {
        match code {
            0 => Some(Self::CrossEntropy),
            1 => Some(Self::BinaryCrossEntropy),
            2 => Some(Self::SquaredError),
            _ => None,
        }
    }

    /// The loss of `outputs`, and over `d_outputs`, which is as long, its gradient by them. NaN for a target of another
    /// loss.
    ///
    /// ```
    /// use flatmin::tail::{Loss, Target};
    /// let mut d = [0.0; 2];
    /// let loss = Loss::BinaryCrossEntropy.of(&[0.0, 0.0], Target::from(0b10), &mut d);
    /// assert!((loss - 2.0 * 2f32.ln()).abs() < 1e-6);
    /// assert_eq!(d, [0.5, -0.5]);
    /// ```
    pub fn of(self, outputs: &[f32], target: Target, d_outputs: &mut [f32]) -> f32 {
        match (self, target) {
            (Self::CrossEntropy, Target::Label { label, smoothing }) => {
                softmax_cross_entropy(outputs, label, smoothing, d_outputs)
            }
            (Self::BinaryCrossEntropy, Target::Label { label, smoothing }) => {
                binary_cross_entropy(outputs, label, smoothing, d_outputs)
            }
            (Self::SquaredError, Target::Values { values, affine }) => {
                mean_squared_error(outputs, values, affine, d_outputs)
            }
            _ => f32::NAN,
        }
    }

    /// The same of the first `classes` outputs: those behind them are spare, their gradient is 0.
    pub(crate) fn of_classes(
        self,
        classes: usize,
        outputs: &[f32],
        target: Target,
        d_outputs: &mut [f32],
    ) -> f32 {
        let (d_classes, d_spare) = d_outputs.split_at_mut(classes.min(d_outputs.len()));
        d_spare.fill(0.0);
        self.of(outputs.get(..classes).unwrap_or(outputs), target, d_classes)
    }

    /// The label that bare outputs stand for: the class, the bits of the outputs above 0; 0 of real values.
    pub(crate) fn answer(self, outputs: &[f32]) -> usize {
        match self {
            Self::CrossEntropy => argmax(outputs),
            Self::BinaryCrossEntropy => bits(outputs.iter().map(|&z| z > 0.0)),
            Self::SquaredError => 0,
        }
    }

    /// Whether answers are right or wrong.
    pub const fn has_answers(self) -> bool {
        !matches!(self, Self::SquaredError)
    }

    /// Whether a tail of so many outputs has this label.
    pub(crate) fn has_label(self, label: usize, outputs: usize) -> bool {
        match self {
            Self::CrossEntropy => label < outputs,
            Self::BinaryCrossEntropy => label >> outputs.min(Self::MOST_QUESTIONS) == 0,
            Self::SquaredError => label <= 1,
        }
    }

    /// Highest label of a tail of so many outputs.
    pub(crate) fn last_label(self, outputs: usize) -> usize {
        match self {
            Self::CrossEntropy => outputs.saturating_sub(1),
            Self::BinaryCrossEntropy => (1 << outputs.min(Self::MOST_QUESTIONS)) - 1,
            Self::SquaredError => 1,
        }
    }

    /// int8 elements of the target that is kept with every sample.
    pub const fn target_length(self, outputs: usize) -> usize {
        if matches!(self, Self::SquaredError) { outputs } else { 0 }
    }

    /// Groups of labels that a split of the samples and a balanced replay keep apart: the classes; the sets of bits by
    /// their lowest, and the empty one; what is trained on, and anomalies.
    pub const fn groups(self, outputs: usize) -> usize {
        match self {
            Self::CrossEntropy => outputs,
            Self::BinaryCrossEntropy => outputs + 1,
            Self::SquaredError => 2,
        }
    }

    /// The group of a label, as a replay keeps it.
    pub(crate) fn group(self, label: u16) -> u16 {
        match self {
            Self::CrossEntropy => label,
            // At most 16.
            Self::BinaryCrossEntropy if label != 0 => label.trailing_zeros() as u16 + 1,
            Self::BinaryCrossEntropy => 0,
            Self::SquaredError => label & Kept::ANOMALOUS,
        }
    }

    /// The loss above which an answer of so many outputs is worse than one that knows nothing.
    pub(crate) fn of_a_guess(self, outputs: usize) -> f32 {
        match self {
            Self::CrossEntropy => crate::math::ln(outputs.max(1) as f32),
            Self::BinaryCrossEntropy => outputs as f32 * core::f32::consts::LN_2,
            Self::SquaredError => f32::INFINITY,
        }
    }
}

/// What a replay's label says of a sample of [`Loss::SquaredError`].
pub(crate) struct Kept;

impl Kept {
    /// Never trained on.
    pub const ANOMALOUS: u16 = 1;
    /// The target is the input, and has its quantization; else that of the packed output.
    pub const ITSELF: u16 = 2;
}

/// What an output is compared with.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Target<'t> {
    /// A class, or a set of bits.
    Label {
        /// As the loss has it: see [`Loss`].
        label: usize,
        /// Share alpha of the certainty that is taken off, from 0 to below 1: spread evenly over all classes
        /// (Szegedy et al. 2015, section 7), of which a yes-or-no question has two.
        smoothing: f32,
    },
    /// Real values, quantized.
    Values {
        /// One an output.
        values: &'t [i8],
        /// Their quantization.
        affine: Affine,
    },
}

impl Target<'_> {
    /// The same with label smoothing; values stay as they are.
    pub fn smoothed(self, alpha: f32) -> Self {
        match self {
            Self::Label { label, .. } => Self::Label { label, smoothing: alpha },
            values @ Self::Values { .. } => values,
        }
    }
}

impl From<usize> for Target<'_> {
    fn from(label: usize) -> Self {
        Self::Label { label, smoothing: 0.0 }
    }
}

/// Index of the largest value; the first among equals, 0 for none.
pub(crate) fn argmax<T: PartialOrd + Copy>(values: &[T]) -> usize {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if values.get(best).is_some_and(|b| value > b) {
            best = index;
        }
    }
    best
}

/// A label of the answers of up to 16 questions.
pub(crate) fn bits(answers: impl Iterator<Item = bool>) -> usize {
    let answers = answers.take(Loss::MOST_QUESTIONS).enumerate();
    answers.fold(0, |label, (bit, answer)| label | usize::from(answer) << bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn argmax_takes_the_first_of_equals() {
        assert_eq!(argmax(&[1i8, 3, 3]), 1);
        assert_eq!(argmax::<f32>(&[]), 0);
    }

    #[test]
    fn labels_are_classes_or_bits() {
        use Loss::{BinaryCrossEntropy, CrossEntropy, SquaredError};
        for loss in Loss::ALL {
            assert_eq!(Loss::from_code(loss.code()), Some(loss));
            for outputs in [1, 2, 7, 16] {
                let last = loss.last_label(outputs);
                assert!(loss.has_label(last, outputs) && !loss.has_label(last + 1, outputs), "{loss:?}");
                for label in 0..=last as u16 {
                    assert!(usize::from(loss.group(label)) < loss.groups(outputs), "{loss:?} {label}");
                }
            }
        }
        assert_eq!(Loss::from_code(3), None);
        assert_eq!(CrossEntropy.answer(&[-2.0, 0.5, 0.25]), 1);
        assert_eq!(BinaryCrossEntropy.answer(&[-2.0, 0.5, 0.25]), 0b110);
        assert_eq!(BinaryCrossEntropy.group(0b100), 3);
        assert_eq!(SquaredError.group(Kept::ITSELF), 0);
    }

    #[test]
    fn a_target_of_another_loss_is_not_taken() {
        let mut d = [0.0];
        let affine = Affine { scale: 1.0, zero_point: 0 };
        assert!(Loss::SquaredError.of(&[1.0], Target::from(0), &mut d).is_nan());
        assert!(Loss::CrossEntropy.of(&[1.0], Target::Values { values: &[0], affine }, &mut d).is_nan());
    }
}
