//! A tail of any layers: the pack's list of nodes, run over f32 arrays in one workspace.
//!
//! The plan of the workspace is made on the desktop: activations live until the backward pass has read them,
//! gradients until they have been handed on, and what is never alive together shares its place.

mod movement;
mod pairwise;
mod partial;
mod pool;
mod weighted;

use super::kernels::Sink;
use super::{Loss, Tail, Target};
use crate::op::{Mean, Move};
use crate::optim::{BiasTreatment, Kind, Segment};
use crate::pack::format::{node, operator};
use crate::pack::{Function, Pack, See, TailNode, TailValue, TensorRecord, is_weighted};
use core::cell::Cell;
use core::ops::Range;
use pairwise::{Elements, Operand};
pub(crate) use partial::factor as gain_factor;

/// A tail that is no mere chain of fully connected layers, as its pack describes it.
///
/// Gradients of such layers are sums of many rank-one terms, so that every ascent is stored in the weights: SAM and
/// ASAM take a gradient buffer whatever `sharpness_batch` is.
#[derive(Debug, Clone, Copy)]
pub struct GraphTail<'p> {
    pack: Pack<'p>,
    classes: usize,
}

impl<'p> GraphTail<'p> {
    /// The tail of `pack`; `None` if it is a chain, for which [`super::DenseChain`] is there.
    pub fn of(pack: &Pack<'p>) -> Option<Self> {
        (!pack.tail_is_chain()).then_some(Self { pack: *pack, classes: pack.known_classes() })
    }

    fn run(&self, parameters: &[f32], workspace: &mut [f32], see: Option<See>) {
        // Validation lets no pack through whose tail has no code.
        let Some(code) = self.pack.operators().graph else { return };
        let see = match see {
            Some(see) if self.pack.spare_classes() > 0 => see,
            see => return (code.forward)(&self.pack, parameters, workspace, see),
        };
        let last = self.pack.sizes().tail_layers.saturating_sub(1);
        let mut see_before = |layer, low, high| {
            if layer != last {
                see(layer, low, high);
            }
        };
        (code.forward)(&self.pack, parameters, workspace, Some(&mut see_before));
        let output = self.output(workspace);
        let low = output.iter().fold(f32::INFINITY, |m, &x| m.min(x));
        see(last, low, output.iter().fold(f32::NEG_INFINITY, |m, &x| m.max(x)));
    }

    fn forward_all(&self, parameters: &[f32], workspace: &mut [f32], mut see: Option<See>) {
        let mut layer = 0;
        for node in self.pack.nodes() {
            self.forward_node(&node, parameters, workspace);
            let Some(see) = &mut see else { continue };
            if node.is_trained() {
                let output = workspace.get(node.output.activation.clone()).unwrap_or(&[]);
                let low = output.iter().fold(f32::INFINITY, |m, &x| m.min(x));
                let high = output.iter().fold(f32::NEG_INFINITY, |m, &x| m.max(x));
                see(layer, low, high);
                layer += 1;
            }
        }
    }

    /// Multiply-adds of the chosen channels' trained weights, beside those of all packed ones.
    fn chosen_macs(&self, node: &TailNode) -> u64 {
        let Some(chosen) = &node.chosen else { return 0 };
        let outputs = node.output.tensor.channels.max(1) as u64;
        self.pack.operator_macs(&node.operator) / outputs * chosen.count as u64
    }

    fn end(&self) -> Option<TailNode> {
        self.pack.nodes().next_back()
    }

