//! Means and paired differences with bootstrap intervals (Efron and Tibshirani 1993, percentile method).

use flatmin_sim::wearers::SplitMix64;
use serde::Serialize;

/// Resamples of a bootstrap.
const RESAMPLES: usize = 10_000;
/// Seed of the resampling, so that the same results give the same intervals.
const SEED: u64 = 95;

/// A mean and where it is likely to be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// The mean.
    pub mean: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// A number without an interval.
    pub fn exact(mean: f64) -> Self {
        Self { mean, low: mean, high: mean }
    }

    /// Whether 0 is outside.
    pub fn excludes_zero(&self) -> bool {
        self.low > 0.0 || self.high < 0.0
    }

    /// The same in other units.
    pub fn scaled(self, factor: f64) -> Self {
        Self { mean: self.mean * factor, low: self.low * factor, high: self.high * factor }
    }
}

/// A mean over wearers with its intervals. Each wearer counts the same.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// For further wearers: wearers are resampled, then the draws of each.
    pub wearers: Interval,
    /// For further draws of these very wearers: draws alone are resampled.
    pub draws: Interval,
    /// [`Self::wearers`] at the level that keeps all comparisons of a table together at 95 % (Bonferroni).
    pub simultaneous: Interval,
}

impl Estimate {
    /// Of `values[wearer][draw]`; `comparisons` is how many of its kind the table has.
    pub fn of(values: &[Vec<f64>], comparisons: usize) -> Self {
        let mean = mean(values.iter().map(|draws| mean_of(draws)));
        let mut random = SplitMix64::new(SEED);
        let (mut wearers, mut draws) = (Vec::with_capacity(RESAMPLES), Vec::with_capacity(RESAMPLES));
        for _ in 0..RESAMPLES {
            let picked = (0..values.len()).map(|_| random.below(values.len())).collect::<Vec<_>>();
            wearers.push(self::mean(picked.iter().map(|&w| resampled(&values[w], &mut random))));
            draws.push(self::mean(values.iter().map(|own| resampled(own, &mut random))));
        }
        wearers.sort_by(f64::total_cmp);
        draws.sort_by(f64::total_cmp);
        let between = |sorted: &[f64], level: f64| {
            let tail = (1.0 - level) / 2.0;
            Interval { mean, low: quantile(sorted, tail), high: quantile(sorted, 1.0 - tail) }
        };
        Self {
            wearers: between(&wearers, 0.95),
            draws: between(&draws, 0.95),
            simultaneous: between(&wearers, 1.0 - 0.05 / comparisons.max(1) as f64),
        }
    }

    /// A number without anything random about it.
    pub fn exact(value: f64) -> Self {
        let interval = Interval { mean: value, low: value, high: value };
        Self { wearers: interval, draws: interval, simultaneous: interval }
    }

    /// The same in other units.
    pub fn scaled(self, factor: f64) -> Self {
        Self {
            wearers: self.wearers.scaled(factor),
            draws: self.draws.scaled(factor),
            simultaneous: self.simultaneous.scaled(factor),
        }
    }
}

fn resampled(values: &[f64], random: &mut SplitMix64) -> f64 {
    mean((0..values.len()).map(|_| values[random.below(values.len())]))
}

fn mean_of(values: &[f64]) -> f64 {
    mean(values.iter().copied())
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len().max(1) as f64;
    values.sum::<f64>() / count
}

/// Linear between order statistics.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let at = share.clamp(0.0, 1.0) * last as f64;
    let (below, above) = (at.floor() as usize, at.ceil() as usize);
    sorted[below] + (at - at.floor()) * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Draws from a standard normal, by the sum of twelve uniforms.
    fn normal(random: &mut SplitMix64) -> f64 {
        (0..12).map(|_| random.next_u64() as f64 / u64::MAX as f64).sum::<f64>() - 6.0
    }

    #[test]
    fn intervals_are_those_of_the_standard_errors() {
        // Effects of wearers with deviation 2, noise of draws with deviation 1.
        let mut random = SplitMix64::new(7);
        let values: Vec<Vec<f64>> = (0..100)
            .map(|_| {
                let own = 3.0 + 2.0 * normal(&mut random);
                (0..25).map(|_| own + normal(&mut random)).collect()
            })
            .collect();
        let means: Vec<f64> = values.iter().map(|draws| mean_of(draws)).collect();
        let center = mean_of(&means);
        let variance = means.iter().map(|m| (m - center).powi(2)).sum::<f64>() / 99.0;
        let estimate = Estimate::of(&values, 20);
        assert!((estimate.wearers.mean - center).abs() < 1e-12);
        let half = |interval: Interval| (interval.high - interval.low) / 2.0;
        // Resampling draws inside of wearers adds their variance, 1/25, once more.
        let expected = 1.96 * ((variance + 1.0 / 25.0) / 100.0).sqrt();
        assert!((half(estimate.wearers) / expected - 1.0).abs() < 0.05);
        assert!((half(estimate.draws) / (1.96 / 50.0) - 1.0).abs() < 0.08);
        // 0.05 / 20 two-sided: 3.023 standard errors.
        assert!((half(estimate.simultaneous) / half(estimate.wearers) / (3.023 / 1.96) - 1.0).abs() < 0.06);
    }

    #[test]
    fn equal_values_leave_nothing_open() {
        let estimate = Estimate::of(&[vec![0.25; 3], vec![0.25; 3]], 1);
        assert_eq!(estimate.wearers, Interval { mean: 0.25, low: 0.25, high: 0.25 });
        assert!(estimate.wearers.excludes_zero() && !estimate.wearers.scaled(0.0).excludes_zero());
    }
}
