//! Mean squared error.

use crate::quant::Affine;

/// `loss = 1/n sum_i (y_i - t_i)^2`, and over `d_outputs` its gradient `2/n (y_i - t_i)`, with the target t as int8
/// `values`. The mean is over the n outputs, as in Keras and PyTorch. NaN if there are not as many values as outputs.
///
/// ```
/// use flatmin::{Affine, internals::tail::mean_squared_error};
/// let half = Affine { scale: 0.5, zero_point: 1 };
/// let mut d = [0.0; 2];
/// assert_eq!(mean_squared_error(&[1.0, 2.0], &[3, -1], half, &mut d), 4.5); // t = 1, -1
/// assert_eq!(d, [0.0, 3.0]);
/// ```
pub fn mean_squared_error(outputs: &[f32], values: &[i8], affine: Affine, d_outputs: &mut [f32]) -> f32 {
    if outputs.len() != values.len() {
        return f32::NAN;
    }
    let mean = 1.0 / outputs.len().max(1) as f32;
    let mut sum = 0.0;
    for ((d, &y), &q) in d_outputs.iter_mut().zip(outputs).zip(values) {
        let error = y - affine.dequantize(q);
        sum += error * error;
        *d = (2.0 * mean) * error;
    }
    sum * mean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_and_gradient_are_those_of_double_precision() {
        const STEP: f64 = 1e-4;
        let outputs = [0.3f32, -2.0, 14.5, 0.0, -9.25, 1e3];
        let values = [-128i8, 127, 0, 5, -77, 3];
        let affine = Affine { scale: 0.37, zero_point: -5 };
        let target = values.map(|q| f64::from(affine.scale) * f64::from(i32::from(q) + 5));
        let exact = |y: &[f64]| y.iter().zip(target).map(|(y, t)| (y - t).powi(2)).sum::<f64>() / 6.0;
        let mut d = [0.0; 6];
        let loss = mean_squared_error(&outputs, &values, affine, &mut d);
        let wide = outputs.map(f64::from);
        assert!((f64::from(loss) / exact(&wide) - 1.0).abs() < 1e-6, "{loss}");
        for (j, &d) in d.iter().enumerate() {
            let at = |step: f64| {
                let mut moved = wide;
                moved[j] += step;
                exact(&moved)
            };
            let slope = (at(STEP) - at(-STEP)) / (2.0 * STEP);
            assert!((f64::from(d) - slope).abs() < 1e-5 * slope.abs().max(1.0), "{j}: {d} for {slope}");
        }
    }

    #[test]
    fn what_is_not_finite_or_too_short_gives_no_finite_loss() {
        let (mut d, affine) = ([0.0; 2], Affine { scale: 1.0, zero_point: 0 });
        assert!(mean_squared_error(&[f32::NAN, 0.0], &[0, 0], affine, &mut d).is_nan());
        assert!(!mean_squared_error(&[0.0, f32::INFINITY], &[0, 0], affine, &mut d).is_finite());
        assert!(!mean_squared_error(&[1e30, 0.0], &[0, 0], affine, &mut d).is_finite());
        assert!(mean_squared_error(&[0.0, 0.0], &[0], affine, &mut d).is_nan());
    }
}