    fn forward_node(&self, node: &TailNode, parameters: &[f32], workspace: &mut [f32]) {
        let op = &node.operator;
        let (from, to) = (self.pack.tensor(op.input), self.pack.tensor(op.output));
        let output = &node.output.activation;
        match op.kind {
            operator::ADD | operator::SUB | operator::MUL | operator::PRELU => {
                let cells = Cell::from_mut(&mut *workspace).as_slice_of_cells();
                let (a, b) = self.operands(node, cells);
                pairwise::forward(op.kind, a, b, to.extents(), cells.get(output.clone()).unwrap_or(&[]));
            }
            operator::FILL => {
                let value = self.pack.parameters(op).first().copied().unwrap_or(0);
                let value = to.affine.dequantize(crate::quant::saturate(value));
                workspace.get_mut(output.clone()).unwrap_or(&mut []).fill(value);
            }
            operator::MOVE if from.constant => {
                let Some(movement) = Move::read(self.pack.parameters(op)) else { return };
                let elements = self.pack.int8(from.arena_offset, from.len());
                let y = workspace.get_mut(output.clone()).unwrap_or(&mut []);
                movement::forward_constant(&movement, elements, from.affine, y);
            }
            kind if is_weighted(kind) => weighted::forward(&self.pack, node, parameters, workspace),
            _ => {
                let Some(input) = &node.input else { return };
                let Some([x, y]) = arrays(workspace, [&input.activation, output]) else { return };
                self.forward_plain(node, [&from, &to], x, y);
            }
        }
        // A lookup has applied it; it is all that a lookup does.
        if node.function != Function::Identity && op.kind != operator::LOOKUP {
            let y = workspace.get_mut(output.clone()).unwrap_or(&mut []);
            apply(node.function, y);
        }
    }

    /// An operator of one input.
    fn forward_plain(&self, node: &TailNode, [from, to]: [&TensorRecord; 2], x: &[f32], y: &mut [f32]) {
        let op = &node.operator;
        match op.kind {
            operator::AVERAGE_POOL_2D => pool::average_forward(&op.window, x, from.shape(), y, to.shape()),
            operator::MAX_POOL_2D => pool::max_forward(&op.window, x, from.shape(), y, to.shape()),
            operator::MEAN => {
                if let Some(mean) = Mean::read(self.pack.parameters(op)) {
                    pool::mean_forward(x, from.extents(), mean.axes, y);
                }
            }
            operator::LOOKUP => {
                y.iter_mut().zip(x).for_each(|(y, &x)| *y = node.function.of(x, op.beta));
            }
            operator::MOVE => {
                if let Some(movement) = Move::read(self.pack.parameters(op)) {
                    movement::forward(&movement, x, y);
                }
            }
            operator::RESIZE_NEAREST => {
                if let Some((rows, columns)) = self.pack.parameters(op).split_at_checked(to.height) {
                    movement::resize_forward(from.width, from.channels, rows, columns, x, y);
                }
            }
            _ => {}
        }
    }

