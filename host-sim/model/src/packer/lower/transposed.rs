//! TRANSPOSE_CONV as a CONV_2D: the input's pixels apart by the stride, with its zero point between them, under the filter
//! turned about. The same products in int32 are summed, so the same bytes come out.

use super::super::network::Step;
use super::weighted::{four, geometry};
use super::{Fault, Lowering, clamp};
use crate::graph::{Activation, Operator, Padding, Window};
use flatmin::internals::op::Move;
use flatmin::internals::pack::format::operator as code;

impl Lowering<'_> {
    pub(super) fn transposed(
        &mut self,
        index: usize,
        op: &Operator,
        window: &Window,
        activation: Activation,
    ) -> Result<(), Fault> {
        let (input, output) = (self.read(op, 2)?, self.write(op, 0)?);
        let (from, to) = (self.tensors[input].clone(), self.tensors[output].clone());
        let [outputs, height, width, channels] = four(self.constant(op, 1)?)?;
        let filter = [height, width];
        if outputs != to.shape[3] || channels != from.shape[3] || from.shape[0] != 1 || filter.contains(&0) {
            let (given, wanted) = (from.shape, to.shape);
            return Err(format!(
                "filter takes {channels} channels for {outputs} outputs, {given:?} and {wanted:?} are given"
            ));
        }
        let (mut spread, mut front) = (from.shape, [0; 2]);
        for axis in 0..2 {
            let (extent, stride) = (from.shape[1 + axis], window.stride[axis]);
            // What of the full result is cut off in front (TFLite's `ComputePaddingHeightWidth`).
            let surplus = ((extent - 1) * stride + filter[axis]).saturating_sub(to.shape[1 + axis]);
            let cut = if window.padding == Padding::Same { surplus / 2 } else { 0 };
            let Some(padding) = (filter[axis] - 1).checked_sub(cut) else {
                return Err(format!("cuts {cut} off a result of a filter of {}", filter[axis]));
            };
            front[axis] = padding;
            // The last output's window, too, begins inside.
            spread[1 + axis] = ((extent - 1) * stride + 1).max(to.shape[1 + axis].saturating_sub(padding));
        }
        let apart = self.unnamed(input, spread, None);
        let between = Step::new(index, &op.name, code::FILL, apart, apart);
        self.steps.push(Step { parameters: vec![from.affine.zero_point], ..between });
        let mut to_strides = self.tensors[apart].strides();
        (0..2).for_each(|axis| to_strides[1 + axis] *= window.stride[axis].cast_signed());
        let from_strides = from.strides();
        let movement = Move { extents: from.shape, from: 0, from_strides, to: 0, to_strides };
        self.moved((index, op), input, apart, movement)?;

        // As a convolution lists its inputs.
        let place = |place: usize| op.inputs.get(place).copied().flatten();
        let reordered = Operator { inputs: vec![place(2), place(1), place(3)], ..op.clone() };
        let mut constants = self.constants(&reordered, outputs, 0, &from, &to)?;
        for of_output in constants.weights.chunks_exact_mut(height * width * channels) {
            let pixels: Vec<i8> = of_output.rchunks_exact(channels).flatten().copied().collect();
            of_output.copy_from_slice(&pixels);
        }
        let plain = Window { padding: Padding::Explicit(front), stride: [1; 2], dilation: [1; 2] };
        let step = Step::new(index, &op.name, code::CONV_2D, apart, output);
        self.steps.push(Step {
            window: geometry(&plain, filter, &self.tensors[apart], &to)?,
            clamp: clamp(activation, to.affine),
            constants,
            ..step
        });
        Ok(())
    }
}
