//! The tuned f32 tail back in int8: what the device runs after tuning.
//!
//! Weights are symmetric, per channel or per tensor as the layer was packed; activations, those of operators without
//! weights between trained layers too, get the ranges that were seen at `w` (never at `w + e`); biases and multipliers follow TensorFlow Lite's specification, so that
//! a reference interpreter computes the same bytes.

mod dequantizer;
mod quantizer;
mod tuned_layer;

use crate::kernels::{self, Requantization, Scales, Softmax};
use crate::memory::TUNED_WORDS;
use crate::pack::{Affines, MAX_LAYERS, Pack, RefitOp, TrainedLayer, format::operator};
use crate::part::Part;
use crate::quant::{Affine, Multiplier};
use crate::sound;
use crate::trunk::{self, input_and_output};
use dequantizer::Dequantizer;
pub(crate) use dequantizer::dequantize;
use heapless::Vec;
pub(crate) use quantizer::Rows;
use quantizer::{F32Rows, LayerQuantizer};
pub use tuned_layer::TunedLayer;

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

/// How the inputs and the output of a layer are quantized.
fn affines(pack: &Pack, layer: &TrainedLayer, outputs: &[Affine], output: Affine) -> Affines {
    let of = |source: Option<usize>| source.and_then(|source| outputs.get(source)).copied();
    let second = || pack.tensor(layer.operator.second_input).affine;
    Affines {
        first: of(layer.source).unwrap_or(layer.input),
        second: of(layer.second_source).unwrap_or_else(second),
        output,
    }
}

/// Where a tuned layer lies among the words and the weights of all.
struct Place {
    layer: TrainedLayer,
    words: core::ops::Range<usize>,
    weights: core::ops::Range<usize>,
}

fn places<'p>(pack: &Pack<'p>) -> impl Iterator<Item = Place> + use<'p> {
    let (mut words, mut weights) = (0, 0);
    pack.trained_layers().map(move |layer| {
        let start = (words, weights);
        words += layer.outputs * TUNED_WORDS;
        weights += layer.tuned_weights();
        Place { layer, words: start.0..words, weights: start.1..weights }
    })
}

fn clamp(layer: &TrainedLayer, output: Affine) -> [i8; 2] {
    if !layer.refit {
        return layer.operator.clamp;
    }
    let [low, high] = layer.function.limits().unwrap_or([f32::NEG_INFINITY, f32::INFINITY]);
    let low = if low.is_finite() { output.quantize(low) } else { -128 };
    [low, if high.is_finite() { output.quantize(high) } else { 127 }]
}

/// A tuned int8 tail in caller-owned buffers.
#[derive(Debug)]
pub struct TunedTail<'a> {
    /// For every layer: biases, mantissas, shifts, scales (as bits), each as long as the layer's output.
    words: &'a mut [i32],
    /// Trained weights of all layers, and room after them.
    weights: &'a mut [i8],
    /// How many.
    count: usize,
    /// Output quantization of every layer; none before the first [`Self::quantize`].
    outputs: Vec<Affine, MAX_LAYERS>,
}

impl<'a> TunedTail<'a> {
    /// No tail yet, in these buffers.
    pub fn new(words: &'a mut [i32], weights: &'a mut [i8]) -> Self {
        Self { words, count: weights.len(), weights, outputs: Vec::new() }
    }

    /// A tail whose so many weights have no place yet: [`Self::exchange_weights`].
    pub(crate) fn without_weights(words: &'a mut [i32], count: usize) -> Self {
        Self { words, weights: &mut [], count, outputs: Vec::new() }
    }

    /// True before the first [`Self::quantize`].
    pub fn is_empty(&self) -> bool {
        self.outputs.is_empty()
    }

    /// Back to no tuned tail.
    pub fn clear(&mut self) {
        self.outputs.clear();
    }

    /// Outputs that are classes: see [`Pack::classes_of`].
    pub fn classes(&self, pack: &Pack) -> usize {
        match (pack.spare_classes(), places(pack).last()) {
            (1.., Some(Place { layer, weights, .. })) => {
                pack.classes_of(self.weights.part(weights), layer.outputs)
            }
            _ => pack.known_classes(),
        }
    }

    /// What a layer's input is quantized with.
    fn input(&self, layer: &TrainedLayer) -> Affine {
        layer.source.and_then(|source| self.outputs.get(source)).copied().unwrap_or(layer.input)
    }

    /// Quantizes f32 `parameters`; `ranges` are the trained layers' outputs as seen at these parameters.
    pub fn quantize(&mut self, pack: &Pack, parameters: &[f32], ranges: &[Range]) {
        self.quantize_rows(pack, ranges, |layer| {
            let own = parameters.part(layer.parameters..);
            let (w, b) = own.split_at(layer.trained_weights().min(own.len()));
            let biases = b.part(..layer.outputs);
            F32Rows { layer: *layer, unfold: unfold(pack, layer), weights: w, biases }
        });
    }

