//! Operators that put elements in another order: loops over axes of any number, as boxes of four.

use super::{Fault, Lowering};
use crate::graph::Operator;
use flatmin::internals::op::Move;

/// One axis of a loop: how often, and the steps in input and output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Axis {
    extent: usize,
    from: usize,
    to: usize,
}

fn axis(extent: usize, from: usize, to: usize) -> Axis {
    Axis { extent, from, to }
}

/// Most boxes that one operator may become.
const MOST_BOXES: usize = 1024;

/// The boxes that the loop over `axes`, the last one fastest, goes through, which begins at an element of the input and
/// one of the output.
fn boxes(axes: &[Axis], (from, to): (usize, usize)) -> Vec<Move> {
    let mut merged: Vec<Axis> = Vec::new();
    for &own in axes.iter().filter(|own| own.extent > 1) {
        match merged.last_mut() {
            // Goes on where the last one steps to, in both.
            Some(outer) if outer.from == own.from * own.extent && outer.to == own.to * own.extent => {
                *outer = axis(outer.extent * own.extent, own.from, own.to);
            }
            _ => merged.push(own),
        }
    }
    let outside = merged.len().saturating_sub(4);
    let (outer, inner) = merged.split_at(outside);
    let mut starts = vec![(from, to)];
    for own in outer {
        let each = |&(from, to): &(usize, usize)| {
            (0..own.extent).map(move |i| (from + i * own.from, to + i * own.to)).collect::<Vec<_>>()
        };
        starts = starts.iter().flat_map(each).collect();
    }
    let mut whole = Move { extents: [1; 4], from, from_strides: [0; 4], to, to_strides: [0; 4] };
    for (place, own) in inner.iter().enumerate() {
        let place = 4 - inner.len() + place;
        whole.extents[place] = own.extent;
        whole.from_strides[place] = own.from.cast_signed();
        whole.to_strides[place] = own.to.cast_signed();
    }
    starts.into_iter().map(|(from, to)| Move { from, to, ..whole }).collect()
}

/// Elements in front of an axis, along it, and after it.
fn around(shape: &[usize], axis: usize) -> [usize; 3] {
    let product = |extents: &[usize]| extents.iter().product();
    [product(&shape[..axis]), shape[axis], product(&shape[axis + 1..])]
}

