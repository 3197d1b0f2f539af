//! Binary cross-entropy of logits, with label smoothing.

use crate::math;

/// `loss = sum_i ln(1 + exp(z_i)) - y_i z_i`, and over `d_logits` its gradient `1 / (1 + exp(-z_i)) - y_i`: the negative
/// logarithm of the likelihood of the answers `label`, bit i of which is that of output i. With smoothing,
/// `y_i = (1 - alpha) bit_i + alpha / 2`. Each term is taken as `max(z, 0) - y z + ln(1 + exp(-|z|))`, so that no finite
/// logit overflows. A logit that is not finite gives a loss that is not finite.
///
/// ```
/// let mut d_logits = [0.0; 2];
/// let loss = flatmin::internals::tail::binary_cross_entropy(&[0.0, 40.0], 0b10, 0.0, &mut d_logits);
/// assert!((loss - 2f32.ln()).abs() < 1e-6);
/// assert_eq!(d_logits, [0.5, 0.0]);
/// ```
pub fn binary_cross_entropy(logits: &[f32], label: usize, smoothing: f32, d_logits: &mut [f32]) -> f32 {
    let mut loss = 0.0;
    for (bit, (d, &z)) in d_logits.iter_mut().zip(logits).enumerate() {
        let yes = label.checked_shr(bit as u32).unwrap_or(0) & 1 == 1;
        let wanted = 0.5 * smoothing + if yes { 1.0 - smoothing } else { 0.0 };
        // The exponential of a negative number does not overflow.
        let small = math::exp(-z.abs());
        let inverse = 1.0 / (1.0 + small);
        *d = if z < 0.0 { small * inverse } else { inverse } - wanted;
        let above = if z < 0.0 { 0.0 } else { z };
        loss += (above - wanted * z) + math::ln(1.0 + small);
    }
    loss
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss_f64(logits: &[f64], label: usize, alpha: f64) -> f64 {
        let p = |z: f64| 1.0 / (1.0 + (-z).exp());
        let term = |(bit, &z): (usize, &f64)| {
            let y = (1.0 - alpha) * f64::from((label >> bit & 1) as u8) + alpha / 2.0;
            -(y * p(z).ln() + (1.0 - y) * p(-z).ln())
        };
        logits.iter().enumerate().map(term).sum()
    }

    #[test]
    fn loss_and_gradient_are_those_of_double_precision() {
        const STEP: f64 = 1e-5;
        let (loss_bound, slope_bound) =
            if cfg!(feature = "micromath") { (1e-2, 4.8e-3) } else { (4e-6, 1e-6) };
        let logits = [0.3f32, -2.0, 14.5, 0.0, -9.25];
        for alpha in [0.0, 0.05, 0.5] {
            for label in 0..32 {
                let mut d = [0.0; 5];
                let loss = binary_cross_entropy(&logits, label, alpha, &mut d);
                let (wide, alpha) = (logits.map(f64::from), f64::from(alpha));
                let exact = loss_f64(&wide, label, alpha);
                assert!((f64::from(loss) - exact).abs() < loss_bound, "{label}: {loss} for {exact}");
                for (j, &d) in d.iter().enumerate() {
                    let at = |step: f64| {
                        let mut moved = wide;
                        moved[j] += step;
                        loss_f64(&moved, label, alpha)
                    };
                    let slope = (at(STEP) - at(-STEP)) / (2.0 * STEP);
                    assert!((f64::from(d) - slope).abs() < slope_bound, "{label} logit {j}: {d} for {slope}");
                }
            }
        }
    }

    #[test]
    fn loss_is_finite_for_any_finite_logits_and_not_otherwise() {
        let mut d = [0.0];
        for (z, label, expected) in [(200.0, 0, 200.0), (200.0, 1, 0.0), (-1e30, 1, 1e30), (-1e30, 0, 0.0)] {
            assert_eq!(binary_cross_entropy(&[z], label, 0.0, &mut d), expected);
        }
        for z in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for label in [0, 1] {
                assert!(!binary_cross_entropy(&[z], label, 0.0, &mut d).is_finite(), "{z} {label}");
            }
        }
    }
}
