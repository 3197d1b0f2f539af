//! The last layer in closed form: linear discriminant analysis with the factory's statistics as its prior, and with
//! labels that may be wrong. No rate, no epochs.
//!
//! A feature `x` is what the last layer reads, in int8 quantization steps above its zero point. With class means `mu_c`
//! and one covariance `S` within all classes, the likeliest class has the largest
//!
//! `z_c = W_c x + b_c`, `W_c = S^-1 mu_c`, `b_c = -mu_c W_c / 2`
//!
//! (Fisher 1936; Hastie, Tibshirani and Friedman, "The Elements of Statistical Learning", equation 4.10, with equal
//! priors): a fully connected layer. With the factory's means `mu0_c` and covariance `S0` ([`Statistics`]), and a weight
//! `w_i` from 0 to 1 for each of the replay's samples, at first 1:
//!
//! - `o = sum w_i (x_i - mu0_y) / (2 + n)` is how far this subject lies off the factory's;
//! - `mu_c = (n0 (mu0_c + o) + sum w_i x_i) / (n0 + n_c)`: the mean a posteriori, the prior counting as `n0` samples: 2, or more
//!   where the subject's means lie so near to the factory's that this is measured (`solver/prior.rs`);
//! - `S = (1 - g) S0 + g S_own`, `g = n / (n + n0 d)`, then shrunk to its mean variance (Ledoit and Wolf 2004), plus 1/12,
//!   the variance of rounding to int8;
//! - the head of these; `p` its softmax; `w_i = (1 - e) p_y / ((1 - e) p_y + e / C)`, the chance that a label is right if
//!   the share `e` of all labels is drawn from all classes: forward correction (Patrini et al. 2017, section 3.2).
//!
//! and again. At the end the head is scaled so that the cross-entropy of the samples, each with its weight and with smoothed
//! labels, is least: the logits of discriminant analysis span hundreds of nats, from which no gradient step comes back.
//! Without the factory's statistics, the answers of its head to the samples weigh them to means, and their
//! mean variance stands on the diagonal of `S0`.
//!
//! Sums over samples are sums of integers, weights being multiples of 1/128: the order of samples says
//! nothing. All else is f32 in a fixed order.

mod cholesky;
mod solver;
mod statistics;
#[cfg(test)]
mod tests;

pub use solver::{ClosedForm, LEAST_SMOOTHING, Next, Settings, scratch_words};
pub use statistics::{MEAN_STEPS, Statistics, WHOLE};
