//! ADD, SUB, MUL and PRELU of broadcast operands, forward and backward, in f32. Operands and
//! results are cells of one workspace: an operand may be read twice.

use super::{check_untrained, for_each_element, keeps_nothing, place};
use crate::optim::BiasTreatment;
use crate::pack::format::{node, operator};
use crate::pack::{Keeps, NodeOp, NodePass};
use crate::part::Part;
use crate::quant::Affine;
use core::cell::Cell;
use core::ops::Range;

/// An operand's elements.
#[derive(Debug, Clone, Copy)]
enum Elements<'a> {
    /// Computed.
    Values(&'a [Cell<f32>]),
    /// Constants of the pack.
    Constants(&'a [i8], Affine),
}

impl Elements<'_> {
    #[inline]
    fn at(&self, index: usize) -> f32 {
        match self {
            Self::Values(values) => values.get(index).map_or(0.0, Cell::get),
            Self::Constants(values, affine) => affine.dequantize(values.get(index).copied().unwrap_or(0)),
        }
    }
}

/// An operand and its extents, NHWC; an extent of 1 is repeated along the output's.
#[derive(Debug, Clone, Copy)]
struct Operand<'a> {
    /// Its elements.
    elements: Elements<'a>,
    /// Its extents.
    extents: [usize; 4],
}

/// ADD and SUB.
pub(super) static SUM: NodeOp =
    NodeOp { forward, backward, keeps: keeps_nothing, check: check_untrained, inputs: 2 };

/// MUL and PRELU.
pub(super) static PRODUCT: NodeOp =
    NodeOp { forward, backward, keeps: |_, _| Keeps::INPUTS, check: check_untrained, inputs: 2 };

/// Operands in the workspace, whose cells these are, or in the pack.
fn operands<'c>(pass: &NodePass<'c, '_>, cells: &'c [Cell<f32>]) -> [Operand<'c>; 2] {
    let NodePass { pack, node, .. } = *pass;
    let op = &node.operator;
    [(&node.input, op.input), (&node.second, op.second_input)].map(|(value, tensor)| {
        let tensor = pack.tensor(tensor);
        let elements = match value {
            Some(value) => Elements::Values(cells.part(value.activation.clone())),
            None => Elements::Constants(pack.int8(tensor.arena_offset, tensor.len()), tensor.affine),
        };
        Operand { elements, extents: tensor.extents() }
    })
}

fn forward(pass: &NodePass, workspace: &mut [f32]) {
    let NodePass { pack, node, .. } = *pass;
    let cells = Cell::from_mut(workspace).as_slice_of_cells();
    let [a, b] = operands(pass, cells);
    let y = cells.part(node.output.activation.clone());
    combine(node.operator.kind, a, b, pack.tensor(node.operator.output).extents(), y);
}

fn backward(pass: &NodePass, _: f32, _: BiasTreatment, workspace: &mut [f32], _: &mut [f32]) {
    let NodePass { pack, node, .. } = *pass;
    let op = &node.operator;
    let Some(delta) = &node.output.delta else { return };
    let cells = Cell::from_mut(workspace).as_slice_of_cells();
    let operands = operands(pass, cells);
    let extents = pack.tensor(op.output).extents();
    let at = |range: &Range<usize>| cells.part(range.clone());
    let inputs = [
        (&node.input, node::INPUT_DELTA, node::INPUT_FIRST),
        (&node.second, node::SECOND_DELTA, node::SECOND_FIRST),
    ];
    // Both before anything is added: they may be one.
    let gradients = inputs.map(|(value, wanted, first)| {
        let d = at(value.as_ref().filter(|_| node.is(wanted))?.delta.as_ref()?);
        if node.is(first) {
            d.iter().for_each(|d| d.set(0.0));
        }
        Some(d)
    });
    for (place, d) in gradients.into_iter().enumerate() {
        if let Some(d) = d {
            add_share(op.kind, place > 0, operands, extents, at(delta), d);
        }
    }
}

/// `y = a op b`, without an activation; `kind` as in `pack::format::operator`.
fn combine(kind: u16, a: Operand, b: Operand, extents: [usize; 4], y: &[Cell<f32>]) {
    for_each_element(extents, |index, at| {
        let (i, j) = (place(a.extents, at), place(b.extents, at));
        let (a, b) = (a.elements.at(i), b.elements.at(j));
        if let Some(y) = y.get(index) {
            y.set(match kind {
                operator::SUB => a - b,
                operator::MUL => a * b,
                operator::PRELU if a < 0.0 => a * b,
                operator::PRELU => a,
                _ => a + b,
            });
        }
    });
}

/// Adds the loss's gradient by one operand, the first or the second, to `d`.
fn add_share(
    kind: u16,
    by_second: bool,
    [a, b]: [Operand; 2],
    extents: [usize; 4],
    delta: &[Cell<f32>],
    d: &[Cell<f32>],
) {
    for_each_element(extents, |index, at| {
        let (i, j) = (place(a.extents, at), place(b.extents, at));
        let delta = delta.get(index).map_or(0.0, Cell::get);
        let below = a.elements.at(i) < 0.0;
        let (share, at) = match (kind, by_second) {
            (operator::MUL, false) => (delta * b.elements.at(j), i),
            (operator::MUL, true) => (delta * a.elements.at(i), j),
            (operator::PRELU, false) => (if below { delta * b.elements.at(j) } else { delta }, i),
            (operator::PRELU, true) => (if below { delta * a.elements.at(i) } else { 0.0 }, j),
            (operator::SUB, true) => (-delta, j),
            (_, true) => (delta, j),
            (_, false) => (delta, i),
        };
        if let Some(d) = d.get(at) {
            d.set(d.get() + share);
        }
    });
}
