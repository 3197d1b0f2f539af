"""Cases of the operators with weights: CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED."""

import itertools

import numpy as np

from draw import f32, fitted, samples, zero_point
from tflite import FUSED, PADDING, Case, activation, constant, options, output

FUSIONS = itertools.cycle(["none", "relu", "none", "relu6", "relu_n1_to_1"])


def next_fusion(ties):
    """Ties need scales that are powers of two, which leave nothing to fit to the clamp at 6 or 1."""
    fused = next(FUSIONS)
    return {"relu6": "relu", "relu_n1_to_1": "none"}.get(fused, fused) if ties else fused


def quantization(rng, channels, taps, per_channel, ties):
    """Input scale, weight scales, output scale: outputs spread over the range, some saturate."""
    if ties:
        # Powers of two: many accumulators lie exactly half way between two outputs.
        return (
            f32(2.0**-5),
            np.full(channels if per_channel else 1, f32(2.0**-6)),
            f32(2.0**-4 * 2 ** rng.integers(0, 6)),
        )
    input_scale = f32(10 ** rng.uniform(-3, 0))
    weight_scales = (10 ** rng.uniform(-4, -2) * rng.uniform(0.3, 3, channels if per_channel else 1)).astype(f32)
    spread = 5000 * np.sqrt(taps) * float(input_scale) * float(weight_scales.mean())
    return input_scale, weight_scales, f32(spread / 50 * 2 ** rng.uniform(-2, 2))


def layer(
    rng,
    operator,
    about,
    shape,
    filter_shape,
    axis,
    channels,
    fused,
    opts,
    per_channel,
    bias="small",
    ties=False,
    version=3,
):
    taps = int(np.prod(filter_shape)) // channels
    input_scale, weight_scales, output_scale = quantization(rng, channels, taps, per_channel, ties)
    zero = zero_point(rng)
    weights = rng.integers(-127 if per_channel else -128, 128, filter_shape).astype(np.int8)
    tensors = [activation(shape, input_scale, zero), constant(weights, weight_scales, axis=axis)]
    inputs = [0, 1]
    if ties and bias == "large":
        bias = "small"  # it would take the output scale away from the powers of two
    if bias == "small":
        biases = rng.integers(-3000, 3001, channels) * max(1, int(np.sqrt(taps)))
    elif bias == "large":
        # Up to 2^30, with the output scale that brings them into range: long mantissas decide.
        biases = rng.integers(-(2**30), 2**30, channels)
        output_scale = f32(2**30 / 100 * float(input_scale) * float(weight_scales.mean()))
    factor, output_zero = fitted(rng, fused, output_scale)
    input_scale, output_scale = input_scale * factor, output_scale * factor
    opts.fusedActivationFunction = FUSED[fused]
    tensors[0].scale = input_scale
    if bias != "absent":
        tensors.append(constant(biases.astype(np.int32), input_scale * weight_scales, axis=0))
        inputs.append(2)
    elif operator == "FULLY_CONNECTED" and rng.random() < 0.5:  # the only one that takes -1
        inputs.append(-1)
    tensors.append(output(output_scale, output_zero))
    about += f", {fused}, {'per channel' if per_channel else 'per tensor'}, bias {bias}" + (", ties" if ties else "")
    return Case(operator, about, tensors, inputs, [len(tensors) - 1], [samples(rng, shape, zero=zero)], opts, version)


def window(stride, dilation, padding):
    return dict(
        padding=PADDING[padding],
        strideH=stride[0],
        strideW=stride[1],
        dilationHFactor=dilation[0],
        dilationWFactor=dilation[1],
    )


