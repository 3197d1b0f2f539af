//! Models built here by hand, every refusal, and damage; models of others in `published`.

mod build;
mod published;

use super::*;
use crate::graph::{Activation, Kind, Padding, Window};
use build::{Model, Value};

#[test]
fn reads_all_of_a_small_model() {
    let graph = read(&Model::small().bytes()).unwrap();
    let window = Window { padding: Padding::Same, stride: [2, 1], dilation: [1, 3] };
    let kinds: Vec<_> = graph.operators.iter().map(|o| o.kind.clone()).collect();
    assert_eq!(
        kinds,
        [
            Kind::Conv2d(window, Activation::Relu6),
            Kind::Reshape,
            Kind::FullyConnected(Activation::None),
            Kind::Softmax(1.0),
            Kind::Unsupported("SQUARE".into()),
            Kind::Unsupported("Wavelet".into()),
        ]
    );
    assert_eq!(graph.inputs, [0]);
    assert_eq!(graph.outputs, [7]);
    assert_eq!(graph.operators[0].inputs, [Some(0), Some(1), Some(2)]);
    assert_eq!(graph.operators[0].outputs, [3]);
    assert_eq!(graph.operators[2].inputs, [Some(4), Some(5), None]);

    let filter = &graph.tensors[1];
    assert_eq!((filter.name.as_str(), filter.element), ("filter", Element::I8));
    assert_eq!(filter.shape, [3, 3, 3, 2]);
    assert_eq!(filter.data.as_ref().unwrap()[..3], [0, 1, 2]);
    let quantization = Quantization { scales: vec![0.5, 0.25, 1e-9], zero_points: vec![0; 3], axis: 0 };
    assert_eq!(filter.quantization, Some(quantization));
    assert_eq!(graph.tensors[0].data, None);
    assert_eq!(graph.tensors[2].quantization, None);
}

#[test]
fn operator_code_is_the_larger_of_both_fields() {
    for (deprecated, builtin, expected) in [
        (4, 0, "DEPTHWISE_CONV_2D"),
        (127, 151, "DYNAMIC_UPDATE_SLICE"),
        (0, 209, "STABLEHLO_CASE"),
        (0, 210, "builtin operator 210"),
        (-3, -2, "builtin operator -2"),
        (32, 32, "CUSTOM"),
    ] {
        let mut model = Model::small();
        // Rank 2 and no options: what is supported must complain about that, with its name.
        let operator = &mut model.operators[4];
        (operator.deprecated, operator.code) = (deprecated, builtin);
        let found = match read(&model.bytes()) {
            Ok(graph) => match &graph.operators[4].kind {
                Kind::Unsupported(name) => name.clone(),
                kind => panic!("{kind:?}"),
            },
            Err(ReadError::Operator { name, .. }) => name,
            Err(error) => panic!("{error}"),
        };
        assert_eq!(found, expected);
    }
}

#[test]
fn unknown_variants_are_unsupported_not_refused() {
    for (operator, field, value, expected) in [
        (0, field::conv_2d::ACTIVATION, 4, "CONV_2D with fused TANH"),
        (0, field::conv_2d::ACTIVATION, 5, "CONV_2D with fused SIGN_BIT"),
        (0, field::conv_2d::ACTIVATION, 9, "CONV_2D with fused activation 9"),
        (2, field::fully_connected::ACTIVATION, 4, "FULLY_CONNECTED with fused TANH"),
        (2, field::fully_connected::WEIGHTS_FORMAT, 1, "FULLY_CONNECTED with shuffled weights"),
    ] {
        let mut model = Model::small();
        model.operators[operator].set(field, Value::I8(value));
        let graph = read(&model.bytes()).unwrap();
        assert_eq!(graph.operators[operator].kind, Kind::Unsupported(expected.into()));
    }
}

