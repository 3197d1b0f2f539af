//! Windows over one or two spatial axes, and the pools.

use super::fold::Folder;
use super::layout::{Layout, channels_last};
use super::node::{Attributes, Node, Refusal, unsupported};
use super::value::{Activation, Pending, Value, Work};
use crate::graph::{Activation as Clamp, Kind, Padding, Window};
use std::rc::Rc;

/// An image of one or two spatial axes; one is the width of an image of height 1.
pub(super) struct Image {
    pub channels: usize,
    /// Height and width.
    pub extent: [usize; 2],
    /// Spatial axes in the file.
    pub axes: usize,
}

impl Image {
    /// The image in a tensor of shape `[1, C, W]` or `[1, C, H, W]`.
    pub fn new(node: &Node, shape: &[usize]) -> Result<Self, Refusal> {
        match *shape {
            [1, channels, width] => Ok(Self { channels, extent: [1, width], axes: 1 }),
            [1, channels, height, width] => Ok(Self { channels, extent: [height, width], axes: 2 }),
            [batch, _, _] | [batch, _, _, _] => unsupported(format!("a batch of {batch}, 1 is expected")),
            [] | [_] | [_, _] => node.error(format!("an input of shape {shape:?} has no spatial axes")),
            _ => unsupported(format!("{} spatial axes", shape.len() - 2)),
        }
    }

    /// Its shape in the graph.
    pub fn shape(&self) -> [usize; 4] {
        [1, self.extent[0], self.extent[1], self.channels]
    }

    /// The file's shape of a result with other channels and extents.
    pub fn result(&self, channels: usize, extent: [usize; 2]) -> Vec<usize> {
        [&[1, channels], &extent[2 - self.axes..]].concat()
    }
}

/// A window, resolved.
#[derive(Debug, PartialEq)]
pub(super) struct Spatial {
    pub window: Window,
    pub filter: [usize; 2],
    /// Output's height and width.
    pub output: [usize; 2],
    /// Whether windows reach beyond the image.
    pub padded: bool,
    /// Whether some reach beyond its padding, too.
    pub overhangs: bool,
}

/// Resolves strides, dilations and paddings for windows of `kernel`.
pub(super) fn spatial(
    node: &Node,
    attributes: &Attributes<'_>,
    image: &Image,
    kernel: &[usize],
) -> Result<Spatial, Refusal> {
    let axes = image.axes;
    let two = |values: &[usize], first: usize| match *values {
        [width] => [first, width],
        [height, width, ..] => [height, width],
        [] => [first, first],
    };
    if kernel.len() != axes || kernel.contains(&0) {
        return node.error(format!("a window of {kernel:?} on {axes} spatial axes"));
    }
    let filter = two(kernel, 1);
    let stride = two(&attributes.extents("strides", axes, 1, 1)?, 1);
    let dilation = two(&attributes.extents("dilations", axes, 1, 1)?, 1);
    let pads = attributes.extents("pads", 2 * axes, 0, 0)?;
    let (mut front, mut behind) = (two(&pads[..axes], 0), two(&pads[axes..], 0));
    let ceiling = attributes.integer("ceil_mode", 0) != 0;
    let reach = [0, 1].map(|axis| (filter[axis] - 1).saturating_mul(dilation[axis]).saturating_add(1));
    let auto = attributes.word("auto_pad", "NOTSET");
    match auto.as_ref() {
        "NOTSET" | "" => {}
        "VALID" => (front, behind) = ([0; 2], [0; 2]),
        "SAME_UPPER" | "SAME_LOWER" => {
            for axis in 0..2 {
                let extent = image.extent[axis];
                let covered = (extent.div_ceil(stride[axis]) - 1) * stride[axis];
                let total = covered.saturating_add(reach[axis]).saturating_sub(extent);
                let less = total / 2;
                let upper = auto == "SAME_UPPER";
                (front[axis], behind[axis]) = if upper { (less, total - less) } else { (total - less, less) };
            }
        }
        other => return node.error(format!("auto_pad {other:?}")),
    }
    let mut output = [0; 2];
    let (mut same, mut overhangs) = (true, false);
    for axis in 0..2 {
        let (extent, step) = (image.extent[axis], stride[axis]);
        if front[axis] >= reach[axis] || behind[axis] >= reach[axis] {
            return unsupported(format!("a window of {} in a padding of {pads:?}", reach[axis]));
        }
        let padded = extent + front[axis] + behind[axis];
        let Some(room) = padded.checked_sub(reach[axis]) else {
            return node.error(format!("a window of {} on {padded} pixels", reach[axis]));
        };
        output[axis] = room / step + 1;
        // The last window must begin in the image or the padding before it.
        if ceiling && !room.is_multiple_of(step) && output[axis] * step < extent + front[axis] {
            output[axis] += 1;
            overhangs = true;
        }
        let covered = (output[axis] - 1) * step + reach[axis];
        same &= output[axis] == extent.div_ceil(step) && front[axis] == covered.saturating_sub(extent) / 2;
    }
    let inside = (0..2).all(|axis| {
        front[axis] == 0 && (output[axis] - 1) * stride[axis] + reach[axis] <= image.extent[axis]
    });
    let padding = match (inside, same) {
        (true, _) => Padding::Valid,
        (false, true) => Padding::Same,
        (false, false) => Padding::Explicit(front),
    };
    let window = Window { padding, stride, dilation };
    Ok(Spatial { window, filter, output, padded: !inside, overhangs })
}

