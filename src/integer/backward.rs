//! The backward pass: gradients by activations and by weights, in integers. The unit of a gradient is that by one int8 step of
//! its tensor, so that a layer's scales count once, where a gradient passes through.

use super::forward::{arrays, chunk_rows, made};
use super::gradient::{Writer, round_shift};
use super::layer_weights::{Ascent, LayerWeights};
use super::pass::{Channel, MOST_VALUES, Network, Scratch, Sink};
use super::pointwise;
use super::weights::{Parameters, scale_of};
use crate::op::ConvShape;
use crate::pack::format::{node, operator};
use crate::pack::{Function, Pack, TailNode, TailValue, TrainedLayer};
use crate::part::Part;

/// Bits of a channel's scale relative to the layer's largest.
pub(super) const SCALE_BITS: u32 = 15;

/// Real units of the gradients by all values.
#[derive(Debug)]
pub(super) struct Units([f32; MOST_VALUES]);

impl Units {
    pub fn of(&self, value: &TailValue) -> f32 {
        self.0.get(usize::from(value.index)).copied().unwrap_or(1.0)
    }

    pub fn set(&mut self, value: &TailValue, unit: f32) {
        if let Some(place) = self.0.get_mut(usize::from(value.index)) {
            *place = unit;
        }
    }
}

/// What a node's backward pass needs beside the scratch memory.
pub(super) struct Pass<'b, 'p> {
    pub pack: &'b Pack<'p>,
    pub node: &'b TailNode,
    pub units: &'b mut Units,
}

impl<'b> Pass<'b, '_> {
    /// The first or the second input, if a gradient by it is wanted, and the unit of what is there, to be added to.
    pub fn wanted(&self, second: bool) -> Option<(&'b TailValue, Option<f32>)> {
        let (value, wanted, first) = match second {
            false => (&self.node.input, node::INPUT_DELTA, node::INPUT_FIRST),
            true => (&self.node.second, node::SECOND_DELTA, node::SECOND_FIRST),
        };
        let value = value.as_ref().filter(|_| self.node.is(wanted))?;
        Some((value, (!self.node.is(first)).then(|| self.units.of(value))))
    }

    /// Unit of the gradient by the output.
    pub fn unit(&self) -> f32 {
        self.units.of(&self.node.output)
    }
}

/// Backward pass after [`Network::loss`], whose gradient by the logits is in the scratch memory in steps of `unit` nats. `sink`
/// gets every trained channel's gradient once its layer's input has its own, so that it may move the weights.
pub(super) fn backward(
    pack: &Pack,
    parameters: &mut Parameters,
    ascent: Ascent,
    unit: f32,
    scratch: &mut Scratch,
    sink: Sink,
) -> Option<()> {
    let mut units = Units([1.0; MOST_VALUES]);
    let end = pack.nodes().next_back()?;
    let delta = scratch.workspace.get_mut(end.output.delta.clone()?)?;
    let scale = pack.tensor(end.operator.output).affine.scale;
    let mut writer = Writer::new(delta, unit * scale, 15, None);
    for top in scratch.top.chunks(scratch.sums.len().max(1)) {
        let sums = scratch.sums.get_mut(..top.len())?;
        sums.iter_mut().zip(top).for_each(|(sum, &d)| *sum = d.into());
        writer.push(sums);
    }
    units.set(&end.output, writer.finish());
    for node in pack.nodes().rev() {
        if node.output.delta.is_none() {
            continue;
        }
        mask(&node, scratch.workspace)?;
        let mut pass = Pass { pack, node: &node, units: &mut units };
        if is_zero(&pass, scratch)? {
            hand_on_nothing(&mut pass, scratch.workspace)?;
        } else if has_weights(&node) {
            input_gradient(&mut pass, parameters, ascent, scratch)?;
        } else {
            pointwise::backward(&mut pass, scratch)?;
        }
        if has_weights(&node) {
            weight_gradient(&pass, parameters, scratch, sink)?;
        }
    }
    Some(())
}

