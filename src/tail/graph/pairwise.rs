//! ADD, SUB, MUL and PRELU of broadcast operands, forward and backward, in f32. Operands and
//! results are cells of one workspace: an operand may be read twice.

use crate::pack::format::operator;
use crate::quant::Affine;
use core::cell::Cell;

/// An operand's elements.
#[derive(Debug, Clone, Copy)]
pub enum Elements<'a> {
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
pub struct Operand<'a> {
    /// Its elements.
    pub elements: Elements<'a>,
    /// Its extents.
    pub extents: [usize; 4],
}

/// Element of an operand that output element `[n, h, w, c]` reads.
#[inline]
fn place(extents: [usize; 4], at: [usize; 4]) -> usize {
    let mut index = 0;
    for (extent, at) in extents.into_iter().zip(at) {
        index = index * extent + if extent == 1 { 0 } else { at };
    }
    index
}

/// Calls `each(output's element, first operand's, second operand's)`.
fn for_each(extents: [usize; 4], a: [usize; 4], b: [usize; 4], mut each: impl FnMut(usize, usize, usize)) {
    let [images, height, width, channels] = extents;
    let mut index = 0;
    for n in 0..images {
        for h in 0..height {
            for w in 0..width {
                for c in 0..channels {
                    each(index, place(a, [n, h, w, c]), place(b, [n, h, w, c]));
                    index += 1;
                }
            }
        }
    }
}

/// `y = a op b`, without an activation; `kind` as in `pack::format::operator`.
pub fn forward(kind: u16, a: Operand, b: Operand, extents: [usize; 4], y: &[Cell<f32>]) {
    for_each(extents, a.extents, b.extents, |index, i, j| {
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
pub fn backward(
    kind: u16,
    by_second: bool,
    a: Operand,
    b: Operand,
    extents: [usize; 4],
    delta: &[Cell<f32>],
    d: &[Cell<f32>],
) {
    for_each(extents, a.extents, b.extents, |index, i, j| {
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
