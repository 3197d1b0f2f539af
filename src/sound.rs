//! Which numbers f32 can carry through any run: asked wherever scales and weights come in from outside, with a pack, a
//! delta, a pushed tail, a saved run or a record in flash.
//!
//! The bounds are those of a [`Recipe`](crate::Recipe) that is accepted, taken to its extremes:
//!
//! - A scale is at most 2^20, that of activations at least 2^-100, so that what is divided by it stays a number. An int8 tail then stands for biases of at most `2^20 * 2^20 * 2^31 = 2^71` and for
//!   smaller weights, folded or not: below [`WEIGHT`].
//! - A step takes no gradient whose squared norm is not finite, so that each of its elements is below 2^64, and moves a weight
//!   by at most `lr v <= 2^10 * 2^64 / (1 - mu) <= 2^94`; a run has fewer than 2^32 steps. From [`WEIGHT`] none gets to 2^127:
//!   f32 ends at 2^128.
//! - A velocity from outside is at most 2^100: one step on, it has moved a weight by 2^110.

/// Smallest scale of activations: 2^-100.
pub(crate) const SMALLEST_SCALE: f32 = 1.0 / (1u128 << 100) as f32;
/// Largest scale: 2^20.
pub(crate) const LARGEST_SCALE: f32 = (1u32 << 20) as f32;
/// Largest magnitude of a weight, a bias or a gain: 2^72.
pub(crate) const WEIGHT: f32 = (1u128 << 72) as f32;
/// Largest magnitude in a velocity, or of a sum of gradients: 2^100.
const VELOCITY: f32 = (1u128 << 100) as f32;
/// Largest magnitude of an element of a gradient whose squared norm is finite: 2^64.
pub(crate) const GRADIENT: f32 = (1u128 << 64) as f32;

/// Whether a scale of activations is one that runs can bear; NaN is none.
pub(crate) fn scale(scale: f32) -> bool {
    (SMALLEST_SCALE..=LARGEST_SCALE).contains(&scale)
}

/// Whether a scale of weights is: those of dead channels may be as small as they like.
pub(crate) fn weight_scale(scale: f32) -> bool {
    scale > 0.0 && scale <= LARGEST_SCALE
}

/// Whether weights are all such as runs can bear.
pub(crate) fn weights(weights: &[f32]) -> bool {
    within(weights, WEIGHT)
}

/// Whether a velocity, or a sum of gradients, is one that a run leaves.
pub(crate) fn velocity(velocity: &[f32]) -> bool {
    within(velocity, VELOCITY)
}

fn within(values: &[f32], bound: f32) -> bool {
    // Written so that NaN is refused.
    values.iter().all(|value| value.abs() <= bound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Recipe;

    /// The extremes that the bounds are derived from are those that a recipe is held to.
    #[test]
    fn no_accepted_recipe_takes_a_sound_weight_out_of_f32() {
        let extreme =
            Recipe { learning_rate: 1e3, momentum: 0.999_999, weight_decay: 0.0, ..Recipe::DEFAULT };
        assert!(extreme.check().is_ok());
        assert!(Recipe { learning_rate: 1.001e3, ..extreme }.check().is_err());
        assert!(Recipe { momentum: 0.999_999_9, ..extreme }.check().is_err());
        let moved =
            f64::from(extreme.learning_rate) * f64::from(GRADIENT) / (1.0 - f64::from(extreme.momentum));
        assert!(f64::from(WEIGHT) + moved * f64::from(u32::MAX) < f64::from(f32::MAX));
        let bias = f64::from(LARGEST_SCALE).powi(2) * f64::from(i32::MAX);
        assert!(bias < f64::from(WEIGHT));
    }

    #[test]
    fn what_is_no_number_is_sound_nowhere() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 3e38, -3e38] {
            assert!(!scale(bad) && !weights(&[0.0, bad]) && !velocity(&[bad]), "{bad}");
        }
        assert!(!scale(0.0) && !scale(f32::MIN_POSITIVE) && scale(0.02));
        assert!(!weight_scale(0.0) && !weight_scale(f32::NAN) && weight_scale(1e-40) && !weight_scale(3e6));
    }
}
