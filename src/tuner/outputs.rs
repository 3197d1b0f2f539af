//! What an int8 output says: its loss, and the label that it stands for.

use super::{Tuner, Version};
use crate::math;
use crate::pack::Pack;
use crate::quant::Affine;
use crate::requant::TunedTail;
use crate::tail::{Loss, Target, argmax, binary_cross_entropy, bits};

/// How int8 outputs are to be read.
pub(crate) struct Outputs {
    loss: Loss,
    affine: Affine,
    /// They are probabilities: a softmax's or a logistic function's.
    probabilities: bool,
    /// Outputs behind these are spare classes.
    classes: usize,
}

impl Tuner<'_> {
    pub(super) fn outputs(&self, version: Version) -> Outputs {
        Outputs::of(&self.pack, (version == Version::Tuned).then_some(&self.tuned))
    }

    /// Scale and zero point of the int8 output. A tuned tail's differ from the factory's where the last operator is a
    /// layer that was tuned.
    pub fn output_affine(&self, version: Version) -> Affine {
        self.outputs(version).affine
    }

    /// The label that an int8 output stands for, as [`Self::observe`] takes it: the class with the largest output, or the
    /// bits of the outputs above one half; 0 where the output is real values.
    pub fn answer(&self, output: &[i8], version: Version) -> usize {
        self.outputs(version).answer(output)
    }
}

impl Outputs {
    /// Of the network as packed, or with a tuned tail.
    pub fn of(pack: &Pack, tuned: Option<&TunedTail>) -> Self {
        let last = pack.operator_count().saturating_sub(1);
        let own = tuned.and_then(|tuned| tuned.layers(pack).last()).filter(|tuned| tuned.layer.index == last);
        let affine = own.map_or(pack.output().affine, |tuned| tuned.output);
        let classes = tuned.map_or(pack.known_classes(), |tuned| tuned.classes(pack));
        Self { loss: pack.loss(), affine, probabilities: pack.head().is_some(), classes }
    }

    pub fn answer(&self, values: &[i8]) -> usize {
        let half = if self.probabilities { 0.5 } else { 0.0 };
        match self.loss {
            Loss::CrossEntropy => argmax(values.get(..self.classes).unwrap_or(values)),
            Loss::BinaryCrossEntropy => bits(values.iter().map(|&q| self.affine.dequantize(q) > half)),
            Loss::SquaredError => 0,
        }
    }

    /// The loss, no probability taken for smaller than half a step. That of a label that the tail does not know yet is
    /// the loss at its spare output.
    pub fn loss(&self, values: &[i8], target: Target) -> f32 {
        match target {
            Target::Label { label, .. } if self.loss == Loss::BinaryCrossEntropy => {
                self.binary(values, label)
            }
            Target::Label { label, .. } => self.cross_entropy(values, label),
            Target::Values { values: wanted, affine } => {
                let error = |(&y, &t): (&i8, &i8)| self.affine.dequantize(y) - affine.dequantize(t);
                let squares = values.iter().zip(wanted).map(error).fold(0.0, |sum, e| sum + e * e);
                squares / values.len().max(1) as f32
            }
        }
    }

    /// `-ln p`. Its argument is at least about 1, where the logarithm is good with every feature.
    fn surprise(&self, p: f32) -> f32 {
        math::ln(1.0 / p.max(0.5 * self.affine.scale))
    }

    fn cross_entropy(&self, values: &[i8], label: usize) -> f32 {
        let Some(&own) = values.get(label) else { return f32::NAN };
        if self.probabilities {
            return self.surprise(self.affine.dequantize(own));
        }
        let largest = values.iter().copied().max().unwrap_or(own);
        let below = |q: i8| self.affine.scale * (i32::from(q) - i32::from(largest)) as f32;
        let classes = values.get(..self.classes).unwrap_or(values);
        let sum: f32 = classes.iter().fold(0.0, |sum, &q| sum + math::exp(below(q)));
        math::ln(sum) - below(own)
    }

    fn binary(&self, values: &[i8], label: usize) -> f32 {
        let term = |(bit, &q): (usize, &i8)| {
            let (x, yes) = (self.affine.dequantize(q), label >> bit & 1);
            match self.probabilities {
                true => self.surprise(if yes == 1 { x } else { 1.0 - x }),
                false => binary_cross_entropy(&[x], yes, 0.0, &mut [0.0]),
            }
        };
        values.iter().take(Loss::MOST_QUESTIONS).enumerate().map(term).fold(0.0, |sum, loss| sum + loss)
    }
}