    /// The same of the rows that `of` gives for one layer after the other.
    pub(crate) fn quantize_rows<R: Rows>(
        &mut self,
        pack: &Pack,
        ranges: &[Range],
        mut of: impl FnMut(&TrainedLayer) -> R,
    ) {
        self.outputs.clear();
        let last = places(pack).last().filter(|_| pack.spare_classes() > 0);
        let place_of_last = last.map(|place| place.layer.index);
        for (place, range) in places(pack).zip(ranges) {
            let layer = &place.layer;
            let input = self.input(layer);
            let output = if layer.refit { Affine::covering(range.low, range.high) } else { layer.output };
            if let Some(op) = refit_op(pack, layer) {
                let output = (op.settle)(&affines(pack, layer, &self.outputs, output));
                let _ = self.outputs.push(output);
                continue;
            }
            let rows = of(layer);
            let classes = match place_of_last {
                Some(last) if last == layer.index => {
                    let spare = pack.known_classes()..layer.outputs;
                    pack.known_classes() + spare.take_while(|&o| rows.largest(o) > 0.0).count()
                }
                _ => layer.outputs,
            };
            let quantizer = LayerQuantizer {
                layer,
                rows,
                input,
                output,
                packed_scales: packed_scales(pack, layer),
                packed_weights: pack.int8(layer.operator.constants.weights, layer.weights()),
                chosen: pack.chosen_channels(layer),
                classes,
            };
            let words = self.words.part_mut(place.words);
            let weights = self.weights.part_mut(place.weights);
            quantizer.run(weights, words);
            // Cannot be full: a tail has at most MAX_LAYERS.
            let _ = self.outputs.push(output);
        }
    }

    /// Exchanges the memory of the weights with another: there are no layers as long as it is empty.
    pub(crate) fn exchange_weights(&mut self, place: &mut &'a mut [i8]) {
        core::mem::swap(&mut self.weights, place);
    }

    /// Takes layers that keep their packed scales, whose weights are in their place already; `write` fills in the biases and
    /// returns the output's quantization.
    pub(crate) fn take_integers(
        &mut self,
        pack: &Pack,
        mut write: impl FnMut(&TrainedLayer, &mut [i32]) -> Affine,
    ) {
        self.outputs.clear();
        for place in places(pack) {
            let layer = &place.layer;
            if let Some(op) = refit_op(pack, layer) {
                let output = (op.settle)(&affines(pack, layer, &self.outputs, layer.output));
                let _ = self.outputs.push(output);
                continue;
            }
            let words = self.words.part_mut(place.words);
            let (biases, rest) = words.parts_mut_at(layer.outputs);
            let output = write(layer, biases);
            let (mantissas, rest) = rest.parts_mut_at(layer.outputs);
            let (shifts, scales) = rest.parts_mut_at(layer.outputs);
            let packed = packed_scales(pack, layer);
            for (o, ((mantissa, shift), bits)) in mantissas.iter_mut().zip(shifts).zip(scales).enumerate() {
                let scale = packed.get(o).or(packed.first()).copied().unwrap_or(0.0);
                let multiplier = Multiplier::of_scales(layer.input.scale, scale, output.scale);
                (*mantissa, *shift) = (multiplier.mantissa, multiplier.shift);
                *bits = scale.to_bits().cast_signed();
            }
            // Cannot be full: a tail has at most MAX_LAYERS.
            let _ = self.outputs.push(output);
        }
    }

    /// The layers, first to last; none before the first [`Self::quantize`].
    pub fn layers<'t>(&'t self, pack: &Pack<'t>) -> impl Iterator<Item = TunedLayer<'t>> {
        let pack = *pack;
        places(&pack).zip(&self.outputs).map(move |(place, &output)| self.layer(&pack, place, output))
    }

    fn layer<'t>(&'t self, pack: &Pack<'t>, place: Place, output: Affine) -> TunedLayer<'t> {
        let Place { layer, words, weights } = place;
        let own = self.words.part(words);
        let part = |index: usize| own.part(index * layer.outputs..(index + 1) * layer.outputs);
        let weights = match layer.trains_weights {
            true => self.weights.part(weights),
            false => pack.int8(layer.operator.constants.weights, layer.weights()),
        };
        TunedLayer {
            layer,
            weights,
            inputs: pack.chosen_inputs(&layer),
            biases: part(0),
            // Kept as bits beside the integers.
            scales: bytemuck::must_cast_slice(part(3)),
            per_channel: layer.operator.per_channel,
            input: self.input(&layer),
            output,
        }
    }

    /// What the tail is made of: for every layer biases, mantissas, shifts and scales; the layers' weights.
    pub fn parts(&self) -> (&[i32], &[i8]) {
        (self.words, self.weights.part(..self.count.min(self.weights.len())))
    }

