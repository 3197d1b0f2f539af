//! A tail as numbers that can be averaged, and back: its weights in f32, and the range that each layer's output is quantized
//! for. What a fleet's server works with.

use crate::delta;
use anyhow::{Context, Result, ensure};
use flatmin::Affine;
use flatmin::internals::pack::TrainedLayer;
use flatmin::internals::requant::{Range, TunedTail};
use flatmin::store::{Contents, LAYER_BYTES};
use flatmin_model::packer::PackFile;

/// Words per output beside the weights: bias, mantissa, shift, scale.
const WORDS: usize = 4;

/// A tail's numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct TailWeights {
    /// Weights and biases of the trained layers, first to last.
    pub weights: Vec<f32>,
    /// Lowest and highest value of each trained layer's output.
    pub ranges: Vec<[f32; 2]>,
}

impl TailWeights {
    /// Numbers of the factory's tail.
    ///
    /// # Errors
    /// What a tuner refuses of the pack.
    pub fn factory(pack: &PackFile) -> Result<Self> {
        let ranges = pack.pack().trained_layers().map(|layer| range(layer.output)).collect();
        Ok(Self { weights: delta::factory_weights(pack)?, ranges })
    }

    /// Numbers of a tail that [`flatmin::Tuner::read_tail`] gave. An int8 tail alone stands for the weights that it was rounded
    /// to.
    ///
    /// # Errors
    /// What is no tail of this pack.
    pub fn of(pack: &PackFile, tail: &[u8]) -> Result<Self> {
        let sizes = pack.pack().sizes();
        let layers =
            tail.get(..sizes.tail_layers * LAYER_BYTES).context("the tail is too short for this pack")?;
        let words = layers.as_chunks::<LAYER_BYTES>().0.iter();
        let ranges = words.map(|&[a, b, c, d, e, f, g, h]| {
            let (scale, zero_point) = (f32::from_le_bytes([a, b, c, d]), i32::from_le_bytes([e, f, g, h]));
            range(Affine { scale, zero_point })
        });
        Ok(Self { ranges: ranges.collect(), weights: delta::weights(pack, tail)? })
    }

    /// The tail of these numbers: int8 and f32, as [`flatmin::Tuner::write_tail`] and `adopt_tail` take it.
    ///
    /// # Errors
    /// Numbers of another pack, or that are not finite.
    pub fn tail(&self, pack: &PackFile) -> Result<Vec<u8>> {
        let (pack, sizes) = (pack.pack(), pack.pack().sizes());
        let (expected, found) = (sizes.tail_parameters, self.weights.len());
        ensure!(expected == found, "{found} weights of a tail that has {expected}");
        let (expected, found) = (sizes.tail_layers, self.ranges.len());
        ensure!(expected == found, "ranges of {found} layers of a tail that has {expected}");
        let mut numbers = self.weights.iter().chain(self.ranges.as_flattened());
        ensure!(numbers.all(|number| number.is_finite()), "a weight or a range is not a finite number");
        let outputs: usize = pack.trained_layers().map(|layer: TrainedLayer| layer.outputs).sum();
        let int8 =
            sizes.payload_bytes(Contents::Int8) - sizes.tail_layers * LAYER_BYTES - 4 * WORDS * outputs;
        let (mut words, mut weights) = (vec![0; WORDS * outputs], vec![0; int8]);
        let mut tuned = TunedTail::new(&mut words, &mut weights);
        let ranges: Vec<Range> = self.ranges.iter().map(|&[low, high]| Range { low, high }).collect();
        tuned.quantize(&pack, &self.weights, &ranges);
        let mut tail = Vec::with_capacity(sizes.payload_bytes(Contents::Int8AndF32));
        for output in tuned.outputs() {
            tail.extend(output.scale.to_le_bytes());
            tail.extend(output.zero_point.to_le_bytes());
        }
        tail.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        tail.extend(weights.iter().map(|weight| weight.cast_unsigned()));
        tail.extend(self.weights.iter().flat_map(|weight| weight.to_le_bytes()));
        Ok(tail)
    }
}

/// Units of the f32 tail in one step of what the last layer reads.
///
/// # Errors
/// A pack that trains nothing.
pub fn head_scale(pack: &PackFile) -> Result<f32> {
    let layer = pack.pack().trained_layers().last().context("the pack trains nothing")?;
    Ok(if layer.unit_input { pack.pack().feature_unit() } else { layer.input.scale })
}

/// What an int8 output can say.
fn range(Affine { scale, zero_point }: Affine) -> [f32; 2] {
    [-128, 127].map(|q| scale * (q - zero_point) as f32)
}
