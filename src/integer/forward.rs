//! The forward pass: the shipped int8 kernels, on weights that are made for one layer at a time.

use super::layer_weights::LayerWeights;
use super::pass::{Network, Scratch};
use super::weights::scale_of;
use crate::kernels::{
    self, Mean, Move, Operand, Requantization, Scales, SumMultipliers, ZeroPoints, average_pool2d, broadcast,
    copy_box, lookup, max_pool2d, mean, resize_nearest,
};
use crate::pack::format::operator;
use crate::pack::{TailNode, TailValue};
use crate::part::Part;
use crate::quant::{Multiplier, saturate};
use core::cell::Cell;
use core::ops::Range;

/// Arrays of the workspace; `None` if two of them overlap, which validation excludes.
pub(super) fn arrays<'w, const N: usize>(
    workspace: &'w mut [i8],
    ranges: [&Range<usize>; N],
) -> Option<[&'w mut [i8]; N]> {
    workspace.get_disjoint_mut(ranges.map(Clone::clone)).ok()
}

/// The input's and the output's activations.
fn in_and_out<'w>(node: &TailNode, workspace: &'w mut [i8]) -> Option<[&'w mut [i8]; 2]> {
    arrays(workspace, [&node.input.as_ref()?.activation, &node.output.activation])
}

impl Network<'_, '_> {
    /// Runs all nodes on the features in the workspace.
    pub fn forward(&self, scratch: &mut Scratch) {
        for node in self.pack.nodes() {
            if self.forward_node(&node, scratch).and_then(|()| self.keep(&node, scratch)).is_none() {
                debug_assert!(false, "a node that validation lets through");
            }
        }
    }

    /// Keeps what of a node the backward pass reads instead of its input and its output.
    fn keep(&self, node: &TailNode, scratch: &mut Scratch) -> Option<()> {
        let workspace = &mut *scratch.workspace;
        if let (Some(chosen), Some(input)) = (&node.inputs, &node.input) {
            let [x, kept] = arrays(workspace, [&input.activation, &chosen.kept])?;
            let layer = self.pack.layer_of(node);
            let multiplier =
                if layer.rows_are_contiguous() { 1 } else { node.operator.depth_multiplier.max(1) };
            let channels = layer.input_channels() / multiplier;
            let pixels = x.chunks_exact(channels.max(1)).zip(kept.chunks_exact_mut(chosen.count.max(1)));
            for (x, kept) in pixels {
                for (&channel, kept) in self.pack.inputs(chosen).iter().zip(kept) {
                    *kept = x.get(usize::from(channel) / multiplier).copied()?;
                }
            }
        }
        if let Some(mask) = &node.mask {
            let [low, high] = node.operator.clamp;
            let [y, bits] = arrays(workspace, [&node.output.activation, mask])?;
            for (y, bits) in y.chunks(8).zip(bits) {
                let inside = y.iter().map(|&y| u8::from(y > low && y < high));
                *bits = inside.rev().fold(0, |bits, bit| bits << 1 | bit).cast_signed();
            }
        }
        Some(())
    }

    fn forward_node(&self, node: &TailNode, scratch: &mut Scratch) -> Option<()> {
        let (pack, op) = (self.pack, &node.operator);
        let (input, output) = (pack.tensor(op.input), pack.tensor(op.output));
        let (from, to) = (input.shape(), output.shape());
        match op.kind {
            operator::CONV_2D | operator::DEPTHWISE_CONV_2D | operator::FULLY_CONNECTED => {
                return self.forward_weighted(node, scratch);
            }
            operator::ADD | operator::SUB | operator::MUL | operator::PRELU => {
                return self.forward_pairwise(node, scratch.workspace);
            }
            operator::FILL => {
                let value = pack.parameters(op).first().copied()?;
                scratch.workspace.get_mut(node.output.activation.clone())?.fill(saturate(value));
            }
            operator::MOVE if node.input.is_none() => {
                let movement = Move::read(pack.parameters(op))?;
                let y = scratch.workspace.get_mut(node.output.activation.clone())?;
                copy_box(pack.int8(input.arena_offset, input.len()), &movement, y);
            }
            _ => {
                let [x, y] = in_and_out(node, scratch.workspace)?;
                match op.kind {
                    operator::AVERAGE_POOL_2D => average_pool2d(x, from, &op.window, op.clamp, y, to),
                    operator::MAX_POOL_2D => max_pool2d(x, from, &op.window, op.clamp, y, to),
                    operator::MEAN => {
                        let zero_points = [input.affine.zero_point, output.affine.zero_point];
                        mean(x, input.extents(), &Mean::read(pack.parameters(op))?, zero_points, y);
                    }
                    operator::LOOKUP => {
                        let cells = |values| Cell::from_mut(values).as_slice_of_cells();
                        lookup(cells(x), pack.table(op)?, cells(y));
                    }
                    operator::MOVE => copy_box(x, &Move::read(pack.parameters(op))?, y),
                    operator::RESIZE_NEAREST => {
                        let (rows, columns) = pack.parameters(op).split_at_checked(output.height)?;
                        resize_nearest(x, input.width, input.channels, rows, columns, y);
                    }
                    _ => return None,
                }
            }
        }
        Some(())
    }