    /// The places of the same, to be filled before [`Self::adopt`].
    pub fn parts_mut(&mut self) -> (&mut [i32], &mut [i8]) {
        self.outputs.clear();
        let count = self.count.min(self.weights.len());
        (self.words, self.weights.part_mut(..count))
    }

    /// Makes a tail of the parts as they are, which are those of a tail with these output quantizations.
    pub fn set_outputs(&mut self, outputs: Vec<Affine, MAX_LAYERS>) {
        self.outputs = outputs;
    }

    /// The layers' output quantization, first to last.
    pub fn outputs(&self) -> impl ExactSizeIterator<Item = Affine> + '_ {
        self.outputs.iter().copied()
    }

    /// Makes a tail of the parts as they are. False, and no tail, if a number is one that [`Self::quantize`] never
    /// writes.
    pub fn adopt(&mut self, pack: &Pack, outputs: impl Iterator<Item = Affine>) -> bool {
        self.outputs.clear();
        for (place, output) in places(pack).zip(outputs) {
            let words = self.words.part(place.words);
            let fits = match refit_op(pack, &place.layer) {
                Some(op) => (op.settle)(&affines(pack, &place.layer, &self.outputs, output)) == output,
                None => {
                    let kept = place.layer.refit || output == place.layer.output;
                    sane_words(words, place.layer.outputs) && kept
                }
            };
            if !sane_affine(&output) || !fits {
                break;
            }
            let _ = self.outputs.push(output);
        }
        let whole = self.outputs.len() == pack.sizes().tail_layers;
        if !whole {
            self.outputs.clear();
        }
        whole
    }

    /// Writes the int8 tail as f32 parameters, the inverse of [`Self::quantize`] but for its rounding.
    pub fn dequantize(&self, pack: &Pack, parameters: &mut [f32]) {
        for tuned in self.layers(pack) {
            let layer = Dequantizer {
                layer: &tuned.layer,
                input_scale: tuned.input.scale,
                fold: fold(pack, &tuned.layer),
                weights: tuned.weights,
                biases: tuned.biases,
                scales: tuned.scales,
                packed_scales: packed_scales(pack, &tuned.layer),
                chosen: pack.chosen_channels(&tuned.layer),
            };
            layer.run(parameters);
        }
    }

    /// Runs the tail in place of the packed one: from the features to the output in `arena`. Layers of which a share of the
    /// input channels is trained, if there are such, make their weights after the activations.
    pub fn run<const SHARES: bool>(&self, pack: &Pack, arena: &mut [i8]) {
        let mut places = places(pack).zip(&self.outputs);
        let mut next = places.next();
        let mut logits = None;
        for index in pack.trunk_operators()..pack.operator_count() {
            let op = pack.operator(index);
            let own = next.take_if(|(place, _)| place.layer.index == index);
            if let Some((place, &output)) = own {
                next = places.next();
                logits = Some((op.output, output));
                if let Some(refit) = refit_op(pack, &place.layer) {
                    let affines = affines(pack, &place.layer, &self.outputs, output);
                    (refit.run)(pack, &op, &affines, clamp(&place.layer, output), arena);
                    continue;
                }
                let (from, mantissas) = (place.words.start, place.layer.outputs);
                let multipliers = self.words.part(from + mantissas..from + 3 * mantissas);
                let layer = self.layer(pack, place, output);
                match layer.layer.inputs {
                    Some(_) if SHARES => run_shared(pack, &layer, multipliers, arena),
                    _ => run_layer(pack, &layer, multipliers, (layer.weights, 0..mantissas), arena),
                }
                continue;
            }
            match logits {
                Some((tensor, affine))
                    if op.kind == operator::SOFTMAX && pack.same_place(tensor, op.input) =>
                {
                    let (input, output) = (pack.tensor(op.input), pack.tensor(op.output));
                    let (x, y) = input_and_output(arena, &input, &output);
                    let of = Softmax::new(affine.scale, op.beta);
                    match pack.spare_classes() {
                        0 => kernels::softmax(x, output.channels, &of, y),
                        _ => kernels::softmax_of_classes(x, self.classes(pack), &of, y),
                    }
                }
                _ => trunk::run_operator(pack, &op, arena),
            }
            logits = None;
        }
    }
}

/// What is done with a layer that has no weights: an operator whose output is quantized anew.
fn refit_op(pack: &Pack, layer: &TrainedLayer) -> Option<&'static RefitOp> {
    if layer.outputs == 0 { pack.operators().refit(layer.operator.kind) } else { None }
}

/// Factor from stored to real weights: see [`Pack::fold`].
pub(crate) fn unfold(pack: &Pack, layer: &TrainedLayer) -> f32 {
    pack.unfold(layer.unit_input, layer.input)
}

