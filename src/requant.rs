//! The tuned f32 tail back in int8: what the device runs after tuning.
//!
//! Weights are symmetric, per channel or per tensor as the layer was packed; activations get the ranges that
//! were seen at `w` (never at `w + e`); biases and multipliers follow TensorFlow Lite's specification, so that
//! a reference interpreter computes the same bytes.

use crate::kernels::{self, Requantization, Scales, Softmax};
use crate::math;
use crate::memory::TUNED_WORDS;
use crate::optim::Segment;
use crate::pack::{Activation, OperatorRecord, Pack, format::operator};
use crate::quant::{Affine, Multiplier};
use crate::tail::{MAX_LAYERS, TailShape};
use crate::trunk::input_and_output;
use heapless::Vec;

/// Lowest and highest value of one layer's output.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Range {
    /// Lowest.
    pub low: f32,
    /// Highest.
    pub high: f32,
}

impl Range {
    /// Contains nothing.
    pub const EMPTY: Self = Self { low: f32::INFINITY, high: f32::NEG_INFINITY };

    /// Widens the range to contain `low` and `high`.
    pub fn widen(&mut self, low: f32, high: f32) {
        self.low = self.low.min(low);
        self.high = self.high.max(high);
    }
}

#[derive(Debug, Clone, Copy)]
struct Layer {
    operator: OperatorRecord,
    input: Affine,
    output: Affine,
    clamp: [i8; 2],
}

/// One dense layer of a tuned tail, quantized as TensorFlow Lite's specification wants it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TunedLayer<'t> {
    /// `[outputs, inputs]`, symmetric.
    pub weights: &'t [i8],
    /// One an output, at the scale of input times weight.
    pub biases: &'t [i32],
    /// One an output; all alike where the layer has one scale in all.
    pub scales: &'t [f32],
    /// The layer was packed with one scale an output.
    pub per_channel: bool,
    /// Scale and zero point of its input.
    pub input: Affine,
    /// Scale and zero point of its output.
    pub output: Affine,
}

impl Layer {
    fn new(operator: OperatorRecord, activation: Activation, input: Affine, output: Affine) -> Self {
        let zero = output.quantize(0.0);
        let clamp = match activation {
            Activation::None => [-128, 127],
            Activation::Relu => [zero, 127],
            Activation::Relu6 => [zero, output.quantize(6.0)],
        };
        Self { operator, input, output, clamp }
    }
}

/// A tuned int8 tail in caller-owned buffers.
#[derive(Debug)]
pub(crate) struct TunedTail<'a> {
    /// For every layer: biases, mantissas, shifts, scales (as bits), each as long as the layer's output.
    words: &'a mut [i32],
    /// Weights of all layers.
    weights: &'a mut [i8],
    layers: Vec<Layer, MAX_LAYERS>,
}

impl<'a> TunedTail<'a> {
    pub fn new(words: &'a mut [i32], weights: &'a mut [i8]) -> Self {
        Self { words, weights, layers: Vec::new() }
    }

    /// True before the first [`Self::quantize`].
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// Back to no tuned tail.
    pub fn clear(&mut self) {
        self.layers.clear();
    }

    /// Quantizes `parameters`; `ranges` are the layers' outputs as seen at these parameters.
    pub fn quantize(&mut self, pack: &Pack, tail: &TailShape, parameters: &[f32], ranges: &[Range]) {
        self.layers.clear();
        let feature = pack.feature().affine;
        // The latents' scale was folded into the first layer; it comes out again here.
        let mut unfold = pack.feature_unit() / feature.scale;
        let mut input = feature;
        let (mut words, mut weights, mut rest) = (&mut *self.words, &mut *self.weights, parameters);
        let segments = tail.layers().zip(pack.tail_operators()).zip(ranges);
        for ((shape, operator), range) in segments {
            let output = Affine::covering(range.low, range.high);
            let own_words = split_front(&mut words, shape.outputs * TUNED_WORDS);
            let own_weights = split_front(&mut weights, shape.weights());
            let (w, behind) = rest.split_at(shape.weights().min(rest.len()));
            let (b, behind) = behind.split_at(shape.outputs.min(behind.len()));
            rest = behind;
            let quantizer = LayerQuantizer { input, output, unfold, per_channel: operator.per_channel };
            quantizer.run(w, b, own_weights, own_words);
            // Cannot be full: a tail has at most MAX_LAYERS.
            let _ = self.layers.push(Layer::new(operator, shape.activation, input, output));
            (input, unfold) = (output, 1.0);
        }
    }

