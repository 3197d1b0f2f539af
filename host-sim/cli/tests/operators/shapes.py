"""Cases of pools, MEAN, SOFTMAX, and of the operators that move bytes."""

import itertools

import numpy as np

from draw import f32, samples, scale, zero_point
from tflite import FUSED, PADDING, Case, activation, constant, integers, options, output

FUSIONS = itertools.cycle(["none", "relu", "relu6", "none", "relu_n1_to_1"])

# Height, width, channels; filter height, width; strides; padding.
POOLS = [
    (4, 4, 3, 2, 2, (2, 2), "valid"), (5, 5, 3, 2, 2, (2, 2), "same"), (7, 6, 5, 3, 3, (1, 1), "same"),
    (7, 6, 5, 3, 3, (1, 1), "valid"), (7, 7, 1, 7, 7, (1, 1), "valid"), (25, 5, 8, 25, 5, (25, 5), "valid"),
    (3, 3, 2, 5, 5, (1, 1), "same"), (1, 9, 4, 1, 4, (1, 3), "same"), (9, 1, 4, 4, 1, (3, 1), "valid"),
    (6, 6, 17, 3, 2, (2, 3), "same"), (5, 4, 1, 1, 1, (1, 1), "same"), (8, 8, 2, 1, 1, (3, 3), "valid"),
]  # fmt: skip


def pools(rng):
    for operator in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
        for h, w, c, kh, kw, stride, padding in POOLS:
            step, zero, fused = scale(rng, -2, 0), zero_point(rng), next(FUSIONS)
            opts = options(
                "Pool2D",
                padding=PADDING[padding],
                strideH=stride[0],
                strideW=stride[1],
                filterHeight=kh,
                filterWidth=kw,
                fusedActivationFunction=FUSED[fused],
            )
            about = f"{h}x{w}x{c} by {kh}x{kw}, stride {stride}, {padding}, {fused}"
            tensors = [activation((1, h, w, c), step, zero), output(step, zero)]
            yield Case(operator, about, tensors, [0], [1], [samples(rng, (1, h, w, c), zero=zero)], opts, 2)


def mean(rng):
    shapes = [
        ((1, 5, 7, 3), (1, 2)), ((1, 4, 4, 9), (1, 2)), ((1, 5, 7, 3), (2, 1)), ((1, 6, 5, 4), (1,)),
        ((1, 6, 5, 4), (2,)),
        ((1, 6, 5, 4), (3,)), ((1, 6, 5, 4), (-1,)), ((1, 3, 4, 5), (1, 2, 3)), ((1, 9, 4), (1,)), ((1, 9, 4), (2,)),
        ((1, 9, 4), (1, 2)), ((1, 40), (1,)), ((1, 1, 1, 6), (1, 2)), ((1, 16, 16, 2), (1, 2)),
    ]  # fmt: skip
    for (shape, axes), equal in itertools.product(shapes, (True, False)):
        step, zero = scale(rng, -2, 0), zero_point(rng)
        result = (step, zero) if equal else (f32(step * 2 ** rng.uniform(-2, 1)), int(rng.integers(-60, 60)))
        keep = bool(rng.integers(2))
        about = f"{shape} over {axes}, keep_dims {keep}, {'equal' if equal else 'other'} quantization"
        tensors = [activation(shape, step, zero), integers(axes), output(*result)]
        yield Case(
            "MEAN", about, tensors, [0, 1], [2], [samples(rng, shape, zero=zero)], options("Reducer", keepDims=keep), 2
        )


def softmax(rng):
    shapes = [(1, 2), (1, 7), (1, 12), (1, 35), (1, 4, 5), (1, 3, 2, 6), (9,), (1, 1)]
    for number in range(20):
        shape, beta = shapes[number % 8], [1.0, 1.0, 1.0, 0.5, 2.0][number % 5]
        step, zero = scale(rng, -2.5, 0), zero_point(rng)
        tensors = [activation(shape, step, zero), output(f32(1 / 256), -128)]
        stream = samples(rng, shape, 32, zero=zero)
        yield Case(
            "SOFTMAX",
            f"{shape}, scale {step:.4g}, beta {beta}",
            tensors,
            [0],
            [1],
            [stream],
            options("Softmax", beta=beta),
            2,
        )