#[test]
fn pools_mean_and_depthwise() {
    let mut model = Model::small();
    let operator = &mut model.operators[0];
    (operator.code, operator.options_type) = (17, 5);
    operator.inputs = vec![0];
    operator.options = vec![
        (field::window::PADDING, Value::I8(1)),
        (field::window::STRIDE_H, Value::I32(2)),
        (field::window::STRIDE_W, Value::I32(3)),
        (field::pool_2d::FILTER_H, Value::I32(4)),
        (field::pool_2d::FILTER_W, Value::I32(5)),
        (field::pool_2d::ACTIVATION, Value::I8(2)),
    ];
    let window = Window { padding: Padding::Valid, stride: [2, 3], dilation: [1, 1] };
    let kind = |model: &Model| read(&model.bytes()).unwrap().operators[0].kind.clone();
    let activation = Activation::ReluN1To1;
    assert_eq!(kind(&model), Kind::MaxPool2d(window, activation, [4, 5]));
    model.operators[0].code = 1;
    assert_eq!(kind(&model), Kind::AveragePool2d(window, activation, [4, 5]));

    let operator = &mut model.operators[0];
    (operator.code, operator.options_type) = (40, 27);
    operator.inputs = vec![0, 2];
    model.tensors[2].data = int32(&[-2, 1, 2]);
    assert_eq!(kind(&model), Kind::Mean { axes: vec![1, 2] });
    model.tensors[2].data.clear();
    assert_eq!(kind(&model), Kind::Unsupported("MEAN whose input 1 is not a constant".into()));

    // 6 filter channels over 2 input channels: the multiplier is 3, whatever the option says.
    let mut model = Model::small();
    model.tensors[1].shape = vec![1, 3, 3, 6];
    model.tensors[1].scales = vec![1.0];
    model.tensors[1].zero_points = vec![0];
    let operator = &mut model.operators[0];
    (operator.code, operator.options_type) = (4, 2);
    operator.options = vec![
        (field::window::STRIDE_H, Value::I32(1)),
        (field::window::STRIDE_W, Value::I32(2)),
        (field::depthwise_conv_2d::ACTIVATION, Value::I8(1)),
        (field::depthwise_conv_2d::DILATION_H, Value::I32(4)),
    ];
    let window = Window { padding: Padding::Same, stride: [1, 2], dilation: [4, 1] };
    assert_eq!(kind(&model), Kind::DepthwiseConv2d(window, Activation::Relu, 3));
    model.tensors[0].shape = vec![1, 4, 4, 4];
    refused(&model, "operator 0 (DEPTHWISE_CONV_2D): 6 filter channels are no multiple of 4 input channels");
}