    /// The layers, first to last; none before the first [`Self::quantize`].
    pub fn layers(&self, pack: &Pack) -> impl Iterator<Item = TunedLayer<'_>> {
        let (mut words, mut weights): (&[i32], &[i8]) = (self.words, self.weights);
        let pack = *pack;
        self.layers.iter().map(move |layer| {
            let outputs = pack.tensor(layer.operator.output).len();
            let inputs = pack.tensor(layer.operator.input).len();
            let (own, behind) = words.split_at((outputs * TUNED_WORDS).min(words.len()));
            let (own_weights, weights_behind) = weights.split_at((outputs * inputs).min(weights.len()));
            (words, weights) = (behind, weights_behind);
            let part = |index: usize| own.get(index * outputs..(index + 1) * outputs).unwrap_or(&[]);
            TunedLayer {
                weights: own_weights,
                biases: part(0),
                // Kept as bits beside the integers.
                scales: bytemuck::try_cast_slice(part(3)).unwrap_or(&[]),
                per_channel: layer.operator.per_channel,
                input: layer.input,
                output: layer.output,
            }
        })
    }

    /// What the tail is made of: for every layer biases, mantissas, shifts and scales; the layers' weights.
    pub fn parts(&self) -> (&[i32], &[i8]) {
        (self.words, self.weights)
    }

    /// The places of the same, to be filled before [`Self::adopt`].
    pub fn parts_mut(&mut self) -> (&mut [i32], &mut [i8]) {
        self.layers.clear();
        (self.words, self.weights)
    }

    /// The layers' output quantization, first to last.
    pub fn outputs(&self) -> impl ExactSizeIterator<Item = Affine> + '_ {
        self.layers.iter().map(|layer| layer.output)
    }

    /// Makes a tail of the parts as they are. False, and no tail, if a number is one that [`Self::quantize`] never
    /// writes.
    pub fn adopt(&mut self, pack: &Pack, tail: &TailShape, outputs: impl Iterator<Item = Affine>) -> bool {
        self.layers.clear();
        let (mut input, mut words) = (pack.feature().affine, &*self.words);
        for ((shape, operator), output) in tail.layers().zip(pack.tail_operators()).zip(outputs) {
            let (own, behind) = words.split_at((shape.outputs * TUNED_WORDS).min(words.len()));
            words = behind;
            if !sane_affine(&output) || !sane_words(own, shape.outputs) {
                break;
            }
            let _ = self.layers.push(Layer::new(operator, shape.activation, input, output));
            input = output;
        }
        let whole = self.layers.len() == tail.layers().len();
        if !whole {
            self.layers.clear();
        }
        whole
    }

    /// Writes the int8 tail as f32 parameters, the inverse of [`Self::quantize`] but for its rounding.
    pub fn dequantize(&self, pack: &Pack, parameters: &mut [f32]) {
        let mut fold = pack.feature().affine.scale / pack.feature_unit();
        let mut rest = parameters;
        for tuned in self.layers(pack) {
            let layer = Dequantizer {
                inputs: tuned.weights.len() / tuned.biases.len().max(1),
                input_scale: tuned.input.scale,
                fold,
                weights: tuned.weights,
                biases: tuned.biases,
                scales: tuned.scales,
            };
            let weights = split_front(&mut rest, tuned.weights.len());
            layer.run(weights, split_front(&mut rest, tuned.biases.len()));
            fold = 1.0;
        }
    }

    /// Runs the tail in place of the packed one: from the feature to the output in `arena`.
    pub fn run(&self, pack: &Pack, arena: &mut [i8]) {
        let (mut words, mut weights): (&[i32], &[i8]) = (self.words, self.weights);
        for layer in &self.layers {
            let (input, output) = (pack.tensor(layer.operator.input), pack.tensor(layer.operator.output));
            let (x, y) = input_and_output(arena, &input, &output);
            let outputs = y.len();
            let (own, behind) = words.split_at((outputs * TUNED_WORDS).min(words.len()));
            let (own_weights, weights_behind) = weights.split_at((outputs * x.len()).min(weights.len()));
            (words, weights) = (behind, weights_behind);
            let part = |index: usize| own.get(index * outputs..(index + 1) * outputs).unwrap_or(&[]);
            let requantization = Requantization {
                input_zero_point: layer.input.zero_point,
                output_zero_point: layer.output.zero_point,
                biases: part(0),
                mantissas: part(1),
                shifts: part(2),
                clamp: layer.clamp,
            };
            // Kept as bits beside the integers.
            let weights = bytemuck::try_cast_slice(part(3)).unwrap_or(&[]);
            let scales = Scales { input: layer.input.scale, weights, output: layer.output.scale };
            kernels::fully_connected(x, own_weights, &requantization, &scales, y);
        }
        let last = pack.operator(pack.operator_count().saturating_sub(1));
        if let (operator::SOFTMAX, Some(layer)) = (last.kind, self.layers.last()) {
            let (input, output) = (pack.tensor(last.input), pack.tensor(last.output));
            let (x, y) = input_and_output(arena, &input, &output);
            kernels::softmax(x, output.channels, &Softmax::new(layer.output.scale, last.beta), y);
        }
    }
}

