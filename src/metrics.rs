//! Figures of merit that need no training.

/// Area under the receiver operating characteristic: the probability that a positive sample's score is the higher one of
/// a pair, ties counting one half. That is `U / (n m)` with Mann and Whitney's U statistic (1947; Hanley and McNeil
/// 1982, "The Meaning and Use of the Area under a ROC Curve", section II). Exact: all `n m` pairs are counted in whole
/// numbers. `None` without a sample of either kind, or with a score of NaN.
///
/// ```
/// use flatmin::internals::metrics::auc;
/// assert_eq!(auc(&[0.9, 0.4], &[0.1, 0.4]), Some(0.875)); // three pairs in order, one tie
/// assert_eq!(auc(&[], &[0.1]), None);
/// ```
pub fn auc(positive: &[f32], negative: &[f32]) -> Option<f32> {
    if positive.iter().chain(negative).any(|score| score.is_nan()) {
        return None;
    }
    let pair = |&p: &f32, &n: &f32| u64::from(p > n) + u64::from(p >= n);
    let of = |p: &f32| negative.iter().map(|n| pair(p, n)).sum::<u64>();
    let halves: u64 = positive.iter().map(of).sum();
    let pairs = positive.len() as u64 * negative.len() as u64;
    (pairs > 0).then(|| (halves as f64 / (2 * pairs) as f64) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::{Rng, SeedableRng};
    use rand_pcg::Pcg32;
    use std::vec::Vec;

    /// The area by the trapezoidal rule under the curve of all thresholds, which knows nothing of pairs.
    fn area(positive: &[f32], negative: &[f32]) -> f64 {
        let mut thresholds: Vec<f32> = positive.iter().chain(negative).copied().collect();
        thresholds.sort_by(|a, b| b.total_cmp(a));
        let share =
            |scores: &[f32], t: f32| scores.iter().filter(|&&s| s >= t).count() as f64 / scores.len() as f64;
        let (mut before, mut sum) = ([0.0, 0.0], 0.0);
        for t in thresholds {
            let now = [share(negative, t), share(positive, t)];
            sum += (now[0] - before[0]) * (now[1] + before[1]) / 2.0;
            before = now;
        }
        sum
    }

    #[test]
    fn it_is_the_area_under_the_curve() {
        let mut random = Pcg32::seed_from_u64(5);
        for round in 0..200 {
            // Few distinct scores: many ties.
            let levels = 1 + round % 40;
            let mut scores = |count: u32| -> Vec<f32> {
                (0..count).map(|_| (random.next_u32() % levels) as f32 * 0.25 - 1.0).collect()
            };
            let (positive, negative) = (scores(1 + round % 23), scores(1 + round % 31));
            let found = f64::from(auc(&positive, &negative).unwrap());
            assert!((found - area(&positive, &negative)).abs() < 1e-6, "{found}");
            let swapped = f64::from(auc(&negative, &positive).unwrap());
            assert!((found + swapped - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn it_is_a_half_of_equals_and_nothing_of_nothing() {
        assert_eq!(auc(&[2.0; 7], &[2.0; 3]), Some(0.5));
        assert_eq!(auc(&[f32::INFINITY], &[0.0, 1.0]), Some(1.0));
        assert_eq!(auc(&[1.0], &[]), None);
        assert_eq!(auc(&[f32::NAN], &[1.0]), None);
        assert_eq!(auc(&[1.0], &[0.5, f32::NAN]), None);
    }
}
