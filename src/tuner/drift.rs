//! Signs that the world moves away from the tail, for the price of a pass or two a labelled sample.

use super::Tuner;
use super::arithmetic::Arithmetic;
use super::judge::Sample;
use crate::tail::Target;

/// What is watched, and from where on it is called drift.
/// [`crate::Tuner::watch`] has an example.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Watch {
    /// Samples that the running means remember: N.
    pub samples: u16,
    /// Radius of the step `e`: [`Tuner::evaluate`]'s.
    pub rho: f32,
    /// Highest running mean of the loss, in nats, that is no drift.
    pub loss: f32,
    /// Highest running mean of the rise, in nats, that is no drift.
    pub rise: f32,
}

/// Running means over the labelled samples that were observed since [`Tuner::watch`], each at the f32 weights of its
/// moment, before it was trained on: `m_k = m_(k-1) + (x_k - m_(k-1)) / min(k, N)`, the plain mean of the first N,
/// then an exponential one.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(not(feature = "_internals"), non_exhaustive)]
pub struct Drift {
    /// Samples seen, k.
    pub samples: u32,
    /// Running mean of `L(w)`, the sample's loss.
    pub loss: f32,
    /// Running mean of `L(w + e) - L(w)`, `e` the sample's own worst step of length rho. Samples for which it cannot be had, where
    /// [`Tuner::evaluate`]'s sharpness is NaN, leave it as it is.
    pub rise: f32,
    /// One of them is above its threshold.
    pub drifted: bool,
}

impl Drift {
    const NONE: Self = Self { samples: 0, loss: 0.0, rise: 0.0, drifted: false };

    fn with(mut self, watch: &Watch, loss: f32, rise: f32) -> Self {
        self.samples = self.samples.saturating_add(1);
        let share = self.samples.min(watch.samples.max(1).into()) as f32;
        self.loss += (loss - self.loss) / share;
        if !rise.is_nan() {
            self.rise += (rise - self.rise) / share;
        }
        // A loss that is no number is drift, and stays it.
        self.drifted = self.loss.is_nan() || self.loss > watch.loss || self.rise > watch.rise;
        self
    }
}

impl<'a, A: Arithmetic<'a>> Tuner<'a, A> {
    /// Follows, or with `None` no longer, how the samples given to [`Self::observe`] and its kin, anomalies apart, do
    /// before they are trained on. Each then takes a forward pass of the tail more, and a pass at `w + e`. What to do about drift is the caller's
    /// choice: tune, or back to the factory tail.
    ///
    /// ```no_run
    /// # fn demo(tuner: &mut flatmin::Tuner, input: &[i8], label: usize) -> Result<(), flatmin::TunerError> {
    /// tuner.watch(Some(flatmin::Watch { samples: 32, rho: 0.05, loss: 1.0, rise: 0.5 }));
    /// tuner.observe(input, label)?;
    /// if tuner.drift().is_some_and(|drift| drift.samples >= 32 && drift.drifted) {
    ///     tuner.start(*tuner.recipe())?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn watch(&mut self, watch: Option<Watch>) {
        self.watched = watch.map(|watch| (watch, Drift::NONE));
    }

    /// The running means since [`Self::watch`].
    pub fn drift(&self) -> Option<Drift> {
        self.watched.map(|(_, drift)| drift)
    }

    /// Takes in the sample whose latent was observed last.
    pub(super) fn follow(&mut self, target: Target) {
        let Some((watch, drift)) = self.watched else { return };
        // Weights that are being written know nothing of the world.
        if self.check_weights().is_err() {
            return;
        }
        if !self.latent_to_features() {
            return;
        }
        let (loss, _, [rise, _]) = self.risen(watch.rho, Sample::Observed(target));
        self.watched = Some((watch, drift.with(&watch, loss, rise)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: N = 2, losses 1, 3, 6.
    #[test]
    fn a_plain_mean_then_an_exponential_one() {
        let watch = Watch { samples: 2, rho: 0.1, loss: 3.0, rise: 1.0 };
        let first = Drift::NONE.with(&watch, 1.0, 0.5);
        assert_eq!(first, Drift { samples: 1, loss: 1.0, rise: 0.5, drifted: false });
        let second = first.with(&watch, 3.0, 1.5);
        assert_eq!(second, Drift { samples: 2, loss: 2.0, rise: 1.0, drifted: false });
        let third = second.with(&watch, 6.0, 1.0);
        assert_eq!(third, Drift { samples: 3, loss: 4.0, rise: 1.0, drifted: true });
        let lost = Drift::NONE.with(&watch, f32::NAN, 0.0);
        assert!(lost.drifted && lost.with(&watch, 1.0, 0.0).drifted);
        let without = first.with(&watch, 1.0, f32::NAN);
        assert_eq!(without, Drift { samples: 2, ..first });
        assert!(!without.drifted && without.with(&watch, 1.0, 4.0).drifted);
    }
}
