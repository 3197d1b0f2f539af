//! Files built here by hand, and every refusal; damage in `damage`; other people's files in `tests/onnx.rs`.

mod build;
mod damage;
mod qoperator;

use super::*;
use crate::graph::{Activation, Padding, Window};
use build::{Model, attribute, floats, info, integers, node};

fn data(graph: &Graph, operator: usize, input: usize) -> &[u8] {
    let tensor = graph.operators[operator].inputs[input].unwrap();
    graph.tensors[tensor].data.as_ref().unwrap()
}

fn int32(values: &[i32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[test]
fn reads_all_of_a_small_model() {
    let network = read(&Model::small().bytes()).unwrap();
    let graph = &network.graph;
    let kinds: Vec<Kind> = graph.operators.iter().map(|operator| operator.kind.clone()).collect();
    let window = Window { padding: Padding::Valid, stride: [1, 1], dilation: [1, 1] };
    let expected = [
        Kind::Quantize,
        Kind::Conv2d(window, Activation::Relu),
        Kind::Reshape,
        Kind::FullyConnected(Activation::None),
        Kind::Dequantize,
    ];
    assert_eq!(kinds, expected);
    // Channels first in the file, last in the graph.
    assert_eq!(network.inputs, [Border { shape: vec![1, 2, 3, 3], order: vec![0, 2, 3, 1] }]);
    assert_eq!(network.outputs, [Border { shape: vec![1, 2], order: vec![0, 1] }]);
    let shapes: Vec<_> = graph.operators.iter().map(|o| graph.tensors[o.outputs[0]].shape.clone()).collect();
    assert_eq!(shapes, [vec![1, 3, 3, 2], vec![1, 2, 2, 3], vec![1, 12], vec![1, 2], vec![1, 2]]);
    // uint8 with zero point 130 is int8 with zero point 2.
    let quantization = graph.tensors[graph.operators[1].outputs[0]].quantization.as_ref().unwrap();
    assert_eq!((&quantization.scales[..], &quantization.zero_points[..]), (&[2.0][..], &[2][..]));
    // O I H W: the first filter's channels are 0 1 2 3 and 4 5 6 7.
    assert_eq!(data(graph, 1, 1)[..8], [0, 4, 1, 5, 2, 6, 3, 7]);
    // 1 / (0.5 * 0.25), 1 / (0.5 * 0.5), round(-1.3 / (0.5 * 1)).
    assert_eq!(data(graph, 1, 2), int32(&[8, 4, -3]));
    // Element c, h, w of the file is row 4 c + 2 h + w of the weights, of which each output has every second number.
    assert_eq!(data(graph, 3, 1)[..12], [0, 8, 16, 2, 10, 18, 4, 12, 20, 6, 14, 22]);
}

/// What is wrong with a model, and what must be said about it.
type Case = (fn(&mut Model), &'static str);

#[test]
fn refusals() {
    let cases: &[Case] = &[
        (|m| m.version = None, "not an ONNX model: version of the operator set missing"),
        (|m| m.outputs.clear(), "not an ONNX model: output missing"),
        (
            |m| m.inputs[0] = info("x", data_type::FLOAT, &[1, 2, 3, 0]),
            "tensor `x`: extent `open` of axis 3 is open: export with fixed extents",
        ),
        (
            |m| m.inputs[0] = info("x", data_type::INT64, &[1, 2, 3, 3]),
            "tensor `x`: an input of INT64: FLOAT, INT8 and UINT8 are supported",
        ),
        (|m| m.inputs[0].value_type = None, "tensor `x`: an input that is no tensor"),
        (
            |m| m.inputs[0] = info("x", data_type::FLOAT, &[1 << 20, 1 << 20]),
            "tensor `x`: shape [1048576, 1048576] is too large",
        ),
        (
            |m| m.inputs[0] = info("x", data_type::FLOAT, &[1; 9]),
            "tensor `x`: 9 axes, 8 at most are supported",
        ),
        (
            |m| m.inputs[0] = info("x", data_type::FLOAT, &[1, 3, 3, 3]),
            "node 3 (Conv): 1 groups of 3 channels, weights of shape [3, 2, 2, 2]",
        ),
        (|m| m.nodes[3].inputs[0] = "z".into(), "node 3 (Conv): reads `z`, which nothing computes before"),
        (|m| m.nodes[3].inputs[0] = String::new(), "node 3 (Conv): input 0 is missing"),
        (|m| m.nodes[4].outputs[0] = "c".into(), "node 4 (Relu): computes `c`, which is there already"),
        (|m| m.nodes[4].outputs.clear(), "node 4 (Relu): has no output"),
        (|m| m.nodes[4].operator.clear(), "node 4 (): has no operator"),
        (|m| m.nodes[4].name = "a\u{1b}".into(), ""),
        (
            |m| {
                m.nodes[3].name = "first".into();
                attribute(&mut m.nodes[3], "strides", &[1, 0]);
            },
            "node 3 (Conv `first`): strides has 0, 1 to 65535 is expected",
        ),
        (
            |m| attribute(&mut m.nodes[3], "pads", &[1, 1]),
            "node 3 (Conv): pads has 2 numbers, 4 are expected",
        ),
        (
            |m| attribute(&mut m.nodes[3], "group", &[0]),
            "node 3 (Conv): 0 groups of 2 channels, weights of shape [3, 2, 2, 2]",
        ),
        (|m| attribute(&mut m.nodes[3], "dilations", &[3, 3]), "node 3 (Conv): a window of 4 on 3 pixels"),
        (|m| m.initializers[2].int32s[5] = 128, "tensor `w`: 128 is out of range for INT8"),
        (|m| m.initializers[2].int32s.truncate(23), "tensor `w`: 23 numbers, shape [3, 2, 2, 2] has 24"),
        (
            |m| m.initializers[2].raw = Some(vec![0; 25].into()),
            "tensor `w`: 25 numbers, shape [3, 2, 2, 2] has 24",
        ),
        (|m| m.initializers[2].shape[0] = -3, "tensor `w`: shape [-3, 2, 2, 2] has a negative extent"),
        (
            |m| m.initializers[2].location = 1,
            "tensor `w`: its data is in another file: save the model with its data inside",
        ),
        (
            |m| m.initializers[0].floats[0] = 0.0,
            "node 0 (QuantizeLinear): scale 0, expected a positive number",
        ),
        (
            |m| m.initializers[3] = floats("w_scale", &[2], &[0.25, 0.5]),
            "node 2 (DequantizeLinear): 2 scales, 3 zero points",
        ),
        (
            |m| m.nodes[2].attributes.clear(),
            "node 2 (DequantizeLinear): 3 scales along axis 1 of shape [3, 2, 2, 2]",
        ),
        (
            |m| m.initializers[4] = integers("w_zero", data_type::UINT8, &[3], &[128; 3]),
            "node 2 (DequantizeLinear): a zero point of UINT8 for INT8",
        ),
        (|m| m.nodes[6].operator = "QuantizeLinear".into(), "node 6 (QuantizeLinear): quantizes integers"),
        (
            |m| m.nodes[3].inputs[0] = "x_q".into(),
            "node 3 (Conv): input 0 is integers: a DequantizeLinear is missing before it",
        ),
        (
            |m| m.initializers[7].shape = vec![8, 3],
            "node 9 (Gemm): input of shape [1, 12], weights for 8 values",
        ),
        (
            |m| m.initializers[5] = floats("b", &[4], &[0.0; 4]),
            "node 3 (Conv): the bias is not one number for each of 3 channels",
        ),
        (|m| attribute(&mut m.nodes[7], "axis", &[7]), "node 7 (Flatten): axis 7 of a tensor of rank 4"),
        (
            |m| m.outputs[0].name = "z".into(),
            "tensor `z`: is an output of the network, but nothing computes it",
        ),
        (|m| m.outputs[0].name = "w".into(), "tensor `w`: is an output of the network, but a constant"),
    ];
    for (change, expected) in cases {
        let mut model = Model::small();
        change(&mut model);
        let found = read(&model.bytes()).map_or_else(|error| error.to_string(), |_| String::new());
        assert_eq!(found, *expected);
    }
}

#[test]
fn what_is_no_model() {
    assert_eq!(read(b""), Err(ReadError::Missing { what: "graph" }));
    for bytes in [&b"PK\x03\x04"[..], b"\x1c\0\0\0TFL3", b"\x3a\x7f", &[0xff; 64]] {
        let message = read(bytes).unwrap_err().to_string();
        assert!(message.starts_with("not an ONNX model, or damaged: model: "), "{message}");
    }
}

fn unsupported<'a>(graph: &'a Graph) -> Vec<&'a str> {
    let reason = |operator: &'a crate::graph::Operator| match &operator.kind {
        Kind::Unsupported(reason) => Some(reason.as_str()),
        _ => None,
    };
    graph.operators.iter().filter_map(reason).collect()
}

