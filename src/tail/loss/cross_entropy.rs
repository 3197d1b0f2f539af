//! Softmax cross-entropy, with label smoothing.

use crate::math;

/// `loss = ln(sum_j exp(z_j)) - sum_j q_j z_j`, and its gradient `d_logits[j] = softmax(z)_j - q_j`, written over
/// `d_logits`, with `q_j = (1 - alpha) [j = label] + alpha / K` for K classes. The largest logit is taken off
/// first, so that no finite logits overflow; with smoothing, their distances must not either. Non-finite logits
/// give a non-finite loss. Without smoothing the result is that of the bare label, in every bit.
///
/// ```
/// let mut d_logits = [0.0; 2];
/// let loss = flatmin::internals::tail::softmax_cross_entropy(&[0.0, 0.0], 1, 0.0, &mut d_logits);
/// assert!((loss - 2f32.ln()).abs() < 1e-6);
/// assert_eq!(d_logits, [0.5, -0.5]);
///
/// flatmin::internals::tail::softmax_cross_entropy(&[0.0, 0.0], 1, 0.5, &mut d_logits); // q = 1/4, 3/4
/// assert_eq!(d_logits, [0.25, -0.25]);
/// ```
pub fn softmax_cross_entropy(logits: &[f32], label: usize, smoothing: f32, d_logits: &mut [f32]) -> f32 {
    let even = smoothing / logits.len().max(1) as f32;
    // `f32::max` would drop a NaN.
    let largest = logits.iter().fold(f32::NEG_INFINITY, |m, &z| if z > m || z.is_nan() { z } else { m });
    let mut sum = 0.0;
    for (d, &z) in d_logits.iter_mut().zip(logits) {
        *d = math::exp(z - largest);
        sum += *d;
    }
    d_logits.iter_mut().for_each(|d| *d /= sum);
    if let Some(d) = d_logits.get_mut(label) {
        *d -= 1.0 - smoothing;
    }
    // Taking off nothing changes nothing.
    if even != 0.0 {
        d_logits.iter_mut().for_each(|d| *d -= even);
    }
    let wanted = logits.get(label).copied().unwrap_or(f32::NAN) - largest;
    if smoothing == 0.0 {
        return math::ln(sum) - wanted;
    }
    let spread = logits.iter().fold(0.0, |spread, &z| spread + even * (z - largest));
    math::ln(sum) - ((1.0 - smoothing) * wanted + spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_is_finite_for_any_finite_logits_and_not_otherwise() {
        let mut d = [0.0; 3];
        assert_eq!(softmax_cross_entropy(&[f32::MAX, 0.0, f32::MIN / 2.0], 0, 0.0, &mut d), 0.0);
        assert!(softmax_cross_entropy(&[f32::NAN, 0.0, 1.0], 1, 0.0, &mut d).is_nan());
        assert!(softmax_cross_entropy(&[0.0, f32::NAN, 1.0], 0, 0.0, &mut d).is_nan());
        assert!(!softmax_cross_entropy(&[f32::INFINITY, 0.0, 1.0], 1, 0.0, &mut d).is_finite());
    }

    /// Loss in f64, from its definition as an expectation of `-ln p_j` under q.
    fn loss_f64(logits: &[f64], label: usize, smoothing: f32) -> f64 {
        let sum: f64 = logits.iter().map(|z| z.exp()).sum();
        let alpha = f64::from(smoothing);
        let q = |j| (1.0 - alpha) * f64::from(u8::from(j == label)) + alpha / logits.len() as f64;
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
                let mut d = [0.0; 5];
                let loss = softmax_cross_entropy(&logits, label, smoothing, &mut d);
                let wide = logits.map(f64::from);
                assert!(
                    (f64::from(loss) - loss_f64(&wide, label, smoothing)).abs() < loss_bound,
                    "{label} {smoothing}: {loss}"
                );
                for (j, &d) in d.iter().enumerate() {
                    let at = |step: f64| {
                        let mut moved = wide;
                        moved[j] += step;
                        loss_f64(&moved, label, smoothing)
                    };
                    let slope = (at(STEP) - at(-STEP)) / (2.0 * STEP);
                    assert!(
                        (f64::from(d) - slope).abs() < slope_bound,
                        "{label} {smoothing} logit {j}: {d} for {slope}"
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
                let found_loss = softmax_cross_entropy(&logits, label, 0.0, &mut found);
                assert_eq!(found_loss.to_bits(), loss.to_bits(), "{logits:?} {label}");
                assert_eq!(found.map(f32::to_bits), d.map(f32::to_bits), "{logits:?} {label}");
            }
        }
    }
}
