//! Class means and the covariance within classes of calibration features, as `flatmin::internals::closed_form` reads them.

use flatmin::internals::closed_form::{MEAN_STEPS, WHOLE};

/// Sums over samples: what many devices can add up in any order, since integers have no rounding.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sums {
    /// Samples of each class.
    pub counts: Vec<i64>,
    /// Sums of the features, a row per class.
    pub sums: Vec<i64>,
    /// Sums of the products of two features, whatever the class, a row per feature.
    pub products: Vec<i64>,
}

impl Sums {
    /// The [`statistics`] of the samples that were summed, up to the rounding of f64; `None` where a class has no sample.
    pub fn statistics(&self) -> Option<Vec<u8>> {
        let classes = self.counts.len();
        let features = self.sums.len().checked_div(classes)?;
        if features == 0 || self.counts.iter().any(|&count| count <= 0) {
            return None;
        }
        let rows: Vec<&[i64]> = self.sums.chunks_exact(features).collect();
        let of_class = |row: &[i64], count: i64| row.iter().map(|&sum| sum as f64 / count as f64).collect();
        let means: Vec<Vec<f64>> = rows.iter().zip(&self.counts).map(|(row, &n)| of_class(row, n)).collect();
        let within = |a: usize, b: usize| {
            // Whole and remainder apart: nothing cancels.
            let (mut whole, mut rest) = (i128::from(self.products[a * features + b]), 0.0);
            for (row, &count) in rows.iter().zip(&self.counts) {
                let product = i128::from(row[a]) * i128::from(row[b]);
                whole -= product.div_euclid(count.into());
                rest += product.rem_euclid(count.into()) as f64 / count as f64;
            }
            whole as f64 - rest
        };
        let covariance: Vec<Vec<f64>> =
            (0..features).map(|row| (0..=row).map(|column| within(row, column)).collect()).collect();
        let samples = self.counts.iter().sum::<i64>();
        let share = 1.0 / samples.saturating_sub(classes as i64).max(1) as f64;
        Some(encode(&means, &covariance, share))
    }
}

/// The statistics of `samples`, features in steps above the zero point and the class of each; `None` where a class has
/// no sample, as then nothing is known of it.
pub fn statistics(samples: &[(Vec<i16>, usize)], classes: usize) -> Option<Vec<u8>> {
    let features = samples.first()?.0.len();
    let mut means = vec![vec![0.0f64; features]; classes];
    let mut counts = vec![0usize; classes];
    for (x, class) in samples {
        let mean = means.get_mut(*class)?;
        mean.iter_mut().zip(x).for_each(|(sum, &x)| *sum += f64::from(x));
        counts[*class] += 1;
    }
    for (mean, &count) in means.iter_mut().zip(&counts) {
        if count == 0 {
            return None;
        }
        mean.iter_mut().for_each(|sum| *sum /= count as f64);
    }
    let mut covariance = vec![vec![0.0f64; features]; features];
    for (x, class) in samples {
        let off: Vec<f64> = x.iter().zip(&means[*class]).map(|(&x, mean)| f64::from(x) - mean).collect();
        for (row, own) in covariance.iter_mut().enumerate() {
            row_sum(own, off[row], &off[..=row]);
        }
    }
    let share = 1.0 / samples.len().saturating_sub(classes).max(1) as f64;
    Some(encode(&means, &covariance, share))
}

/// The bytes of these means, and of `share` times these sums of products.
fn encode(means: &[Vec<f64>], covariance: &[Vec<f64>], share: f64) -> Vec<u8> {
    let features = covariance.len();
    let deviations: Vec<f64> = (0..features).map(|i| (covariance[i][i] * share).max(0.0).sqrt()).collect();
    let mut bytes = Vec::new();
    deviations.iter().for_each(|&d| bytes.extend((d as f32).to_le_bytes()));
    for mean in means.iter().flatten() {
        bytes.extend(((mean * f64::from(MEAN_STEPS)).round() as i16).to_le_bytes());
    }
    for row in 0..features {
        for column in 0..row {
            let scale = deviations[row] * deviations[column];
            let correlation = if scale > 0.0 { covariance[row][column] * share / scale } else { 0.0 };
            bytes.extend(((correlation.clamp(-1.0, 1.0) * f64::from(WHOLE)).round() as i16).to_le_bytes());
        }
    }
    bytes
}

fn row_sum(sums: &mut [f64], factor: f64, off: &[f64]) {
    sums.iter_mut().zip(off).for_each(|(sum, x)| *sum += factor * x);
}
