//! What a tail is trained to make small, what it is compared with, and what a sample's label says: [`Loss`] and
//! [`Target`] know codes, lengths and groups; their arithmetic is in `src/tail/loss`.

use crate::quant::Affine;

/// The loss of a pack's tail, of its bare outputs: what a softmax or a logistic function at the network's end makes of
/// them is part of the loss.
///
/// ```
/// use flatmin::Loss;
/// let losses = Loss::ALL.map(|loss| (loss.code(), loss.groups(6), loss.has_answers(), loss.target_length(6)));
/// assert_eq!(losses[0], (0, 6, true, 0)); // one question with six answers,
/// assert_eq!(losses[1], (1, 7, true, 0)); // or six with two, of at most Loss::MOST_QUESTIONS,
/// assert_eq!(losses[2], (2, 2, false, 6)); // or six numbers, and a target as long
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(not(feature = "_internals"), non_exhaustive)]
pub enum Loss {
    /// Softmax cross-entropy over all outputs, in nats. A label is the class, from 0.
    #[default]
    CrossEntropy,
    /// Binary cross-entropy, in nats, summed over up to [`Self::MOST_QUESTIONS`] yes-or-no questions, one per output. A label
    /// is a set of bits, bit i the answer to question i: 0 or 1 for a single output.
    BinaryCrossEntropy,
    /// Mean squared error, in the output's units, squared. A sample's target is a vector as long as the output, or the sample
    /// itself, which an autoencoder is to copy. A label is 0, or 1 for an anomaly, which is never trained on.
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

    /// A label that a sample of this one does not have, another in each turn: the next classes, or one bit flipped. Of a squared
    /// error there is none: its own.
    pub(crate) fn wrong_label(self, label: usize, turn: usize, outputs: usize) -> usize {
        match self {
            Self::CrossEntropy => {
                let others = outputs.saturating_sub(1).max(1);
                label.saturating_add(1 + turn % others) % outputs.max(1)
            }
            Self::BinaryCrossEntropy => label ^ 1 << (turn % outputs.clamp(1, Self::MOST_QUESTIONS)),
            Self::SquaredError => label,
        }
    }

    /// What the mean probability of the samples' own labels has beyond that of a guess among all labels, from 0 to 1; 1 of a squared
    /// error, which has no probabilities.
    pub(crate) fn beyond_a_guess(self, probability: f32, outputs: usize) -> f32 {
        let labels = self.last_label(outputs).saturating_add(1).max(2) as f32;
        match self {
            Self::SquaredError => 1.0,
            _ => ((probability * labels - 1.0) / (labels - 1.0)).max(0.0),
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
        /// One per output.
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
        for (turn, wrong) in [(0, 2), (1, 0), (2, 2)] {
            assert_eq!(CrossEntropy.wrong_label(1, turn, 3), wrong);
        }
        for (turn, wrong) in [(0, 0b100), (1, 0b111), (2, 0b001), (3, 0b100)] {
            assert_eq!(BinaryCrossEntropy.wrong_label(0b101, turn, 3), wrong);
        }
        assert_eq!(SquaredError.wrong_label(1, 5, 3), 1);
        assert_eq!(Loss::from_code(3), None);
        assert_eq!(CrossEntropy.answer(&[-2.0, 0.5, 0.25]), 1);
        assert_eq!(BinaryCrossEntropy.answer(&[-2.0, 0.5, 0.25]), 0b110);
        assert_eq!(BinaryCrossEntropy.group(0b100), 3);
        assert_eq!(SquaredError.group(Kept::ITSELF), 0);
        for (probability, beyond) in [(0.0, 0.0), (0.25, 0.0), (0.625, 0.5), (1.0, 1.0)] {
            assert_eq!(CrossEntropy.beyond_a_guess(probability, 4), beyond);
            assert_eq!(BinaryCrossEntropy.beyond_a_guess(probability, 2), beyond);
            assert_eq!(SquaredError.beyond_a_guess(probability, 4), 1.0);
        }
    }
}
