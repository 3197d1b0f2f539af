//! Softmax cross-entropy of fixed-point logits, without cancellation.
//!
//! With z_m the largest logit but the label's, `N_j = exp(z_j - z_m)` and `S = sum of N_j` over the classes but the
//! label y, the gradient is `delta_j = F N_j`, `delta_y = -F S`, with `F S = 1 - p_y` the only thing that depends on the
//! margin. The direction therefore always has its 15 bits, and the size is an f32: no margin below 80 makes it 0.

use super::number::{Factor, to_i16};
use crate::kernels::exp_of_negative;
use crate::math;

/// Fractional bits of a logit, in nats.
pub(crate) const LOGIT_BITS: u32 = 20;
/// The largest delta of a sample.
const LARGEST: i16 = i16::MAX;

/// A sum of cross-entropies: `ln(product) + linear`, so that one logarithm does for many samples.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Losses {
    product: f32,
    linear: f32,
}

impl Losses {
    pub const NONE: Self = Self { product: 1.0, linear: 0.0 };

    pub fn add(&mut self, other: Self) {
        // Each is at least 1, and at most the number of classes.
        self.product *= other.product;
        self.linear += other.linear;
        if self.product > 1e30 {
            *self = Self { product: 1.0, linear: self.sum() };
        }
    }

    /// The sum, in nats.
    pub fn sum(&self) -> f32 {
        self.linear + math::ln(self.product)
    }
}

/// `e^-x` of `x` with [`LOGIT_BITS`] fractional bits as `mantissa * 2^-(31 + halvings)`, the mantissa at least 2^30.
fn exp_of_minus(x: u32) -> (i32, u32) {
    /// 1 / ln 2 with 30 fractional bits, ln 2 with 40.
    const PER_HALVING: u64 = 1_549_082_005;
    const HALVING: i64 = 762_123_384_786;
    // Below 2^32 / 2^20 / ln 2 = 5910.
    let halvings = ((u64::from(x) * PER_HALVING) >> (30 + LOGIT_BITS)) as u32;
    let rest = ((i64::from(x) << (40 - LOGIT_BITS)) - i64::from(halvings) * HALVING) >> 14;
    // With 26 fractional bits, below 0.7.
    let rest = rest.clamp(0, (1 << 26) - 1) as i32;
    (exp_of_negative(-rest), halvings)
}

/// Two to the minus `n`; 0 below the normal numbers.
fn power(n: u32) -> f32 {
    if n > 126 { 0.0 } else { f32::from_bits((127 - n) << 23) }
}

/// A label, and the share of it that is spread evenly over all classes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SmoothLabel {
    pub label: usize,
    pub smoothing: f32,
}

impl From<usize> for SmoothLabel {
    fn from(label: usize) -> Self {
        Self { label, smoothing: 0.0 }
    }
}