/// The factor back, as it was rounded when the weights were folded.
pub(crate) fn fold(pack: &Pack, layer: &TrainedLayer) -> f32 {
    pack.fold(layer.unit_input, layer.input)
}

pub(crate) fn packed_scales<'p>(pack: &Pack<'p>, layer: &TrainedLayer) -> &'p [f32] {
    let op = &layer.operator;
    pack.float32(op.constants.scales, layer.scales())
}

/// Runs one tuned layer whose weights are made of those in flash, as many rows at a time as there is room for.
fn run_shared(pack: &Pack, tuned: &TunedLayer, multipliers: &[i32], arena: &mut [i8]) {
    let (arena, room) = arena.parts_mut_at(pack.sizes().arena_bytes);
    let (outputs, taps) = (tuned.layer.outputs, tuned.layer.taps.max(1));
    let chunk = if tuned.layer.rows_are_contiguous() { (room.len() / taps).max(1) } else { outputs.max(1) };
    for first in (0..outputs).step_by(chunk) {
        let rows = first..outputs.min(first + chunk);
        let weights = room.part_mut(..rows.len() * taps);
        tuned.write(pack, first, rows.len(), weights);
        run_layer(pack, tuned, multipliers, (weights, rows), arena);
    }
}

/// Runs some output channels of one tuned layer, `rows`, whose weights these are; of a depthwise convolution all of them.
/// `multipliers` are all mantissas and shifts.
fn run_layer(
    pack: &Pack,
    tuned: &TunedLayer,
    multipliers: &[i32],
    (weights, rows): (&[i8], core::ops::Range<usize>),
    arena: &mut [i8],
) {
    let op = &tuned.layer.operator;
    let (input, output) = (pack.tensor(op.input), pack.tensor(op.output));
    let (x, y) = input_and_output(arena, &input, &output);
    let (mantissas, shifts) = multipliers.split_at(multipliers.len() / 2);
    let requantization = Requantization {
        input_zero_point: tuned.input.zero_point,
        output_zero_point: tuned.output.zero_point,
        biases: tuned.biases,
        mantissas,
        shifts,
        clamp: clamp(&tuned.layer, tuned.output),
    };
    let own = requantization.outputs(rows.start, rows.len());
    let (from, to) = (input.shape(), output.shape());
    match op.kind {
        operator::CONV_2D => {
            kernels::conv2d_rows(x, from, &op.window, weights, &own, (y, rows), to);
        }
        operator::DEPTHWISE_CONV_2D => {
            let multiplier = op.depth_multiplier;
            kernels::depthwise_conv2d(x, from, &op.window, multiplier, weights, &requantization, y, to);
        }
        _ => {
            let scales = tuned.scales.part(rows.clone());
            let scales = Scales { input: tuned.input.scale, weights: scales, output: tuned.output.scale };
            let pixels = x.chunks_exact(tuned.layer.taps.max(1)).zip(y.chunks_exact_mut(to.channels.max(1)));
            for (x, y) in pixels {
                kernels::fully_connected(x, weights, &own, &scales, y.part_mut(rows.clone()));
            }
        }
    }
}

fn sane_affine(affine: &Affine) -> bool {
    sound::scale(affine.scale) && (-128..=127).contains(&affine.zero_point)
}

/// Mantissas, shifts and scales after the biases of one layer.
fn sane_words(words: &[i32], outputs: usize) -> bool {
    let mut parts = words.chunks_exact(outputs.max(1)).skip(1);
    let mut all =
        |sane: fn(i32) -> bool| parts.next().is_some_and(|part| part.iter().all(|&word| sane(word)));
    all(|mantissa| mantissa >= 0)
        && all(|shift| (-31..=30).contains(&shift))
        && all(|scale| sound::weight_scale(f32::from_bits(scale.cast_unsigned())))
}

/// Widens every layer's range.
pub(crate) fn widen(ranges: &mut [Range], layer: usize, low: f32, high: f32) {
    if let Some(range) = ranges.get_mut(layer) {
        range.widen(low, high);
    }
}

/// The weights of output `o`.
fn row<'w, T>(layer: &TrainedLayer, weights: &'w [T], o: usize) -> impl Iterator<Item = &'w T> {
    let (start, step) =
        if layer.rows_are_contiguous() { (o * layer.taps, 1) } else { (o, layer.outputs.max(1)) };
    weights.part(start..).iter().step_by(step).take(layer.taps)
}

/// The same, to write.
fn row_mut<'w, T>(layer: &TrainedLayer, weights: &'w mut [T], o: usize) -> impl Iterator<Item = &'w mut T> {
    let (start, step) =
        if layer.rows_are_contiguous() { (o * layer.taps, 1) } else { (o, layer.outputs.max(1)) };
    weights.part_mut(start..).iter_mut().step_by(step).take(layer.taps)
}