fn has_weights(node: &TailNode) -> bool {
    let kinds = [operator::CONV_2D, operator::DEPTHWISE_CONV_2D, operator::FULLY_CONNECTED];
    kinds.contains(&node.operator.kind)
}

/// No gradient where a fused activation's output stands at a bound.
fn mask(node: &TailNode, workspace: &mut [i8]) -> Option<()> {
    if node.function.fused(node.operator.kind) == Function::Identity {
        return Some(());
    }
    if let Some(mask) = &node.mask {
        let [bits, delta] = arrays(workspace, [mask, node.output.delta.as_ref()?])?;
        for (delta, bits) in delta.chunks_mut(8).zip(bits) {
            for (place, g) in delta.iter_mut().enumerate() {
                *g = if *bits >> place & 1 != 0 { *g } else { 0 };
            }
        }
        return Some(());
    }
    let [low, high] = node.operator.clamp;
    let [y, delta] = arrays(workspace, [&node.output.activation, node.output.delta.as_ref()?])?;
    for (g, &mut y) in delta.iter_mut().zip(y) {
        *g = if y > low && y < high { *g } else { 0 };
    }
    Some(())
}

fn is_zero(pass: &Pass, scratch: &Scratch) -> Option<bool> {
    let unit = pass.unit();
    let delta = scratch.workspace.get(pass.node.output.delta.clone()?)?;
    // What has no normal unit is less than any step.
    Some(!unit.is_normal() || delta.iter().all(|&g| g == 0))
}

/// Writes zeros where a gradient is wanted and none is there.
fn hand_on_nothing(pass: &mut Pass, workspace: &mut [i8]) -> Option<()> {
    if let Some(delta) = &pass.node.output.delta {
        workspace.get_mut(delta.clone())?.fill(0);
    }
    for second in [false, true] {
        if let Some((value, None)) = pass.wanted(second) {
            workspace.get_mut(value.delta.clone()?)?.fill(0);
            pass.units.set(value, 1.0);
        }
    }
    Some(())
}

/// `sums[k] += d w[k]`.
#[inline(always)]
fn add_products(sums: &mut [i32], d: i32, w: &[i8]) {
    sums.iter_mut().zip(w).for_each(|(sum, &w)| *sum += d * i32::from(w));
}

/// Bits of a number of terms: the least b with `terms <= 2^b`.
fn bits_of(terms: usize) -> u32 {
    usize::BITS - terms.saturating_sub(1).leading_zeros()
}

