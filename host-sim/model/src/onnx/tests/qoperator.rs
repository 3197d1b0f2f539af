//! Operators on integers mean what the same operators between marks mean.

use super::build::{Model, attribute, integers, node};
use super::*;

/// [`Model::small`] without its Relu, which operators on integers do not have, as a pair of equals: with marks, and with
/// operators on integers.
fn twins() -> [Model; 2] {
    let mut marked = Model::small();
    marked.nodes.remove(4);
    marked.nodes[4].inputs[0] = "c".into();
    let mut twin = marked.clone();
    let mut conv = node(
        "QLinearConv",
        &["x_q", "x_scale", "x_zero", "w", "w_scale", "w_zero", "r_scale", "x_zero", "b_int32"],
        "r_q",
    );
    attribute(&mut conv, "kernel_shape", &[2, 2]);
    let gemm = ["f", "r_scale", "x_zero", "v", "v_scale", "", "", "r_scale", "x_zero"];
    let mut gemm = node("QGemm", &gemm, "g_q");
    gemm.domain = "com.microsoft".into();
    let [quantize, dequantize] = [twin.nodes[0].clone(), twin.nodes[10].clone()];
    twin.nodes = vec![quantize, conv, node("Flatten", &["r_q"], "f"), gemm, dequantize];
    // 1, 1 and -1.3 in steps of 0.5 times the weights' scales.
    twin.initializers.push(integers("b_int32", data_type::INT32, &[3], &[8, 4, -3]));
    [marked, twin]
}

#[test]
fn both_formats_give_one_graph() {
    let [marked, twin] = twins().map(|model| read(&model.bytes()).unwrap());
    assert_eq!(unsupported(&twin.graph), [""; 0]);
    let [marked_kinds, kinds] = [&marked, &twin].map(|network| {
        let kinds = network.graph.operators.iter().map(|operator| operator.kind.clone());
        kinds.collect::<Vec<_>>()
    });
    assert_eq!(kinds, marked_kinds);
    for (operator, input) in [(1, 1), (1, 2), (3, 1)] {
        assert_eq!(data(&twin.graph, operator, input), data(&marked.graph, operator, input));
    }
    for operator in 0..kinds.len() {
        let [own, other] = [&twin, &marked].map(|network| {
            network.graph.tensors[network.graph.operators[operator].outputs[0]].quantization.clone()
        });
        assert_eq!(own, other);
    }
    assert_eq!((twin.inputs, twin.outputs), (marked.inputs, marked.outputs));
}

#[test]
fn what_is_not_supported_of_integers_is_listed() {
    let cases: &[Case] = &[
        (
            |m| m.nodes[1].operator = "ConvInteger".into(),
            "ConvInteger: quantized anew for every input: use static quantization",
        ),
        (
            |m| m.nodes[1].operator = "QLinearWhere".into(),
            "QLinearWhere: this operator on integers: quantize again with quant_format=QuantFormat.QDQ",
        ),
        // The scale is computed, so that the bias has no known steps.
        (
            |m| m.nodes[1].inputs[1] = "x_q".into(),
            "QLinearConv: this operator on integers: quantize again with quant_format=QuantFormat.QDQ",
        ),
        (
            |m| m.initializers[4].int32s[1] = 1,
            "Conv: its weights `w` have a zero point 1 away from the middle: quantize weights symmetrically (zero \
             point 0 for int8, 128 for uint8)",
        ),
    ];
    for (change, expected) in cases {
        let [_, mut model] = twins();
        change(&mut model);
        let network = read(&model.bytes()).unwrap_or_else(|error| panic!("{expected}: {error}"));
        assert_eq!(unsupported(&network.graph), [*expected]);
    }
}

/// Errors name the node's place in the file, not among those that stand for it.
#[test]
fn errors_name_the_place_in_the_file() {
    let [_, mut model] = twins();
    model.nodes[3].inputs[0] = "z".into();
    let error = read(&model.bytes()).unwrap_err().to_string();
    assert!(error.starts_with("node 3 ("), "{error}");
    assert!(error.contains("reads `z`, which nothing computes before"), "{error}");
}
