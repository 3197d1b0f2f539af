//! The messages of `onnx.proto` that a network's meaning needs, with the field numbers of the specification.
//!
//! What may stand many times in a file is kept as bytes and decoded when its turn comes: an empty message takes
//! two bytes in the file and a hundred times that in memory.

use bytes::Bytes;

/// ModelProto.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Model {
    #[prost(bytes = "bytes", optional, tag = "7")]
    pub graph: Option<Bytes>,
    /// [`OperatorSet`]s.
    #[prost(bytes = "bytes", repeated, tag = "8")]
    pub operator_sets: Vec<Bytes>,
}

/// OperatorSetIdProto.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct OperatorSet {
    #[prost(string, tag = "1")]
    pub domain: String,
    #[prost(int64, tag = "2")]
    pub version: i64,
}

/// GraphProto.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Graph {
    /// [`Node`]s.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub nodes: Vec<Bytes>,
    /// [`Tensor`]s.
    #[prost(bytes = "bytes", repeated, tag = "5")]
    pub initializers: Vec<Bytes>,
    /// [`ValueInfo`]s.
    #[prost(bytes = "bytes", repeated, tag = "11")]
    pub inputs: Vec<Bytes>,
    /// [`ValueInfo`]s.
    #[prost(bytes = "bytes", repeated, tag = "12")]
    pub outputs: Vec<Bytes>,
    /// [`ValueInfo`]s.
    #[prost(bytes = "bytes", repeated, tag = "13")]
    pub value_infos: Vec<Bytes>,
}

/// NodeProto.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Node {
    #[prost(string, repeated, tag = "1")]
    pub inputs: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub outputs: Vec<String>,
    #[prost(string, tag = "3")]
    pub name: String,
    #[prost(string, tag = "4")]
    pub operator: String,
    /// [`Attribute`]s.
    #[prost(bytes = "bytes", repeated, tag = "5")]
    pub attributes: Vec<Bytes>,
    #[prost(string, tag = "7")]
    pub domain: String,
}

/// AttributeProto.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Attribute {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(float, tag = "2")]
    pub float: f32,
    #[prost(int64, tag = "3")]
    pub integer: i64,
    #[prost(bytes = "bytes", tag = "4")]
    pub string: Bytes,
    #[prost(message, optional, tag = "5")]
    pub tensor: Option<Tensor>,
    #[prost(float, repeated, tag = "7")]
    pub floats: Vec<f32>,
    #[prost(int64, repeated, tag = "8")]
    pub integers: Vec<i64>,
}

/// TensorProto.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Tensor {
    #[prost(int64, repeated, tag = "1")]
    pub shape: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub data_type: i32,
    #[prost(float, repeated, tag = "4")]
    pub floats: Vec<f32>,
    /// Also all narrower integers.
    #[prost(int32, repeated, tag = "5")]
    pub int32s: Vec<i32>,
    #[prost(int64, repeated, tag = "7")]
    pub int64s: Vec<i64>,
    #[prost(string, tag = "8")]
    pub name: String,
    #[prost(bytes = "bytes", optional, tag = "9")]
    pub raw: Option<Bytes>,
    #[prost(double, repeated, tag = "10")]
    pub doubles: Vec<f64>,
    /// 1: the data is in another file.
    #[prost(int32, tag = "14")]
    pub location: i32,
}

/// ValueInfoProto.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ValueInfo {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub value_type: Option<Type>,
}

/// TypeProto.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Type {
    #[prost(message, optional, tag = "1")]
    pub tensor: Option<TensorType>,
}

/// TypeProto.Tensor.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TensorType {
    #[prost(int32, tag = "1")]
    pub data_type: i32,
    #[prost(message, optional, tag = "2")]
    pub shape: Option<Shape>,
}

/// TensorShapeProto.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Shape {
    #[prost(message, repeated, tag = "1")]
    pub extents: Vec<Extent>,
}

/// TensorShapeProto.Dimension.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Extent {
    #[prost(int64, optional, tag = "1")]
    pub value: Option<i64>,
    #[prost(string, tag = "2")]
    pub parameter: String,
}

/// TensorProto.DataType, as far as it is read.
pub(super) mod data_type {
    pub const FLOAT: i32 = 1;
    pub const UINT8: i32 = 2;
    pub const INT8: i32 = 3;
    pub const INT32: i32 = 6;
    pub const INT64: i32 = 7;
    pub const BOOL: i32 = 9;
    pub const DOUBLE: i32 = 11;

    /// Its name in the specification.
    pub fn name(number: i32) -> String {
        const NAMES: [&str; 23] = [
            "UNDEFINED",
            "FLOAT",
            "UINT8",
            "INT8",
            "UINT16",
            "INT16",
            "INT32",
            "INT64",
            "STRING",
            "BOOL",
            "FLOAT16",
            "DOUBLE",
            "UINT32",
            "UINT64",
            "COMPLEX64",
            "COMPLEX128",
            "BFLOAT16",
            "FLOAT8E4M3FN",
            "FLOAT8E4M3FNUZ",
            "FLOAT8E5M2",
            "FLOAT8E5M2FNUZ",
            "UINT4",
            "INT4",
        ];
        let known = usize::try_from(number).ok().and_then(|n| NAMES.get(n));
        known.map_or_else(|| format!("data type {number}"), |&name| name.into())
    }
}