/// The gradient by a layer's input, in steps of it: `sum over outputs of G M q`, `M = s_x s_w / s_y`.
fn input_gradient(
    pass: &mut Pass,
    parameters: &Parameters,
    ascent: Ascent,
    scratch: &mut Scratch,
) -> Option<()> {
    let Some((input, before)) = pass.wanted(false) else { return Some(()) };
    let (pack, op) = (pass.pack, &pass.node.operator);
    let (shape, layer) = (pack.conv_shape(op)?, pack.layer_of(pass.node));
    let scales = pack.float32(op.constants.scales, layer.scales());
    let Scratch { workspace, weights, sums, multipliers, .. } = scratch;
    let multipliers = multipliers.get_mut(..layer.outputs)?;
    let largest = write_multipliers(scales, multipliers);
    let depthwise = op.kind == operator::DEPTHWISE_CONV_2D;
    let area = op.window.filter[0].max(1) * op.window.filter[1].max(1);
    let area = if op.kind == operator::FULLY_CONNECTED { 1 } else { area };
    let terms = area * if depthwise { op.depth_multiplier.max(1) } else { layer.outputs };
    let shift = shift_of(terms);
    let factor = layer.input.scale * largest / layer.output.scale;
    let unit = pass.unit() * factor * (1u32 << shift.min(31)) as f32 / (1u32 << SCALE_BITS) as f32;
    let network = Network { pack, parameters, ascent, factory: false };
    let trained = network.trained(pass.node);
    let own = trained.as_ref().map(|(layer, place)| network.weights_of(layer, *place));
    let own = own.filter(|own| own.layer.trains_weights);
    let packed = pack.int8(op.constants.weights, layer.weights());
    let [delta, d] = arrays(workspace, [pass.node.output.delta.as_ref()?, input.delta.as_ref()?])?;
    let mut writer = Writer::new(d, unit, 31, before);
    let of = Deltas { delta: &*delta, multipliers: &*multipliers, shift };
    let one_pixel = shape.is_pointwise() && shape.input_length() == layer.taps;
    match &own {
        // One pixel needs the weights once, some rows at a time; so do more pixels where all rows have no room.
        Some(own) if !depthwise && (one_pixel || has_turns(&layer, weights.len())) => {
            input_rows_in_turns(&shape, own, &of, (weights, sums), &mut writer)?;
        }
        Some(own) if own.layer.inputs.is_some() && !depthwise => {
            // The others' weights are those in flash.
            let weights = weights.get_mut(..own.layer.tuned_weights())?;
            own.write_trained(weights);
            let chosen = Some(Share { channels: own.inputs, weights });
            input_rows(&shape, depthwise, (packed, chosen), &of, sums, &mut writer)?;
        }
        Some(own) => {
            let weights = made(own, 0, layer.outputs, weights)?;
            input_rows(&shape, depthwise, (weights, None), &of, sums, &mut writer)?;
        }
        None => input_rows(&shape, depthwise, (packed, None), &of, sums, &mut writer)?,
    }
    let unit = writer.finish();
    pass.units.set(input, unit);
    Some(())
}

/// Whether a layer's weights are made for some output channels at a time: there is no room for all of them.
fn has_turns(layer: &TrainedLayer, room: usize) -> bool {
    layer.inputs.is_none() && room < layer.weights()
}

/// [`input_rows`] with the weights of some output channels after the other; `sums` has room for the whole input.
pub(super) fn input_rows_in_turns(
    shape: &ConvShape,
    own: &LayerWeights,
    of: &Deltas,
    (weights, sums): (&mut [i8], &mut [i32]),
    writer: &mut Writer,
) -> Option<()> {
    let (channels, outputs) = (shape.input().channels.max(1), shape.output().channels);
    let (rows, columns, width) = (shape.rows(), shape.columns(), shape.output().width);
    let area = rows.filter * columns.filter;
    let sums = sums.get_mut(..shape.input_length())?;
    sums.fill(0);
    let chunk = chunk_rows(own.layer, weights.len());
    for first in (0..outputs).step_by(chunk) {
        let count = chunk.min(outputs - first);
        let made = made(own, first, count, weights)?;
        let of = Deltas { multipliers: of.multipliers.part(first..first + count), ..*of };
        for (index, sums) in sums.chunks_exact_mut(channels).enumerate() {
            let (row, column) = (index / shape.input().width.max(1), index % shape.input().width.max(1));
            for i in 0..rows.filter {
                let Some(output_row) = rows.output_of(row, i) else { continue };
                for j in 0..columns.filter {
                    let Some(output_column) = columns.output_of(column, j) else { continue };
                    let pixel = of.pixel((output_row * width + output_column) * outputs + first);
                    let tap = i * columns.filter + j;
                    for (o, d) in pixel.enumerate().filter(|(_, d)| *d != 0) {
                        let start = (o * area + tap) * channels;
                        add_products(sums, d, made.part(start..start + channels));
                    }
                }
            }
        }
    }
    sums.chunks_exact_mut(channels).for_each(|sums| writer.push(sums));
    Some(())
}

/// Writes the channels' scales, relative to the largest of them, which is returned.
pub(super) fn write_multipliers(scales: &[f32], multipliers: &mut [i32]) -> f32 {
    let largest = scales.iter().fold(0.0f32, |most, &scale| most.max(scale));
    for (o, multiplier) in multipliers.iter_mut().enumerate() {
        let relative = scale_of(scales, o) / largest * (1u32 << SCALE_BITS) as f32;
        *multiplier = crate::math::round(relative) as i32;
    }
    largest
}

