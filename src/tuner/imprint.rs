//! The first weights of a class that is added: imprinted from the mean feature of its samples, after Qi, Brown and Lowe
//! (CVPR 2018, "Low-Shot Learning with Imprinted Weights"), section 3.2.
//!
//! There, features and rows have unit length and no bias, and a new class's row is the mean feature of its samples,
//! scaled to that length. Here rows have any length, features are often those of a ReLU, which all point the same way,
//! and there is a bias. So the row of the new class is
//!
//! `w = mean_k w_k + t S^-1 d`, `d = m - u`:
//!
//! `m` is the mean feature of its samples and `u` that of all others in the replay (0 without any), so that what all
//! features share has no say; the mean of the known rows is what a softmax cannot tell from no row at all. `S` is the
//! covariance within classes, the factory's of the pack's statistics or else the replay's own, shrunk to its mean variance
//! (`discriminant.rs`): what varies within all classes tells none of them from another. `t` is the scale of the known rows in
//! the same units. Where nothing is known of `S` it is 1, and `t` gives `d` the mean length of the known rows. The bias is
//!
//! `b = -(M + U) / 2`, with the margin `w x - max_k (w_k x + b_k)` of a sample `x` over its best known class:
//!
//! M is the mean margin of the new class's samples, U that of all others. Between the two the new class begins. Without
//! others, it is the mean of the known biases.

use crate::cpu::lanes::norm_squared;

/// `row += share * x`.
pub(crate) fn gather(row: &mut [f32], share: f32, x: &[f32]) {
    row.iter_mut().zip(x).for_each(|(sum, &x)| *sum += share * x);
}

/// The row of the direction `row`, as above; `known` are the rows of the known classes, one after the other, `scale` theirs to
/// the direction, if it is known. False, and the row is not to be used, if it is no direction.
pub(crate) fn imprint(known: &[f32], row: &mut [f32], scale: Option<f32>) -> bool {
    let rows = || known.chunks_exact(row_length(row));
    let share = 1.0 / rows().len().max(1) as f32;
    let length =
        rows().map(|row| crate::math::sqrt(norm_squared(row))).fold(0.0, |sum, norm| sum + norm) * share;
    let own = length / crate::math::sqrt(norm_squared(row));
    let factor = scale.unwrap_or(own);
    if !(own.is_finite() && factor.is_finite()) {
        return false;
    }
    row.iter_mut().for_each(|d| *d *= factor);
    known.chunks_exact(row_length(row)).for_each(|known| gather(row, share, known));
    // All zeros would be spare.
    row.iter().all(|w| w.is_finite()) && row.iter().any(|&w| w != 0.0)
}

fn row_length(row: &[f32]) -> usize {
    row.len().max(1)
}

/// `w x - max_k z_k` of a sample, `z` being the known classes' logits.
pub(crate) fn margin(row: &[f32], x: &[f32], logits: &[f32]) -> f32 {
    let own = row.iter().zip(x).fold(0.0, |sum, (w, x)| sum + w * x);
    own - logits.iter().fold(f32::NEG_INFINITY, |most, &z| most.max(z))
}

/// The bias of mean margins of the new class's samples and of all others, if there are any; else that of `known` biases.
pub(crate) fn bias(own: f32, others: Option<f32>, known: &[f32]) -> f32 {
    match others {
        Some(others) => -0.5 * (own + others),
        None => known.iter().fold(0.0, |sum, b| sum + b) / known.len().max(1) as f32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worked by hand: rows (3, 4) and (0, -5), both of length 5, of mean (1.5, -0.5); the new class lies at (5, 2), the
    /// others at (1, -1), so that d = (4, 3) of length 5.
    #[test]
    fn a_row_is_the_direction_at_the_length_of_the_known_ones_beside_their_mean() {
        let known = [3.0, 4.0, 0.0, -5.0];
        let mut row = [0.0; 2];
        for x in [[4.0, 2.0], [6.0, 2.0]] {
            gather(&mut row, 0.5, &x);
        }
        gather(&mut row, -1.0, &[1.0, -1.0]);
        assert_eq!(row, [4.0, 3.0]);
        assert!(imprint(&known, &mut row, None));
        assert_eq!(row, [5.5, 2.5]);
        let mut row = [4.0, 3.0];
        assert!(imprint(&known, &mut row, Some(0.5)));
        assert_eq!(row, [3.5, 1.0]);
    }

    #[test]
    fn a_class_begins_midway_between_the_margins() {
        // 5.5 * 2 + 2.5 * 4 = 21, the best known logit is 1.
        assert_eq!(margin(&[5.5, 2.5], &[2.0, 4.0], &[1.0, -3.0]), 20.0);
        assert_eq!(bias(20.0, Some(-4.0), &[7.0]), -8.0);
        assert_eq!(bias(20.0, None, &[7.0, -1.0]), 3.0);
    }

    #[test]
    fn what_is_no_direction_is_refused() {
        let known = [3.0, 4.0];
        for mut row in [[0.0, 0.0], [f32::NAN, 1.0], [f32::INFINITY, 1.0], [-3.0, -4.0]] {
            assert!(!imprint(&known, &mut row, None), "{row:?}");
        }
    }
}