    /// The operands of ADD, SUB, MUL and PRELU.
    fn operands<'c>(&self, node: &TailNode, cells: &'c [Cell<f32>]) -> (Operand<'c>, Operand<'c>)
    where
        'p: 'c,
    {
        let operand = |value: &Option<TailValue>, tensor: u16| {
            let tensor = self.pack.tensor(tensor);
            let elements = match value {
                Some(value) => Elements::Values(cells.get(value.activation.clone()).unwrap_or(&[])),
                None => Elements::Constants(self.pack.int8(tensor.arena_offset, tensor.len()), tensor.affine),
            };
            Operand { elements, extents: tensor.extents() }
        };
        (operand(&node.input, node.operator.input), operand(&node.second, node.operator.second_input))
    }

    fn backward_node(
        &self,
        node: &TailNode,
        parameters: &[f32],
        scale: f32,
        bias: BiasTreatment,
        workspace: &mut [f32],
        gradient: &mut [f32],
    ) {
        let Some(delta) = &node.output.delta else { return };
        let op = &node.operator;
        if node.function != Function::Identity && op.kind != operator::LOOKUP {
            let Some([y, delta]) = arrays(workspace, [&node.output.activation, delta]) else { return };
            mask(node.function, y, delta);
        }
        for (value, wanted, first) in [
            (&node.input, node::INPUT_DELTA, node::INPUT_FIRST),
            (&node.second, node::SECOND_DELTA, node::SECOND_FIRST),
        ] {
            // A layer with weights overwrites what it finds.
            if node.is(wanted) && node.is(first) && !is_weighted(op.kind) {
                let place = value.as_ref().and_then(|value| value.delta.clone());
                place.and_then(|place| workspace.get_mut(place)).unwrap_or(&mut []).fill(0.0);
            }
        }
        if is_weighted(op.kind) {
            let step = weighted::Step { pack: &self.pack, node, parameters, scale, bias };
            return step.backward(workspace, gradient);
        }
        if [operator::ADD, operator::SUB, operator::MUL, operator::PRELU].contains(&op.kind) {
            let cells = Cell::from_mut(workspace).as_slice_of_cells();
            let (a, b) = self.operands(node, cells);
            let extents = self.pack.tensor(op.output).extents();
            let of = |range: Option<&Range<usize>>| range.and_then(|r| cells.get(r.clone())).unwrap_or(&[]);
            for (value, flag) in [(&node.input, node::INPUT_DELTA), (&node.second, node::SECOND_DELTA)] {
                if node.is(flag) {
                    let d = of(value.as_ref().and_then(|value| value.delta.as_ref()));
                    let by_second = flag == node::SECOND_DELTA;
                    pairwise::backward(op.kind, by_second, a, b, extents, of(Some(delta)), d);
                }
            }
            return;
        }
        if let (Some(input), true) = (&node.input, node.is(node::INPUT_DELTA)) {
            self.backward_plain(node, input, delta, workspace);
        }
    }

    /// Adds an operator's share to the gradient by its one input.
    fn backward_plain(
        &self,
        node: &TailNode,
        input: &TailValue,
        delta: &Range<usize>,
        workspace: &mut [f32],
    ) {
        let op = &node.operator;
        let (from, to) = (self.pack.tensor(op.input), self.pack.tensor(op.output));
        let Some(by_input) = &input.delta else { return };
        // Of the activations, only what the slope depends on is still there.
        if let Some(kept) = kept_activation(node) {
            let Some([kept, delta, d]) = arrays(workspace, [kept, delta, by_input]) else { return };
            if op.kind == operator::MAX_POOL_2D {
                return pool::max_backward(&op.window, kept, delta, to.shape(), d, from.shape());
            }
            for ((d, &mut kept), &mut delta) in d.iter_mut().zip(kept).zip(delta) {
                *d += delta * node.function.slope(kept, kept, op.beta);
            }
            return;
        }
        let Some([delta, d]) = arrays(workspace, [delta, by_input]) else { return };
        match op.kind {
            operator::AVERAGE_POOL_2D => {
                pool::average_backward(&op.window, delta, to.shape(), d, from.shape());
            }
            operator::MEAN => {
                if let Some(mean) = Mean::read(self.pack.parameters(op)) {
                    pool::mean_backward(delta, from.extents(), mean.axes, d);
                }
            }
            operator::MOVE => {
                if let Some(movement) = Move::read(self.pack.parameters(op)) {
                    movement::backward(&movement, delta, d);
                }
            }
            operator::RESIZE_NEAREST => {
                if let Some((rows, columns)) = self.pack.parameters(op).split_at_checked(to.height) {
                    movement::resize_backward(from.width, from.channels, rows, columns, delta, d);
                }
            }
            // A lookup that is the identity.
            _ => d.iter_mut().zip(delta).for_each(|(d, &mut delta)| *d += delta),
        }
    }
}

/// [`GraphTail::forward`], for `pack::GraphCode`.
pub(crate) fn forward_nodes(pack: &Pack, parameters: &[f32], workspace: &mut [f32], see: Option<See>) {
    GraphTail { pack: *pack, classes: pack.known_classes() }.forward_all(parameters, workspace, see);
}

/// The backward pass, likewise.
pub(crate) fn backward_nodes(
    pack: &Pack,
    parameters: &[f32],
    scale: f32,
    bias: BiasTreatment,
    workspace: &mut [f32],
    gradient: &mut [f32],
) {
    for node in pack.nodes().rev() {
        let tail = GraphTail { pack: *pack, classes: pack.known_classes() };
        tail.backward_node(&node, parameters, scale, bias, workspace, gradient);
    }
}

/// `y[i] = function(y[i])`.
fn apply(function: Function, y: &mut [f32]) {
    // Apart, so that the commonest one is asked for once.
    if function == Function::Relu {
        return y.iter_mut().for_each(|y| *y = Function::Relu.of(*y, 0.0));
    }
    y.iter_mut().for_each(|y| *y = function.of(*y, 0.0));
}

/// `delta[i] *= function'`, by the output `y`.
fn mask(function: Function, y: &[f32], delta: &mut [f32]) {
    if function == Function::Relu {
        return delta.iter_mut().zip(y).for_each(|(d, &y)| *d *= Function::Relu.slope(y, y, 0.0));
    }
    delta.iter_mut().zip(y).for_each(|(d, &y)| *d *= function.slope(y, y, 0.0));
}

