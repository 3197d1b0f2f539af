//! Writes small models with the flatbuffers runtime: an independent opinion of the format.

use flatbuffers::{FlatBufferBuilder, TableFinishedWIPOffset, UnionWIPOffset, WIPOffset};

use super::field::{
    buffer, conv_2d, model, operator, operator_code, quantization, softmax, subgraph, tensor, window,
};

type Builder = FlatBufferBuilder<'static>;

#[derive(Clone, Copy)]
pub enum Value {
    I8(i8),
    I32(i32),
    U64(u64),
    F32(f32),
    Offset(WIPOffset<UnionWIPOffset>),
}

#[derive(Clone, Default)]
pub struct Tensor {
    pub name: String,
    pub element: i8,
    pub shape: Vec<i32>,
    pub data: Vec<u8>,
    pub scales: Vec<f32>,
    pub zero_points: Vec<i64>,
    pub axis: i32,
    pub details: i8,
    pub sparse: bool,
    pub external: i32,
    /// In place of the tensor's own buffer, which has its index plus 1.
    pub buffer: Option<i32>,
    /// Offset and size of data outside of the flatbuffer.
    pub behind: Option<(u64, u64)>,
}

#[derive(Default)]
pub struct Operator {
    pub deprecated: i8,
    pub code: i32,
    pub custom: String,
    /// In place of the operator's own code, which has its index.
    pub number: Option<i32>,
    pub inputs: Vec<i32>,
    pub outputs: Vec<i32>,
    pub options_type: i8,
    pub options: Vec<(usize, Value)>,
}

impl Operator {
    pub fn set(&mut self, field: usize, value: Value) {
        self.options.retain(|(other, _)| *other != field);
        self.options.push((field, value));
    }
}

pub struct Model {
    pub identifier: &'static str,
    pub version: i32,
    pub subgraphs: usize,
    pub tensors: Vec<Tensor>,
    pub operators: Vec<Operator>,
    pub inputs: Vec<i32>,
    pub outputs: Vec<i32>,
}

impl Model {
    /// A convolution, a dense layer without bias, a softmax, and two operators nobody knows.
    pub fn small() -> Self {
        let activation = |name: &str, shape: &[i32]| Tensor {
            name: name.into(),
            element: 9,
            shape: shape.into(),
            scales: vec![0.1],
            zero_points: vec![-128],
            ..Tensor::default()
        };
        let tensors = vec![
            activation("input", &[1, 4, 4, 2]),
            Tensor {
                data: (0..54).collect(),
                scales: vec![0.5, 0.25, 1e-9],
                zero_points: vec![0; 3],
                ..activation("filter", &[3, 3, 3, 2])
            },
            Tensor { element: 2, shape: vec![3], data: vec![0; 12], ..Tensor::default() },
            activation("conv", &[1, 2, 4, 3]),
            activation("flat", &[1, 24]),
            Tensor { data: vec![3; 48], ..activation("dense", &[2, 24]) },
            activation("logits", &[1, 2]),
            activation("output", &[1, 2]),
        ];
        let conv = vec![
            (window::STRIDE_H, Value::I32(2)),
            (window::STRIDE_W, Value::I32(1)),
            (conv_2d::ACTIVATION, Value::I8(3)),
            (conv_2d::DILATION_W, Value::I32(3)),
        ];
        let operator = |code, inputs: &[i32], output, options_type, options| Operator {
            code,
            inputs: inputs.into(),
            outputs: vec![output],
            options_type,
            options,
            ..Operator::default()
        };
        Self {
            identifier: "TFL3",
            version: 3,
            subgraphs: 1,
            tensors,
            operators: vec![
                operator(3, &[0, 1, 2], 3, 1, conv),
                operator(22, &[3], 4, 0, vec![]),
                operator(9, &[4, 5, -1], 6, 8, vec![(0, Value::I8(0))]),
                operator(25, &[6], 7, 9, vec![(softmax::BETA, Value::F32(1.0))]),
                operator(92, &[6], 7, 0, vec![]),
                Operator { custom: "Wavelet".into(), ..operator(32, &[], 7, 0, vec![]) },
            ],
            inputs: vec![0],
            outputs: vec![7],
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let b = &mut Builder::new();
        let operators: Vec<_> = self.operators.iter().enumerate().map(|(i, o)| o.write(b, i)).collect();
        let codes: Vec<_> = self.operators.iter().map(|o| o.write_code(b)).collect();
        let tensors: Vec<_> = self.tensors.iter().enumerate().map(|(i, t)| t.write(b, i)).collect();
        let mut buffers = vec![table(b, &[])];
        buffers.extend(self.tensors.iter().map(|t| t.write_buffer(b)).collect::<Vec<_>>());

        let main = [
            (subgraph::TENSORS, offset(b.create_vector(&tensors))),
            (subgraph::INPUTS, offset(b.create_vector(&self.inputs))),
            (subgraph::OUTPUTS, offset(b.create_vector(&self.outputs))),
            (subgraph::OPERATORS, offset(b.create_vector(&operators))),
        ];
        let main = vec![table(b, &main); self.subgraphs];
        let root = [
            (model::VERSION, Value::I32(self.version)),
            (model::OPERATOR_CODES, offset(b.create_vector(&codes))),
            (model::SUBGRAPHS, offset(b.create_vector(&main))),
            (model::BUFFERS, offset(b.create_vector(&buffers))),
        ];
        let root = table(b, &root);
        b.finish(root, Some(self.identifier));
        b.finished_data().to_vec()
    }
}

impl Tensor {
    fn write(&self, b: &mut Builder, index: usize) -> WIPOffset<TableFinishedWIPOffset> {
        let scales = [
            (quantization::SCALE, offset(b.create_vector(&self.scales))),
            (quantization::ZERO_POINT, offset(b.create_vector(&self.zero_points))),
            (quantization::DETAILS_TYPE, Value::I8(self.details)),
            (quantization::QUANTIZED_DIMENSION, Value::I32(self.axis)),
        ];
        let mut fields = vec![
            (tensor::SHAPE, offset(b.create_vector(&self.shape))),
            (tensor::TYPE, Value::I8(self.element)),
            (tensor::BUFFER, Value::I32(self.buffer.unwrap_or(index as i32 + 1))),
            (tensor::NAME, offset(b.create_string(&self.name))),
            (tensor::QUANTIZATION, offset(table(b, &scales))),
        ];
        if self.sparse {
            fields.push((tensor::SPARSITY, offset(table(b, &[]))));
        }
        if self.external != 0 {
            fields.push((tensor::EXTERNAL_BUFFER, Value::I32(self.external)));
        }
        table(b, &fields)
    }

