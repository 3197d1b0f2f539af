//! The arithmetic of every [`Loss`], one file a loss.

mod binary;
mod cross_entropy;
mod squared;

use crate::label::{Loss, Target};
pub use binary::binary_cross_entropy;
pub use cross_entropy::softmax_cross_entropy;
pub use squared::mean_squared_error;

impl Loss {
    /// The loss of `outputs`, and over `d_outputs`, which is as long, its gradient by them. NaN for a target of another
    /// loss.
    ///
    /// ```
    /// use flatmin::{Loss, internals::label::Target};
    /// let mut d = [0.0; 2];
    /// let loss = Loss::BinaryCrossEntropy.of(&[0.0, 0.0], Target::from(0b10), &mut d);
    /// assert!((loss - 2.0 * 2f32.ln()).abs() < 1e-6);
    /// assert_eq!(d, [0.5, -0.5]);
    /// ```
    #[doc(hidden)]
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

    /// Loss of the first `classes` outputs alone: the outputs after them are spare, their gradient is 0.
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

    /// The loss above which an answer of so many outputs is worse than one that knows nothing.
    pub(crate) fn of_a_guess(self, outputs: usize) -> f32 {
        match self {
            Self::CrossEntropy => crate::math::ln(outputs.max(1) as f32),
            Self::BinaryCrossEntropy => outputs as f32 * core::f32::consts::LN_2,
            Self::SquaredError => f32::INFINITY,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::Affine;

    #[test]
    fn a_target_of_another_loss_is_not_taken() {
        let mut d = [0.0];
        let affine = Affine { scale: 1.0, zero_point: 0 };
        assert!(Loss::SquaredError.of(&[1.0], Target::from(0), &mut d).is_nan());
        assert!(Loss::CrossEntropy.of(&[1.0], Target::Values { values: &[0], affine }, &mut d).is_nan());
    }
}
