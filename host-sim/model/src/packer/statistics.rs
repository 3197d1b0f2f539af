//! Class means and the covariance within classes of calibration features, as `flatmin::internals::closed_form` reads them.

use flatmin::internals::closed_form::{MEAN_STEPS, WHOLE};

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
    let deviations: Vec<f64> = (0..features).map(|i| (covariance[i][i] * share).sqrt()).collect();
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
    Some(bytes)
}

fn row_sum(sums: &mut [f64], factor: f64, off: &[f64]) {
    sums.iter_mut().zip(off).for_each(|(sum, x)| *sum += factor * x);
}
