//! A tail of any layers, trained in integers: int8 weights by small int8 differences to those in flash.
//!
//! [`IntegerTuner`] tunes a tail that is no chain (for chains there is [`crate::CompactTuner`]) with softmax cross-entropy, a
//! sample at a time, by the calls of [`crate::Tuner`]. The forward pass is made by the shipped int8 kernels, so that what is
//! trained is what will run. What is computed once per weight, activation and sample is integer arithmetic; f32 is left for
//! what is computed once per channel or tensor.
//!
//! # Number formats
//!
//! | what | type | real value |
//! | --- | --- | --- |
//! | weight q | int8, -127 to 127 | the channel's scale as packed; q = round(q0 + d 2^-f), q0 being the weight in flash |
//! | difference d | int8 | 2^-f steps of q; f, one per output channel, is 7 in the factory's tail and falls when a d has no room |
//! | bias | int32, the difference to that in flash | 1/256 step of the layer's sums |
//! | mean square v | f32, one per output channel | of the gradient by the channel's q |
//! | activations | int8 | as packed |
//! | gradients of activations | int8 | one f32 unit per tensor, so that the largest has 7 bits: see `gradient.rs` |
//! | logits | int32 | 2^-20 nats, of the last layer's sums and not of its int8 outputs |
//!
//! # The step
//!
//! `q -= eta g / sqrt(v)`, with `eta = learning rate * K^-0.75` steps of q, K being the weights of one output, and
//! `v = 0.99 v + 0.01 mean(g^2)`, this gradient included and corrected for its start at 0. One rate fits all layers and
//! networks: 2.2 ([`crate::Recipe::INTEGER`]). The difference is rounded to either neighbour by chance, so that in the mean
//! nothing is lost. A bias is a weight of the constant real input 1, its step at most 4 eta. Channels whose scale is below
//! 1e-6 say nothing, and are left as they are.
//!
//! # SAM and ASAM
//!
//! `e = rho T^2 g / ||T g||` in steps of q, kept as int8 with one f32 unit per channel, where T is 1, or of ASAM `|q| + 1`;
//! the second pass makes its weights of `q + e`.
//!
//! # Left out
//! Losses other than cross-entropy, minibatches, momentum, weight decay, Adam, SAM-ON, shared ascents, layers that train
//! scales or a share of output channels, spare classes, the best epoch's weights, samples' losses.

mod backward;
mod difference;
mod forward;
mod gradient;
mod head;
mod layer_weights;
mod pass;
mod plan;
mod pointwise;
mod step;
#[cfg(test)]
mod tests;
mod tuner;
mod weights;

pub use plan::IntegerPlan;
pub use tuner::{Integer, IntegerTuner};
