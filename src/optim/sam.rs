//! The ascent of SAM (Foret et al. 2020, equation 2) and ASAM (Kwon et al. 2021, equation 3, element-wise) with
//! stored weights: they differ in T alone. T for biases as in the ASAM authors' implementation is 1.
//!
//! [`perturb`] swaps the gradient for the exact old weights, so that the step needs no further buffer and the
//! way back is a copy: `w + e - e` would not be `w` in floating point.

use super::{BiasTreatment, Geometry, Kind, Segment, take, take_mut};
use crate::cpu::lanes::{ascend, ascend_scaled, copy, norm_squared, scaled_norm_squared};

/// `||T g||^2` over all segments; frozen biases count nothing.
pub fn ascent_norm_squared(
    w: &[f32],
    g: &[f32],
    geometry: &Geometry,
    segments: impl Iterator<Item = Segment>,
) -> f32 {
    let (mut w, mut g, mut sum) = (w, g, 0.0);
    for segment in segments {
        let (w, g) = (take(&mut w, segment.length), take(&mut g, segment.length));
        sum += match (segment.kind, geometry.bias, geometry.eta) {
            (Kind::Bias, BiasTreatment::Frozen, _) => 0.0,
            (Kind::Weight, ..) if !geometry.weights => 0.0,
            (Kind::Bias, BiasTreatment::Unit, _) | (_, _, None) => norm_squared(g),
            (_, _, Some(eta)) => scaled_norm_squared(w, g, eta),
        };
    }
    sum
}

/// One sweep: `e = c T^2 g; g = w; w = w + e`. The gradient's buffer then holds the weights' exact backup.
///
/// ```
/// use flatmin::{BiasTreatment, internals::optim::{Geometry, Kind, Segment, sam}};
/// let geometry = Geometry { weights: true, eta: None, bias: BiasTreatment::Unit };
/// let (mut w, mut g) = ([1.0, 2.0], [3.0, 4.0]);
/// let norm = 25.0f32; // of (3, 4), squared
/// let c = geometry.step_length(0.5, norm).unwrap();
/// sam::perturb(&mut w, &mut g, c, &geometry, core::iter::once(Segment { length: 2, kind: Kind::Weight }));
/// assert_eq!(w, [1.3, 2.4]); // 0.5 * (3, 4) / 5 further
/// sam::restore(&mut w, &g);
/// assert_eq!(w, [1.0, 2.0]);
/// ```
pub fn perturb(
    w: &mut [f32],
    g: &mut [f32],
    c: f32,
    geometry: &Geometry,
    segments: impl Iterator<Item = Segment>,
) {
    let (mut w, mut g) = (w, g);
    for segment in segments {
        let (w, g) = (take_mut(&mut w, segment.length), take_mut(&mut g, segment.length));
        match (segment.kind, geometry.eta) {
            (Kind::Bias, _) => {
                for (w, g) in w.iter_mut().zip(g) {
                    let e = c * (geometry.bias_factor(*w) * *g);
                    *g = *w;
                    *w += e;
                }
            }
            (Kind::Weight, _) if !geometry.weights => copy(g, w),
            (_, None) => ascend(w, g, c),
            (_, Some(eta)) => ascend_scaled(w, g, c, eta),
        }
    }
}

/// Puts the weights back, bit for bit, from the backup that [`perturb`] left.
pub fn restore(w: &mut [f32], backup: &[f32]) {
    copy(w, backup);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sam_on_moves_gains_and_biases_alone() {
        let geometry = Geometry { weights: false, eta: None, bias: BiasTreatment::Unit };
        let segments = || {
            [(2, Kind::Weight), (1, Kind::Gain), (1, Kind::Bias)]
                .into_iter()
                .map(|(length, kind)| Segment { length, kind })
        };
        let (mut w, mut g) = ([1.0, 2.0, 1.0, 2.0], [50.0, 60.0, 3.0, 4.0]);
        let norm = ascent_norm_squared(&w, &g, &geometry, segments());
        assert_eq!(norm, 25.0);
        let c = geometry.step_length(0.5, norm).unwrap();
        perturb(&mut w, &mut g, c, &geometry, segments());
        assert_eq!((w, g), ([1.0, 2.0, 1.3, 2.4], [1.0, 2.0, 1.0, 2.0]));
    }
}