def move(rng, operator, about, shape, constants, opts=None, version=1, count=1, first=False):
    """An operator that copies bytes: the input, constants after it (before it, if `first`), `count` outputs."""
    step, zero = scale(rng), zero_point(rng)
    source = activation(shape, step, zero)
    inputs = [*constants, source] if first else [source, *constants]
    tensors = inputs + [output(step, zero) for _ in range(count)]
    outputs = list(range(len(inputs), len(tensors)))
    stream = samples(rng, shape, 8, zero=zero)
    return Case(operator, about, tensors, list(range(len(inputs))), outputs, [stream], opts, version)


def reshapes(rng):
    for shape, new in [
        ((1, 2, 3, 4), (1, 24)), ((1, 24), (1, 2, 3, 4)), ((1, 6), (1, 3, 2)), ((1, 4, 6), (1, -1)),
        ((12,), (3, 4)), ((1, 5), (5,)),
    ]:  # fmt: skip
        yield move(rng, "RESHAPE", f"{shape} to {new}", shape, [integers(new)], options("Reshape"))
    yield move(rng, "RESHAPE", "shape in the options alone", (1, 2, 3), [], options("Reshape", newShape=[1, 6]))
    for shape, axes in [
        ((1, 1, 1, 5), (1, 2)),
        ((1, 3, 1, 5), (2,)),
        ((1, 4, 1), (-1,)),
        ((1, 1, 6), ()),
        ((1, 1, 1, 4), (0, 1)),
    ]:
        yield move(rng, "SQUEEZE", f"{shape}, axes {axes}", shape, [], options("Squeeze", squeezeDims=list(axes)))
    for shape, axis in [((1, 5), 1), ((1, 5), -1), ((1, 4, 3), 2), ((1, 4, 3), 0), ((7,), 0)]:
        yield move(rng, "EXPAND_DIMS", f"{shape}, axis {axis}", shape, [integers([axis])], options("ExpandDims"))
    for shape, order in [
        ((1, 3, 4), (0, 2, 1)), ((1, 3, 4, 5), (0, 3, 1, 2)), ((1, 3, 4, 5), (0, 2, 3, 1)),
        ((1, 3, 4, 5), (0, 2, 1, 3)),
        ((1, 3, 4, 5), (0, 1, 3, 2)), ((1, 3, 4, 5), (0, 3, 2, 1)), ((1, 3, 4, 5), (0, 1, 2, 3)), ((1, 7), (0, 1)),
        ((1, 7), (1, 0)), ((1, 3, 4, 5), (3, 1, 0, 2)), ((1, 3, 4), (2, 0, 1)),
    ]:  # fmt: skip
        yield move(rng, "TRANSPOSE", f"{shape}, order {order}", shape, [integers(order)], options("Transpose"), 2)


def pads(rng):
    for shape, amounts in [
        ((1, 3, 4, 2), ((0, 0), (1, 1), (1, 1), (0, 0))), ((1, 3, 4, 2), ((0, 0), (0, 1), (2, 0), (0, 0))),
        ((1, 3, 4, 2), ((0, 0), (0, 0), (0, 0), (1, 3))), ((1, 3, 4, 3), ((0, 0), (2, 1), (0, 3), (1, 0))),
        ((1, 5, 3), ((0, 0), (1, 2), (0, 1))), ((1, 6), ((0, 0), (2, 3))),
        ((1, 1, 1, 1), ((0, 0), (3, 3), (2, 2), (1, 1))),
        ((1, 4, 4, 2), ((0, 0), (0, 0), (0, 0), (0, 0))),
    ]:  # fmt: skip
        yield move(rng, "PAD", f"{shape} by {amounts}", shape, [integers(amounts)], options("Pad"), 2)
        case = move(rng, "PADV2", f"{shape} by {amounts}", shape, [integers(amounts)], options("PadV2"), 2)
        value = rng.integers(-128, 128, 1).astype(np.int8)
        case.tensors.insert(2, constant(value, case.tensors[0].scale, case.tensors[0].zero_point))
        case.inputs, case.outputs = [0, 1, 2], [3]
        yield case