#[test]
fn a_float_network_is_told_how_to_become_another() {
    let mut model = Model::small();
    model.nodes.retain(|node| !node.operator.contains("Quantize"));
    let error = read(&model.bytes()).unwrap_err();
    assert!(error.to_string().starts_with("a float network: quantize weights and activations"), "{error}");
    model.nodes.retain(|node| node.operator == "Relu");
    assert_ne!(read(&model.bytes()).err(), Some(error), "a Relu alone may be of any type");
}

#[test]
fn what_is_not_supported_is_listed() {
    let cases: &[Case] = &[
        (|m| m.nodes[4].operator = "Erf".into(), "Erf"),
        (|m| m.nodes[4].domain = "com.example".into(), "Relu: not of the standard operator set"),
        (
            |m| m.initializers[4].int32s[1] = 1,
            "Conv: its weights `w` have a zero point 1 away from the middle: quantize weights symmetrically (zero \
             point 0 for int8, 128 for uint8)",
        ),
        (
            |m| m.nodes[3].inputs[1] = "w_float".into(),
            "Conv: its weights are not quantized (no DequantizeLinear)",
        ),
        (|m| m.nodes[3].inputs[0] = "x".into(), "Conv: its input `x` is float32, not quantized"),
        (
            |m| {
                m.nodes[4].operator = "Clip".into();
                m.nodes[4].inputs.extend(["".into(), "r_scale".into()]);
            },
            "Conv: its result is clipped to -inf .. 2; 0 .. inf, 0 .. 6 and -1 .. 1 are supported",
        ),
        (
            |m| m.outputs[0].name = "g".into(),
            "Gemm: its result leaves the network, but no QuantizeLinear says how to quantize it",
        ),
        (|m| m.inputs[0] = info("x", data_type::FLOAT, &[4, 2, 3, 3]), "Conv: a batch of 4, 1 is expected"),
        (
            |m| m.initializers[5].floats[1] = 1e30,
            "Conv: the bias of channel 1 is 4.0e30 steps of input scale times weight scale, more than 32 bits hold: \
             quantize the weights with a larger scale",
        ),
        (
            |m| {
                m.nodes[4].operator = "HardSigmoid".into();
                m.nodes[4].inputs[0] = "x_dq".into();
            },
            "HardSigmoid: alpha 0.2, beta 0.5: 1/6 and 1/2, those of a hard swish, are supported",
        ),
        (
            |m| attribute(&mut m.nodes[9], "transA", &[1]),
            "Gemm: alpha, beta [1.0, 1.0], transA 1: 1, 1 and 0 are expected",
        ),
        (
            |m| m.nodes[6].inputs[1] = "x_scale".into(),
            "DequantizeLinear: Affine { scale: 0.5, zero_point: 2 } where the QuantizeLinear before has Affine { scale: \
             2.0, zero_point: 2 }: both must be the same",
        ),
    ];
    for (change, expected) in cases {
        let mut model = Model::small();
        let weights = (0..24).map(|n| n as f32).collect::<Vec<_>>();
        model.initializers.push(floats("w_float", &[3, 2, 2, 2], &weights));
        change(&mut model);
        let network = read(&model.bytes()).unwrap_or_else(|error| panic!("{expected}: {error}"));
        assert_eq!(unsupported(&network.graph), [*expected]);
    }
}