impl Lowering<'_> {
    fn shape_of(&self, op: &Operator, place: usize) -> Result<&[usize], Fault> {
        Ok(&self.graph.tensors[self.graph_input(op, place)?].shape)
    }

    /// Fills an output, whose elements the boxes are each to write once.
    fn rearranged(
        &mut self,
        (index, op): (usize, &Operator),
        input: usize,
        output: usize,
        moves: Vec<Move>,
    ) -> Result<(), Fault> {
        if moves.len() > MOST_BOXES {
            return Err(format!("takes {} moves, at most {MOST_BOXES} are made", moves.len()));
        }
        moves.into_iter().try_for_each(|movement| self.moved((index, op), input, output, movement))
    }

    fn expect_elements(&self, tensor: usize, expected: usize) -> Result<(), Fault> {
        let found = self.tensors[tensor].len();
        if found == expected { Ok(()) } else { Err(format!("has {found} outputs, {expected} are expected")) }
    }

    /// SPACE_TO_DEPTH: element `(h, w, (i, j, c))` of the output is `(h block + i, w block + j, c)` of the input; or the
    /// inverse.
    pub(super) fn depth(
        &mut self,
        index: usize,
        op: &Operator,
        block: usize,
        inverse: bool,
    ) -> Result<(), Fault> {
        let (input, output) = (self.read(op, 0)?, self.write(op, 0)?);
        let (from, to) = (self.tensors[input].shape, self.tensors[output].shape);
        let (image, blocks) = if inverse { (to, from) } else { (from, to) };
        let [_, height, width, channels] = image;
        let expected = [1, height / block, width / block, channels * block * block];
        if image[0] != 1 || blocks != expected || height % block != 0 || width % block != 0 {
            return Err(format!("makes {to:?} of {from:?} with blocks of {block}"));
        }
        let row = width * channels;
        let (deep, run) = (channels * block * block, block * channels);
        // Rows of blocks, blocks of a row, rows in a block, a block's part of a row.
        let axes = [
            axis(height / block, block * row, width / block * deep),
            axis(width / block, run, deep),
            axis(block, row, run),
            axis(run, 1, 1),
        ];
        let turned = axes.map(|own| if inverse { axis(own.extent, own.to, own.from) } else { own });
        self.rearranged((index, op), input, output, boxes(&turned, (0, 0)))
    }

    pub(super) fn pack(&mut self, index: usize, op: &Operator, new: usize) -> Result<(), Fault> {
        let output = self.write(op, 0)?;
        let shape = self.shape_of(op, 0)?.to_vec();
        let (count, inner) = (op.inputs.len(), shape[new..].iter().product::<usize>());
        let outer = shape[..new].iter().product();
        self.expect_elements(output, outer * count * inner)?;
        for place in 0..count {
            let input = self.read(op, place)?;
            if self.shape_of(op, place)? != shape {
                return Err(format!("input {place} has another shape than the first"));
            }
            let axes = [axis(outer, inner, count * inner), axis(inner, 1, 1)];
            self.rearranged((index, op), input, output, boxes(&axes, (0, place * inner)))?;
        }
        Ok(())
    }

    pub(super) fn unpack(&mut self, index: usize, op: &Operator, gone: usize) -> Result<(), Fault> {
        let input = self.read(op, 0)?;
        let [outer, count, inner] = around(self.shape_of(op, 0)?, gone);
        if op.outputs.len() != count {
            return Err(format!("has {} outputs, {count} are expected", op.outputs.len()));
        }
        for place in 0..count {
            let output = self.write(op, place)?;
            self.expect_elements(output, outer * inner)?;
            let axes = [axis(outer, count * inner, inner), axis(inner, 1, 1)];
            self.rearranged((index, op), input, output, boxes(&axes, (place * inner, 0)))?;
        }
        Ok(())
    }

    pub(super) fn gather(
        &mut self,
        index: usize,
        op: &Operator,
        along: usize,
        places: &[usize],
    ) -> Result<(), Fault> {
        let (input, output) = (self.read(op, 0)?, self.write(op, 0)?);
        let [outer, count, inner] = around(self.shape_of(op, 0)?, along);
        self.expect_elements(output, outer * places.len() * inner)?;
        let mut moves = Vec::new();
        for (at, &place) in places.iter().enumerate() {
            let axes = [axis(outer, count * inner, places.len() * inner), axis(inner, 1, 1)];
            moves.extend(boxes(&axes, (place * inner, at * inner)));
        }
        self.rearranged((index, op), input, output, moves)
    }

    pub(super) fn tile(&mut self, index: usize, op: &Operator, times: &[usize]) -> Result<(), Fault> {
        let (input, output) = (self.read(op, 0)?, self.write(op, 0)?);
        let shape = self.shape_of(op, 0)?;
        let (mut axes, mut from, mut to) = (Vec::new(), 1, 1);
        for (&extent, &times) in shape.iter().zip(times).rev() {
            axes.extend([axis(extent, from, to), axis(times, 0, to * extent)]);
            (from, to) = (from * extent, to * extent * times);
        }
        axes.reverse();
        self.expect_elements(output, to)?;
        self.rearranged((index, op), input, output, boxes(&axes, (0, 0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five axes, none of which go on where the next one steps to: boxes for the first.
    #[test]
    fn a_loop_of_any_axes_is_cut_into_boxes_of_four() {
        let axes = [axis(3, 100, 1), axis(2, 7, 30), axis(4, 1, 70), axis(2, 40, 3), axis(5, 9, 300)];
        let moves = boxes(&axes, (11, 13));
        assert_eq!(moves.len(), 3);
        let mut found = Vec::new();
        for own in &moves {
            let [a, b, c, d] = own.extents;
            for i in (0..a).flat_map(|a| {
                (0..b).flat_map(move |b| (0..c).flat_map(move |c| (0..d).map(move |d| [a, b, c, d])))
            }) {
                let step = |strides: [isize; 4]| {
                    i.iter().zip(strides).map(|(&i, s)| i.cast_signed() * s).sum::<isize>()
                };
                found.push((
                    own.from.cast_signed() + step(own.from_strides),
                    own.to.cast_signed() + step(own.to_strides),
                ));
            }
        }
        let mut expected = vec![(11, 13)];
        for own in axes {
            let each = |&(from, to): &(isize, isize)| {
                let step =
                    move |i: usize| (from + (i * own.from).cast_signed(), to + (i * own.to).cast_signed());
                (0..own.extent).map(step).collect::<Vec<_>>()
            };
            expected = expected.iter().flat_map(each).collect();
        }
        assert_eq!(found, expected);
    }

    #[test]
    fn neighbouring_axes_become_one() {
        let moves = boxes(&[axis(2, 60, 60), axis(1, 5, 7), axis(3, 20, 20), axis(20, 1, 1)], (0, 0));
        assert_eq!(moves.len(), 1);
        assert_eq!((moves[0].extents, moves[0].from_strides), ([1, 1, 1, 120], [0, 0, 0, 1]));
    }
}