def concatenations(rng):
    for shapes, axis in [
        (((1, 3, 4, 2), (1, 3, 4, 5)), 3), (((1, 3, 4, 2), (1, 3, 4, 2)), -1), (((1, 3, 4, 2), (1, 2, 4, 2)), 1),
        (((1, 3, 4, 2), (1, 3, 1, 2)), 2), (((1, 5), (1, 3)), 1), (((1, 5), (1, 3), (1, 1)), 1),
        (((1, 2, 3), (1, 4, 3)), -2),
        (((1, 3, 3, 2),) * 4, 3), (((1, 6),), 1), (((3,), (4,)), 0),
    ]:  # fmt: skip
        step, zero = scale(rng), zero_point(rng)
        tensors = [activation(shape, step, zero) for shape in shapes] + [output(step, zero)]
        streams = [samples(rng, shape, 8, zero=zero) for shape in shapes]
        count = len(shapes)
        opts = options("Concatenation", axis=axis)
        yield Case("CONCATENATION", f"{shapes} along {axis}", tensors, list(range(count)), [count], streams, opts, 2)
    step, zero = scale(rng), zero_point(rng)
    fixed = constant(rng.integers(-128, 128, (1, 2, 3)).astype(np.int8), step, zero)
    tensors = [activation((1, 4, 3), step, zero), fixed, output(step, zero)]
    opts = options("Concatenation", axis=1)
    yield Case("CONCATENATION", "with a constant", tensors, [0, 1], [2], [samples(rng, (1, 4, 3), 8)], opts, 2)
    yield Case(
        "CONCATENATION",
        "a tensor twice",
        [tensors[0], output(step, zero)],
        [0, 0],
        [1],
        [samples(rng, (1, 4, 3), 8)],
        opts,
        2,
    )


def splits(rng):
    for shape, axis, count in [
        ((1, 4, 3, 6), 3, 2), ((1, 4, 3, 6), 3, 3), ((1, 4, 3, 6), 1, 4), ((1, 4, 3, 6), 2, 3),
        ((1, 4, 3, 6), -1, 6), ((1, 6, 5), 1, 2),
        ((1, 8), 1, 2), ((1, 8), -1, 1), ((6,), 0, 3),
    ]:  # fmt: skip
        about = f"{shape} along {axis} into {count}"
        yield move(
            rng, "SPLIT", about, shape, [constant(np.int32(axis))], options("Split", numSplits=count), 2, count, True
        )


def slices(rng):
    # Shape, begin, end, strides, masks of begin, end, ellipsis, new axes, shrunk axes.
    for shape, begin, end, strides, *masks in [
        ((1, 6, 5, 4), (0, 1, 1, 1), (1, 5, 4, 3), (1, 1, 1, 1)),
        ((1, 6, 5, 4), (0, 0, 0, 0), (1, 6, 5, 4), (1, 2, 3, 2)),
        ((1, 6, 5, 4), (0, 1, 0, 0), (1, -1, -2, 4), (1, 1, 1, 1)),
        ((1, 6, 5, 4), (0, 2, 9, 0), (0, 0, 9, 0), (1, 1, 1, 2), 0b1101, 0b1111),
        ((1, 6, 5, 4), (0, -1, -1, -1), (1, -7, -6, -5), (1, -1, -2, -1)),
        ((1, 6, 5, 4), (0, 3, 0, 0), (1, 4, 5, 4), (1, 1, 1, 1), 0, 0, 0, 0, 0b0010),
        ((1, 6, 5, 4), (0, 0, 0, 2), (0, 0, 0, 3), (1, 1, 1, 1), 0b0111, 0b0111, 0, 0, 0b1000),
        ((1, 7), (0, 1), (1, 6), (1, 2)), ((1, 7), (0, -3), (1, 7), (1, 1)),
        ((1, 7, 3), (0, 2, 0), (1, 5, 3), (1, 1, 1)),
        ((1, 7, 3), (0, -2, 0), (1, -1, 3), (1, 1, 1), 0, 0, 0, 0, 0b010), ((9,), (1,), (8,), (3,)),
        ((1, 6, 5, 4), (0, 1), (1, 4), (1, 1)), ((1, 6, 5, 4), (0, 0, 1), (1, 0, 3), (1, 1, 1), 0, 0, 0b010),
        ((1, 6, 4), (0, 0, 0, 0), (1, 0, 6, 4), (1, 1, 2, 1), 0, 0, 0, 0b0010),
        ((1, 6, 5, 4), (0, 5, 0, 0), (1, 100, 5, 4), (1, 1, 1, 1)),
    ]:  # fmt: skip
        masks = dict(zip(("beginMask", "endMask", "ellipsisMask", "newAxisMask", "shrinkAxisMask"), masks))
        about = f"{shape} from {begin} to {end} by {strides}, {masks}"
        constants = [integers(begin), integers(end), integers(strides)]
        yield move(rng, "STRIDED_SLICE", about, shape, constants, options("StridedSlice", **masks), 2)