/// The pool's own steps would be rounded twice, the first time coarsely.
#[test]
fn a_pool_that_would_lose_steps_is_refused() {
    let pooled = |scale: f32| {
        let mut model = Model::small();
        let pool = &mut model.nodes[3];
        (pool.operator, pool.inputs) = ("AveragePool".into(), vec!["x_dq".into()]);
        pool.attributes.clear();
        attribute(pool, "kernel_shape", &[3, 3]);
        attribute(pool, "pads", &[1, 1, 1, 1]);
        model.nodes.truncate(6);
        model.initializers[6] = floats("r_scale", &[], &[scale]);
        model.outputs[0] = info("r_q", data_type::UINT8, &[1, 2, 3, 3]);
        read(&model.bytes()).unwrap().graph
    };
    assert_eq!(unsupported(&pooled(0.26)), [""; 0]);
    let reason = "AveragePool: its result has steps of 0.25, its input of 0.5: where padding does not count, the pool \
                  keeps its input's steps, which are too coarse for that";
    assert_eq!(unsupported(&pooled(0.25)), [reason]);
}

/// Behind an unsupported node the rest is checked as well if the file declares the shape of its result.
#[test]
fn all_that_is_not_supported_is_listed() {
    let mut model = Model::small();
    model.nodes[4].operator = "Erf".into();
    model.nodes[9].inputs[1] = "v_float".into();
    model.initializers.push(floats("v_float", &[12, 2], &[0.0; 24]));
    model.nodes.push(node("Einsum", &["y"], "e"));
    model.outputs[0].name = "e".into();
    let listed = |model: &Model| -> Vec<String> {
        unsupported(&read(&model.bytes()).unwrap().graph).iter().map(|reason| reason.to_string()).collect()
    };
    assert_eq!(listed(&model), ["Erf", "Einsum"]);
    model.value_infos.push(info("r", data_type::FLOAT, &[1, 3, 2, 2]));
    let gemm = "Gemm: its weights are not quantized (no DequantizeLinear)";
    assert_eq!(listed(&model), ["Erf", gemm, "Einsum"]);
}

