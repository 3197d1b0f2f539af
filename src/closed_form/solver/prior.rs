//! How many samples the factory's means count as: measured, by how far this subject's classes lie from them.

use super::{ClosedForm, PART, ROUNDING, at};

/// Samples that the settings' own number of them counts as, beside those that are measured.
const DOUBT: f32 = 3.0;
/// Most samples that a mean of the factory counts as.
const MOST: f32 = 1000.0;

impl ClosedForm<'_> {
    /// `n0` for the means a posteriori, once the subject's offset is known. A class's mean over `n_c` samples lies off the factory's
    /// by the variance `v (1 / n0 + 1 / n_c)` of a feature, `v` being that within a class, in units of the factory's: so
    ///
    /// `1 / n0 = (sum n_c (q_c / v - 1 / n_c) + DOUBT / n) / (sum n_c + DOUBT)`
    ///
    /// with `q_c` the mean square of what is found, over the features, and the settings' `n` as a prior and as the least. (Empirical
    /// Bayes, as Efron and Morris 1973 have it, with the moments in place of the likelihood.)
    ///
    /// Where the factory fits, two samples would unlearn what it knows of a class: its means then count as dozens.
    pub(super) fn measured_prior(&self) -> f32 {
        let least = self.settings.prior_samples;
        let Some(statistics) = self.statistics else { return least };
        let features = self.features().max(1);
        let variances = (0..features).fold(0.0, |sum, i| sum + statistics.covariance(i, i));
        let floor = self.settings.shrinkage * (variances / features as f32) + ROUNDING;
        // In units of the factory's variance: squares of the classes' deviations, each times its weight, and the squares within.
        let (mut between, mut within) = (0.0, 0.0);
        let (mut samples, mut classes) = (0.0, 0.0);
        let rows = self.prior.chunks_exact(features).zip(self.sums.chunks_exact(features));
        let known = rows.zip(&*self.known).zip(&*self.counts).filter(|((_, known), _)| **known > 0.0);
        for (((prior, sums), _), &count) in known {
            // A mean of less than half a sample tells nothing.
            let count = count as f32 * PART;
            if count < 0.5 {
                continue;
            }
            (samples, classes) = (samples + count, classes + 1.0);
            for (i, ((&sum, prior), offset)) in sums.iter().zip(prior).zip(&*self.x).enumerate() {
                let share = 1.0 / ((1.0 - self.settings.shrinkage) * statistics.covariance(i, i) + floor);
                let mean = sum as f32 * PART / count;
                let off = mean - prior - offset;
                between += count * share * (off * off);
                within -= count * share * (mean * mean);
            }
        }
        for i in 0..features {
            let share = 1.0 / ((1.0 - self.settings.shrinkage) * statistics.covariance(i, i) + floor);
            within += share * self.moment(at(self.triangle, super::triangle(i) + i));
        }
        let within = within / (samples - classes).max(1.0);
        if within <= 0.0 {
            return least;
        }
        let inverse = (between / within - classes + DOUBT / least) / (samples + DOUBT);
        1.0 / inverse.max(1.0 / MOST).min(1.0 / least)
    }
}