def resizes(rng):
    sizes = [
        ((4, 5), (8, 10)),
        ((4, 5), (7, 3)),
        ((1, 1), (3, 4)),
        ((9, 6), (1, 1)),
        ((3, 7), (11, 16)),
        ((13, 2), (5, 9)),
    ]
    for ((h, w), new), align, half in itertools.product(sizes, (False, True), (False, True)):
        about = f"{h}x{w} to {new}, align_corners {align}, half_pixel_centers {half}"
        opts = options("ResizeNearestNeighbor", alignCorners=align, halfPixelCenters=half)
        yield move(rng, "RESIZE_NEAREST_NEIGHBOR", about, (1, h, w, 3), [integers(new)], opts, 3)


def bilinear(rng):
    sizes = [
        ((4, 5), (8, 10)), ((4, 5), (7, 3)), ((1, 1), (3, 4)), ((9, 6), (1, 1)), ((3, 7), (11, 16)), ((13, 2), (5, 9)),
        ((2, 3), (32, 4)),
    ]  # fmt: skip
    for ((h, w), new), (align, half) in itertools.product(sizes, ((False, False), (True, False), (False, True))):
        about = f"{h}x{w} to {new}, align_corners {align}, half_pixel_centers {half}"
        opts = options("ResizeBilinear", alignCorners=align, halfPixelCenters=half)
        yield move(rng, "RESIZE_BILINEAR", about, (1, h, w, 3), [integers(new)], opts, 3)


def extremes(rng):
    shapes = [
        ((1, 5, 7, 3), (1, 2)), ((1, 5, 7, 3), (2, 1)), ((1, 6, 5, 4), (1,)), ((1, 6, 5, 4), (2,)), ((1, 6, 5, 4), (3,)),
        ((1, 6, 5, 4), (-1,)), ((1, 3, 4, 5), (1, 2, 3)), ((1, 9, 4), (1,)), ((1, 9, 4), (2,)), ((1, 9, 4), (1, 2)),
        ((1, 40), (1,)), ((1, 1, 1, 6), (1, 2)), ((1, 6, 1, 4), (1, 3)), ((1, 2, 3, 4, 5), (2, 3)),
    ]  # fmt: skip
    for number, (shape, axes) in enumerate(shapes):
        for operator in ("REDUCE_MAX", "REDUCE_MIN"):
            keep = bool(number % 2)
            about = f"{shape} over {axes}, keep_dims {keep}"
            yield move(rng, operator, about, shape, [integers(axes)], options("Reducer", keepDims=keep), 2)
    pairs = [
        ((1, 4, 3, 5), (1, 4, 3, 5)), ((1, 4, 3, 5), (5,)), ((1, 4, 3, 5), (1, 1, 1, 1)), ((1, 1, 3, 1), (1, 4, 1, 5)),
        ((1, 7), (1, 7)), ((1, 7), ()), ((1, 6, 2), (6, 1)), ((1, 300), (1, 300)),
    ]  # fmt: skip
    for (first, second), operator in itertools.product(pairs, ("MAXIMUM", "MINIMUM")):
        step, zero = scale(rng), zero_point(rng)
        opts = options("MaximumMinimum")
        # A constant, and where the samples' axis allows it, an activation.
        fixed = constant(rng.integers(-128, 128, second).astype(np.int8), step, zero)
        tensors = [activation(first, step, zero), fixed, output(step, zero)]
        streams = [samples(rng, first, 8, zero=zero)]
        yield Case(operator, f"{first} and a constant {second}", tensors, [0, 1], [2], streams, opts, 2)
        if len(second) == len(first):
            tensors = [activation(first, step, zero), activation(second, step, zero), output(step, zero)]
            streams = [samples(rng, shape, 8, zero=zero) for shape in (first, second)]
            yield Case(operator, f"{first} and {second}", tensors, [0, 1], [2], streams, opts, 2)


