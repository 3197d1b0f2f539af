//! Where each test sample went: right or wrong, before and after.

use super::Estimate;
use super::format::points_estimate;
use serde::Serialize;
use std::fmt;

/// Test samples by whether the factory's and the tuned int8 network answer them right.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// Right before and after.
    pub stayed_right: u32,
    /// Wrong before, right after.
    pub became_right: u32,
    /// Right before, wrong after.
    pub became_wrong: u32,
    /// Wrong before and after.
    pub stayed_wrong: u32,
}

impl Changes {
    /// Counts samples by label, the answer before and the answer after; `None` of no samples.
    pub fn of(samples: impl IntoIterator<Item = (usize, usize, usize)>) -> Option<Self> {
        let mut own = Self::default();
        for (label, before, after) in samples {
            let count = match (before == label, after == label) {
                (true, true) => &mut own.stayed_right,
                (false, true) => &mut own.became_right,
                (true, false) => &mut own.became_wrong,
                (false, false) => &mut own.stayed_wrong,
            };
            *count += 1;
        }
        (own.samples() > 0).then_some(own)
    }

    /// All of them.
    pub fn samples(&self) -> u32 {
        self.stayed_right + self.became_right + self.became_wrong + self.stayed_wrong
    }

    /// The gain in accuracy with its standard error over the samples, which are +1, 0 or -1 each.
    pub fn gain(&self) -> Estimate {
        let (count, moved) =
            (f64::from(self.samples()), f64::from(self.became_right) + f64::from(self.became_wrong));
        let mean = (f64::from(self.became_right) - f64::from(self.became_wrong)) / count.max(1.0);
        let variance = (moved - count * mean * mean) / (count - 1.0);
        let standard_error = (count > 1.0).then(|| (variance.max(0.0) / count).sqrt());
        Estimate { mean, standard_error, count: 1 }
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { became_right, became_wrong, .. } = *self;
        let gain = points_estimate(&self.gain());
        write!(
            f,
            "of {} samples {became_right} became right, {became_wrong} wrong ({gain} points)",
            self.samples()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gain_is_the_mean_of_ones_with_its_standard_error() {
        // Three became right, one wrong, six stayed: x = 1 1 1 -1 0 0 0 0 0 0.
        let samples = [(0, 1, 0), (2, 0, 2), (1, 2, 1), (1, 1, 0)];
        let stayed = [(0, 0, 0), (1, 1, 1), (2, 2, 2), (0, 1, 1), (1, 2, 0), (2, 1, 1)];
        let own = Changes::of(samples.into_iter().chain(stayed)).unwrap();
        assert_eq!(own, Changes { stayed_right: 3, became_right: 3, became_wrong: 1, stayed_wrong: 3 });
        let values = [1.0, 1.0, 1.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let mean: f64 = values.iter().sum::<f64>() / 10.0;
        let squares: f64 = values.iter().map(|x| (x - mean) * (x - mean)).sum();
        let gain = own.gain();
        assert!((gain.mean - mean).abs() < 1e-12);
        assert!((gain.standard_error.unwrap() - (squares / 9.0 / 10.0).sqrt()).abs() < 1e-12);
        assert_eq!(own.to_string(), "of 10 samples 3 became right, 1 wrong (+20.0 ± 20.0 points)");
        assert_eq!(Changes::of([]), None);
        let one = Changes::of([(0, 1, 0)]).unwrap();
        assert_eq!(one.gain().standard_error, None);
    }
}
