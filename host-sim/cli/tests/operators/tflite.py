"""Writes `.tflite` files of one operator, and runs them with LiteRT's reference kernels."""

from dataclasses import dataclass, field

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

ELEMENTS = {
    np.dtype(np.int8): schema.TensorType.INT8,
    np.dtype(np.uint8): schema.TensorType.UINT8,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(object): schema.TensorType.RESOURCE,
}


@dataclass
class Tensor:
    """An activation, or a constant if it has `data`. An output's shape is None until LiteRT tells it."""

    shape: tuple | None
    scale: object = None
    zero_point: object = 0
    data: np.ndarray | None = None
    axis: int = 0
    dtype: object = np.int8
    # int8 data that the file has as int4: two a byte, the first in the lower half.
    halved: bool = False


def activation(shape, scale, zero_point, dtype=np.int8):
    return Tensor(tuple(shape), scale, zero_point, dtype=dtype)


def output(scale, zero_point, dtype=np.int8):
    return Tensor(None, scale, zero_point, dtype=dtype)


def constant(data, scale=None, zero_point=0, axis=0):
    data = np.asarray(data)
    return Tensor(data.shape, scale, zero_point, data, axis, data.dtype)


def integers(values):
    """An int32 constant: axes, shapes, paddings."""
    return constant(np.array(values, np.int32))


@dataclass
class Case:
    """One operator with its inputs, samples along axis 0."""

    operator: str
    about: str
    tensors: list
    inputs: list
    outputs: list
    samples: list
    options: object = None
    version: int = 1
    # BUILTIN_REF: the reference kernels, which define the bits; no optimized kernels, no delegate.
    resolver: str = "BUILTIN_REF"
    model: bytes = field(default=b"", repr=False)
    expected: list = field(default_factory=list, repr=False)
    # The samples are one stream, of a network that keeps variables.
    stream: bool = False

    def solve(self):
        """Fills in the shapes of outputs, the model's bytes and the expected outputs."""
        for shape in (None, "known"):
            if shape is None:
                for index in self.outputs:
                    self.tensors[index].shape = self.tensors[index].shape or (1,)
            self.model = self.pack()
            interpreter = Interpreter(
                model_content=self.model,
                experimental_op_resolver_type=getattr(OpResolverType, self.resolver),
                num_threads=1,
            )
            interpreter.allocate_tensors()
            details = interpreter.get_output_details()
            for index, detail in zip(self.outputs, details):
                self.tensors[index].shape = tuple(int(extent) for extent in detail["shape"])
        results = []
        for sample in zip(*self.samples):
            for detail, values in zip(interpreter.get_input_details(), sample):
                interpreter.set_tensor(detail["index"], values.reshape(detail["shape"]))
            interpreter.invoke()
            results.append([interpreter.get_tensor(detail["index"]).copy() for detail in details])
        self.expected = [np.stack(one) for one in zip(*results)]

    def pack(self):
        variable = [i for i in dict.fromkeys(self.inputs) if i >= 0 and self.tensors[i].data is None]
        operator = (self.operator, self.inputs, self.outputs, self.options, self.version)
        return pack(self.tensors, [operator], variable, self.outputs)


def pack(tensors, operators, inputs, outputs, *more):
    """A model's bytes; an operator is its name, inputs, outputs, options and version. `more` are further subgraphs."""
    model = schema.ModelT()
    model.version = 3
    model.buffers, model.operatorCodes = [schema.BufferT()], []
    model.subgraphs = [subgraph(model, *parts) for parts in ((tensors, operators, inputs, outputs), *more)]
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def subgraph(model, tensors, operators, inputs, outputs):
    graph = schema.SubGraphT()
    graph.tensors = []
    for number, tensor in enumerate(tensors):
        record = schema.TensorT()
        record.name = b"tensor%d" % number
        record.shape = list(tensor.shape)
        record.type = ELEMENTS[np.dtype(tensor.dtype)]
        record.buffer = 0
        if tensor.scale is not None:
            scales = np.atleast_1d(np.asarray(tensor.scale, np.float32))
            quantization = schema.QuantizationParametersT()
            quantization.scale = scales
            quantization.zeroPoint = np.resize(np.asarray(tensor.zero_point, np.int64), len(scales))
            quantization.quantizedDimension = tensor.axis
            record.quantization = quantization
        if tensor.data is not None:
            buffer = schema.BufferT()
            data = np.ascontiguousarray(tensor.data)
            if tensor.halved:
                record.type = schema.TensorType.INT4
                pairs = np.resize(np.append(data.reshape(-1), 0), (data.size + 1) // 2 * 2).reshape(-1, 2) & 15
                data = (pairs[:, 0] | pairs[:, 1] << 4).astype(np.uint8)
            buffer.data = np.frombuffer(data.tobytes(), np.uint8)
            model.buffers.append(buffer)
            record.buffer = len(model.buffers) - 1
        graph.tensors.append(record)
    graph.inputs, graph.outputs, graph.operators = inputs, outputs, []
    for name, reads, writes, own_options, version in operators:
        operator = schema.OperatorT()
        operator.opcodeIndex = len(model.operatorCodes)
        operator.inputs, operator.outputs = reads, writes
        if own_options is not None:
            kind = type(own_options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            operator.builtinOptions = own_options
        graph.operators.append(operator)
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, name)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.version = version
        model.operatorCodes.append(code)
    return graph


def options(name, **fields):
    """`name`Options of the schema with these fields, in the schema's camelCase."""
    record = getattr(schema, name + "OptionsT")()
    for key, value in fields.items():
        if not hasattr(record, key):
            raise AttributeError(f"{name}Options has no {key}")
        setattr(record, key, value)
    return record


FUSED = {
    "none": schema.ActivationFunctionType.NONE,
    "relu": schema.ActivationFunctionType.RELU,
    "relu6": schema.ActivationFunctionType.RELU6,
    "relu_n1_to_1": schema.ActivationFunctionType.RELU_N1_TO_1,
}
PADDING = {"same": schema.Padding.SAME, "valid": schema.Padding.VALID}
