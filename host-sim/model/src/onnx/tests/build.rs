//! ONNX files built by hand.

use super::super::message::{self, Attribute, Extent, Shape, TensorType, Type, ValueInfo, data_type};
use bytes::Bytes;
use prost::Message;

/// A file under construction, its parts decoded.
#[derive(Debug, Clone)]
pub struct Model {
    pub version: Option<i64>,
    pub nodes: Vec<message::Node>,
    pub initializers: Vec<message::Tensor>,
    pub inputs: Vec<ValueInfo>,
    pub outputs: Vec<ValueInfo>,
    pub value_infos: Vec<ValueInfo>,
}

pub fn info(name: &str, data_type: i32, shape: &[i64]) -> ValueInfo {
    let extent = |&value: &i64| Extent {
        value: (value > 0).then_some(value),
        parameter: if value > 0 { String::new() } else { "open".into() },
    };
    let shape = Some(Shape { extents: shape.iter().map(extent).collect() });
    let tensor = Some(TensorType { data_type, shape });
    ValueInfo { name: name.into(), value_type: Some(Type { tensor }) }
}

pub fn floats(name: &str, shape: &[i64], values: &[f32]) -> message::Tensor {
    message::Tensor {
        name: name.into(),
        shape: shape.into(),
        data_type: data_type::FLOAT,
        floats: values.into(),
        ..Default::default()
    }
}

/// Of a type that lies in `int32_data`.
pub fn integers(name: &str, data_type: i32, shape: &[i64], values: &[i32]) -> message::Tensor {
    let (name, shape, int32s) = (name.into(), shape.into(), values.into());
    message::Tensor { name, shape, data_type, int32s, ..Default::default() }
}

pub fn node(operator: &str, inputs: &[&str], output: &str) -> message::Node {
    message::Node {
        operator: operator.into(),
        inputs: inputs.iter().map(|&name| name.into()).collect(),
        outputs: vec![output.into()],
        ..Default::default()
    }
}

pub fn attribute(node: &mut message::Node, name: &str, integers: &[i64]) {
    let integer = integers.first().copied().unwrap_or(0);
    let attribute = Attribute { name: name.into(), integers: integers.into(), integer, ..Default::default() };
    node.attributes.push(attribute.encode_to_vec().into());
}

impl Model {
    /// `x` of 1 x 2 x 3 x 3, a convolution with three filters of 2 x 2, Relu, Flatten, a dense layer to `y` of 2.
    /// Nodes: 0, 1 pair of x; 2 weights; 3 Conv; 4 Relu; 5, 6 pair; 7 Flatten; 8 weights; 9 Gemm; 10, 11 pair.
    pub fn small() -> Self {
        let mut conv = node("Conv", &["x_dq", "w_dq", "b"], "c");
        attribute(&mut conv, "kernel_shape", &[2, 2]);
        let mut weights = node("DequantizeLinear", &["w", "w_scale", "w_zero"], "w_dq");
        attribute(&mut weights, "axis", &[0]);
        let count = |n: i32| (0..n).collect::<Vec<_>>();
        Self {
            version: Some(13),
            nodes: vec![
                node("QuantizeLinear", &["x", "x_scale", "x_zero"], "x_q"),
                node("DequantizeLinear", &["x_q", "x_scale", "x_zero"], "x_dq"),
                weights,
                conv,
                node("Relu", &["c"], "r"),
                node("QuantizeLinear", &["r", "r_scale", "x_zero"], "r_q"),
                node("DequantizeLinear", &["r_q", "r_scale", "x_zero"], "r_dq"),
                node("Flatten", &["r_dq"], "f"),
                node("DequantizeLinear", &["v", "v_scale"], "v_dq"),
                node("Gemm", &["f", "v_dq"], "g"),
                node("QuantizeLinear", &["g", "r_scale", "x_zero"], "g_q"),
                node("DequantizeLinear", &["g_q", "r_scale", "x_zero"], "y"),
            ],
            initializers: vec![
                floats("x_scale", &[], &[0.5]),
                integers("x_zero", data_type::UINT8, &[], &[130]),
                integers("w", data_type::INT8, &[3, 2, 2, 2], &count(24)),
                floats("w_scale", &[3], &[0.25, 0.5, 1.0]),
                integers("w_zero", data_type::INT8, &[3], &[0, 0, 0]),
                floats("b", &[3], &[1.0, 1.0, -1.3]),
                floats("r_scale", &[1], &[2.0]),
                integers("v", data_type::INT8, &[12, 2], &count(24)),
                floats("v_scale", &[], &[0.125]),
            ],
            inputs: vec![info("x", data_type::FLOAT, &[0, 2, 3, 3])],
            outputs: vec![info("y", data_type::FLOAT, &[0, 2])],
            value_infos: Vec::new(),
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        fn all<T: Message>(parts: &[T]) -> Vec<Bytes> {
            parts.iter().map(|part| part.encode_to_vec().into()).collect()
        }
        let graph = message::Graph {
            nodes: all(&self.nodes),
            initializers: all(&self.initializers),
            inputs: all(&self.inputs),
            outputs: all(&self.outputs),
            value_infos: all(&self.value_infos),
        };
        let set = |version| message::OperatorSet { domain: String::new(), version };
        let model = message::Model {
            graph: Some(graph.encode_to_vec().into()),
            operator_sets: all(&self.version.map(set).into_iter().collect::<Vec<_>>()),
        };
        model.encode_to_vec()
    }

    /// Takes a file apart.
    pub fn parts(bytes: &[u8]) -> Self {
        fn all<T: Message + Default>(parts: &[Bytes]) -> Vec<T> {
            parts.iter().map(|part| T::decode(part.clone()).unwrap()).collect()
        }
        let model = message::Model::decode(bytes).unwrap();
        let graph = message::Graph::decode(model.graph.unwrap()).unwrap();
        let sets: Vec<message::OperatorSet> = all(&model.operator_sets);
        Self {
            version: sets.iter().find(|set| set.domain.is_empty()).map(|set| set.version),
            nodes: all(&graph.nodes),
            initializers: all(&graph.initializers),
            inputs: all(&graph.inputs),
            outputs: all(&graph.outputs),
            value_infos: all(&graph.value_infos),
        }
    }
}