# Input height, width, channels; outputs; filter height, width; strides; dilations; padding; groups.
CONVOLUTIONS = [
    (5, 6, 3, 4, 3, 3, (1, 1), (1, 1), "same", 1), (5, 6, 3, 4, 3, 3, (1, 1), (1, 1), "valid", 1),
    (9, 7, 1, 5, 3, 3, (2, 2), (1, 1), "same", 1), (9, 7, 1, 5, 3, 3, (2, 2), (1, 1), "valid", 1),
    (8, 8, 5, 7, 1, 1, (1, 1), (1, 1), "same", 1), (8, 8, 8, 16, 1, 1, (2, 2), (1, 1), "valid", 1),
    (10, 4, 1, 8, 10, 4, (1, 1), (1, 1), "valid", 1), (12, 5, 1, 8, 10, 4, (2, 2), (1, 1), "same", 1),
    (1, 9, 3, 2, 1, 3, (1, 2), (1, 1), "same", 1), (20, 1, 6, 5, 5, 1, (1, 1), (1, 1), "valid", 1),
    (9, 9, 2, 3, 3, 3, (1, 1), (2, 2), "same", 1), (9, 9, 2, 3, 3, 3, (1, 1), (2, 2), "valid", 1),
    (11, 8, 3, 2, 2, 3, (1, 1), (3, 2), "same", 1), (11, 8, 3, 2, 2, 3, (1, 1), (3, 2), "valid", 1),
    (3, 3, 4, 3, 5, 5, (1, 1), (1, 1), "same", 1), (2, 2, 3, 2, 3, 3, (1, 1), (4, 4), "same", 1),
    (7, 7, 4, 6, 3, 3, (1, 1), (1, 1), "same", 2), (7, 5, 6, 9, 3, 2, (2, 1), (1, 1), "valid", 3),
    (6, 6, 4, 4, 3, 3, (1, 1), (1, 1), "same", 4), (8, 8, 4, 8, 3, 3, (1, 1), (2, 2), "same", 2),
    (7, 9, 3, 3, 2, 2, (3, 3), (1, 1), "same", 1), (7, 9, 3, 3, 1, 1, (3, 4), (1, 1), "same", 1),
    (4, 4, 17, 13, 3, 3, (1, 1), (1, 1), "same", 1), (3, 3, 33, 1, 3, 3, (1, 1), (1, 1), "valid", 1),
    (6, 6, 16, 16, 3, 3, (1, 1), (1, 1), "same", 1), (6, 6, 3, 1, 4, 4, (1, 1), (1, 1), "same", 1),
]  # fmt: skip


