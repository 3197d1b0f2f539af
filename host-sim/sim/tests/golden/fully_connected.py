#!/usr/bin/env python3
"""One-operator models in which the rounding of FULLY_CONNECTED shows, and LiteRT's outputs for them.

Every accumulator lies at or near the middle between two outputs, half of them negative. Writes
fully_connected_NAME.tflite and fully_connected_NAME.bin (README.md).
"""

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

import litert_outputs

OUTPUTS = 41
# A unit of the accumulator is a sixteenth of the output's step, but for rounding errors of the scales.
UNITS_A_STEP = 16
INPUT_ZERO_POINT = -3
OUTPUT_ZERO_POINT = 5

# Input scale, weight scale and output scale: input * weight / output is 1/16, and less if the division comes first ...
EXACT = (1003.0, 2005.0, 1003.0 * 2005.0 * UNITS_A_STEP)
# ... and 2^-26 of it less, which only double precision can tell.
BELOW = (1 + 2.0**-13, 1 - 2.0**-13, float(UNITS_A_STEP))


def tensor(shape, kind, scales, zero_point, buffer):
    quantization = schema.QuantizationParametersT()
    quantization.scale = np.asarray(scales, np.float32)
    quantization.zeroPoint = np.full(len(scales), zero_point, np.int64)
    result = schema.TensorT()
    result.shape, result.type, result.quantization, result.buffer = list(shape), kind, quantization, buffer
    return result


def model(input_scale, weight_scales, output_scale):
    """A .tflite file: one int8 input, 41 int8 outputs, one weight an output."""
    # Half a step an input unit, biases by quarters of a step: a quarter of the sums are ties.
    weights = np.full((OUTPUTS, 1), UNITS_A_STEP // 2, np.int8)
    biases = np.arange(-(OUTPUTS // 2), OUTPUTS // 2 + 1, dtype=np.int32) * (UNITS_A_STEP // 4)
    bias_scales = np.float32(input_scale) * np.asarray(weight_scales, np.float32)

    subgraph = schema.SubGraphT()
    kinds = schema.TensorType
    subgraph.tensors = [
        tensor((1, 1), kinds.INT8, [input_scale], INPUT_ZERO_POINT, 0),
        tensor(weights.shape, kinds.INT8, weight_scales, 0, 1),
        tensor(biases.shape, kinds.INT32, bias_scales, 0, 2),
        tensor((1, OUTPUTS), kinds.INT8, [output_scale], OUTPUT_ZERO_POINT, 0),
    ]
    operator = schema.OperatorT()
    operator.inputs, operator.outputs = [0, 1, 2], [3]
    operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    operator.builtinOptions = schema.FullyConnectedOptionsT()
    subgraph.operators, subgraph.inputs, subgraph.outputs = [operator], [0], [3]

    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    code.version = 12 if len(weight_scales) > 1 else 4
    buffers = [schema.BufferT() for _ in range(3)]
    for buffer, values in zip(buffers[1:], (weights, biases)):
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    whole = schema.ModelT()
    whole.version, whole.operatorCodes, whole.subgraphs, whole.buffers = 3, [code], [subgraph], buffers
    builder = flatbuffers.Builder(1024)
    builder.Finish(whole.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def main():
    # Per channel: 1/16, and a little less in every third.
    mixed = [EXACT[1] * (1.0 if i % 3 else BELOW[1]) for i in range(OUTPUTS)]
    for name, scales in (
        ("exact_ties", (EXACT[0], [EXACT[1]], EXACT[2])),
        ("below_ties", (BELOW[0], [BELOW[1]], BELOW[2])),
        ("per_channel", (EXACT[0], mixed, EXACT[2])),
    ):
        path = litert_outputs.HERE / f"fully_connected_{name}.tflite"
        path.write_bytes(model(*scales))
        inputs = np.arange(-128, 128).astype(np.int8).reshape(-1, 1)
        outputs = litert_outputs.run(litert_outputs.open_model(path), inputs)
        path.with_suffix(".bin").write_bytes(outputs.tobytes())
        print(f"{path.name}: {path.stat().st_size} bytes, {outputs.size} outputs")


if __name__ == "__main__":
    main()
