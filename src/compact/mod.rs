//! A tail in few bytes, trained in integers: for devices with 8 to 32 KiB of RAM, and for cores without FPU.
//!
//! [`CompactTuner`] tunes a chain of fully connected layers (a pack whose [`crate::Sizes::tail_is_chain`]) with SGD with
//! momentum, SAM and ASAM (m = 1), by the calls of [`crate::Tuner`], in 5 bytes per weight. What is computed once per weight
//! and sample is integer arithmetic; f32 is left for what is computed once per output or layer: factors and norms.
//!
//! # Number formats
//!
//! | what | type | real value of a step |
//! | --- | --- | --- |
//! | weight q | int8, -127 to 127 | s_o, the output's scale: that of the pack times 2^k, so that the row's largest weight is 33 to 64 steps and can double |
//! | master m = 256 q + r | q and the residual r, int8, -128 to 127 | s_o / 256; q is m to nearest, m saturates at ±(127 * 256 + 127) |
//! | scale s_o | f32, one per output | of the first layer with the latents' unit folded in; negative where the channel is dead |
//! | velocity V, the gradient's accumulator | int16, saturating | u, one a layer: an eighth of 2^15 steps is the largest gradient that a sample can cause at the start of the run |
//! | features | int16: q - zero point, 9 bits | the pack's feature unit |
//! | hidden activations | int16, saturating | 1/32 of the packed step: the packed range takes 13 bits |
//! | sums z and biases b | int32, saturating | hidden: 1/256 of a step of the activation; logits: 2^-20 nats |
//! | velocity of biases | int32, saturating | 2^-20 |
//! | deltas | int16 | one f32 a layer and sample, so that the largest has 15 bits |
//! | softmax | exponentials in Q31, relative to the largest logit but the label's | no cancellation: the gradient of a margin of 80 nats still has 15 bits |
//!
//! Sums over inputs are exact in int32 pieces that cannot overflow, added in int64.
//!
//! # Rounding
//!
//! The velocity and the master change by a product with 15 bits of factor, rounded to either neighbour by chance
//! (`V += floor(t + uniform[0, 1))`): in the mean nothing is lost, however small a gradient is. The random bits are
//! counted, not remembered: they depend on the recipe's seed, the step, the sample and the weight's place alone. What is
//! computed anew for every sample (activations, deltas) is rounded to nearest. Nothing is truncated toward zero, and
//! nothing wraps.
//!
//! # SAM and ASAM
//!
//! The perturbed pass uses the rank-one identity: sums are shifted by `c delta_o (sum_i T_oi^2 a_i a'_i + 1)`. No
//! perturbed weight is written, so none is rounded. ASAM's T is `|q| + 1` in steps of the weight: its eta is one step, in
//! place of [`crate::Recipe::eta`]. As `e_q = rho (|q| + 1)^2 g_q / ||(|q| + 1) g_q||` (Kwon et al. 2021, equation 3, with
//! w = s q and g_q = s g), it is the same perturbation under any scale.
//!
//! # Dead channels
//!
//! Channels whose int8 weights have a scale below 1e-6 say nothing, and an update divided by such a scale would be of the
//! order of 1e12 steps. Their weights are neither trained nor perturbed; their biases are. [`CompactTuner::dead_channels`]
//! names them.
//!
//! # Left out
//! Adam, SAM-ON, m above 1, stored perturbations, element-wise T of biases, the best epoch's weights and samples' losses:
//! [`crate::Tuner`] has them.

mod chain;
pub(crate) mod number;
mod pass;
mod plan;
mod requantize;
mod rows;
pub(crate) mod softmax;
#[cfg(test)]
mod tests;
mod tuner;
mod weights;

pub use plan::CompactPlan;
pub use tuner::{Compact, CompactTuner};