    fn write_buffer(&self, b: &mut Builder) -> WIPOffset<TableFinishedWIPOffset> {
        let mut fields = Vec::new();
        if !self.data.is_empty() {
            fields.push((buffer::DATA, offset(b.create_vector(&self.data))));
        }
        if let Some((position, size)) = self.behind {
            fields.push((buffer::OFFSET, Value::U64(position)));
            fields.push((buffer::SIZE, Value::U64(size)));
        }
        table(b, &fields)
    }
}

impl Operator {
    fn write(&self, b: &mut Builder, index: usize) -> WIPOffset<TableFinishedWIPOffset> {
        let fields = [
            (operator::OPCODE_INDEX, Value::I32(self.number.unwrap_or(index as i32))),
            (operator::INPUTS, offset(b.create_vector(&self.inputs))),
            (operator::OUTPUTS, offset(b.create_vector(&self.outputs))),
            (operator::BUILTIN_OPTIONS_TYPE, Value::I8(self.options_type)),
            (operator::BUILTIN_OPTIONS, offset(table(b, &self.options))),
        ];
        table(b, &fields)
    }

    fn write_code(&self, b: &mut Builder) -> WIPOffset<TableFinishedWIPOffset> {
        let fields = [
            (operator_code::DEPRECATED_BUILTIN_CODE, Value::I8(self.deprecated)),
            (operator_code::CUSTOM_CODE, offset(b.create_string(&self.custom))),
            (operator_code::BUILTIN_CODE, Value::I32(self.code)),
        ];
        table(b, &fields)
    }
}

fn offset<T>(offset: WIPOffset<T>) -> Value {
    Value::Offset(offset.as_union_value())
}

fn table(b: &mut Builder, fields: &[(usize, Value)]) -> WIPOffset<TableFinishedWIPOffset> {
    let start = b.start_table();
    for &(field, value) in fields {
        let slot = 4 + 2 * field as u16;
        match value {
            Value::I8(value) => b.push_slot_always(slot, value),
            Value::I32(value) => b.push_slot_always(slot, value),
            Value::U64(value) => b.push_slot_always(slot, value),
            Value::F32(value) => b.push_slot_always(slot, value),
            Value::Offset(value) => b.push_slot_always(slot, value),
        }
    }
    b.end_table(start)
}