/// The activation that the backward pass of a pool or a lookup reads.
fn kept_activation(node: &TailNode) -> Option<&Range<usize>> {
    let input = node.input.as_ref().map(|input| &input.activation);
    match (node.operator.kind, node.function) {
        (operator::MAX_POOL_2D, _) => input,
        (operator::LOOKUP, Function::Identity) => None,
        (operator::LOOKUP, function) if function.needs_input() => input,
        (operator::LOOKUP, _) => Some(&node.output.activation),
        _ => None,
    }
}

/// Arrays of the workspace; `None` if two of them overlap, which validation excludes.
fn arrays<'w, const N: usize>(
    workspace: &'w mut [f32],
    ranges: [&Range<usize>; N],
) -> Option<[&'w mut [f32]; N]> {
    workspace.get_disjoint_mut(ranges.map(Clone::clone)).ok()
}

impl Tail for GraphTail<'_> {
    fn parameters(&self) -> usize {
        self.pack.sizes().tail_parameters
    }

    fn features(&self) -> usize {
        self.pack.sizes().feature_length
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn objective(&self) -> Loss {
        self.pack.loss()
    }

    fn workspace_floats(&self) -> usize {
        self.pack.sizes().workspace_floats
    }

    fn segments(&self) -> impl Iterator<Item = Segment> + Clone {
        let pack = self.pack;
        (0..pack.node_count()).map(move |index| pack.node(index)).filter(TailNode::is_trained).flat_map(
            move |node| {
                let layer = pack.layer_of(&node);
                let kind = if layer.trains_scales { Kind::Gain } else { Kind::Weight };
                [
                    Segment { length: layer.trained_weights(), kind },
                    Segment { length: layer.outputs, kind: Kind::Bias },
                ]
            },
        )
    }

    fn forward_loss(&self, parameters: &[f32], target: Target, workspace: &mut [f32]) -> f32 {
        self.run(parameters, workspace, None);
        let Some(end) = self.end() else { return f32::NAN };
        let Some(by_logits) = &end.output.delta else { return f32::NAN };
        match arrays(workspace, [&end.output.activation, by_logits]) {
            Some([outputs, delta]) => self.objective().of_classes(self.classes, outputs, target, delta),
            None => f32::NAN,
        }
    }

    fn forward_ranges(
        &self,
        parameters: &[f32],
        workspace: &mut [f32],
        see: &mut dyn FnMut(usize, f32, f32),
    ) {
        self.run(parameters, workspace, Some(see));
    }

    fn backward(
        &self,
        parameters: &[f32],
        scale: f32,
        bias: BiasTreatment,
        workspace: &mut [f32],
        gradient: &mut [f32],
    ) {
        if let Some(code) = self.pack.operators().graph {
            (code.backward)(&self.pack, parameters, scale, bias, workspace, gradient);
        }
    }

    fn output<'w>(&self, workspace: &'w [f32]) -> &'w [f32] {
        let output = self.end().and_then(|node| workspace.get(node.output.activation)).unwrap_or(&[]);
        output.get(..self.classes).unwrap_or(output)
    }

    fn last_input<'w>(&self, workspace: &'w [f32]) -> &'w [f32] {
        let input = self.end().and_then(|node| node.input);
        input.and_then(|input| workspace.get(input.activation)).unwrap_or(&[])
    }

    fn set_classes(&mut self, classes: usize) {
        self.classes = classes;
    }

    fn forward_macs(&self) -> u64 {
        self.pack.nodes().map(|node| self.pack.operator_macs(&node.operator) + self.chosen_macs(&node)).sum()
    }

    fn backward_macs(&self) -> u64 {
        let of = |node: &TailNode| {
            let (all, chosen) = (self.pack.operator_macs(&node.operator), self.chosen_macs(node));
            let weights = match node.chosen {
                Some(_) => chosen,
                None => u64::from(node.is(node::TRAINS_WEIGHTS)) * all,
            };
            weights + u64::from(node.is(node::INPUT_DELTA)) * (all + chosen)
        };
        self.pack.nodes().filter(|node| node.output.delta.is_some()).map(|node| of(&node)).sum()
    }
}

/// What a value's gradient is written with: see [`Sink`].
fn sink(node: &TailNode) -> Sink {
    if node.is(node::INPUT_FIRST) { Sink::Overwrite } else { Sink::Add }
}
