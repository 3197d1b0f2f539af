//! A small network in which every operator that a tail may hold stands behind a first convolution.

use flatmin_model::graph::{
    Activation, Binary, Element, Graph, Kind, Operator, Padding, Quantization, Tensor, Unary, Window,
};
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg32;

pub struct Builder {
    graph: Graph,
    random: Pcg32,
}

fn window(stride: usize, dilation: usize, padding: Padding) -> Window {
    Window { padding, stride: [stride; 2], dilation: [dilation; 2] }
}

impl Builder {
    fn tensor(
        &mut self,
        element: Element,
        shape: &[usize],
        scales: Vec<f32>,
        zero: i64,
        axis: usize,
        data: Option<Vec<u8>>,
    ) -> usize {
        let zero_points = vec![zero; scales.len()];
        self.graph.tensors.push(Tensor {
            name: format!("t{}", self.graph.tensors.len()),
            element,
            shape: shape.to_vec(),
            quantization: Some(Quantization { scales, zero_points, axis }),
            data,
        });
        self.graph.tensors.len() - 1
    }

    fn activation(&mut self, shape: &[usize]) -> usize {
        self.tensor(Element::I8, shape, vec![0.05], -3, 0, None)
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.random.next_u32().to_le_bytes()[3]).collect()
    }

    fn constant(&mut self, shape: &[usize], scale: f32) -> usize {
        let data = self.bytes(shape.iter().product());
        self.tensor(Element::I8, shape, vec![scale], 1, 0, Some(data))
    }

    fn operator(&mut self, name: &str, kind: Kind, inputs: &[usize], outputs: &[usize]) {
        let inputs = inputs.iter().map(|&i| Some(i)).collect();
        self.graph.operators.push(Operator { name: name.into(), kind, inputs, outputs: outputs.to_vec() });
    }

    fn unary(&mut self, name: &str, kind: Kind, input: usize, shape: &[usize]) -> usize {
        let output = self.activation(shape);
        self.operator(name, kind, &[input], &[output]);
        output
    }

    fn binary(
        &mut self,
        function: Binary,
        activation: Activation,
        inputs: [usize; 2],
        shape: &[usize],
    ) -> usize {
        let output = self.activation(shape);
        self.operator("ADD, SUB or MUL", Kind::Binary(function, activation), &inputs, &[output]);
        output
    }

    /// A layer with weights; `axis` is that of the outputs.
    fn weighted(
        &mut self,
        kind: Kind,
        filter: &[usize],
        axis: usize,
        input: usize,
        shape: &[usize],
    ) -> usize {
        let outputs = filter[axis];
        let taps = filter.iter().product::<usize>() / if axis == 0 { outputs } else { 1 };
        let taps = if axis == 0 { taps } else { taps / outputs };
        let data = self.bytes(filter.iter().product());
        let base = 0.02 / (taps as f32).sqrt();
        let per_channel = self.random.next_u32().is_multiple_of(2);
        let scales: Vec<f32> =
            (0..if per_channel { outputs } else { 1 }).map(|o| base * (1.0 + 0.1 * o as f32)).collect();
        let weights = self.tensor(Element::I8, filter, scales.clone(), 0, axis, Some(data));
        let biases = (0..outputs).flat_map(|o| (o as i32 * 7 - 11).to_le_bytes()).collect();
        let bias = self.tensor(Element::I32, &[outputs], vec![0.05 * base], 0, 0, Some(biases));
        let output = self.activation(shape);
        self.operator("weighted", kind, &[input, weights, bias], &[output]);
        output
    }
}