    fn forward_pairwise(&self, node: &TailNode, workspace: &mut [i8]) -> Option<()> {
        let (pack, op) = (self.pack, &node.operator);
        let [first, second, output] = [op.input, op.second_input, op.output].map(|t| pack.tensor(t));
        let zero = ZeroPoints {
            first: first.affine.zero_point,
            second: second.affine.zero_point,
            output: output.affine.zero_point,
            clamp: op.clamp,
        };
        let cells = Cell::from_mut(workspace).as_slice_of_cells();
        let operand = |value: &Option<TailValue>, offset, length| match value {
            Some(value) => Some(Operand::Activations(cells.get(value.activation.clone())?)),
            None => Some(Operand::Constant(pack.int8(offset, length))),
        };
        let a = operand(&node.input, first.arena_offset, first.len())?;
        let b = operand(&node.second, second.arena_offset, second.len())?;
        let y = cells.get(node.output.activation.clone())?;
        let run = |function: &dyn Fn(i8, i8) -> i8| {
            broadcast(a, first.extents(), b, second.extents(), y, output.extents(), function);
        };
        match (op.kind, pack.parameters(op)) {
            (operator::ADD, words) => {
                let multipliers = SumMultipliers::read(words)?;
                run(&|a, b| kernels::add(a, b, &multipliers, &zero));
            }
            (operator::SUB, words) => {
                let multipliers = SumMultipliers::read(words)?;
                run(&|a, b| kernels::subtract(a, b, &multipliers, &zero));
            }
            (operator::MUL, &[mantissa, shift]) => {
                run(&|a, b| kernels::multiply(a, b, Multiplier { mantissa, shift }, &zero));
            }
            (operator::PRELU, &[mantissa, shift, below, below_shift]) => {
                let identity = Multiplier { mantissa, shift };
                let slope = Multiplier { mantissa: below, shift: below_shift };
                run(&|a, b| kernels::prelu(a, b, identity, slope, &zero));
            }
            _ => return None,
        }
        Some(())
    }

    fn forward_weighted(&self, node: &TailNode, scratch: &mut Scratch) -> Option<()> {
        let (pack, op) = (self.pack, &node.operator);
        let (input, output) = (pack.tensor(op.input), pack.tensor(op.output));
        let trained = self.trained(node);
        let layer = pack.layer_of(node);
        let own = trained.as_ref().map(|(layer, place)| self.weights_of(layer, *place));
        let Scratch { workspace, weights, biases, .. } = scratch;
        let [x, y] = in_and_out(node, workspace)?;
        let biases = match &own {
            Some(own) => {
                let biases = biases.get_mut(..layer.outputs)?;
                biases.iter_mut().enumerate().for_each(|(o, bias)| *bias = own.bias(o));
                &*biases
            }
            None => pack.int32(op.constants.biases, layer.outputs),
        };
        let packed = pack.int8(op.constants.weights, layer.weights());
        let scales = pack.float32(op.constants.scales, layer.scales());
        let part = |offset, first, count| pack.int32(offset, layer.outputs).part(first..first + count);
        let chunk = if own.is_some() { chunk_rows(&layer, weights.len()) } else { layer.outputs.max(1) };
        for first in (0..layer.outputs).step_by(chunk) {
            let count = chunk.min(layer.outputs - first);
            let weights = match &own {
                Some(own) => made(own, first, count, weights)?,
                None => packed,
            };
            let requantization = Requantization {
                input_zero_point: input.affine.zero_point,
                output_zero_point: output.affine.zero_point,
                biases: biases.get(first..first + count)?,
                mantissas: part(op.constants.mantissas, first, count),
                shifts: part(op.constants.shifts, first, count),
                clamp: op.clamp,
            };
            let (from, to) = (input.shape(), output.shape());
            match op.kind {
                operator::CONV_2D => {
                    let rows = first..first + count;
                    kernels::conv2d_rows(x, from, &op.window, weights, &requantization, (&mut *y, rows), to);
                }
                operator::DEPTHWISE_CONV_2D => {
                    let multiplier = op.depth_multiplier;
                    kernels::depthwise_conv2d(
                        x,
                        from,
                        &op.window,
                        multiplier,
                        weights,
                        &requantization,
                        y,
                        to,
                    );
                }
                _ => {
                    let scales = if layer.scales() == 1 { scales } else { scales.part(first..first + count) };
                    let scales =
                        Scales { input: input.affine.scale, weights: scales, output: output.affine.scale };
                    let rows =
                        x.chunks_exact(layer.taps.max(1)).zip(y.chunks_exact_mut(layer.outputs.max(1)));
                    for (x, y) in rows {
                        let y = y.part_mut(first..first + count);
                        kernels::fully_connected(x, weights, &requantization, &scales, y);
                    }
                }
            }
        }
        Some(())
    }