fn split_front<'a, T>(rest: &mut &'a mut [T], length: usize) -> &'a mut [T] {
    let all = core::mem::take(rest);
    let length = length.min(all.len());
    let (front, back) = all.split_at_mut(length);
    *rest = back;
    front
}

fn sane_scale(scale: f32) -> bool {
    scale.is_normal() && scale > 0.0
}

fn sane_affine(affine: &Affine) -> bool {
    sane_scale(affine.scale) && (-128..=127).contains(&affine.zero_point)
}

/// Mantissas, shifts and scales behind the biases of one layer.
fn sane_words(words: &[i32], outputs: usize) -> bool {
    let mut parts = words.chunks_exact(outputs.max(1)).skip(1);
    let mut all =
        |sane: fn(i32) -> bool| parts.next().is_some_and(|part| part.iter().all(|&word| sane(word)));
    all(|mantissa| mantissa >= 0)
        && all(|shift| (-31..=30).contains(&shift))
        && all(|scale| sane_scale(f32::from_bits(scale.cast_unsigned())))
}

struct LayerQuantizer {
    input: Affine,
    output: Affine,
    /// Factor from stored to real weights.
    unfold: f32,
    per_channel: bool,
}

impl LayerQuantizer {
    fn run(&self, w: &[f32], b: &[f32], weights: &mut [i8], words: &mut [i32]) {
        let outputs = b.len().max(1);
        let inputs = w.len() / outputs;
        let (biases, rest) = words.split_at_mut(outputs.min(words.len()));
        let (mantissas, rest) = rest.split_at_mut(outputs.min(rest.len()));
        let (shifts, scales) = rest.split_at_mut(outputs.min(rest.len()));
        let rows = w.chunks_exact(inputs.max(1));
        let whole = rows.clone().zip(b).map(|(row, &b)| self.scale(row, b)).fold(0.0, f32::max);
        let outputs = biases.iter_mut().zip(mantissas).zip(shifts).zip(scales);
        let quantized_rows = weights.chunks_exact_mut(inputs.max(1));
        for ((((row, &b), quantized), output), _) in rows.zip(b).zip(quantized_rows).zip(outputs).zip(0..) {
            let (((bias, mantissa), shift), scale_bits) = output;
            let scale = if self.per_channel { self.scale(row, b) } else { whole };
            for (q, &w) in quantized.iter_mut().zip(row) {
                // Symmetric: -128 is not used, as the specification asks of weights.
                *q = Affine { scale, zero_point: 0 }.quantize(w * self.unfold).max(-127);
            }
            let unit = f64::from(self.input.scale) * f64::from(scale);
            // A float cast saturates; `scale` keeps the bias far from that.
            *bias = math::round_double(f64::from(b) / unit) as i32;
            let multiplier = Multiplier::of_scales(self.input.scale, scale, self.output.scale);
            (*mantissa, *shift) = (multiplier.mantissa, multiplier.shift);
            *scale_bits = scale.to_bits().cast_signed();
        }
    }