/// Gradients by a layer's output, and what makes of them those by its sums.
pub(super) struct Deltas<'d> {
    pub delta: &'d [i8],
    /// One per output channel.
    pub multipliers: &'d [i32],
    pub shift: u32,
}

impl Deltas<'_> {
    /// Gradients of the pixel whose first element is `start`.
    fn pixel(&self, start: usize) -> impl Iterator<Item = i32> {
        let pixel = self.delta.part(start..start + self.multipliers.len());
        pixel.iter().zip(self.multipliers).map(|(&g, &m)| round_shift(i32::from(g) * m, self.shift))
    }
}

/// Input channels that have other weights than the rest.
#[derive(Clone, Copy)]
pub(super) struct Share<'w> {
    /// Rising.
    pub channels: &'w [u16],
    /// Their weights alone, OHWI.
    pub weights: &'w [i8],
}

/// Writes the gradient by every pixel of the input, by a convolution's weights, but for channels that have their own; `sums` has
/// room for one pixel, and for these channels.
pub(super) fn input_rows(
    shape: &ConvShape,
    depthwise: bool,
    (weights, chosen): (&[i8], Option<Share>),
    of: &Deltas,
    sums: &mut [i32],
    writer: &mut Writer,
) -> Option<()> {
    let (channels, outputs) = (shape.input().channels, shape.output().channels);
    let count = chosen.map_or(0, |chosen| chosen.channels.len());
    let (sums, own) = sums.get_mut(..channels + count)?.split_at_mut_checked(channels)?;
    let multiplier = (outputs / channels.max(1)).max(1);
    let (rows, columns, width) = (shape.rows(), shape.columns(), shape.output().width);
    let area = rows.filter * columns.filter;
    for row in 0..shape.input().height {
        for column in 0..shape.input().width {
            sums.fill(0);
            own.fill(0);
            for i in 0..rows.filter {
                let Some(output_row) = rows.output_of(row, i) else { continue };
                for j in 0..columns.filter {
                    let Some(output_column) = columns.output_of(column, j) else { continue };
                    let pixel = of.pixel((output_row * width + output_column) * outputs);
                    let tap = i * columns.filter + j;
                    if depthwise {
                        let w = weights.part(tap * outputs..(tap + 1) * outputs);
                        for (o, (d, &w)) in pixel.zip(w).enumerate() {
                            let channel = if multiplier == 1 { o } else { o / multiplier };
                            if let Some(sum) = sums.get_mut(channel) {
                                *sum += d * i32::from(w);
                            }
                        }
                        continue;
                    }
                    for (o, d) in pixel.enumerate().filter(|(_, d)| *d != 0) {
                        let start = (o * area + tap) * channels;
                        add_products(sums, d, weights.part(start..start + channels));
                        if let Some(chosen) = chosen {
                            let start = (o * area + tap) * count;
                            add_products(own, d, chosen.weights.part(start..start + count));
                        }
                    }
                }
            }
            if let Some(chosen) = chosen {
                for (&channel, &own) in chosen.channels.iter().zip(own.iter()) {
                    if let Some(sum) = sums.get_mut(usize::from(channel)) {
                        *sum = own;
                    }
                }
            }
            writer.push(sums);
        }
    }
    Some(())
}

/// Bits to drop of a product of gradient and relative scale, so that a sum of so many of them, each times a weight, stays
/// below 2^30.
pub(super) fn shift_of(terms: usize) -> u32 {
    // Of 7 + 15 bits, and 7 of the weight.
    bits_of(terms).saturating_sub(1)
}

/// `sums[k] += g (x[k] - zero point)`.
#[inline(always)]
fn add_inputs(sums: &mut [i32], g: i32, x: &[i8], zero_point: i32) {
    sums.iter_mut().zip(x).for_each(|(sum, &x)| *sum += g * (i32::from(x) - zero_point));
}

