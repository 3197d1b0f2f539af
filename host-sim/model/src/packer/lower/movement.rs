//! Operators that move elements: boxes from one tensor to another.

use super::super::network::{Activations, Step};
use super::{Fault, Lowering};
use crate::graph::Operator;
use flatmin::internals::op::Move;
use flatmin::internals::pack::format::operator as code;

/// Attributes of the graph's axes as those of NHWC: filled with `neutral` in front, or cut there.
fn aligned<T: Copy>(values: &[T], neutral: T) -> [T; 4] {
    let surplus = values.len().saturating_sub(4);
    let mut axes = [neutral; 4];
    let rest = &values[surplus..];
    axes[4 - rest.len()..].copy_from_slice(rest);
    axes
}

fn whole(from: &Activations, to: &Activations) -> Move {
    let (from_strides, to_strides) = (from.strides(), to.strides());
    Move { extents: from.shape, from: 0, from_strides, to: 0, to_strides }
}

impl Lowering<'_> {
    /// The step that moves a box; refused where it does not fit.
    pub(super) fn moved(
        &mut self,
        (index, op): (usize, &Operator),
        input: usize,
        output: usize,
        movement: Move,
    ) -> Result<(), Fault> {
        let (from, to) = (&self.tensors[input], &self.tensors[output]);
        let words = movement.words().filter(|_| movement.fits(from.len(), to.len()));
        let Some(words) = words else {
            return Err(format!("input {:?} does not fit into output {:?}", from.shape, to.shape));
        };
        self.steps.push(Step {
            parameters: words.to_vec(),
            ..Step::new(index, &op.name, code::MOVE, input, output)
        });
        Ok(())
    }

    /// An axis of a graph tensor as an axis of NHWC.
    fn axis(&self, graph_tensor: usize, axis: usize) -> Result<usize, Fault> {
        let rank = self.graph.tensors[graph_tensor].shape.len();
        (axis + 4).checked_sub(rank).ok_or_else(|| format!("axis {axis} of a tensor of rank {rank}"))
    }

    pub(super) fn concatenation(&mut self, index: usize, op: &Operator, axis: usize) -> Result<(), Fault> {
        let output = self.write(op, 0)?;
        let axis = self.axis(op.outputs[0], axis)?;
        let mut at = 0;
        for place in 0..op.inputs.len() {
            let input = self.read(op, place)?;
            let (from, to) = (&self.tensors[input], &self.tensors[output]);
            if from.affine != to.affine {
                let (a, b) = (from.affine, to.affine);
                return Err(format!("input {place} is quantized as {a:?}, the output as {b:?}"));
            }
            let other_axes = (0..4).all(|i| i == axis || from.shape[i] == to.shape[i]);
            let movement = Move { to: at * to.strides()[axis].unsigned_abs(), ..whole(from, to) };
            at += from.shape[axis];
            if !other_axes || at > to.shape[axis] {
                return Err(format!("input {place} has shape {:?}, the output {:?}", from.shape, to.shape));
            }
            self.moved((index, op), input, output, movement)?;
        }
        if at != self.tensors[output].shape[axis] {
            return Err(format!(
                "the inputs have {at} elements along axis {axis}, the output another number"
            ));
        }
        Ok(())
    }

    pub(super) fn split(
        &mut self,
        index: usize,
        op: &Operator,
        place: usize,
        axis: usize,
    ) -> Result<(), Fault> {
        let input = self.read(op, place)?;
        let axis = self.axis(self.graph_input(op, place)?, axis)?;
        let mut at = 0;
        for place in 0..op.outputs.len() {
            let output = self.write(op, place)?;
            let (from, to) = (&self.tensors[input], &self.tensors[output]);
            let other_axes = (0..4).all(|i| i == axis || from.shape[i] == to.shape[i]);
            let first = at * from.strides()[axis].unsigned_abs();
            let movement = Move { extents: to.shape, from: first, ..whole(from, to) };
            at += to.shape[axis];
            if !other_axes || at > from.shape[axis] {
                return Err(format!("output {place} has shape {:?}, the input {:?}", to.shape, from.shape));
            }
            self.moved((index, op), input, output, movement)?;
        }
        Ok(())
    }

    pub(super) fn pad(
        &mut self,
        index: usize,
        op: &Operator,
        amounts: &[[usize; 2]],
        value: Option<i64>,
    ) -> Result<(), Fault> {
        let (input, output) = (self.read(op, 0)?, self.write(op, 0)?);
        let (from, to) = (&self.tensors[input], &self.tensors[output]);
        let amounts = aligned(amounts, [0, 0]);
        let fits =
            (0..4).all(|axis| amounts[axis][0] + from.shape[axis] + amounts[axis][1] == to.shape[axis]);
        if !fits {
            return Err(format!("{:?} padded by {amounts:?} is not {:?}", from.shape, to.shape));
        }
        let value = value.unwrap_or(to.affine.zero_point.into());
        let Ok(byte) = i8::try_from(value) else {
            return Err(format!("pads with {value}, which is no int8"));
        };
        let strides = to.strides();
        let first = (0..4).map(|axis| amounts[axis][0] * strides[axis].unsigned_abs()).sum();
        let movement = Move { to: first, ..whole(from, to) };
        self.steps.push(Step {
            parameters: vec![byte.into()],
            ..Step::new(index, &op.name, code::FILL, output, output)
        });
        self.moved((index, op), input, output, movement)
    }

    pub(super) fn transpose(
        &mut self,
        index: usize,
        op: &Operator,
        permutation: &[usize],
    ) -> Result<(), Fault> {
        let (input, output) = (self.read(op, 0)?, self.write(op, 0)?);
        let (from, to) = (&self.tensors[input], &self.tensors[output]);
        let rank = permutation.len();
        // Axes that fell away in front must have stayed in front.
        let surplus = rank.saturating_sub(4);
        if permutation.iter().take(surplus).enumerate().any(|(axis, &source)| axis != source) {
            return Err(format!("permutation {permutation:?} moves a leading axis of rank {rank}"));
        }
        let lift = 4usize.saturating_sub(rank);
        let source = |axis: usize| match axis.checked_sub(lift) {
            None => axis,
            Some(own) => permutation[own + surplus] + lift - surplus,
        };
        let mut movement = whole(from, to);
        for axis in 0..4 {
            movement.extents[axis] = from.shape[source(axis)];
            movement.from_strides[axis] = from.strides()[source(axis)];
        }
        if movement.extents != to.shape {
            return Err(format!("gives shape {:?}, the output has {:?}", movement.extents, to.shape));
        }
        self.moved((index, op), input, output, movement)
    }

    pub(super) fn slice(
        &mut self,
        index: usize,
        op: &Operator,
        begin: &[usize],
        stride: &[i64],
        extent: &[usize],
    ) -> Result<(), Fault> {
        let (input, output) = (self.read(op, 0)?, self.write(op, 0)?);
        let (from, to) = (&self.tensors[input], &self.tensors[output]);
        let (begin, stride, extents) = (aligned(begin, 0), aligned(stride, 1), aligned(extent, 1));
        if extents.iter().product::<usize>() != to.len() {
            return Err(format!("takes {extents:?} elements, the output has {:?}", to.shape));
        }
        let own = from.strides();
        let first = (0..4).map(|axis| begin[axis] * own[axis].unsigned_abs()).sum();
        let mut movement = Move { extents, from: first, ..whole(from, to) };
        // The output's elements lie one behind the other, whatever axes it dropped.
        let mut step = 1;
        for axis in (0..4).rev() {
            let times = isize::try_from(stride[axis]).map_err(|_| format!("stride {}", stride[axis]))?;
            movement.from_strides[axis] = own[axis].saturating_mul(times);
            movement.to_strides[axis] = step;
            step *= extents[axis].cast_signed();
        }
        self.moved((index, op), input, output, movement)
    }
}