#[test]
fn shapes_computed_by_nodes_are_followed() {
    let mut model = Model::small();
    // As PyTorch writes x.view(x.size(0), -1).
    let int64s = |name: &str, shape: &[i64], values: &[i64]| message::Tensor {
        name: name.into(),
        shape: shape.into(),
        data_type: data_type::INT64,
        int64s: values.into(),
        ..Default::default()
    };
    model.initializers.extend([
        int64s("zero", &[], &[0]),
        int64s("rest", &[1], &[-1]),
        int64s("front", &[1], &[0]),
    ]);
    let mut concat = node("Concat", &["batch", "rest"], "shape");
    attribute(&mut concat, "axis", &[0]);
    let computed = [
        node("Shape", &["r_dq"], "sizes"),
        node("Gather", &["sizes", "zero"], "size"),
        node("Unsqueeze", &["size", "front"], "batch"),
        concat,
        node("Reshape", &["r_dq", "shape"], "f"),
    ];
    model.nodes.splice(7..8, computed);
    let plain = read(&Model::small().bytes()).unwrap().graph;
    assert_eq!(read(&model.bytes()).unwrap().graph, plain);
}

/// Gemm's C broadcasts to rows: one number, one an output, or a row of them.
#[test]
fn biases_of_a_dense_layer() {
    for (shape, numbers, expected) in [
        (&[][..], &[1.0][..], [4, 4]),
        (&[2][..], &[1.0, -0.5][..], [4, -2]),
        (&[1, 2][..], &[1.0, -0.5][..], [4, -2]),
    ] {
        let mut model = Model::small();
        model.initializers.push(floats("d", shape, numbers));
        model.nodes[9].inputs.push("d".into());
        // In steps of 2 * 0.125.
        assert_eq!(data(&read(&model.bytes()).unwrap().graph, 3, 2), int32(&expected));
    }
    let mut model = Model::small();
    model.initializers.push(floats("d", &[2, 1], &[1.0, 2.0]));
    model.nodes[9].inputs.push("d".into());
    let error = read(&model.bytes()).unwrap_err().to_string();
    assert_eq!(error, "node 9 (Gemm): the bias is not one number for each of 2 channels");
}

#[test]
fn relu_that_a_quantizer_dropped_is_put_back_between_dense_layers() {
    let mut model = Model::small();
    // Without the convolution: two dense layers, the first with no room below 0.
    model.inputs[0] = info("x", data_type::FLOAT, &[1, 12]);
    model.nodes.drain(2..8);
    model.nodes[3].inputs[0] = "x_dq".into();
    model.nodes[4].inputs[2] = "none".into();
    model.nodes[5].inputs[2] = "none".into();
    model.nodes[5].outputs[0] = "h".into();
    model.nodes.extend([
        node("DequantizeLinear", &["u", "v_scale"], "u_dq"),
        node("Gemm", &["h", "u_dq"], "k"),
        node("QuantizeLinear", &["k", "r_scale", "none"], "k_q"),
        node("DequantizeLinear", &["k_q", "r_scale", "none"], "y"),
    ]);
    model.initializers.push(integers("none", data_type::UINT8, &[], &[0]));
    model.initializers.push(integers("u", data_type::INT8, &[2, 2], &[1, 2, 3, 4]));
    let graph = read(&model.bytes()).unwrap().graph;
    let dense: Vec<_> =
        graph.operators.iter().filter(|o| matches!(o.kind, Kind::FullyConnected(_))).collect();
    // The last layer's logits may be negative without training's knowing better.
    assert_eq!(dense[0].kind, Kind::FullyConnected(Activation::Relu));
    assert_eq!(dense[1].kind, Kind::FullyConnected(Activation::None));
}

/// Many nodes that each unfold one large constant would need memory without end.
#[test]
fn constants_that_unfold_without_end_are_refused() {
    let mut model = Model::small();
    model.initializers.push(integers("large", data_type::INT8, &[1000, 1000], &vec![1; 1_000_000]));
    let mut more = |count: usize| {
        let from = model.nodes.len();
        let nodes =
            (from..from + count).map(|i| node("DequantizeLinear", &["large", "x_scale"], &format!("n{i}")));
        model.nodes.extend(nodes.collect::<Vec<_>>());
        read(&model.bytes())
    };
    assert!(more(3).is_ok());
    assert!(matches!(more(10), Err(ReadError::Unfolds { .. })));
}