/// The network; 8x8x3 in, 5 classes out.
pub fn graph(seed: u64) -> Graph {
    let graph = Graph::default();
    let mut b = Builder { graph, random: Pcg32::seed_from_u64(seed) };
    let input = b.activation(&[1, 8, 8, 3]);
    let same = |stride| window(stride, 1, Padding::Same);
    let conv = |w, a| Kind::Conv2d(w, a);
    let x = b.weighted(conv(same(1), Activation::None), &[4, 3, 3, 3], 0, input, &[1, 8, 8, 4]);
    let x = b.unary("HARD_SWISH", Kind::Unary(Unary::HardSwish), x, &[1, 8, 8, 4]);
    let skip = x;
    let x = b.weighted(conv(same(1), Activation::Relu), &[6, 1, 1, 4], 0, x, &[1, 8, 8, 6]);
    let deep = Kind::DepthwiseConv2d(same(1), Activation::Relu6, 1);
    let x = b.weighted(deep, &[1, 3, 3, 6], 3, x, &[1, 8, 8, 6]);
    let x = b.weighted(conv(same(1), Activation::None), &[4, 1, 1, 6], 0, x, &[1, 8, 8, 4]);
    // A residual, then squeeze and excite.
    let x = b.binary(Binary::Add, Activation::ReluN1To1, [x, skip], &[1, 8, 8, 4]);
    let mean = b.unary("MEAN", Kind::Mean { axes: vec![1, 2] }, x, &[1, 1, 1, 4]);
    let gate = b.weighted(conv(same(1), Activation::None), &[4, 1, 1, 4], 0, mean, &[1, 1, 1, 4]);
    let gate = b.unary("LOGISTIC", Kind::Unary(Unary::Logistic), gate, &[1, 1, 1, 4]);
    let x = b.binary(Binary::Mul, Activation::None, [x, gate], &[1, 8, 8, 4]);
    let pad = Kind::Pad { amounts: vec![[0, 0], [1, 0], [0, 1], [0, 0]], value: None };
    let x = b.unary("PAD", pad, x, &[1, 9, 9, 4]);
    let halved = window(2, 1, Padding::Valid);
    let left = b.unary("MAX_POOL_2D", Kind::MaxPool2d(halved, Activation::None, [3, 3]), x, &[1, 4, 4, 4]);
    let right =
        b.unary("AVERAGE_POOL_2D", Kind::AveragePool2d(halved, Activation::Relu, [3, 3]), x, &[1, 4, 4, 4]);
    let right = b.unary("LEAKY_RELU", Kind::Unary(Unary::LeakyRelu(0.2)), right, &[1, 4, 4, 4]);
    let joined = b.activation(&[1, 4, 4, 8]);
    b.operator("CONCATENATION", Kind::Concatenation { axis: 3 }, &[left, right], &[joined]);
    let wide = Kind::DepthwiseConv2d(window(1, 2, Padding::Same), Activation::None, 2);
    let x = b.weighted(wide, &[1, 3, 3, 16], 3, joined, &[1, 4, 4, 16]);
    let alpha = b.constant(&[1, 1, 1, 16], 0.004);
    let y = b.activation(&[1, 4, 4, 16]);
    b.operator("PRELU", Kind::Prelu, &[x, alpha], &[y]);
    let x = b.unary("TRANSPOSE", Kind::Transpose { permutation: vec![0, 2, 1, 3] }, y, &[1, 4, 4, 16]);
    let slice = Kind::Slice { begin: vec![0, 0, 1, 0], stride: vec![1, 1, 1, 2], extent: vec![1, 4, 2, 8] };
    let x = b.unary("STRIDED_SLICE", slice, x, &[1, 4, 2, 8]);
    let resize = Kind::ResizeNearest { align_corners: false, half_pixel_centers: false };
    let x = b.unary("RESIZE_NEAREST_NEIGHBOR", resize, x, &[1, 6, 4, 8]);
    let offset = b.constant(&[1, 6, 4, 1], 0.003);
    let x = b.binary(Binary::Sub, Activation::None, [x, offset], &[1, 6, 4, 8]);
    let x = b.binary(Binary::Mul, Activation::None, [x, x], &[1, 6, 4, 8]);
    let x = b.unary("TANH", Kind::Unary(Unary::Tanh), x, &[1, 6, 4, 8]);
    let x =
        b.weighted(conv(window(2, 1, Padding::Valid), Activation::Relu), &[5, 3, 2, 8], 0, x, &[1, 2, 2, 5]);
    let x = b.unary("RESHAPE", Kind::Reshape, x, &[1, 20]);
    let x = b.weighted(Kind::FullyConnected(Activation::Relu), &[9, 20], 0, x, &[1, 9]);
    let logits = b.weighted(Kind::FullyConnected(Activation::None), &[5, 9], 0, x, &[1, 5]);
    let output = b.tensor(Element::I8, &[1, 5], vec![1.0 / 256.0], -128, 0, None);
    b.operator("SOFTMAX", Kind::Softmax(1.0), &[logits], &[output]);
    b.graph.inputs = vec![input];
    b.graph.outputs = vec![output];
    b.graph
}

/// Four dense layers, 12 -> 8 -> 4 -> 8 -> 12, without an activation at the end; or with `end` behind it.
pub fn autoencoder(seed: u64, outputs: usize, end: Option<Unary>) -> Graph {
    let graph = Graph::default();
    let mut b = Builder { graph, random: Pcg32::seed_from_u64(seed) };
    let input = b.activation(&[1, 12]);
    let dense = Kind::FullyConnected;
    let x = b.weighted(dense(Activation::Relu), &[8, 12], 0, input, &[1, 8]);
    let x = b.weighted(dense(Activation::Relu), &[4, 8], 0, x, &[1, 4]);
    let x = b.weighted(dense(Activation::Relu), &[8, 4], 0, x, &[1, 8]);
    let mut x = b.weighted(dense(Activation::None), &[outputs, 8], 0, x, &[1, outputs]);
    if let Some(function) = end {
        let y = b.tensor(Element::I8, &[1, outputs], vec![1.0 / 256.0], -128, 0, None);
        b.operator("end", Kind::Unary(function), &[x], &[y]);
        x = y;
    }
    b.graph.inputs = vec![input];
    b.graph.outputs = vec![x];
    b.graph
}