def orders(rng):
    for (h, w, c), block in [((4, 6, 3), 2), ((6, 3, 2), 3), ((2, 2, 1), 2), ((4, 8, 5), 4), ((3, 5, 2), 1)]:
        opts = options("SpaceToDepth", blockSize=block)
        yield move(rng, "SPACE_TO_DEPTH", f"{h}x{w}x{c}, blocks of {block}", (1, h, w, c), [], opts, 2)
        shape = (1, h // block, w // block, c * block * block)
        opts = options("DepthToSpace", blockSize=block)
        yield move(rng, "DEPTH_TO_SPACE", f"{shape}, blocks of {block}", shape, [], opts)
    for shape, axis, count in [
        ((1, 4, 3), 1, 2), ((1, 4, 3), 2, 3), ((1, 4, 3), 3, 2), ((1, 4, 3), -1, 1), ((1, 5), 1, 3), ((1, 5), 2, 2),
        ((1, 2, 3, 4), 1, 2),
    ]:  # fmt: skip
        step, zero = scale(rng), zero_point(rng)
        tensors = [activation(shape, step, zero) for _ in range(count)] + [output(step, zero)]
        streams = [samples(rng, shape, 8, zero=zero) for _ in range(count)]
        opts = options("Pack", axis=axis, valuesCount=count)
        yield Case("PACK", f"{count} of {shape} along {axis}", tensors, list(range(count)), [count], streams, opts, 2)
    for shape, axis in [((1, 4, 3, 2), 1), ((1, 4, 3, 2), 2), ((1, 4, 3, 2), -1), ((1, 3, 5), 1), ((1, 3, 5), 2), ((1, 4), 1)]:
        count = shape[axis]
        opts = options("Unpack", axis=axis, num=count)
        yield move(rng, "UNPACK", f"{shape} along {axis}", shape, [], opts, 2, count)
    for shape, axis, places in [
        ((1, 5, 4, 3), 1, (0, 4, 2)), ((1, 5, 4, 3), 2, (3, 3, 0, 1, 2)), ((1, 5, 4, 3), 3, (2,)), ((1, 9), 1, (8, 0)),
        ((1, 6, 4), -1, (1, 0, 3, 2)), ((1, 6, 4), 1, ((0, 1), (5, 3))),
    ]:  # fmt: skip
        opts = options("Gather", axis=axis)
        yield move(rng, "GATHER", f"{shape} along {axis}, {places}", shape, [integers(places)], opts, 2)
    for shape, times in [((1, 3, 4, 2), (1, 2, 3, 2)), ((1, 3, 4, 2), (1, 1, 1, 4)), ((1, 5), (1, 3)), ((1, 2, 3), (1, 2, 1))]:
        yield move(rng, "TILE", f"{shape}, {times} times", shape, [integers(times)], options("Tile"), 2)


def cases(rng):
    for family in (pools, mean, softmax, reshapes, pads, concatenations, splits, slices, resizes, extremes, orders, bilinear):
        yield from family(rng)
