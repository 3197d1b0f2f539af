//! What a tail is before it is tuned.

use super::trial::Draw;
pub use super::trial::{Pretraining, Start};
use anyhow::{Context, Result};
use flatmin::store::LAYER_BYTES;
use flatmin::{Pack, Tuner, crc32};
use flatmin_sim::wearers::SplitMix64;

impl Start {
    /// Puts the weights in place, after a factory reset.
    ///
    /// # Errors
    /// What the runtime refuses.
    pub fn begin(self, tuner: &mut Tuner, draw: &Draw) -> Result<()> {
        let layers = tuner.pack().trained_layers().count();
        let first = match self {
            Self::Factory | Self::After(_) => return Ok(()),
            Self::Rescaled(powers) => {
                let weights = rescaled(tuner, powers);
                return put(tuner, &weights);
            }
            Self::NewHead => layers.saturating_sub(1),
            Self::Random | Self::Hidden { .. } => 0,
        };
        // Not the stream that draws samples with the same seed.
        let mut random = SplitMix64::new(draw.seed ^ 0x57a7 << 32);
        let weights = redrawn(tuner.pack(), tuner.weights(), first, &mut random);
        put(tuner, &weights)
    }
}

/// Layers from `first` on drawn anew: weights uniform within `sqrt(6 / inputs)` (He et al. 2015), biases 0. Latents of
/// int8 networks have a mean square well below 1, so that first outputs are no larger than that theory has them.
fn redrawn(pack: &Pack, weights: &[f32], first: usize, random: &mut SplitMix64) -> Vec<f32> {
    let mut all = weights.to_vec();
    for layer in pack.trained_layers().skip(first) {
        let own = &mut all[layer.parameters..];
        let (w, behind) = own.split_at_mut(layer.trained_weights());
        let bound = (6.0 / layer.taps.max(1) as f64).sqrt();
        for w in w {
            *w = (bound * (2.0 * uniform(random) - 1.0)) as f32;
        }
        behind[..layer.trained_biases()].fill(0.0);
    }
    all
}

/// From 0 to 1.
pub fn uniform(random: &mut SplitMix64) -> f64 {
    random.next_u64() as f64 / u64::MAX as f64
}

/// Hidden channel i of every layer but the last times a power of two from `-powers` to `powers`, by turns, and the
/// next layer's weights for it divided: exact in floating point.
fn rescaled(tuner: &Tuner, powers: u8) -> Vec<f32> {
    let mut all = tuner.weights().to_vec();
    let layers: Vec<_> = tuner.pack().trained_layers().collect();
    for pair in layers.windows(2) {
        let (layer, next) = (&pair[0], &pair[1]);
        for channel in 0..layer.outputs {
            let spread = 2 * usize::from(powers) + 1;
            let factor = 2f32.powi((channel * 7 % spread) as i32 - i32::from(powers));
            let row = layer.parameters + channel * layer.taps;
            all[row..row + layer.taps].iter_mut().for_each(|w| *w *= factor);
            all[layer.parameters + layer.weights() + channel] *= factor;
            for output in 0..next.outputs {
                all[next.parameters + output * next.taps + channel] /= factor;
            }
        }
    }
    all
}

/// Replaces the tuner's f32 weights.
///
/// # Errors
/// Another number of weights than the tail has.
pub fn put(tuner: &mut Tuner, weights: &[f32]) -> Result<()> {
    anyhow::ensure!(
        weights.len() == tuner.weights().len(),
        "{} weights for a tail of {}",
        weights.len(),
        tuner.weights().len()
    );
    // Only a whole tail comes into force: its int8 part is that of the weights before.
    tuner.requantize()?;
    let mut bytes = vec![0; tuner.tail_bytes()];
    let mut length = 0;
    while length < bytes.len() {
        length += tuner.read_tail(length, &mut bytes[length..])?;
    }
    let own: &[u8] = bytemuck::cast_slice(weights);
    bytes[length - own.len()..].copy_from_slice(own);
    let (layers, rest) = bytes.split_at(tuner.pack().sizes().tail_layers * LAYER_BYTES);
    tuner.write_tail(layers.len(), rest)?;
    tuner.adopt_tail(layers, crc32(&bytes)).context("cannot put the weights in place")
}

#[cfg(test)]
mod tests {
    use super::super::bench::Bench;
    use super::*;

    fn begun(start: Start) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let draw = Draw { start, ..Draw::WEARERS };
        let bench = Bench::default();
        bench
            .with_stand(draw, false, |stand| {
                let factory = stand.tuner.weights().to_vec();
                let scores = |tuner: &mut Tuner| -> Result<Vec<f32>> {
                    stand.test.iter().take(40).map(|(l, c)| Ok(tuner.score_latent(l, *c)?.loss)).collect()
                };
                let before = scores(&mut stand.tuner)?;
                start.begin(&mut stand.tuner, &draw)?;
                assert_eq!(before.len(), scores(&mut stand.tuner)?.len());
                let after = scores(&mut stand.tuner)?;
                let moved = factory.iter().zip(stand.tuner.weights()).map(|(a, b)| b - a).collect();
                Ok((before, after, moved))
            })
            .unwrap()
    }

    #[test]
    fn rescaled_channels_leave_the_function_and_move_nearly_every_weight() {
        let (before, after, moved) = begun(Start::Rescaled(3));
        for (a, b) in before.iter().zip(&after) {
            assert!((a - b).abs() < 1e-5 * a.abs().max(1.0), "{a} {b}");
        }
        assert!(moved.iter().filter(|d| **d != 0.0).count() > moved.len() / 2);
    }

    #[test]
    fn a_new_head_leaves_the_other_layer_and_random_weights_leave_none() {
        let (_, _, moved) = begun(Start::NewHead);
        let head = 64 * 7 + 7;
        assert!(moved[..moved.len() - head].iter().all(|d| *d == 0.0));
        assert!(moved[moved.len() - head..moved.len() - 7].iter().filter(|d| **d != 0.0).count() > 400);
        let (before, after, moved) = begun(Start::Random);
        assert!(moved[..12_288].iter().filter(|d| **d != 0.0).count() > 12_000);
        // Chance: ln 7 on average, or worse.
        let mean = |losses: &[f32]| losses.iter().sum::<f32>() / losses.len() as f32;
        assert!(mean(&after) > mean(&before) && mean(&after) > 1.5);
    }
}