/// Gives `sink` the gradient by every trained channel: `sum over pixels of G (x - z)`, padding left out, and of the bias
/// `sum of G`, both but for the channel's own factor M.
fn weight_gradient(
    pass: &Pass,
    parameters: &mut Parameters,
    scratch: &mut Scratch,
    sink: Sink,
) -> Option<()> {
    let (pack, op) = (pass.pack, &pass.node.operator);
    let network = Network { pack, parameters, ascent: Ascent::NONE, factory: false };
    let Some((layer, place)) = network.trained(pass.node) else { return Some(()) };
    let (shape, inputs) = (pack.conv_shape(op)?, pack.chosen_inputs(&layer));
    let depthwise = op.kind == operator::DEPTHWISE_CONV_2D;
    let multiplier = if depthwise { op.depth_multiplier.max(1) } else { 1 };
    let (x, shape) = match &pass.node.inputs {
        Some(chosen) => (&chosen.kept, shape.of_inputs(chosen.count)),
        None => (&pass.node.input.as_ref()?.activation, shape),
    };
    let Scratch { workspace, sums, .. } = scratch;
    let [delta, x] = match layer.trains_weights {
        true => arrays(workspace, [pass.node.output.delta.as_ref()?, x])?,
        // Nothing is kept of its input.
        false => [workspace.get_mut(pass.node.output.delta.clone()?)?, &mut []],
    };
    let unit = pass.unit();
    let unit = if unit.is_normal() { unit } else { 1.0 };
    for output in 0..layer.outputs {
        let sums = sums.get_mut(..layer.trained_row(output, inputs).length())?;
        sums.fill(0);
        // A channel that is chosen of a depthwise layer lies by its place among these.
        let channel = match layer.inputs {
            Some(_) if depthwise => layer.trained_row(output, inputs).next().map_or(0, |(own, _)| own),
            _ => output / multiplier,
        };
        let (delta, x) = ((&*delta, layer.outputs), (&*x, layer.input.zero_point));
        let bias = channel_gradient(&shape, depthwise.then_some(channel), output, delta, x, sums);
        sink(parameters, Channel { layer: &layer, place, output }, sums, bias, unit);
    }
    Some(())
}

/// Adds one channel's gradient to `sums`, in the order of its weights, if there is any; returns that of its bias. An output of a
/// depthwise layer reads one channel of the input.
pub(super) fn channel_gradient(
    shape: &ConvShape,
    depthwise: Option<usize>,
    output: usize,
    (delta, outputs): (&[i8], usize),
    (x, zero_point): (&[i8], i32),
    sums: &mut [i32],
) -> i32 {
    let (rows, columns, input) = (shape.rows(), shape.columns(), shape.input());
    let mut bias = 0;
    let mut gradients = delta.part(output..).iter().step_by(outputs.max(1)).map(|&g| i32::from(g));
    for row in 0..shape.output().height {
        let (row_taps, top) = rows.inside(row);
        for column in 0..shape.output().width {
            let g = gradients.next().unwrap_or(0);
            if g == 0 {
                continue;
            }
            bias += g;
            if sums.is_empty() {
                continue;
            }
            let (column_taps, left) = columns.inside(column);
            for i in row_taps.clone() {
                let line = top + (i - row_taps.start) * rows.dilation;
                for j in column_taps.clone() {
                    let at = line * input.width + left + (j - column_taps.start) * columns.dilation;
                    let (pixel, tap) = (at * input.channels, i * columns.filter + j);
                    if let Some(channel) = depthwise {
                        if let (Some(sum), Some(&x)) = (sums.get_mut(tap), x.get(pixel + channel)) {
                            *sum += g * (i32::from(x) - zero_point);
                        }
                        continue;
                    }
                    let own = sums.part_mut(tap * input.channels..(tap + 1) * input.channels);
                    add_inputs(own, g, x.part(pixel..pixel + input.channels), zero_point);
                }
            }
        }
    }
    bias
}