/// What is wrong with a model, and what must be said about it.
type Case = (fn(&mut Model), &'static str);

#[test]
fn refusals() {
    let cases: &[Case] = &[
        (|m| m.identifier = "TFL2", "not a TensorFlow Lite model: identifier `TFL2` instead of `TFL3`"),
        (|m| m.version = 2, "schema version 2 instead of 3"),
        (|m| m.subgraphs = 0, "subgraph missing"),
        (|m| m.inputs = vec![8], "the network's inputs refers to tensor 8, there are 8"),
        (|m| m.outputs = vec![-1], "the network's outputs refers to tensor -1, there are 8"),
        (|m| m.operators[1].inputs[0] = 99, "operator 1 refers to tensor 99, there are 8"),
        (|m| m.operators[1].inputs[0] = -2, "operator 1 refers to tensor -2, there are 8"),
        (|m| m.operators[1].outputs[0] = -1, "operator 1 refers to tensor -1, there are 8"),
        (|m| m.operators[5].number = Some(6), "operator 5 refers to operator code 6, there are 6"),
        (|m| m.tensors[0].buffer = Some(9), "tensor 0 `input` refers to buffer 9, there are 9"),
        (|m| m.tensors[0].shape[1] = -4, "tensor 0 `input`: shape [1, -4, 4, 2] has a negative extent"),
        (
            |m| m.tensors[0].shape = vec![i32::MAX; 3],
            "tensor 0 `input`: shape [2147483647, 2147483647, 2147483647] is too large",
        ),
        (
            |m| m.tensors[0].shape = vec![0, i32::MAX, i32::MAX, i32::MAX],
            "tensor 0 `input`: shape [0, 2147483647, 2147483647, 2147483647] is too large",
        ),
        (
            |m| m.tensors[1].data.truncate(53),
            "tensor 1 `filter`: 53 bytes of data, shape [3, 3, 3, 2] of I8 has 54",
        ),
        (|m| m.tensors[2].sparse = true, "tensor 2: sparse, expected dense"),
        (|m| m.tensors[2].external = 1, "tensor 2: its data is in another file"),
        (
            |m| m.tensors[0].details = 2,
            "tensor 0 `input`: quantization of type 2, expected scales and zero points",
        ),
        (|m| m.tensors[1].scales = vec![1.0], "tensor 1 `filter`: 1 scales, 3 zero points"),
        (|m| m.tensors[1].axis = 3, "tensor 1 `filter`: 3 scales along axis 3 of shape [3, 3, 3, 2]"),
        (|m| m.tensors[1].axis = 4, "tensor 1 `filter`: quantized along axis 4 of shape [3, 3, 3, 2]"),
        (|m| m.tensors[1].axis = -1, "tensor 1 `filter`: quantized along axis -1 of shape [3, 3, 3, 2]"),
        (|m| m.tensors[1].scales[2] = 0.0, "tensor 1 `filter`: scale 2 is 0, expected a positive number"),
        (
            |m| m.tensors[1].scales[1] = f32::NAN,
            "tensor 1 `filter`: scale 1 is NaN, expected a positive number",
        ),
        (
            |m| m.tensors[0].scales[0] = f32::INFINITY,
            "tensor 0 `input`: scale 0 is inf, expected a positive number",
        ),
        (|m| m.tensors[0].zero_points[0] = 128, "tensor 0 `input`: zero point 0 is 128, out of range for I8"),
        (
            |m| m.operators[0].set(field::window::STRIDE_W, Value::I32(0)),
            "operator 0 (CONV_2D): stride 0, expected at least 1",
        ),
        (
            |m| m.operators[0].set(field::conv_2d::DILATION_H, Value::I32(-1)),
            "operator 0 (CONV_2D): dilation -1, expected at least 1",
        ),
        (
            |m| m.operators[0].set(field::window::PADDING, Value::I8(2)),
            "operator 0 (CONV_2D): padding 2, expected 0 or 1",
        ),
        (|m| m.operators[0].options_type = 0, "operator 0 (CONV_2D): stride 0, expected at least 1"),
        (|m| m.operators[0].options_type = 8, "operator 0 (CONV_2D): options of type 8 instead of 1"),
        (|m| m.operators[0].inputs.truncate(1), "operator 0 (CONV_2D): 1 inputs, expected 2 and 1 optional"),
        (
            |m| m.operators[0].inputs[1] = -1,
            "operator 0 (CONV_2D): 3 inputs, some omitted, expected 2 and 1 optional",
        ),
        (|m| m.operators[3].outputs.clear(), "operator 3 (SOFTMAX): 0 outputs, expected 1"),
        (|m| m.operators[3].options.clear(), "operator 3 (SOFTMAX): beta 0, expected a positive number"),
        (|m| m.operators[0].code = 4, "operator 0 (DEPTHWISE_CONV_2D): options of type 1 instead of 2"),
    ];
    for (change, expected) in cases {
        let mut model = Model::small();
        change(&mut model);
        refused(&model, expected);
    }
    let long = "\u{1b}[".to_owned() + &"x/".repeat(400);
    let mut model = Model::small();
    model.tensors[0].name = long;
    model.tensors[0].shape[0] = -1;
    let message = read(&model.bytes()).unwrap_err().to_string();
    assert!(
        message.len() < 140 && message.contains(r"`\u{1b}[x/") && message.contains("x/x/...`"),
        "{message}"
    );
}

fn refused(model: &Model, expected: &str) {
    let found = read(&model.bytes()).expect_err(expected).to_string();
    assert_eq!(found, expected);
}

#[test]
fn short_files() {
    for length in 0..8 {
        assert_eq!(read(&[0; 8][..length]), Err(ReadError::TooShort { length }));
    }
    let message = read(b"\x40\0\0\0TFL3").unwrap_err().to_string();
    assert_eq!(message, "truncated: model at byte 64 needs 4 bytes, the file has 8");
    let message = read(b"\x08\0\0\0TFL3\x7f\0\0\0\0\0").unwrap_err().to_string();
    assert_eq!(message, "damaged: model at byte 8: its vtable would be at byte -119");
    let message = read(b"\x08\0\0\0TFL3\0\0\0\0\0\0").unwrap_err().to_string();
    assert_eq!(message, "damaged: model at byte 8: a vtable of 0 bytes and a table of 0");
}

#[test]
fn data_behind_the_flatbuffer() {
    let mut model = Model::small();
    let data = std::mem::take(&mut model.tensors[1].data);
    model.tensors[1].behind = Some((1 << 40, data.len() as u64));
    refused_with(&model, "truncated: buffer at byte 1099511627776 needs 54 bytes");
    model.tensors[1].behind = Some((u64::MAX, u64::MAX));
    refused_with(&model, "truncated: buffer at byte 18446744073709551615 needs");
    let position = model.bytes().len() as u64;
    model.tensors[1].behind = Some((position, data.len() as u64));
    let mut bytes = model.bytes();
    bytes.extend(&data);
    assert_eq!(read(&bytes).unwrap().tensors[1].data, Some(data));
}

fn refused_with(model: &Model, expected: &str) {
    let found = read(&model.bytes()).expect_err(expected).to_string();
    assert!(found.starts_with(expected), "{found}");
}

/// Many tensors that share one large buffer would need memory without end.
#[test]
fn overlapping_data_is_refused() {
    let mut model = Model::small();
    model.tensors[1].data = vec![1; 90_000];
    model.tensors[1].shape = vec![3, 30_000];
    let shared = build::Tensor { data: Vec::new(), buffer: Some(2), ..model.tensors[1].clone() };
    let mut more = |count| {
        model.tensors.extend(vec![shared.clone(); count]);
        read(&model.bytes()).map(|graph| graph.tensors.len())
    };
    assert_eq!(more(5), Ok(13));
    let error = more(5).unwrap_err();
    assert!(matches!(error, ReadError::Unfolds { .. }), "{error}");
}

#[test]
fn other_types_have_their_sizes() {
    for (element, bytes) in [(20, 2), (19, 1), (1, 6), (11, 48), (5, 77), (99, 1)] {
        let mut model = Model::small();
        let tensor = &mut model.tensors[2];
        (tensor.element, tensor.shape, tensor.data) = (element, vec![3], vec![7; bytes]);
        let graph = read(&model.bytes()).unwrap();
        assert_eq!(graph.tensors[2].element, Element::Other(element));
    }
}

#[test]
fn int4_is_unpacked_lower_half_first() {
    let mut model = Model::small();
    let tensor = &mut model.tensors[2];
    (tensor.element, tensor.shape, tensor.data) = (17, vec![3], vec![0x8f, 0xf7]);
    let graph = read(&model.bytes()).unwrap();
    assert_eq!(graph.tensors[2].element, Element::I8);
    assert_eq!(graph.tensors[2].data.as_deref(), Some([-1, -8, 7].map(i8::cast_unsigned).as_slice()));
    model.tensors[2].data.pop();
    assert!(read(&model.bytes()).is_err());
}

#[test]
fn variables_need_a_handle_and_a_subgraph() {
    let mut model = Model::small();
    let operator = &mut model.operators[0];
    (operator.code, operator.options_type, operator.inputs) = (143, 112, vec![0]);
    operator.options.clear();
    let graph = read(&model.bytes()).unwrap();
    let reason = "READ_VARIABLE: no VAR_HANDLE names its variable";
    assert_eq!(graph.operators[0].kind, Kind::Unsupported(reason.into()));
    let operator = &mut model.operators[0];
    (operator.code, operator.options_type) = (129, 103);
    (operator.inputs, operator.outputs) = (vec![], vec![]);
    operator.set(field::call_once::INIT_SUBGRAPH_INDEX, Value::I32(7));
    refused(&model, "CALL_ONCE refers to subgraph 7, there are 1");
}

#[test]
fn every_prefix_is_an_error_or_a_graph() {
    let bytes = Model::small().bytes();
    let whole = read(&bytes).unwrap();
    for length in 0..bytes.len() {
        // Padding at the very end may go, nothing else.
        if let Ok(graph) = read(&bytes[..length]) {
            assert_eq!(graph, whole, "prefix of {length} of {}", bytes.len());
        }
    }
    assert!(read(&bytes[..bytes.len() - 16]).is_err());
}

#[test]
fn damage_never_panics() {
    damage(&Model::small().bytes(), 20_000);
}

/// Flips up to 8 bytes of a model, again and again, and overwrites some words with extremes.
fn damage(bytes: &[u8], rounds: u32) {
    // PCG's multiplier; the high half alone is used.
    let mut state = 42_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut graphs = 0;
    for _ in 0..rounds {
        let mut damaged = bytes.to_vec();
        for _ in 0..=random(8) {
            let at = random(damaged.len());
            damaged[at] ^= 1 << random(8);
        }
        if random(4) == 0 {
            let at = random(damaged.len() - 4);
            let extremes = [0_u32, 1, 0x7fff_ffff, 0x8000_0000, u32::MAX];
            damaged[at..at + 4].copy_from_slice(&extremes[random(5)].to_le_bytes());
        }
        graphs += u32::from(read(&damaged).is_ok());
    }
    // If none or all came through, the damage was not worth the name.
    assert!((1..rounds).contains(&graphs), "{graphs} of {rounds}");
}

fn int32(values: &[i32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// A model whose first operator has the code and the constants, int32 vectors, behind its activation.
fn with_constants(code: i32, options_type: i8, constants: &[&[i32]]) -> Model {
    let mut model = Model::small();
    let first = model.tensors.len() as i32;
    for values in constants {
        let shape = vec![values.len() as i32];
        model.tensors.push(build::Tensor { element: 2, shape, data: int32(values), ..Default::default() });
    }
    let operator = &mut model.operators[0];
    (operator.code, operator.options_type) = (code, options_type);
    operator.options.clear();
    operator.inputs = std::iter::once(0).chain(first..first + constants.len() as i32).collect();
    model
}

#[test]
fn movements_by_hand() {
    let kind = |model: &Model| read(&model.bytes()).map(|graph| graph.operators[0].kind.clone());
    // The input is 1x4x4x2.
    let pad = with_constants(34, 22, &[&[0, 0, 1, 2, 3, 4, 0, 0]]);
    let amounts = vec![[0, 0], [1, 2], [3, 4], [0, 0]];
    assert_eq!(kind(&pad), Ok(Kind::Pad { amounts, value: None }));
    let short = with_constants(34, 22, &[&[0, 0]]);
    assert!(kind(&short).unwrap_err().to_string().contains("2 paddings, expected 8"));
    let transpose = with_constants(39, 26, &[&[0, 2, -3, 3]]);
    assert_eq!(kind(&transpose), Ok(Kind::Transpose { permutation: vec![0, 2, 1, 3] }));
    let twice = with_constants(39, 26, &[&[0, 2, 2, 3]]);
    assert!(kind(&twice).unwrap_err().to_string().contains("no permutation"));
    let slice = with_constants(65, 48, &[&[0, 1, 2, 0], &[1, 2, -1, 1]]);
    let expected = Kind::Slice { begin: vec![0, 1, 2, 0], stride: vec![1; 4], extent: vec![1, 2, 2, 1] };
    assert_eq!(kind(&slice), Ok(expected));
    assert!(kind(&with_constants(65, 48, &[&[0, 4, 0, 0], &[1, 1, 1, 1]])).is_err());
}

#[test]
fn strided_slices_as_numpy_takes_them() {
    let kind = |model: &Model| read(&model.bytes()).map(|graph| graph.operators[0].kind.clone());
    // x[0:1, -1:0:-2, :3, ...] of 1x4x4x2: rows 3 and 1, columns 0 to 2.
    let mut model = with_constants(45, 32, &[&[0, -1, 7], &[1, 0, 3], &[1, -2, 1]]);
    model.operators[0].set(field::strided_slice::BEGIN_MASK, Value::I32(0b100));
    let expected =
        Kind::Slice { begin: vec![0, 3, 0, 0], stride: vec![1, -2, 1, 1], extent: vec![1, 2, 3, 2] };
    assert_eq!(kind(&model), Ok(expected));
    // x[:, 2] : one row, whatever the end says.
    let mut model = with_constants(45, 32, &[&[0, 2], &[0, 0], &[1, 1]]);
    model.operators[0].set(field::strided_slice::END_MASK, Value::I32(1));
    model.operators[0].set(field::strided_slice::SHRINK_AXIS_MASK, Value::I32(2));
    let expected = Kind::Slice { begin: vec![0, 2, 0, 0], stride: vec![1; 4], extent: vec![1, 1, 4, 2] };
    assert_eq!(kind(&model), Ok(expected));
    // x[:, ::-1]
    let mut model = with_constants(45, 32, &[&[0, 0], &[0, 0], &[1, -1]]);
    model.operators[0].set(field::strided_slice::BEGIN_MASK, Value::I32(3));
    model.operators[0].set(field::strided_slice::END_MASK, Value::I32(3));
    let expected =
        Kind::Slice { begin: vec![0, 3, 0, 0], stride: vec![1, -1, 1, 1], extent: vec![1, 4, 4, 2] };
    assert_eq!(kind(&model), Ok(expected));
    // x[..., None, 1:2]: the last channel; the new axis takes none of the input's.
    let mut model = with_constants(45, 32, &[&[9, 9, 1], &[9, 9, 2], &[1, 1, 1]]);
    model.operators[0].set(field::strided_slice::ELLIPSIS_MASK, Value::I32(1));
    model.operators[0].set(field::strided_slice::NEW_AXIS_MASK, Value::I32(2));
    let expected = Kind::Slice { begin: vec![0, 0, 0, 1], stride: vec![1; 4], extent: vec![1, 4, 4, 1] };
    assert_eq!(kind(&model), Ok(expected));
    let many = with_constants(45, 32, &[&[0; 5], &[1; 5], &[1; 5]]);
    assert!(kind(&many).unwrap_err().to_string().contains("slices 5 axes of 4"));
    let empty = with_constants(45, 32, &[&[0, 3], &[1, 2], &[1, 1]]);
    assert!(kind(&empty).unwrap_err().to_string().contains("takes no element along axis 1"));
}
