//! What can be wrong with an ONNX file.

/// Why bytes are not a network that can be read. The caller adds the file's name.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Not the wire format, or not these messages.
    #[error("not an ONNX model, or damaged: {what}: {problem}")]
    Protobuf {
        /// Message that was being read.
        what: &'static str,
        /// What the decoder says.
        problem: String,
    },
    /// A part that every model has is not there.
    #[error("not an ONNX model: {what} missing")]
    Missing {
        /// The part.
        what: &'static str,
    },
    /// Parts of the file stand for more data than the file could hold.
    #[error("the constants unfold to more than {limit} bytes")]
    Unfolds {
        /// How much a file of this length may unfold to.
        limit: usize,
    },
    /// Nothing in it is quantized.
    #[error(
        "a float network: quantize weights and activations to int8 first, for instance with quantize_static of \
         onnxruntime.quantization and quant_format=QuantFormat.QDQ"
    )]
    Float,
    /// Something wrong with one tensor.
    #[error("tensor `{tensor}`: {problem}")]
    Tensor {
        /// The tensor's name.
        tensor: String,
        /// What was expected and what was found.
        problem: String,
    },
    /// Something wrong with one node.
    #[error("node {index} ({operator}): {problem}")]
    Node {
        /// Position in the file.
        index: usize,
        /// Its operator, and its name if it has one.
        operator: String,
        /// What was expected and what was found.
        problem: String,
    },
}