impl Folder<'_> {
    /// MaxPool and AveragePool, and with `whole` their global forms.
    pub fn pool(
        &mut self,
        node: &Node,
        attributes: &Attributes<'_>,
        average: bool,
        whole: bool,
    ) -> Result<Value, Refusal> {
        let x = if average { self.quantized(node, 0)? } else { self.moved(node, 0)? };
        let shape = x.layout.shape();
        let image = Image::new(node, &shape)?;
        let kernel = match attributes.integers("kernel_shape") {
            _ if whole => image.extent[2 - image.axes..].to_vec(),
            Some(_) => attributes.extents("kernel_shape", image.axes, 1, 1)?,
            None => return node.error("kernel_shape is missing"),
        };
        let found = spatial(node, attributes, &image, &kernel)?;
        if found.window.dilation != [1, 1]
            || node.outputs.len() > 1
            || attributes.integer("storage_order", 0) != 0
        {
            return unsupported("dilated windows, column order and indices");
        }
        let input = self.arranged(node, &x, &channels_last(shape.len()), &image.shape());
        let result = self.sized(node, image.result(image.channels, found.output))?;
        let layout = Layout::ordered(&result, &channels_last(result.len()));
        let shape = vec![1, found.output[0], found.output[1], image.channels];
        if !average {
            let kind = Kind::MaxPool2d(found.window, Clamp::None, found.filter);
            return Ok(Value::Activation(self.moving(node, &x, kind, &[input], layout, &shape)));
        }
        let counts = attributes.integer("count_include_pad", 0) != 0 && found.padded;
        if counts && found.overhangs {
            return unsupported("ceil_mode together with count_include_pad");
        }
        let work = Work::AveragePool {
            input,
            window: found.window,
            filter: found.filter,
            padding_counts: counts,
            whole: found.filter == image.extent && found.output == [1, 1] && !found.padded,
        };
        Ok(Value::Pending(Rc::new(Pending::new(node, work, layout, shape))))
    }

    /// Emits an operator that keeps the quantization.
    pub fn moving(
        &mut self,
        node: &Node,
        x: &Activation,
        kind: Kind,
        inputs: &[usize],
        layout: Layout,
        shape: &[usize],
    ) -> Activation {
        let (element, affine) = (self.tensors[x.tensor].element, self.affine(x.tensor));
        let output = self.tensor(node.output(), element, shape, affine);
        self.emit(node, kind, inputs, output);
        Activation { tensor: output, layout, real: x.real }
    }
}
