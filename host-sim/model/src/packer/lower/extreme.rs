//! The highest and the lowest: of axes, and of two tensors. Both are a MAX_POOL_2D of the same bytes, which moves lay side by
//! side; the lowest is the highest of all bits turned over.

use super::super::network::{Activations, Step};
use super::{Fault, Lowering};
use crate::graph::Operator;
use flatmin::internals::op::{Move, Window};
use flatmin::internals::pack::Function;
use flatmin::internals::pack::format::operator as code;

impl Lowering<'_> {
    /// A tensor of this shape with `like`'s quantization, which no file names; a view of `storage`, where there is one.
    pub(super) fn unnamed(&mut self, like: usize, shape: [usize; 4], storage: Option<usize>) -> usize {
        let place = self.tensors.len();
        let own = &self.tensors[like];
        let made = Activations { shape, storage: storage.unwrap_or(place), constant: None, ..own.clone() };
        self.tensors.push(made);
        place
    }

    /// Every bit turned over: the order of bytes is turned about.
    fn turned(&mut self, (index, op): (usize, &Operator), input: usize) -> usize {
        let output = self.unnamed(input, self.tensors[input].shape, None);
        let table = std::array::from_fn(|byte| !(byte as u8));
        let step = Step::new(index, &op.name, code::LOOKUP, input, output);
        self.steps.push(Step { table: Some(Box::new(table)), ..step });
        output
    }

    /// The highest of each filter in a tensor; `output` becomes another name of it.
    fn highest(
        &mut self,
        (index, op): (usize, &Operator),
        input: usize,
        output: usize,
        filter: [usize; 2],
        lowest: bool,
    ) {
        let [_, height, width, channels] = self.tensors[input].shape;
        let shape = [1, height / filter[0], width / filter[1], channels];
        let pooled = self.unnamed(output, shape, None);
        let window = Window { filter, stride: filter, dilation: [1; 2], padding: [0; 2] };
        let step = Step::new(index, &op.name, code::MAX_POOL_2D, input, pooled);
        self.steps.push(Step { window, function: Some(Function::Identity), ..step });
        let found = if lowest { self.turned((index, op), pooled) } else { pooled };
        self.tensors[output].storage = self.tensors[found].storage;
    }

    pub(super) fn reduce_extreme(
        &mut self,
        index: usize,
        op: &Operator,
        axes: &[usize],
        lowest: bool,
    ) -> Result<(), Fault> {
        let (input, output) = (self.read(op, 0)?, self.write(op, 0)?);
        self.expect_one_quantization(input, output)?;
        let shape = &self.graph.tensors[self.graph_input(op, 0)?].shape;
        let reduced = |axis: &usize| axes.contains(axis) && shape[*axis] > 1;
        let all: Vec<usize> = (0..shape.len()).filter(reduced).collect();
        let (first, last) = (all.first().copied().unwrap_or(0), all.last().map_or(0, |last| last + 1));
        if (first..last).any(|axis| shape[axis] > 1 && !axes.contains(&axis)) {
            return Err(format!("over axes {axes:?} of {shape:?}, which are no neighbours"));
        }
        let product = |extents: &[usize]| extents.iter().product::<usize>();
        let [outer, among, inner] =
            [product(&shape[..first]), product(&shape[first..last]), product(&shape[last..])];
        if self.tensors[output].len() != outer * inner {
            return Err(format!(
                "has {} outputs, {} are expected",
                self.tensors[output].len(),
                outer * inner
            ));
        }
        let source = if lowest { self.turned((index, op), input) } else { input };
        let view = self.unnamed(source, [1, outer, among, inner], Some(self.tensors[source].storage));
        self.highest((index, op), view, output, [1, among], lowest);
        Ok(())
    }

    pub(super) fn extreme(&mut self, index: usize, op: &Operator, lowest: bool) -> Result<(), Fault> {
        let output = self.write(op, 0)?;
        let (shape, length) = (self.tensors[output].shape, self.tensors[output].len());
        // One above the other: two rows of as many channels as the output has elements.
        let both = self.unnamed(output, [1, 2, 1, length], None);
        for place in 0..2 {
            let input = self.read(op, place)?;
            self.expect_one_quantization(input, output)?;
            let own = &self.tensors[input];
            let spread = |axis: usize| own.shape[axis] == 1 && shape[axis] > 1;
            if (0..4).any(|axis| own.shape[axis] != shape[axis] && !spread(axis)) {
                return Err(format!("input {place} has shape {:?}, the output {shape:?}", own.shape));
            }
            let mut from_strides = own.strides();
            (0..4).filter(|&axis| spread(axis)).for_each(|axis| from_strides[axis] = 0);
            let to_strides = self.tensors[output].strides();
            let movement = Move { extents: shape, from: 0, from_strides, to: place * length, to_strides };
            self.moved((index, op), input, both, movement)?;
        }
        let source = if lowest { self.turned((index, op), both) } else { both };
        self.highest((index, op), source, output, [2, 1], lowest);
        Ok(())
    }

    fn expect_one_quantization(&self, input: usize, output: usize) -> Result<(), Fault> {
        let (from, to) = (self.tensors[input].affine, self.tensors[output].affine);
        if from == to {
            Ok(())
        } else {
            Err(format!("its input is quantized as {from:?}, its output as {to:?}"))
        }
    }
}