/// Refuses to resize batches and channels.
fn check_resized(from: &Activations, to: &Activations) -> Result<(), Fault> {
    if from.shape[3] != to.shape[3] || from.shape[0] != 1 || to.shape[0] != 1 {
        return Err(format!("resizes {:?} to {:?}", from.shape, to.shape));
    }
    Ok(())
}

/// The input's row of every output row, then the columns, in the reference kernel's single precision.
pub(super) fn nearest(
    from: &Activations,
    to: &Activations,
    align_corners: bool,
    half_pixel_centers: bool,
) -> Result<Vec<i32>, Fault> {
    check_resized(from, to)?;
    let mut places = Vec::new();
    for axis in [1, 2] {
        let (input, output) = (from.shape[axis], to.shape[axis]);
        let scale = if align_corners && output > 1 {
            (input - 1) as f32 / (output - 1) as f32
        } else {
            input as f32 / output as f32
        };
        for place in 0..output {
            let centre = if half_pixel_centers { 0.5 } else { 0.0 };
            let at = (place as f32 + centre) * scale;
            let nearest = if align_corners { at.round() } else { at.floor() };
            // A float cast saturates; the result is below the input's extent.
            places.push((nearest as i32).clamp(0, i32::try_from(input - 1).unwrap_or(i32::MAX)));
        }
    }
    Ok(places)
}

/// For every output row, then column: the input's place before it, the one after it, and 1024ths of the way from the one to the
/// other, in the reference kernel's integers.
pub(super) fn bilinear(
    from: &Activations,
    to: &Activations,
    align_corners: bool,
    half_pixel_centers: bool,
) -> Result<Vec<i32>, Fault> {
    check_resized(from, to)?;
    let mut places = Vec::new();
    for axis in [1, 2] {
        let [input, output] = [from.shape[axis], to.shape[axis]].map(|extent| extent as i64);
        let scale = match align_corners && output > 1 {
            true => (1024 * (input - 1) + (output - 1) / 2) / (output - 1),
            false => (1024 * input + output / 2) / output,
        };
        for place in 0..output {
            let at = place * scale + if half_pixel_centers { scale / 2 - 512 } else { 0 };
            let before = (at / 1024).clamp(0, input - 1);
            let after = ((at + 1023) / 1024).clamp(0, input - 1);
            // Before the first and after the last centre both are one place, and the way does not matter.
            let way = if before == after { 0 } else { at - 1024 * before };
            for number in [before, after, way] {
                places.push(
                    i32::try_from(number)
                        .map_err(|_| format!("resizes {:?} to {:?}", from.shape, to.shape))?,
                );
            }
        }
    }
    Ok(places)
}