def convolutions(rng):
    for number, (h, w, c, outputs, kh, kw, stride, dilation, padding, groups) in enumerate(CONVOLUTIONS):
        for per_channel in (False, True):
            ties = number % 4 == 1
            fields = window(stride, dilation, padding)
            about = (
                f"{h}x{w}x{c} by {outputs}x{kh}x{kw}, stride {stride}, dilation {dilation}, {padding}, groups {groups}"
            )
            bias = ["small", "small", "small", "large"][(number + 2 * per_channel) % 4]
            yield layer(
                rng,
                "CONV_2D",
                about,
                (1, h, w, c),
                (outputs, kh, kw, c // groups),
                0,
                outputs,
                next_fusion(ties),
                options("Conv2D", **fields),
                per_channel,
                bias,
                ties,
            )


# Input height, width, channels; multiplier; filter height, width; strides; dilations; padding.
DEPTHWISE = [
    (5, 6, 3, 1, 3, 3, (1, 1), (1, 1), "same"), (5, 6, 3, 1, 3, 3, (1, 1), (1, 1), "valid"),
    (9, 7, 8, 1, 3, 3, (2, 2), (1, 1), "same"), (9, 8, 5, 1, 3, 3, (2, 2), (1, 1), "valid"),
    (6, 5, 2, 2, 3, 3, (1, 1), (1, 1), "same"), (6, 5, 3, 3, 2, 3, (2, 1), (1, 1), "valid"),
    (7, 7, 1, 8, 3, 3, (1, 1), (1, 1), "same"), (10, 4, 1, 8, 10, 4, (1, 1), (1, 1), "valid"),
    (9, 9, 4, 1, 3, 3, (1, 1), (2, 2), "same"), (9, 9, 4, 1, 3, 3, (1, 1), (2, 2), "valid"),
    (8, 11, 3, 2, 3, 2, (1, 1), (2, 3), "same"), (3, 3, 7, 1, 5, 5, (1, 1), (1, 1), "same"),
    (1, 12, 6, 1, 1, 5, (1, 1), (1, 1), "same"), (25, 1, 6, 1, 9, 1, (1, 1), (1, 1), "same"),
    (4, 4, 17, 1, 4, 4, (1, 1), (1, 1), "valid"), (5, 5, 33, 1, 3, 3, (1, 1), (1, 1), "same"),
    (6, 7, 5, 1, 1, 1, (2, 3), (1, 1), "same"), (5, 5, 1, 1, 2, 2, (1, 1), (1, 1), "same"),
]  # fmt: skip


def depthwise(rng):
    for number, (h, w, c, multiplier, kh, kw, stride, dilation, padding) in enumerate(DEPTHWISE):
        for per_channel in (False, True):
            ties = number % 3 == 1
            fields = window(stride, dilation, padding)
            about = f"{h}x{w}x{c} times {multiplier} by {kh}x{kw}, stride {stride}, dilation {dilation}, {padding}"
            bias = ["small", "absent", "large"][(number + per_channel) % 3]
            yield layer(
                rng,
                "DEPTHWISE_CONV_2D",
                about,
                (1, h, w, c),
                (1, kh, kw, c * multiplier),
                3,
                c * multiplier,
                next_fusion(ties),
                options("DepthwiseConv2D", depthMultiplier=multiplier, **fields),
                per_channel,
                bias,
                ties,
            )


# Input shape, input length of the filter, outputs, keep_num_dims.
DENSE = [
    ((1, 1), 1, 1, False), ((1, 7), 7, 3, False), ((1, 16), 16, 16, False), ((1, 33), 33, 5, False),
    ((1, 128), 128, 10, False), ((1, 65), 65, 9, False), ((1, 4, 3), 12, 5, False), ((1, 2, 3, 4), 24, 6, False),
    ((1, 5, 8), 8, 3, True), ((1, 5, 8), 8, 3, False), ((1, 2, 3, 7), 7, 4, True), ((1, 2, 3, 7), 7, 4, False),
    ((4, 9), 9, 5, False), ((6,), 6, 4, False),
]  # fmt: skip


def dense(rng):
    for number, (shape, length, outputs, keep) in enumerate(DENSE):
        for per_channel in (False, True):
            ties = number % 3 == 1
            about = f"{shape} by {outputs}x{length}, keep_num_dims {keep}"
            bias = ["small", "absent", "large"][(number + per_channel) % 3]
            yield layer(
                rng,
                "FULLY_CONNECTED",
                about,
                shape,
                (outputs, length),
                0,
                outputs,
                next_fusion(ties),
                options("FullyConnected", keepNumDims=keep),
                per_channel,
                bias,
                ties,
                version=12 if per_channel else 5,
            )


def near_ties(rng):
    """Biases whose scaled value lies within 1e-7 of a half: the width of the multiplier decides. Weights 0."""
    channels, length = 64, 4
    for operator, exact, per_channel, _ in itertools.product(
        ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"), (False, True), (False, True), range(2)
    ):
        count = channels if per_channel else 1
        if exact:
            input_scale, weight_scales, output_scale = f32(2.0**-4), np.full(count, f32(2.0**-7)), f32(2.0**-5)
        else:
            input_scale = f32(rng.uniform(0.5, 1))
            weight_scales = rng.uniform(0.5, 1, count).astype(f32)
            output_scale = f32(2.0**30 / 100 * float(input_scale) * float(weight_scales.mean()))
        real = float(input_scale) * weight_scales.astype(float) / float(output_scale)
        halves = rng.integers(-100, 100, channels) + 0.5
        biases = np.floor(halves / real + rng.integers(0, 2, channels)).astype(np.int32)
        if exact:
            biases = np.round(halves / real).astype(np.int32)
        depthwise = operator == "DEPTHWISE_CONV_2D"
        convolution = dict(padding=PADDING["valid"], strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1)
        shape, filter_shape, opts = {
            "CONV_2D": ((1, 1, 1, length), (channels, 1, 1, length), lambda: options("Conv2D", **convolution)),
            "DEPTHWISE_CONV_2D": (
                (1, 1, 1, channels), (1, 1, 1, channels),
                lambda: options("DepthwiseConv2D", depthMultiplier=1, **convolution)
            ),
            "FULLY_CONNECTED": ((1, length), (channels, length), lambda: options("FullyConnected")),
        }[operator]  # fmt: skip
        tensors = [
            activation(shape, input_scale, 0),
            constant(np.zeros(filter_shape, np.int8), weight_scales, axis=3 if depthwise else 0),
            constant(biases, input_scale * weight_scales),
            output(output_scale, 0),
        ]
        about = f"{'exact' if exact else 'near'} ties, {'per channel' if per_channel else 'per tensor'}"
        version = 5 if operator == "FULLY_CONNECTED" else 3
        yield Case(operator, about, tensors, [0, 1, 2], [3], [samples(rng, shape, 6)], opts(), version)


# Input height, width, channels; outputs; filter height, width; strides; padding; output height, width.
TRANSPOSED = [
    (4, 5, 3, 2, 3, 3, (2, 2), "same", (8, 10)), (4, 5, 3, 2, 3, 3, (2, 2), "valid", (9, 11)),
    (3, 3, 2, 4, 2, 2, (2, 2), "valid", (6, 6)), (3, 3, 2, 4, 2, 2, (2, 2), "same", (6, 6)),
    (5, 1, 4, 3, 3, 1, (2, 1), "same", (10, 1)), (6, 6, 1, 1, 4, 4, (2, 2), "same", (12, 12)),
    (4, 4, 5, 7, 1, 1, (1, 1), "valid", (4, 4)), (4, 4, 3, 3, 3, 3, (1, 1), "same", (4, 4)),
    (3, 2, 2, 3, 5, 4, (3, 2), "valid", (11, 6)), (3, 2, 2, 3, 2, 2, (3, 3), "same", (9, 6)),
    (2, 3, 8, 16, 3, 3, (2, 2), "same", (3, 5)), (1, 1, 16, 4, 4, 4, (4, 4), "valid", (4, 4)),
]  # fmt: skip


def transposed(rng):
    for number, (h, w, c, outputs, kh, kw, stride, padding, size) in enumerate(TRANSPOSED):
        for per_channel in (False, True):
            about = f"{h}x{w}x{c} by {outputs}x{kh}x{kw}, stride {stride}, {padding}, to {size}"
            fields = dict(padding=PADDING[padding], strideH=stride[0], strideW=stride[1])
            shape, filter_shape = (1, h, w, c), (outputs, kh, kw, c)
            bias = ["small", "small", "absent", "large"][(number + 2 * per_channel) % 4]
            opts = options("TransposeConv", **fields)
            fused = next_fusion(number % 4 == 1)
            case = layer(
                rng, "TRANSPOSE_CONV", about, shape, filter_shape, 0, outputs, fused, opts, per_channel, bias, number % 4 == 1, 4
            )
            case.tensors.append(constant(np.array((1, *size, outputs), np.int32)))
            last = len(case.tensors) - 1
            case.inputs = [last, 1, 0] + ([2] if bias != "absent" else [])
            yield case


def halved(rng):
    """Weights of four bits, some of an odd number."""
    for operator, shape, filter_shape, axis, version in [
        ("CONV_2D", (1, 6, 5, 4), (6, 3, 3, 4), 0, 3), ("CONV_2D", (1, 5, 5, 3), (5, 1, 1, 3), 0, 3),
        ("CONV_2D", (1, 8, 1, 16), (8, 5, 1, 16), 0, 3),
        ("DEPTHWISE_CONV_2D", (1, 7, 6, 8), (1, 3, 3, 8), 3, 3), ("DEPTHWISE_CONV_2D", (1, 9, 1, 3), (1, 3, 1, 3), 3, 3),
        ("FULLY_CONNECTED", (1, 33), (7, 33), 0, 10), ("FULLY_CONNECTED", (1, 64), (10, 64), 0, 10),
        ("FULLY_CONNECTED", (1, 5, 8), (3, 8), 0, 10),
    ]:  # fmt: skip
        for per_channel in (False, True):
            fields = window((1, 1), (1, 1), "valid")
            opts = {
                "CONV_2D": lambda: options("Conv2D", **fields),
                "DEPTHWISE_CONV_2D": lambda: options("DepthwiseConv2D", depthMultiplier=1, **fields),
                "FULLY_CONNECTED": lambda: options("FullyConnected", keepNumDims=True),
            }[operator]()
            channels, about = filter_shape[axis], f"{shape} by int4 {filter_shape}"
            parts = (rng, operator, about, shape, filter_shape, axis, channels, next(FUSIONS), opts, per_channel)
            case = layer(*parts, version=version if not per_channel or operator != "FULLY_CONNECTED" else 12)
            weights = case.tensors[1]
            weights.data, weights.halved = rng.integers(-7, 8, filter_shape).astype(np.int8), True
            for tensor in case.tensors[1:3]:
                tensor.scale = np.asarray(tensor.scale) * f32(16)
            yield case


def cases(rng):
    for family in (convolutions, depthwise, dense, near_ties, transposed, halved):
        yield from family(rng)
