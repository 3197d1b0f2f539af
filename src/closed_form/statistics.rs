//! What the factory knows of the last layer's input: class means and the covariance within classes.

use bytemuck::try_cast_slice;

/// Steps of a mean to one quantization step.
pub const MEAN_STEPS: i32 = 128;
/// The integer that stands for a correlation of 1.
pub const WHOLE: f32 = 32767.0;

/// Statistics of the features in front of the last layer, where they lie. A feature is counted in quantization steps
/// above its zero point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Statistics<'p> {
    deviations: &'p [f32],
    means: &'p [i16],
    correlations: &'p [i16],
}

impl<'p> Statistics<'p> {
    /// Bytes for so many classes and features.
    pub const fn bytes(classes: usize, features: usize) -> usize {
        let each =
            4usize.saturating_add(2usize.saturating_mul(classes)).saturating_add(features.saturating_sub(1));
        features.saturating_mul(each)
    }

    /// The statistics that lie in `bytes`, little endian: standard deviations within a class (f32, one per feature,
    /// finite and not negative); means (i16, a row per class) in 1/[`MEAN_STEPS`] steps; correlations (i16, in
    /// 1/[`WHOLE`]), the lower triangle row after row without its diagonal. `None` for another length, for what is
    /// not aligned to 4 bytes, and for a deviation that is none.
    pub fn new(bytes: &'p [u8], classes: usize, features: usize) -> Option<Self> {
        if features == 0 || bytes.len() != Self::bytes(classes, features) {
            return None;
        }
        let (deviations, rest) = bytes.split_at_checked(4 * features)?;
        let (means, correlations) = rest.split_at_checked(2 * classes * features)?;
        let deviations: &[f32] = try_cast_slice(deviations).ok()?;
        // 255 steps are the most that int8 features spread.
        deviations.iter().all(|d| (0.0..=255.0).contains(d)).then_some(Self {
            deviations,
            means: try_cast_slice(means).ok()?,
            correlations: try_cast_slice(correlations).ok()?,
        })
    }

    /// Number of features.
    pub fn features(&self) -> usize {
        self.deviations.len()
    }

    /// Number of classes that have a mean.
    pub fn classes(&self) -> usize {
        self.means.len() / self.features().max(1)
    }

    /// Mean of a class, feature by feature, in steps above the zero point.
    pub fn mean(&self, class: usize) -> impl Iterator<Item = f32> + use<'p> {
        let from = self.means.chunks_exact(self.features().max(1)).nth(class).unwrap_or(&[]);
        from.iter().map(|&m| f32::from(m) * (1.0 / MEAN_STEPS as f32))
    }

    /// Covariance within a class of feature `row` with one up to it, in squared steps.
    pub fn covariance(&self, row: usize, column: usize) -> f32 {
        let (Some(a), Some(b)) = (self.deviations.get(row), self.deviations.get(column)) else { return 0.0 };
        if row == column {
            return a * b;
        }
        let correlation = self.correlations.get(row * row.saturating_sub(1) / 2 + column);
        a * b * (f32::from(correlation.copied().unwrap_or(0)) * (1.0 / WHOLE))
    }
}
