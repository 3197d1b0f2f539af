//! Learning-rate schedules.

use crate::math;

/// How the learning rate runs over a tuning run.
/// [`crate::Recipe`] names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(not(feature = "_internals"), non_exhaustive)]
pub enum Schedule {
    /// The same rate throughout.
    Constant,
    /// `lr * (1 + cos(pi t / T)) / 2` at step t of T (Loshchilov and Hutter 2016, without restarts).
    Cosine,
}

impl Schedule {
    /// The learning rate at `step` (from 0) of `steps`.
    ///
    /// ```
    /// use flatmin::Schedule;
    /// assert_eq!(Schedule::Cosine.rate(0.2, 0, 10), 0.2);
    /// assert!((Schedule::Cosine.rate(0.2, 5, 10) - 0.1).abs() < 1e-6);
    /// assert_eq!(Schedule::Constant.rate(0.2, 9, 10), 0.2);
    /// ```
    #[doc(hidden)]
    pub fn rate(self, learning_rate: f32, step: u32, steps: u32) -> f32 {
        match self {
            Self::Constant => learning_rate,
            Self::Cosine => {
                let done = step.min(steps) as f32 / steps.max(1) as f32;
                learning_rate * (0.5 * (1.0 + math::cos(core::f32::consts::PI * done)))
            }
        }
    }
}
