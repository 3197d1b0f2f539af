//! Operators with weights, and the geometry of windows.

use super::super::network::{Activations, Constants, Step};
use super::{Fault, Lowering, clamp, function};
use crate::graph::{Element, Kind, Operator, Padding, Tensor, Window};
use flatmin::internals::Multiplier;
use flatmin::internals::pack::format::operator as code;

impl Lowering<'_> {
    pub(super) fn weighted(&mut self, index: usize, op: &Operator) -> Result<(), Fault> {
        let (input, output) = (self.read(op, 0)?, self.write(op, 0)?);
        if self.tensors[input].constant.is_some() {
            return Err("its input is a constant".into());
        }
        let (from, to) = (self.tensors[input].clone(), self.tensors[output].clone());
        let start = |kind| Step::new(index, &op.name, kind, input, output);
        let step = match &op.kind {
            Kind::Conv2d(window, activation) => {
                let [outputs, height, width, channels] = four(self.constant(op, 1)?)?;
                let groups = from.shape[3] / channels.max(1);
                if outputs != to.shape[3]
                    || channels * groups != from.shape[3]
                    || outputs % groups.max(1) != 0
                {
                    let (inside, outside) = (channels, from.shape[3]);
                    return Err(format!(
                        "filter takes {inside} channels for {outputs} outputs, the input has {outside}, the output {}",
                        to.shape[3]
                    ));
                }
                // Grouped convolutions have no backward pass.
                let function = (groups == 1).then(|| function(*activation));
                let kind = if groups > 1 { code::GROUPED_CONV_2D } else { code::CONV_2D };
                Step {
                    window: geometry(window, [height, width], &from, &to)?,
                    depth_multiplier: groups,
                    clamp: clamp(*activation, to.affine),
                    function,
                    constants: self.constants(op, outputs, 0, &from, &to)?,
                    ..start(kind)
                }
            }
            Kind::DepthwiseConv2d(window, activation, multiplier) => {
                let [_, height, width, outputs] = four(self.constant(op, 1)?)?;
                if outputs != to.shape[3] || outputs != from.shape[3] * multiplier {
                    return Err(format!("filter has {outputs} channels, {} are expected", to.shape[3]));
                }
                Step {
                    depth_multiplier: *multiplier,
                    window: geometry(window, [height, width], &from, &to)?,
                    clamp: clamp(*activation, to.affine),
                    function: Some(function(*activation)),
                    constants: self.constants(op, outputs, 3, &from, &to)?,
                    ..start(code::DEPTHWISE_CONV_2D)
                }
            }
            Kind::FullyConnected(activation) => {
                let filter = self.constant(op, 1)?;
                let &[outputs, inputs] = filter.shape.as_slice() else {
                    return Err(format!("filter has shape {:?}, two axes are expected", filter.shape));
                };
                let rows = from.len() / inputs.max(1);
                if rows * inputs != from.len() || rows * outputs != to.len() || rows == 0 {
                    let (takes, gives) = (from.len(), to.len());
                    return Err(format!(
                        "takes {takes} values and gives {gives} with a filter of {inputs} by {outputs}"
                    ));
                }
                self.tensors[output].shape = [1, 1, rows, outputs];
                Step {
                    clamp: clamp(*activation, to.affine),
                    function: Some(function(*activation)),
                    constants: self.constants(op, outputs, 0, &from, &to)?,
                    ..start(code::FULLY_CONNECTED)
                }
            }
            _ => return Err("has no weights".into()),
        };
        self.steps.push(step);
        Ok(())
    }

    pub(super) fn constants(
        &self,
        op: &Operator,
        outputs: usize,
        axis: usize,
        from: &Activations,
        to: &Activations,
    ) -> Result<Constants, Fault> {
        let filter = self.constant(op, 1)?;
        if filter.element != Element::I8 {
            return Err(format!("weights are {:?}, int8 is expected", filter.element));
        }
        let Some(quantization) = &filter.quantization else {
            return Err("weights are not quantized".into());
        };
        if quantization.zero_points.iter().any(|&z| z != 0) {
            return Err("weights have a zero point other than 0".into());
        }
        let scales = quantization.scales.clone();
        let per_channel = scales.len() > 1;
        if per_channel && (quantization.axis != axis || scales.len() != outputs) {
            let (n, found) = (scales.len(), quantization.axis);
            return Err(format!(
                "{n} weight scales along axis {found}, {outputs} along axis {axis} are expected"
            ));
        }
        let biases = match op.inputs.get(2).copied().flatten() {
            None => vec![0; outputs],
            Some(_) => int32(self.constant(op, 2)?)?,
        };
        if biases.len() != outputs {
            return Err(format!("{} biases, {outputs} are expected", biases.len()));
        }
        let multipliers = (0..outputs)
            .map(|o| {
                let scale = scales[if per_channel { o } else { 0 }];
                let multiplier = Multiplier::of_scales(from.affine.scale, scale, to.affine.scale);
                (multiplier.mantissa, multiplier.shift)
            })
            .collect();
        let data = filter.data.as_deref().unwrap_or_default();
        let weights = data.iter().map(|b| b.cast_signed()).collect();
        Ok(Constants { weights, biases, multipliers, scales, per_channel })
    }
}

pub(super) fn four(tensor: &Tensor) -> Result<[usize; 4], Fault> {
    let shape = tensor.shape.as_slice().try_into();
    shape.map_err(|_| format!("filter has shape {:?}, four axes are expected", tensor.shape))
}

fn int32(tensor: &Tensor) -> Result<Vec<i32>, Fault> {
    let data = tensor.data.as_deref().unwrap_or_default();
    if tensor.element != Element::I32 {
        return Err(format!("constant `{}` is {:?}, int32 is expected", tensor.name, tensor.element));
    }
    Ok(data.as_chunks::<4>().0.iter().map(|b| i32::from_le_bytes(*b)).collect())
}

/// Padding and checks of a windowed operator (TFLite's `ComputePaddingHeightWidth`).
pub(super) fn geometry(
    window: &Window,
    filter: [usize; 2],
    from: &Activations,
    to: &Activations,
) -> Result<flatmin::internals::op::Window, Fault> {
    if from.shape[0] != 1 {
        return Err(format!("has a batch of {}, 1 is expected", from.shape[0]));
    }
    let mut padding = [0; 2];
    for axis in 0..2 {
        let (extent, stride) = (from.shape[1 + axis], window.stride[axis]);
        let found = to.shape[1 + axis];
        let reach = (filter[axis].max(1) - 1) * window.dilation[axis] + 1;
        let expected = match window.padding {
            Padding::Same => extent.div_ceil(stride),
            Padding::Valid => (extent + stride).saturating_sub(reach) / stride,
            Padding::Explicit(_) => found,
        };
        if expected != found || expected == 0 {
            return Err(format!("output extent is {found}, geometry gives {expected}"));
        }
        padding[axis] = match window.padding {
            Padding::Explicit(front) => front[axis],
            _ => ((expected - 1) * stride + reach).saturating_sub(extent) / 2,
        };
    }
    Ok(flatmin::internals::op::Window { filter, stride: window.stride, dilation: window.dilation, padding })
}