/// Writes the gradient by the logits, in units of what is returned beside the loss. `scratch` is as long as the logits.
/// With smoothing every delta is less by its class's share, in f32, one a class.
pub(crate) fn softmax_cross_entropy(
    logits: &[i32],
    SmoothLabel { label, smoothing }: SmoothLabel,
    scratch: &mut [i32],
    deltas: &mut [i16],
) -> (Losses, f32) {
    let others = || logits.iter().enumerate().filter(|&(class, _)| class != label).map(|(_, &z)| z);
    let (Some(largest), Some(&own)) = (others().max(), logits.get(label)) else {
        deltas.fill(0);
        return (Losses::NONE, 0.0);
    };
    let mut sum = 0u64;
    for (class, (power, &z)) in scratch.iter_mut().zip(logits).enumerate() {
        let (mantissa, halvings) = exp_of_minus(z.abs_diff(largest));
        // Of 31 bits, not negative.
        *power = if class == label { 0 } else { mantissa.checked_shr(halvings).unwrap_or(0) };
        sum += u64::from(power.cast_unsigned());
    }
    // At least 2^16 less one: the largest is 2^31 less one.
    let whole = u32::try_from(sum >> 15).unwrap_or(u32::MAX).max(1);
    for (class, (d, &power)) in deltas.iter_mut().zip(scratch.iter()).enumerate() {
        // A product below 2^31, to which at most 65,535 classes add as much.
        let share = (power.cast_unsigned() >> 15).wrapping_mul(LARGEST.unsigned_abs().into());
        *d = if class == label { -LARGEST } else { (share.saturating_add(whole / 2) / whole) as i16 };
    }
    let sum = sum as f32 * power(31);
    let (mantissa, halvings) = exp_of_minus(own.abs_diff(largest));
    let between = mantissa as f32 * power(31) * power(halvings);
    let (product, linear, wrong) = if own >= largest {
        let odds = sum * between;
        (1.0 + odds, 0.0, odds / (1.0 + odds))
    } else {
        let distance = own.abs_diff(largest) as f32 * power(LOGIT_BITS);
        (sum + between, distance, sum / (sum + between))
    };
    if smoothing == 0.0 {
        return (Losses { product, linear }, wrong / f32::from(LARGEST));
    }
    let even = smoothing / logits.len() as f32;
    let share = wrong / sum * power(31);
    let delta = |class: usize, power: i32| match class == label {
        true => smoothing - wrong - even,
        false => power as f32 * share - even,
    };
    let powers = || scratch.iter().enumerate().map(|(class, &power)| delta(class, power));
    let largest = powers().fold(0.0f32, |most, d| most.max(d.abs()));
    let unit = largest / f32::from(LARGEST);
    if !unit.is_normal() {
        deltas.fill(0);
        return (Losses { product, linear }, 0.0);
    }
    for (to, d) in deltas.iter_mut().zip(powers()) {
        *to = to_i16(Factor::new(d / unit).apply(1));
    }
    // What the even shares add: their distances below the label's own logit.
    let below: i64 = logits.iter().map(|&z| i64::from(own) - i64::from(z)).sum();
    let linear = linear + even * (below as f32 * power(LOGIT_BITS));
    (Losses { product, linear }, unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn check(logits: &[f64], label: usize, smoothing: f32) {
        let unit = f64::from(1u32 << LOGIT_BITS);
        let fixed: Vec<i32> = logits.iter().map(|z| (z * unit).round() as i32).collect();
        let exact: Vec<f64> = fixed.iter().map(|&z| f64::from(z) / unit).collect();
        let (mut scratch, mut deltas) = (std::vec![0; fixed.len()], std::vec![0; fixed.len()]);
        let (loss, delta_unit) =
            softmax_cross_entropy(&fixed, SmoothLabel { label, smoothing }, &mut scratch, &mut deltas);
        // 1 - p of the label from the others, which does not cancel.
        let from_own = |z: f64| (z - exact[label]).exp();
        let odds: f64 =
            (exact.iter().enumerate()).filter(|(j, _)| *j != label).map(|(_, &z)| from_own(z)).sum();
        let wrong = odds / (1.0 + odds);
        let alpha = f64::from(smoothing);
        let even = alpha / exact.len() as f64;
        let largest = wrong.max(alpha) * 2f64.powi(-15);
        for (j, (&d, &z)) in deltas.iter().zip(&exact).enumerate() {
            let p = from_own(z) / (1.0 + odds);
            let expected = if j == label { alpha - wrong } else { p } - even;
            let found = f64::from(d) * f64::from(delta_unit);
            assert!((found - expected).abs() <= largest * 1.01, "{logits:?} {label}: {found} for {expected}");
            assert!(smoothing > 0.0 || expected == 0.0 || j != label || found != 0.0);
        }
        let spread: f64 = exact.iter().map(|z| even * (exact[label] - z)).sum();
        let expected = odds.ln_1p() + spread;
        let bound =
            if cfg!(feature = "micromath") { 2e-4 } else { 4e-7 * (1.0 + expected.abs() + spread.abs()) };
        assert!(
            (f64::from(loss.sum()) - expected).abs() < bound,
            "{logits:?}: {} for {expected}",
            loss.sum()
        );
    }

    #[test]
    fn gradient_and_loss_are_those_of_double_precision_at_any_margin() {
        let mut random = 1u32;
        let mut next = |range: f64| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            range * (f64::from(random >> 8) / f64::from(1 << 23) - 1.0)
        };
        for case in 0..2_000 {
            let classes = 2 + case % 11;
            let range = [0.1, 2.0, 10.0, 40.0][case % 4];
            let logits: Vec<f64> = (0..classes).map(|_| next(range)).collect();
            check(&logits, case % classes, 0.0);
            check(&logits, case % classes, 0.4);
        }
        for margin in [0.0, 5.0, 11.0, 15.0, 18.0, 30.0, 51.0, 79.0] {
            check(&[margin, 0.0, -0.5], 0, 0.0);
            check(&[margin, 0.0, -0.5], 1, 0.0);
        }
    }

    #[test]
    fn what_is_out_of_range_is_no_panic() {
        let (mut scratch, mut deltas) = ([0; 3], [0; 3]);
        for logits in [[i32::MAX, i32::MIN, 0], [0; 3], [i32::MIN; 3]] {
            for label in 0..4 {
                let (loss, unit) = softmax_cross_entropy(&logits, label.into(), &mut scratch, &mut deltas);
                assert!(loss.sum().is_finite() && unit.is_finite() && unit >= 0.0);
            }
        }
        assert_eq!(softmax_cross_entropy(&[5], 0.into(), &mut scratch, &mut deltas[..1]).1, 0.0);
    }
}
