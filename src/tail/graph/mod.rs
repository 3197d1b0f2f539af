//! A tail of any layers: the pack's list of nodes, run over f32 arrays in one workspace. What a further kind of operator
//! whose int8 kernel is there takes is a file with its [`NodeOp`], and a row in [`node_op_of`]; one with weights also
//! `Pack::layer`, the int8 run in `requant` and the packer's `has_weights`; a new kind first `pack::format`,
//! `pack::validate`, `trunk::operators` and the packer's `lower`.
//!
//! The plan of the workspace is made on the desktop: activations live until the backward pass has read them,
//! gradients until they have been handed on, and what is never alive together shares its place.

mod lookup;
mod mean;
mod movement;
mod pairwise;
mod partial;
mod pool;
mod resize;
mod weighted;

use super::{Loss, Tail, Target};
use crate::optim::{BiasTreatment, Kind, Segment};
use crate::pack::format::{node, operator};
use crate::pack::{Function, Keeps, NodeOp, NodePass, Pack, See, TailNode, TensorRecord, check};
use crate::part::Part;
use core::ops::Range;
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
            if node.is_tuned() {
                let output = workspace.part(node.output.activation.clone());
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
        let kind = node.operator.kind;
        // Validation lets no node through that has no code.
        let Some(code) = self.pack.operators().node(kind) else { return };
        (code.forward)(&NodePass { pack: &self.pack, node, parameters }, workspace);
        let function = node.function.fused(kind);
        if function != Function::Identity {
            apply(function, workspace.part_mut(node.output.activation.clone()));
        }
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
        let (Some(delta), kind) = (&node.output.delta, node.operator.kind) else { return };
        let Some(code) = self.pack.operators().node(kind) else { return };
        let function = node.function.fused(kind);
        if function != Function::Identity {
            let Some([y, delta]) = arrays(workspace, [&node.output.activation, delta]) else { return };
            mask(function, y, delta);
        }
        (code.backward)(&NodePass { pack: &self.pack, node, parameters }, scale, bias, workspace, gradient);
    }
}

/// The code of a kind of operator; [`crate::Operators`] picks those of a pack's tail.
pub(crate) const fn node_op_of(kind: u16) -> Option<&'static NodeOp> {
    Some(match kind {
        operator::CONV_2D | operator::FULLY_CONNECTED => &weighted::CONVOLUTION,
        operator::DEPTHWISE_CONV_2D => &weighted::DEPTHWISE,
        operator::ADD | operator::SUB => &pairwise::SUM,
        operator::MUL | operator::PRELU => &pairwise::PRODUCT,
        operator::AVERAGE_POOL_2D => &pool::AVERAGE,
        operator::MAX_POOL_2D => &pool::MAX,
        operator::MEAN => &mean::MEAN,
        operator::LOOKUP => &lookup::LOOKUP,
        operator::MOVE => &movement::MOVE,
        operator::FILL => &movement::FILL,
        operator::RESIZE_NEAREST => &resize::RESIZE_NEAREST,
        _ => return None,
    })
}

/// The activations that the backward pass of a kind of operator reads; `None` where there is no backward pass.
#[doc(hidden)]
pub fn keeps(kind: u16, function: Function, flags: u16) -> Option<Keeps> {
    node_op_of(kind).map(|code| code.kept(kind, function, flags))
}

/// Calls `each(index, [n, h, w, c])` for every element of a tensor, in order.
fn for_each_element(extents: [usize; 4], mut each: impl FnMut(usize, [usize; 4])) {
    let [images, height, width, channels] = extents;
    let mut index = 0;
    for n in 0..images {
        for h in 0..height {
            for w in 0..width {
                for c in 0..channels {
                    each(index, [n, h, w, c]);
                    index += 1;
                }
            }
        }
    }
}

/// Index of element `[n, h, w, c]` in a tensor that is repeated along extents of 1.
#[inline]
fn place(extents: [usize; 4], at: [usize; 4]) -> usize {
    let mut index = 0;
    for (extent, at) in extents.into_iter().zip(at) {
        index = index * extent + if extent == 1 { 0 } else { at };
    }
    index
}

/// [`NodeOp::keeps`] where gradients alone are read.
fn keeps_nothing(_: Function, _: u16) -> Keeps {
    Keeps::NOTHING
}

/// [`NodeOp::check`] of operators without parameters.
fn check_untrained(_: &Pack, node: &TailNode) -> Result<(), &'static str> {
    check(!node.is_trained() && !node.is(node::UNIT_INPUT), "has nothing to train")
}

impl NodePass<'_, '_> {
    /// Lengths of the input and the output.
    fn tensors(&self) -> [TensorRecord; 2] {
        let op = &self.node.operator;
        [op.input, op.output].map(|tensor| self.pack.tensor(tensor))
    }

    /// The first input's and the output's activations.
    fn activations<'w>(&self, workspace: &'w mut [f32]) -> Option<[&'w mut [f32]; 2]> {
        arrays(workspace, [&self.node.input.as_ref()?.activation, &self.node.output.activation])
    }

    /// The output's activations.
    fn output<'w>(&self, workspace: &'w mut [f32]) -> &'w mut [f32] {
        workspace.part_mut(self.node.output.activation.clone())
    }

    /// Where the gradient by the first input goes, if it is wanted.
    fn by_input(&self) -> Option<&Range<usize>> {
        self.node.input.as_ref().filter(|_| self.node.is(node::INPUT_DELTA))?.delta.as_ref()
    }

    /// The gradient by the output, and that by the first input, if it is wanted, to be added to.
    fn gradients<'w>(&self, workspace: &'w mut [f32]) -> Option<[&'w mut [f32]; 2]> {
        let [delta, d] = arrays(workspace, [self.node.output.delta.as_ref()?, self.by_input()?])?;
        if self.node.is(node::INPUT_FIRST) {
            d.fill(0.0);
        }
        Some([delta, d])
    }

    /// [`Self::gradients`], with an activation that is kept in front.
    fn gradients_at<'w>(&self, kept: &Range<usize>, workspace: &'w mut [f32]) -> Option<[&'w mut [f32]; 3]> {
        let ranges = [kept, self.node.output.delta.as_ref()?, self.by_input()?];
        let [kept, delta, d] = arrays(workspace, ranges)?;
        if self.node.is(node::INPUT_FIRST) {
            d.fill(0.0);
        }
        Some([kept, delta, d])
    }
}

/// The forward pass, for `pack::GraphCode`.
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
        let output = self.end().map_or(&[][..], |node| workspace.part(node.output.activation));
        output.get(..self.classes).unwrap_or(output)
    }

    fn last_input<'w>(&self, workspace: &'w [f32]) -> &'w [f32] {
        let input = self.end().and_then(|node| node.input);
        input.map_or(&[], |input| workspace.part(input.activation))
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