    /// Writes the logits in 2^-20 nats: of the sums where the last node is a fully connected layer, else of its outputs.
    pub fn write_logits(&self, scratch: &mut Scratch) -> Option<()> {
        let pack = self.pack;
        let node = pack.nodes().next_back()?;
        let Scratch { workspace, weights, logits, .. } = scratch;
        let op = &node.operator;
        let (input, output) = (pack.tensor(op.input), pack.tensor(op.output));
        let unit = (1u32 << crate::compact::softmax::LOGIT_BITS) as f32;
        if op.kind != operator::FULLY_CONNECTED || crate::pack::dense_rows(&output) != 1 {
            let y = workspace.get(node.output.activation.clone())?;
            let factor = crate::compact::number::Factor::new(output.affine.scale * unit);
            for (logit, &q) in logits.iter_mut().zip(y) {
                *logit = factor.apply((i32::from(q) - output.affine.zero_point).into());
            }
            return Some(());
        }
        let layer = pack.layer_of(&node);
        let trained = self.trained(&node);
        let own = trained.as_ref().map(|(layer, place)| self.weights_of(layer, *place));
        let x = workspace.get(node.input.as_ref()?.activation.clone())?;
        let scales = pack.float32(op.constants.scales, layer.scales());
        let packed = pack.int8(op.constants.weights, layer.weights());
        for (o, logit) in logits.iter_mut().enumerate() {
            let row = match &own {
                Some(own) => made(own, o, 1, weights)?,
                None => packed.part(o * layer.taps..(o + 1) * layer.taps),
            };
            let bias = match &own {
                Some(own) => own.bias(o),
                None => pack.int32(op.constants.biases, layer.outputs).get(o).copied()?,
            };
            let zero_point = input.affine.zero_point;
            let products = x.iter().zip(row).map(|(&x, &w)| (i32::from(x) - zero_point) * i32::from(w));
            let sum = products.fold(bias, i32::saturating_add);
            let factor = input.affine.scale * scale_of(scales, o) * unit;
            *logit = crate::compact::number::Factor::new(factor).apply(sum.into());
        }
        Some(())
    }
}

/// Makes the weights of some rows in `scratch`; those in flash where none of them is trained.
pub(super) fn made<'s>(
    own: &LayerWeights<'s>,
    first: usize,
    rows: usize,
    scratch: &'s mut [i8],
) -> Option<&'s [i8]> {
    if !own.layer.trains_weights {
        return own.packed.get(first * own.layer.taps..(first + rows) * own.layer.taps);
    }
    let to = scratch.get_mut(..rows * own.layer.taps)?;
    own.write(first, rows, to);
    Some(to)
}

/// Output channels whose weights are made at a time: as many as have room, of a depthwise convolution all.
pub(super) fn chunk_rows(layer: &crate::pack::TrainedLayer, room: usize) -> usize {
    let all = layer.outputs.max(1);
    match layer.operator.kind {
        operator::DEPTHWISE_CONV_2D => all,
        _ if !layer.trains_weights => all,
        _ => (room / layer.taps.max(1)).clamp(1, all),
    }
}
