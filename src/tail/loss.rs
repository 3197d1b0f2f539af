//! Softmax cross-entropy, with label smoothing.

use crate::math;

/// The distribution that a sample's softmax is drawn to. A bare label is one without smoothing.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Target {
    /// The class.
    pub label: usize,
    /// Share alpha of the probability that is spread evenly over all classes, from 0 to below 1
    /// (Szegedy et al. 2015, section 7).
    pub smoothing: f32,
}

impl From<usize> for Target {
    fn from(label: usize) -> Self {
        Self { label, smoothing: 0.0 }
    }
}

/// `loss = ln(sum_j exp(z_j)) - sum_j q_j z_j`, and its gradient `d_logits[j] = softmax(z)_j - q_j`, written over
/// `d_logits`, with `q_j = (1 - alpha) [j = label] + alpha / K` for K classes. The largest logit is taken off
/// first, so that no finite logits overflow; with smoothing, their distances must not either. Non-finite logits
/// give a non-finite loss. Without smoothing the result is that of the bare label, in every bit.
///
/// ```
/// let mut d_logits = [0.0; 2];
/// let loss = flatmin::tail::softmax_cross_entropy(&[0.0, 0.0], 1, &mut d_logits);
/// assert!((loss - 2f32.ln()).abs() < 1e-6);
/// assert_eq!(d_logits, [0.5, -0.5]);
///
/// let target = flatmin::tail::Target { label: 1, smoothing: 0.5 }; // q = 1/4, 3/4
/// flatmin::tail::softmax_cross_entropy(&[0.0, 0.0], target, &mut d_logits);
/// assert_eq!(d_logits, [0.25, -0.25]);
/// ```
pub fn softmax_cross_entropy(logits: &[f32], target: impl Into<Target>, d_logits: &mut [f32]) -> f32 {
    let Target { label, smoothing } = target.into();
    let even = smoothing / logits.len().max(1) as f32;
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
            *d -= 1.0 - smoothing;
        }
        *d -= even;
    }
    let wanted = logits.get(label).copied().unwrap_or(f32::NAN) - largest;
    if smoothing == 0.0 {
        return math::ln(sum) - wanted;
    }
    let spread = logits.iter().fold(0.0, |spread, &z| spread + even * (z - largest));
    math::ln(sum) - ((1.0 - smoothing) * wanted + spread)
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

    /// Loss in f64, from its definition as an expectation of `-ln p_j` under q.
    fn loss_f64(logits: &[f64], target: Target) -> f64 {
        let sum: f64 = logits.iter().map(|z| z.exp()).sum();
        let alpha = f64::from(target.smoothing);
        let q = |j| (1.0 - alpha) * f64::from(u8::from(j == target.label)) + alpha / logits.len() as f64;
        logits.iter().enumerate().map(|(j, z)| -q(j) * (z.exp() / sum).ln()).sum()
    }

    #[test]
    fn smoothed_loss_and_gradient_are_those_of_double_precision() {
        const STEP: f64 = 1e-5;
        // f32 rounding; with micromath its exp, off by up to 2.39e-3: once in a logarithm, twice in a quotient.
        let (loss_bound, slope_bound) =
            if cfg!(feature = "micromath") { (2.5e-3, 4.8e-3) } else { (2e-6, 1e-6) };
        let logits = [0.3f32, -2.0, 4.5, 1.25, 0.0];
        for smoothing in [0.0, 0.05, 0.3, 0.9] {
            for label in 0..logits.len() {
                let target = Target { label, smoothing };
                let mut d = [0.0; 5];
                let loss = softmax_cross_entropy(&logits, target, &mut d);
                let wide = logits.map(f64::from);
                assert!((f64::from(loss) - loss_f64(&wide, target)).abs() < loss_bound, "{target:?}: {loss}");
                for (j, &d) in d.iter().enumerate() {
                    let at = |step: f64| {
                        let mut moved = wide;
                        moved[j] += step;
                        loss_f64(&moved, target)
                    };
                    let slope = (at(STEP) - at(-STEP)) / (2.0 * STEP);
                    assert!(
                        (f64::from(d) - slope).abs() < slope_bound,
                        "{target:?} logit {j}: {d} for {slope}"
                    );
                }
            }
        }
    }

    #[test]
    fn no_smoothing_is_the_bare_label_in_every_bit() {
        // Written out as it was before there was smoothing.
        let bare = |logits: &[f32; 4], label: usize| {
            let largest = logits.iter().fold(f32::NEG_INFINITY, |m, &z| m.max(z));
            let powers = logits.map(|z| math::exp(z - largest));
            let sum = powers.iter().fold(0.0, |sum, p| sum + p);
            let mut d = powers.map(|p| p / sum);
            d[label] -= 1.0;
            (math::ln(sum) - (logits[label] - largest), d)
        };
        for logits in
            [[0.1, -0.7, 3.3, 2.0], [0.0; 4], [90.0, -90.0, 89.0, -0.0], [f32::MAX, 0.0, 1.0, -1e38]]
        {
            for label in 0..4 {
                let (loss, d) = bare(&logits, label);
                let mut found = [f32::NAN; 4];
                let target = Target { label, smoothing: 0.0 };
                let found_loss = softmax_cross_entropy(&logits, target, &mut found);
                assert_eq!(found_loss.to_bits(), loss.to_bits(), "{logits:?} {label}");
                assert_eq!(found.map(f32::to_bits), d.map(f32::to_bits), "{logits:?} {label}");
            }
        }
    }

    #[test]
    fn argmax_takes_the_first_of_equals() {
        assert_eq!(argmax(&[1i8, 3, 3]), 1);
        assert_eq!(argmax::<f32>(&[]), 0);
    }
}
