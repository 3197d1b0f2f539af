//! Softmax cross-entropy.

use crate::math;

/// `loss = ln(sum_j exp(z_j)) - z_label`, and its gradient `d_logits[j] = softmax(z)_j - [j = label]`, written
/// over `d_logits`. The largest logit is taken off first, so that no finite logits overflow. Non-finite logits
/// give a non-finite loss.
///
/// ```
/// let mut d_logits = [0.0; 2];
/// let loss = flatmin::tail::softmax_cross_entropy(&[0.0, 0.0], 1, &mut d_logits);
/// assert!((loss - 2f32.ln()).abs() < 1e-6);
/// assert_eq!(d_logits, [0.5, -0.5]);
/// ```
pub fn softmax_cross_entropy(logits: &[f32], label: usize, d_logits: &mut [f32]) -> f32 {
    // `f32::max` would drop a NaN.
    let largest = logits.iter().fold(f32::NEG_INFINITY, |m, &z| if z > m || z.is_nan() { z } else { m });
    let mut sum = 0.0;
    for (d, &z) in d_logits.iter_mut().zip(logits) {
        *d = math::exp(z - largest);
        sum += *d;
    }
    for (class, d) in d_logits.iter_mut().enumerate() {
        *d /= sum;
        if class == label {
            *d -= 1.0;
        }
    }
    let target = logits.get(label).copied().unwrap_or(f32::NAN);
    math::ln(sum) - (target - largest)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_is_finite_for_any_finite_logits_and_not_otherwise() {
        let mut d = [0.0; 3];
        assert_eq!(softmax_cross_entropy(&[f32::MAX, 0.0, f32::MIN / 2.0], 0, &mut d), 0.0);
        assert!(softmax_cross_entropy(&[f32::NAN, 0.0, 1.0], 1, &mut d).is_nan());
        assert!(softmax_cross_entropy(&[0.0, f32::NAN, 1.0], 0, &mut d).is_nan());
        assert!(!softmax_cross_entropy(&[f32::INFINITY, 0.0, 1.0], 1, &mut d).is_finite());
    }

    #[test]
    fn argmax_takes_the_first_of_equals() {
        assert_eq!(argmax(&[1i8, 3, 3]), 1);
        assert_eq!(argmax::<f32>(&[]), 0);
    }
}
