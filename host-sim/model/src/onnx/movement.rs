//! Operators that move elements or only rename their axes.

use super::constant::elements;
use super::fold::Folder;
use super::layout::{Layout, channels_last, permuted};
use super::node::{Attributes, Node, Refusal, unsupported};
use super::value::{Activation, Pending, Value, Work};
use crate::graph::Kind;
use std::rc::Rc;

impl Folder<'_> {
    /// Gives the value another shape: reshapes constants, relabels activations.
    pub fn shaped(&mut self, node: &Node, shape: Vec<usize>) -> Result<Value, Refusal> {
        let value = self.value(node, 0)?;
        let count = match elements(&shape) {
            Ok(count) => count,
            Err(problem) => return node.error(problem),
        };
        let found = self.shape_of(node, &value)?;
        if found.iter().product::<usize>() != count {
            return node.error(format!("{found:?} to {shape:?}: another number of elements"));
        }
        match value {
            Value::Constant(constant) => {
                self.spend(8 * count)?;
                Ok(Value::Constant(Rc::new(constant.reshaped(shape))))
            }
            Value::Weights(weights) => {
                self.spend(4 * count)?;
                match weights.reshaped(shape) {
                    Some(weights) => Ok(Value::Weights(Rc::new(weights))),
                    None => {
                        unsupported("its weights have scales along an axis that the new shape does not have")
                    }
                }
            }
            _ => {
                let x = self.moved(node, 0)?;
                if let Some(layout) = x.layout.reshaped(&shape) {
                    return Ok(Value::Activation(Activation { layout, ..x }));
                }
                // Elements have to move: into the file's order.
                let own = x.layout.shape();
                let order: Vec<usize> = (0..own.len()).collect();
                let tensor = self.arranged(node, &x, &order, &own);
                Ok(Value::Activation(Activation { tensor, layout: Layout::plain(&shape), real: x.real }))
            }
        }
    }

    /// The file's shape of a value.
    pub fn shape_of(&self, _node: &Node, value: &Value) -> Result<Vec<usize>, Refusal> {
        match value {
            Value::Unknown => Err(Refusal::Unknown),
            Value::Constant(constant) => Ok(constant.shape.clone()),
            Value::Weights(weights) => Ok(weights.shape.clone()),
            Value::Activation(activation) => Ok(activation.layout.shape()),
            Value::Pending(pending) => Ok(pending.layout.shape()),
        }
    }

    /// Reshape: 0 keeps an extent, -1 takes what is left.
    pub fn reshape(&mut self, node: &Node, attributes: &Attributes<'_>) -> Result<Value, Refusal> {
        let from = self.shape_of(node, &self.value(node, 0)?)?;
        let wanted = match self.integers(node, 1)? {
            Some(wanted) => wanted,
            None => match attributes.integers("shape") {
                Some(wanted) => wanted.to_vec(),
                None => return node.error("the new shape is missing"),
            },
        };
        let zero_keeps = attributes.integer("allowzero", 0) == 0;
        let mut shape = Vec::new();
        let mut free = None;
        for (axis, &extent) in wanted.iter().enumerate() {
            shape.push(match usize::try_from(extent) {
                Ok(0) if zero_keeps && axis < from.len() => from[axis],
                Ok(extent) => extent,
                Err(_) if extent == -1 && free.is_none() => {
                    free = Some(axis);
                    1
                }
                Err(_) => return node.error(format!("new shape {wanted:?}")),
            });
        }
        if let Some(axis) = free {
            let known = match elements(&shape) {
                Ok(known) => known,
                Err(problem) => return node.error(problem),
            };
            shape[axis] = from.iter().product::<usize>() / known;
        }
        self.shaped(node, shape)
    }

    /// Flatten to a matrix.
    pub fn flatten(&mut self, node: &Node, attributes: &Attributes<'_>) -> Result<Value, Refusal> {
        let shape = self.shape_of(node, &self.value(node, 0)?)?;
        let axis = attributes.integer("axis", 1);
        let rows = if usize::try_from(axis) == Ok(shape.len()) {
            shape.len()
        } else {
            self.axis(node, axis, shape.len())?
        };
        self.shaped(node, vec![shape[..rows].iter().product(), shape[rows..].iter().product()])
    }

    /// Squeeze and, with `inserts`, Unsqueeze; axes are inputs since version 13.
    pub fn squeeze(
        &mut self,
        node: &Node,
        attributes: &Attributes<'_>,
        inserts: bool,
    ) -> Result<Value, Refusal> {
        let shape = self.shape_of(node, &self.value(node, 0)?)?;
        let given = match self.integers(node, 1)? {
            Some(axes) => Some(axes),
            None => attributes.integers("axes").map(<[i64]>::to_vec),
        };
        if inserts {
            let Some(axes) = given else { return node.error("the axes are missing") };
            let rank = shape.len() + axes.len();
            let mut inserted = vec![false; rank.min(64)];
            for axis in axes {
                inserted[self.axis(node, axis, rank.min(64))?] = true;
            }
            let mut rest = shape.iter();
            let shape = inserted.iter().map(|&one| if one { Some(&1) } else { rest.next() });
            return match shape.collect::<Option<Vec<_>>>() {
                Some(shape) => self.shaped(node, shape.into_iter().copied().collect()),
                None => node.error("an axis stands twice"),
            };
        }
        let mut dropped: Vec<bool> = shape.iter().map(|&extent| given.is_none() && extent == 1).collect();
        for axis in given.unwrap_or_default() {
            let axis = self.axis(node, axis, shape.len())?;
            if shape[axis] != 1 {
                return node.error(format!("axis {axis} of shape {shape:?} is not 1"));
            }
            dropped[axis] = true;
        }
        let left = shape.iter().zip(dropped).filter(|(_, dropped)| !dropped).map(|(&extent, _)| extent);
        self.shaped(node, left.collect())
    }

    /// Transpose: renames the axes.
    pub fn transpose(&mut self, node: &Node, attributes: &Attributes<'_>) -> Result<Value, Refusal> {
        let value = self.value(node, 0)?;
        let shape = self.shape_of(node, &value)?;
        let permutation = match attributes.integers("perm") {
            None => (0..shape.len()).rev().collect(),
            Some(given) => {
                let axes = given.iter().map(|&axis| self.axis(node, axis, shape.len()));
                axes.collect::<Result<Vec<_>, _>>()?
            }
        };
        if (0..shape.len()).any(|axis| !permutation.contains(&axis)) || permutation.len() != shape.len() {
            return node.error(format!("{permutation:?} is no permutation of {} axes", shape.len()));
        }
        let count: usize = shape.iter().product();
        match value {
            Value::Constant(constant) => {
                self.spend(8 * count)?;
                Ok(Value::Constant(Rc::new(constant.transposed(&permutation))))
            }
            Value::Weights(weights) => {
                self.spend(4 * count)?;
                Ok(Value::Weights(Rc::new(weights.transposed(&permutation))))
            }
            _ => {
                let x = self.moved(node, 0)?;
                let layout = x.layout.transposed(&permutation);
                Ok(Value::Activation(Activation { layout, ..x }))
            }
        }
    }

    /// An activation in an order of axes in which it lies, if it lies in one: its tensor, order and shape.
    fn laid_out(&mut self, node: &Node, x: &Activation) -> (usize, Vec<usize>, Vec<usize>) {
        let (shape, order) = (x.layout.shape(), x.layout.axis_order());
        let tensor = self.arranged(node, x, &order, &permuted(&shape, &order));
        (tensor, order, shape)
    }

    /// Concat of activations.
    pub fn concatenation(&mut self, node: &Node, attributes: &Attributes<'_>) -> Result<Value, Refusal> {
        let mut parts = Vec::new();
        for input in 0..node.inputs.len() {
            parts.push(self.moved(node, input)?);
        }
        let Some(first) = parts.first() else { return node.error("no inputs") };
        let real = first.real;
        let mut shape = first.layout.shape();
        let order = first.layout.axis_order();
        let axis = self.axis(node, attributes.integer("axis", 1), shape.len())?;
        let mut inputs = Vec::new();
        let mut total = 0_usize;
        for part in &parts {
            let own = part.layout.shape();
            let others = |shape: &[usize]| {
                [&shape[..axis.min(shape.len())], &shape[shape.len().min(axis + 1)..]].concat()
            };
            if own.len() != shape.len() || others(&own) != others(&shape) || part.real != real {
                return node.error(format!("{shape:?} and {own:?} along axis {axis}"));
            }
            total = total.saturating_add(own[axis]);
            if self.affine(part.tensor).is_none() {
                return unsupported("an input that is not quantized");
            }
            inputs.push(self.arranged(node, part, &order, &permuted(&own, &order)));
        }
        shape[axis] = total;
        let shape = self.sized(node, shape)?;
        let place = order.iter().position(|&other| other == axis).unwrap_or(0);
        let layout = Layout::ordered(&shape, &order);
        let work = Work::Concatenation { inputs, axis: place };
        let pending = Pending::new(node, work, layout, permuted(&shape, &order));
        if real {
            return Ok(Value::Pending(Rc::new(pending)));
        }
        // Integers: all are of one quantization already, or the file means nothing.
        match self.natural(&pending) {
            Some(affine) => {
                let settled = self.settle(&pending, affine, None)?;
                Ok(Value::Activation(Activation { real: false, ..settled }))
            }
            None => unsupported("integers of several quantizations"),
        }
    }

    /// Split along an axis.
    pub fn split(&mut self, node: &Node, attributes: &Attributes<'_>) -> Result<Vec<Value>, Refusal> {
        let x = self.moved(node, 0)?;
        let (tensor, order, shape) = self.laid_out(node, &x);
        let axis = self.axis(node, attributes.integer("axis", 0), shape.len())?;
        let (count, extent) = (node.outputs.len(), shape[axis]);
        let given = match self.integers(node, 1)? {
            Some(sizes) => Some(sizes),
            None => attributes.integers("split").map(<[i64]>::to_vec),
        };
        let sizes: Vec<usize> = match given {
            Some(given) => given.iter().map(|&size| usize::try_from(size).unwrap_or(0)).collect(),
            None => {
                // The last is smaller if they cannot be equal.
                let size = extent.div_ceil(count);
                (0..count).map(|part| size.min(extent.saturating_sub(part * size))).collect()
            }
        };
        let total = sizes.iter().fold(0_usize, |total, &size| total.saturating_add(size));
        if sizes.len() != count || sizes.contains(&0) || total != extent {
            return node.error(format!("{extent} elements into {count} parts of {sizes:?}"));
        }
        let place = order.iter().position(|&other| other == axis).unwrap_or(0);
        let (mut outputs, mut values) = (Vec::new(), Vec::new());
        for (name, size) in node.outputs.iter().zip(sizes) {
            let mut part = shape.clone();
            part[axis] = size;
            let element = self.tensors[tensor].element;
            let output = self.tensor(name, element, &permuted(&part, &order), self.affine(tensor));
            outputs.push(output);
            let layout = Layout::ordered(&part, &order);
            values.push(Value::Activation(Activation { tensor: output, layout, real: x.real }));
        }
        let (name, kind, inputs) =
            (node.operator.clone(), Kind::Split { input: 0, axis: place }, vec![Some(tensor)]);
        self.operators.push(crate::graph::Operator { name, kind, inputs, outputs });
        Ok(values)
    }

    /// Slice; starts, ends, axes and steps are inputs since version 10.
    pub fn slice(&mut self, node: &Node, attributes: &Attributes<'_>) -> Result<Value, Refusal> {
        let given = |folder: &Self, input: usize, name: &str| match folder.integers(node, input)? {
            Some(values) => Ok(Some(values)),
            None => Ok::<_, Refusal>(attributes.integers(name).map(<[i64]>::to_vec)),
        };
        let (Some(starts), Some(ends)) = (given(self, 1, "starts")?, given(self, 2, "ends")?) else {
            return node.error("starts or ends are missing");
        };
        let axes = given(self, 3, "axes")?.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = given(self, 4, "steps")?.unwrap_or_else(|| vec![1; starts.len()]);
        if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
            return node.error("starts, ends, axes and steps differ in number");
        }
        let x = self.moved(node, 0)?;
        let (tensor, order, shape) = self.laid_out(node, &x);
        let mut begin = vec![0; shape.len()];
        let mut stride = vec![1; shape.len()];
        let mut extent = shape.clone();
        for (((start, end), axis), step) in starts.into_iter().zip(ends).zip(axes).zip(steps) {
            let axis = self.axis(node, axis, shape.len())?;
            let found = range(shape[axis], start, end, step);
            let Some((first, count)) = found else {
                return node.error(format!("{start} to {end} by {step} of {} elements", shape[axis]));
            };
            (begin[axis], extent[axis]) = (first, count);
            stride[axis] = if count == 1 { 1 } else { step };
        }
        let kind = Kind::Slice {
            begin: permuted(&begin, &order),
            stride: permuted(&stride, &order),
            extent: permuted(&extent, &order),
        };
        let layout = Layout::ordered(&extent, &order);
        let output = self.moving(node, &x, kind, &[tensor], layout, &permuted(&extent, &order));
        Ok(Value::Activation(output))
    }

    /// Pad with a constant; amounts are inputs since version 11.
    pub fn pad(&mut self, node: &Node, attributes: &Attributes<'_>) -> Result<Value, Refusal> {
        let mode = attributes.word("mode", "constant");
        if mode != "constant" {
            return unsupported(format!("mode {:?}", super::printable(&mode)));
        }
        let x = self.moved(node, 0)?;
        let (tensor, order, shape) = self.laid_out(node, &x);
        let pads = match self.integers(node, 1)? {
            Some(pads) => pads,
            None => attributes.integers("pads").unwrap_or_default().to_vec(),
        };
        let axes = self.integers(node, 3)?.unwrap_or_else(|| (0..shape.len() as i64).collect());
        if pads.len() != 2 * axes.len() {
            return node.error(format!("{} paddings, {} are expected", pads.len(), 2 * axes.len()));
        }
        let mut amounts = vec![[0; 2]; shape.len()];
        for (i, &axis) in axes.iter().enumerate() {
            let axis = self.axis(node, axis, shape.len())?;
            for (side, pad) in [pads[i], pads[i + axes.len()]].into_iter().enumerate() {
                amounts[axis][side] = match usize::try_from(pad) {
                    Ok(amount) if pad <= 65_535 => amount,
                    _ => return unsupported(format!("a padding of {pad} elements")),
                };
            }
        }
        let Some(affine) = self.affine(tensor) else { return unsupported("an input that is not quantized") };
        let constant = match node.input(2) {
            None => Some(attributes.float("value", 0.0)),
            Some(_) if x.real => match self.optional_constant(node, 2)?.as_deref().map(|c| c.floats()) {
                Some(Some(&[value])) => Some(value),
                _ => return node.error("the value is not one float32 number"),
            },
            Some(_) => None,
        };
        let value = match constant {
            Some(0.0) => None,
            Some(value) if x.real => Some(affine.quantize(value).into()),
            _ => return unsupported("integers padded with a value of their own"),
        };
        let padded = shape.iter().zip(&amounts).map(|(&extent, pads)| extent + pads[0] + pads[1]).collect();
        let padded = self.sized(node, padded)?;
        let kind = Kind::Pad { amounts: permuted(&amounts, &order), value };
        let layout = Layout::ordered(&padded, &order);
        let output = self.moving(node, &x, kind, &[tensor], layout, &permuted(&padded, &order));
        Ok(Value::Activation(output))
    }

    /// Resize and Upsample by nearest neighbours.
    pub fn resize(&mut self, node: &Node, attributes: &Attributes<'_>) -> Result<Value, Refusal> {
        let mode = attributes.word("mode", "nearest");
        if mode != "nearest" {
            return unsupported(format!("mode {:?}: nearest is supported", super::printable(&mode)));
        }
        if attributes.integers("axes").is_some() {
            return unsupported("axes of its own");
        }
        let x = self.moved(node, 0)?;
        let shape = x.layout.shape();
        // Upsample and version 10: scales alone.
        let upsample = node.operator == "Upsample" || self.version < 11;
        let scales = self.optional_constant(node, if upsample { 1 } else { 2 })?;
        let scales = match scales.as_deref().map(|constant| constant.floats()) {
            Some(Some(scales)) if !scales.is_empty() => Some(scales.to_vec()),
            Some(None) => return node.error("scales are not float32"),
            _ => attributes.get("scales").map(|a| a.floats.clone()),
        };
        let sizes = if upsample { None } else { self.integers(node, 3)?.filter(|sizes| !sizes.is_empty()) };
        let output: Option<Vec<usize>> = match (&scales, &sizes) {
            (_, Some(sizes)) => sizes.iter().map(|&size| usize::try_from(size).ok()).collect(),
            (Some(scales), None) if scales.len() == shape.len() => {
                let extent = |(&extent, &scale): (&usize, &f32)| {
                    let resized = (extent as f32 * scale).floor();
                    (1.0..=4_096.0).contains(&resized).then_some(resized as usize)
                };
                shape.iter().zip(scales).map(extent).collect()
            }
            _ => None,
        };
        let Some(output) = output.filter(|output| output.len() == shape.len()) else {
            return node.error(format!("no sizes or scales for an input of {shape:?}"));
        };
        let output = self.sized(node, output)?;
        if shape.len() != 4 || output[..2] != shape[..2] || shape[0] != 1 {
            return unsupported(format!("{shape:?} to {output:?}: height and width alone may change"));
        }
        let rule = super::resize::Rule::new(node, attributes, upsample)?;
        let mut modes = vec![[false, false], [true, false], [false, true]];
        for axis in [2, 3] {
            if output[axis] > 4_096 {
                return unsupported(format!("an extent of {}", output[axis]));
            }
            let scale = match (&scales, &sizes) {
                (Some(scales), None) => f64::from(scales[axis]),
                _ => output[axis] as f64 / shape[axis] as f64,
            };
            let wanted = rule.sources(shape[axis], output[axis], scale);
            modes.retain(|&[corners, centres]| {
                super::resize::sources(shape[axis], output[axis], corners, centres) == wanted
            });
        }
        let Some(&[align_corners, half_pixel_centers]) = modes.first() else {
            return unsupported(format!("the pixels that {rule} takes from {shape:?} to {output:?}"));
        };
        let order = channels_last(4);
        let input = self.arranged(node, &x, &order, &permuted(&shape, &order));
        let kind = Kind::ResizeNearest { align_corners, half_pixel_centers };
        let layout = Layout::ordered(&output, &order);
        let result = self.moving(node, &x, kind, &[input], layout, &permuted(&output, &order));
        Ok(Value::Activation(result))
    }
}

/// First element and number of those from `start` to `end` by `step`, as numpy slices; `None` if there are none.
pub(super) fn range(extent: usize, start: i64, end: i64, step: i64) -> Option<(usize, usize)> {
    let length = i64::try_from(extent).ok()?;
    if step == 0 || step == i64::MIN {
        return None;
    }
    let from_front = |p: i64| if p < 0 { p.saturating_add(length) } else { p };
    let (low, high) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let first = from_front(start).clamp(low.max(0), high);
    // An end far below 0 means: to the very front.
    let last = if step < 0 && end < -length { -1 } else { from_front(end).clamp(low, high) };
    let span = (last - first) * step.signum();
    let count = if span > 0 { (span - 1) / step.abs() + 1 } else { return None };
    Some((usize::try_from(first).ok()?, usize::try_from(count).ok()?))
}