    /// The smallest scale that holds a row's weights in 7 bits and its bias in 30.
    fn scale(&self, row: &[f32], bias: f32) -> f32 {
        let largest = row.iter().fold(0.0f32, |m, w| m.max(w.abs())) * self.unfold;
        let for_bias = bias.abs() / self.input.scale / (1u32 << 30) as f32;
        let scale = (largest / 127.0).max(for_bias);
        if scale.is_normal() { scale } else { f32::MIN_POSITIVE.max(1e-30) }
    }
}

/// Widens every layer's range.
pub(crate) fn widen(ranges: &mut [Range], layer: usize, low: f32, high: f32) {
    if let Some(range) = ranges.get_mut(layer) {
        range.widen(low, high);
    }
}

/// One int8 layer, to become f32.
struct Dequantizer<'a> {
    inputs: usize,
    input_scale: f32,
    /// Factor from real to stored weights.
    fold: f32,
    weights: &'a [i8],
    biases: &'a [i32],
    /// One an output, or a single one for all.
    scales: &'a [f32],
}

impl Dequantizer<'_> {
    fn run(&self, w: &mut [f32], b: &mut [f32]) {
        let inputs = self.inputs.max(1);
        let rows = w.chunks_exact_mut(inputs).zip(self.weights.chunks_exact(inputs));
        for (o, (((row, quantized), b), &bias)) in rows.zip(b).zip(self.biases).enumerate() {
            let scale = self.scales.get(o).or(self.scales.first()).copied().unwrap_or(0.0);
            for (w, &q) in row.iter_mut().zip(quantized) {
                *w = (scale * self.fold) * f32::from(q);
            }
            *b = (f64::from(self.input_scale) * f64::from(scale) * f64::from(bias)) as f32;
        }
    }
}

/// Writes the packed int8 tail as f32 parameters, the latents' scale folded into the first layer.
pub(crate) fn dequantize(pack: &Pack, parameters: &mut [f32]) {
    let feature = pack.feature();
    let mut fold = feature.affine.scale / pack.feature_unit();
    let mut rest = parameters;
    for op in pack.tail_operators() {
        let (input, output) = (pack.tensor(op.input), pack.tensor(op.output));
        let (inputs, outputs) = (input.len(), output.channels);
        let layer = Dequantizer {
            inputs,
            input_scale: input.affine.scale,
            fold,
            weights: pack.int8(op.constants.weights, inputs * outputs),
            biases: pack.int32(op.constants.biases, outputs),
            scales: pack.float32(op.constants.scales, if op.per_channel { outputs } else { 1 }),
        };
        let weights = split_front(&mut rest, inputs * outputs);
        layer.run(weights, split_front(&mut rest, outputs));
        fold = 1.0;
    }
}

/// Words and weights that a tuned tail takes.
pub(crate) fn tuned_lengths(tail: &TailShape) -> (usize, usize) {
    let weights = tail.segments().filter(|s| !s.is_bias).map(|s: Segment| s.length).sum();
    (tail.outputs() * TUNED_WORDS, weights)
}
