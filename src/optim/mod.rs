//! Optimizers over flat buffers: they know segments of weights and biases, never a layer.

pub mod adam;
pub mod sam;
mod schedule;
pub mod sgd;

pub use schedule::Schedule;

/// What a parameter is to an optimizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Kind {
    /// A weight.
    Weight,
    /// What a channel's scale is multiplied with, as a normalization layer's factor would be: a weight to everything but
    /// [`crate::Method::SamOn`], which moves it.
    Gain,
    /// A bias.
    Bias,
}

/// A run of parameters of one kind in a flat buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Segment {
    /// Number of parameters.
    pub length: usize,
    /// What they are.
    pub kind: Kind,
}

/// What happens to biases.
/// [`crate::Recipe`] names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "wire", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[cfg_attr(not(feature = "_internals"), non_exhaustive)]
pub enum BiasTreatment {
    /// Trained, and perturbed with T = 1, as the authors of ASAM do (SamsungLabs/ASAM).
    Unit,
    /// Trained, and perturbed like weights: T = |b| + eta under ASAM (davda54/sam).
    Elementwise,
    /// Neither trained nor perturbed.
    Frozen,
}

/// The normalization T of the ascent step `e = rho T^2 g / ||T g||`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Geometry {
    /// Whether weights are perturbed at all; T is 0 where they are not. Gains are in any case.
    pub weights: bool,
    /// ASAM: `T = |w| + eta` for weights. `None` is SAM: `T = 1`.
    pub eta: Option<f32>,
    /// T for biases.
    pub bias: BiasTreatment,
}

impl Geometry {
    /// `T^2` for the bias `b`; 0 for a bias that is not perturbed.
    pub fn bias_factor(&self, b: f32) -> f32 {
        match (self.bias, self.eta) {
            (BiasTreatment::Frozen, _) => 0.0,
            (BiasTreatment::Elementwise, Some(eta)) => {
                let t = b.abs() + eta;
                t * t
            }
            _ => 1.0,
        }
    }

    /// [`Self::bias_factor`], where it is the same for every bias.
    pub(crate) fn even_bias_factor(&self) -> Option<f32> {
        match (self.bias, self.eta) {
            (BiasTreatment::Elementwise, Some(_)) => None,
            _ => Some(self.bias_factor(0.0)),
        }
    }

    /// `rho / ||T g||`, or `None` where the step is undefined or would not be felt: rho 0, a norm that is not
    /// finite, or one so small that its square underflows though the gradient is not zero.
    pub fn step_length(&self, rho: f32, norm_squared: f32) -> Option<f32> {
        const SMALLEST: f32 = 1e-30;
        if rho > 0.0 && norm_squared.is_finite() && norm_squared > SMALLEST {
            Some(rho / crate::math::sqrt(norm_squared))
        } else {
            None
        }
    }
}

/// Cuts the next segment's part off the front of `rest`.
fn take<'a>(rest: &mut &'a [f32], length: usize) -> &'a [f32] {
    let (part, behind) = rest.split_at(length.min(rest.len()));
    *rest = behind;
    part
}

fn take_mut<'a>(rest: &mut &'a mut [f32], length: usize) -> &'a mut [f32] {
    let all = core::mem::take(rest);
    let length = length.min(all.len());
    let (part, behind) = all.split_at_mut(length);
    *rest = behind;
    part
}
