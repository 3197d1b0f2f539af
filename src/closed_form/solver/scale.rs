//! The head's scale: the one with which the samples' loss is least.

use super::{ClosedForm, PART, at};
use crate::math::exp;

/// Scales of the head that are tried: 1, and each times the square root of 1/2 as much as the one before.
pub const SCALES: usize = 24;
/// Losses of scales are counted in 1/256 nat.
const LOSS_PART: f32 = 256.0;
/// Largest loss of a sample, in nats: sums of [`ClosedForm::MOST_SAMPLES`] fit into 32 bits.
const MOST_LOSS: f32 = 64.0;

impl ClosedForm<'_> {
    /// The sample's loss at every scale: of a label that is probably wrong it counts as little as elsewhere.
    pub(super) fn add_losses(&mut self, label: usize) {
        let weight = self.weight(label) as f32 * PART;
        self.write_logits();
        let most = self.logits.iter().fold(f32::NEG_INFINITY, |most, &z| most.max(z));
        let mean = self.logits.iter().fold(0.0, |sum, &z| sum + z) / self.classes() as f32;
        let smoothing = self.settings.smoothing;
        let target = most - ((1.0 - smoothing) * at(self.logits, label) + smoothing * mean);
        let mut scale = 1.0;
        for sum in &mut *self.losses {
            let terms = self.logits.iter().fold(0.0, |sum, &z| sum + exp(scale * (z - most)));
            let loss = (crate::math::ln(terms) + scale * target).min(MOST_LOSS);
            *sum += crate::math::round(LOSS_PART * weight * loss) as i32;
            scale *= core::f32::consts::FRAC_1_SQRT_2;
        }
    }

    /// Scales the head so that the samples' loss is least. The likeliest class stays the likeliest; gradient steps then
    /// begin with logits of a size that they can move.
    pub(super) fn scale(&mut self) {
        let mut best = (i32::MAX, 1.0);
        let mut scale = 1.0;
        for &loss in &*self.losses {
            if loss < best.0 {
                best = (loss, scale);
            }
            scale *= core::f32::consts::FRAC_1_SQRT_2;
        }
        self.head.iter_mut().for_each(|w| *w *= best.1);
    }
}
