"""Cases of the operators that work element by element: ADD, SUB, MUL, activations, PRELU, (DE)QUANTIZE."""

import itertools

import numpy as np

from draw import every_value, f32, fitted, samples, scale, zero_point
from tflite import FUSED, Case, activation, constant, options, output

FUSIONS = itertools.cycle(["none", "relu", "none", "relu6", "relu_n1_to_1"])

# Shapes of both operands; True: the second is a constant, "first": the first is.
BROADCASTS = [
    ((1, 5, 4, 3), (1, 5, 4, 3), False), ((1, 7, 9), (1, 7, 9), False), ((1, 37), (1, 37), False),
    ((11,), (11,), False),
    ((1, 5, 4, 3), (1, 1, 1, 3), False), ((1, 1, 1, 3), (1, 5, 4, 3), False), ((1, 5, 4, 3), (1, 5, 1, 3), False),
    ((1, 5, 1, 3), (1, 1, 4, 3), False), ((1, 5, 4, 3), (1, 1, 1, 1), False), ((1, 5, 1), (1, 1, 6), False),
    ((1, 5, 4, 3), (1, 5, 4, 3), True), ((1, 5, 4, 3), (3,), True), ((1, 5, 4, 3), (), True), ((1, 8), (1,), True),
    ((1, 5, 4, 3), (5, 4, 1), True), ((1, 5, 4, 3), (1, 1, 1, 3), True), ((1, 9), (1, 9), "first"),
    ((3,), (1, 2, 4, 3), "first"),
]  # fmt: skip


def binary_scales(rng, operator, number):
    """Both scales and the output's; every fourth pair of powers of two, where ties are frequent."""
    if number % 4 == 3:
        first, second = f32(2.0**-4), f32(2.0 ** -rng.integers(3, 6))
        return first, second, f32(2.0 ** (-rng.integers(0, 4) if operator == "MUL" else -rng.integers(1, 4)))
    first = scale(rng, -2, 0)
    second = first if number % 4 == 1 else scale(rng, -2, 0)
    reach = float(first) * float(second) * 60 if operator == "MUL" else float(max(first, second))
    return first, second, f32(reach * 2 ** rng.uniform(-1.5, 2.5))


def binary(rng):
    for operator, name in (("ADD", "Add"), ("SUB", "Sub"), ("MUL", "Mul")):
        for number, (left, right, fixed) in enumerate(BROADCASTS):
            first, second, result = binary_scales(rng, operator, number)
            fused = next(FUSIONS) if number % 4 != 3 else "none"  # powers of two: nothing to fit to a clamp
            factor, output_zero = fitted(rng, fused, result)
            first, result = first * factor, result * factor
            if operator != "MUL":
                second = second * factor
            zeros = [zero_point(rng), zero_point(rng)]
            tensors = [activation(left, first, zeros[0]), activation(right, second, zeros[1])]
            streams = [samples(rng, shape, zero=zero) for shape, zero in zip((left, right), zeros)]
            # The second stream in another order: its extremes meet other extremes.
            streams[1] = np.roll(streams[1], number % 5, axis=0)
            if fixed:
                at = 0 if fixed == "first" else 1
                shape = tensors[at].shape
                tensors[at] = constant(rng.integers(-128, 128, shape).astype(np.int8), tensors[at].scale, zeros[at])
                del streams[at]
            about = f"{left} and {right}, constant: {fixed}, {fused}"
            opts = options(name, fusedActivationFunction=FUSED[fused])
            tensors.append(output(result, output_zero))
            yield Case(operator, about, tensors, [0, 1], [2], streams, opts, 2)
        for number in range(4):
            first, second, result = binary_scales(rng, operator, number)
            if number == 2:
                result = f32(result / 100)  # nearly everything saturates, the multiplier may exceed 1
            if number < 2 and operator == "MUL":
                result = decisive(
                    rng,
                    PRODUCTS,
                    lambda to: first * second / f32(to),
                    lambda to: float(first) * float(second) / float(to),
                )
            one = np.tile(every_value(rng)[0], (256, 1))[:, None]
            other = np.broadcast_to(every_value(rng)[0, 0][:, None, None], (256, 1, 256)).copy()
            shape = (1, 256)
            tensors = [activation(shape, first, zero_point(rng)), activation(shape, second, zero_point(rng))]
            tensors.append(output(result, zero_point(rng)))
            yield Case(operator, "all pairs", tensors, [0, 1], [2], [one, other], options(name), 2)
        shape, zero = (1, 3, 5), zero_point(rng)
        both = [activation(shape, f32(0.03), zero), output(f32(0.05), zero_point(rng))]
        yield Case(operator, "of a tensor with itself", both, [0, 0], [1], [samples(rng, shape)], options(name), 2)


def half_away(value):
    return int(np.floor(abs(value) + 0.5) * np.sign(value))


def decisive(rng, distances, single, double):
    """An output scale with which one of `distances` input steps come so close to a half that the multiplier's precision
    decides. `single` and `double` give the multiplier of an output scale as the two precisions take it. Not below a
    half: there the first of two roundings meets the half first."""
    while True:
        distance = int(rng.choice(distances))
        wanted = (rng.integers(distance // 2 + 1, min(distance + 1, 90)) + 0.5) / distance
        output_scale = f32(double(1.0) / wanted)
        if half_away(distance * float(single(output_scale))) != half_away(distance * float(double(output_scale))):
            return output_scale


# Products of two distances from zero points, which both lie within the bytes.
PRODUCTS = [a * b for a in range(5, 12) for b in range(4, 12)]
# Steps that lie on both sides of a zero point in -90..90.
STEPS = range(20, 38)


def unary_case(rng, operator, number, result, opts=None, version=2, from_scale=None, resolver="BUILTIN_REF", zero=None):
    """All 256 values, or a shape of rank 1 to 4."""
    # Scales with which the inputs reach past both ends of what the operator does.
    low, high = {"RELU6": (-1.7, -0.7), "RELU_N1_TO_1": (-2.2, -1), "TANH": (-2.5, -1)}.get(operator, (-3, 0))
    from_scale = from_scale or scale(rng, low, high)
    own_zero = zero_point(rng) if number % 5 == 0 else int(rng.integers(-90, 90))
    zero = own_zero if zero is None else zero
    to_scale, to_zero = result(from_scale)
    shape = [(1, 256), (1, 3, 5, 7), (1, 6, 9), (13,)][number % 8 if number % 8 < 4 else 0]
    stream = every_value(rng, 2) if shape == (1, 256) else samples(rng, shape, zero=zero)
    about = f"{shape}, scale {from_scale:.4g} to {to_scale:.4g}, zero point {zero} to {to_zero}"
    tensors = [activation(shape, from_scale, zero), output(to_scale, to_zero)]
    return Case(operator, about, tensors, [0], [1], [stream], opts, version, resolver)


def near_identity(rng, from_scale):
    return decisive(rng, STEPS, lambda to: from_scale / f32(to), lambda to: float(from_scale) / float(to))


def unary(rng):
    def free(from_scale):
        return f32(from_scale * 2 ** rng.uniform(-2, 3)), int(rng.integers(-128, 100))

    def equal_or_power(from_scale):
        return f32(from_scale * 2.0 ** int(rng.integers(-1, 3))), int(rng.integers(-128, 100))

    def near(from_scale):
        return near_identity(rng, from_scale), int(rng.integers(-60, 60))

    for number in range(20):
        yield unary_case(rng, "LOGISTIC", number, lambda _: (f32(1 / 256), -128))
        tanh_result = (f32(1 / 128), 0) if number % 4 else (scale(rng, -3, -1.5), zero_point(rng))
        yield unary_case(rng, "TANH", number, lambda _: tanh_result)
        result = [equal_or_power, free, near, free][number % 4]
        yield unary_case(rng, "HARD_SWISH", number, result, version=1)
        yield unary_case(rng, "RELU", number, result)
        yield unary_case(rng, "RELU6", number, result)
        yield unary_case(rng, "RELU_N1_TO_1", number, result, version=1)
        alpha = float([2.0**-3, rng.uniform(0, 1), 0.3, rng.uniform(1, 2), 0.0, -0.25][number % 6])
        yield unary_case(rng, "LEAKY_RELU", number, result, options("LeakyRelu", alpha=alpha))
    for number in range(4):
        alpha = f32(rng.uniform(0.5, 1))

        def near_below(from_scale):
            return (
                decisive(
                    rng,
                    STEPS,
                    lambda to: from_scale * alpha / f32(to),
                    lambda to: float(from_scale) * float(alpha) / float(to),
                ),
                int(rng.integers(-20, 60)),
            )

        yield unary_case(rng, "LEAKY_RELU", 4 * number + 4, near_below, options("LeakyRelu", alpha=float(alpha)))
    for alpha in (-0.25, -0.125, -0.75, -1.5):
        # Powers of two: exact halves, which a negative factor would round the other way.
        yield unary_case(rng, "LEAKY_RELU", 4, lambda step: (step, 3), options("LeakyRelu", alpha=alpha))
    yield from decisive_hard_swish(rng)


def functions(rng):
    """Functions that the reference tabulates in single precision, and ABS, which it scales."""

    def result(from_scale):
        to_scale = f32(2.0 ** -rng.integers(3, 6)) if rng.integers(3) == 0 else scale(rng, -2, 0)
        return to_scale, int(rng.integers(-128, 100))

    for number in range(12):
        # The reference resolver has no ELU: the usual kernel, without a delegate.
        yield unary_case(rng, "ELU", number, result, version=1, resolver="BUILTIN_WITHOUT_DEFAULT_DELEGATES")
        yield unary_case(rng, "GELU", number, result, options("Gelu", approximate=number % 2 == 1), version=1)
        yield unary_case(rng, "EXP", number, result, version=1)
        yield unary_case(rng, "LOG", number, result, version=1)
        yield unary_case(rng, "ABS", number, result, version=1)
        yield unary_case(rng, "NEG", number, result, options("Neg"), version=1)
        # The reference refuses values below 0.
        yield unary_case(rng, "SQRT", number, result, version=1, zero=-128)
        yield unary_case(rng, "RSQRT", number, result, version=1, zero=-128)


def squared_difference(rng):
    for number, (left, right, fixed) in enumerate(BROADCASTS):
        first, second, _ = binary_scales(rng, "SUB", number)
        result = f32(max(first, second) ** 2 * 2 ** rng.uniform(2, 9))
        zeros = [zero_point(rng), zero_point(rng)]
        tensors = [activation(left, first, zeros[0]), activation(right, second, zeros[1])]
        streams = [samples(rng, shape, zero=zero) for shape, zero in zip((left, right), zeros)]
        streams[1] = np.roll(streams[1], number % 5, axis=0)
        if fixed:
            at = 0 if fixed == "first" else 1
            shape = tensors[at].shape
            tensors[at] = constant(rng.integers(-128, 128, shape).astype(np.int8), tensors[at].scale, zeros[at])
            del streams[at]
        tensors.append(output(result, int(rng.integers(-128, 60))))
        about = f"{left} and {right}, constant: {fixed}"
        yield Case("SQUARED_DIFFERENCE", about, tensors, [0, 1], [2], streams, options("SquaredDifference"))


def fixed_point_16(real):
    """The reference's 16-bit mantissa and exponent of a multiplier."""
    mantissa, exponent = np.frexp(float(real))
    return int(np.floor(mantissa * 2.0**15 + 0.5)), int(exponent)


def decisive_hard_swish(rng):
    """Scales whose ratio is another 16-bit mantissa in double precision than in single."""
    found = 0
    while found < 24:
        from_scale = scale(rng, -2, -0.7)
        to_scale = f32(from_scale * 2 ** rng.uniform(-1, 1))
        single = from_scale * f32(1 / 128) / to_scale
        double = float(from_scale) / 128 / float(to_scale)
        if fixed_point_16(single) == fixed_point_16(double):
            continue
        found += 1
        yield unary_case(rng, "HARD_SWISH", 4, lambda _: (to_scale, int(rng.integers(-128, 0))), None, 1, from_scale)


def prelu(rng):
    shapes = [
        ((1, 4, 5, 3), (1, 1, 3)),
        ((1, 4, 5, 3), (4, 5, 3)),
        ((1, 6, 7), (1, 7)),
        ((1, 9), (9,)),
        ((1, 256), (1,)),
    ]
    for number in range(24):
        shape, slopes = shapes[number % 5]
        from_scale, zero = scale(rng, -2, 0), int(rng.integers(-90, 90))
        slope_scale, slope_zero = (f32(2.0**-7), 0) if number % 3 == 0 else (scale(rng, -3, -1.5), zero_point(rng))
        slope = rng.integers(-128, 128, slopes).astype(np.int8)
        if shape == (1, 256) and number % 3 == 0:
            slope_scale = scale(rng, -3, -1.5)  # no power of two, which every precision holds
        to_scale = from_scale if number % 3 == 0 else f32(from_scale * 2 ** rng.uniform(-1, 2))
        if shape == (1, 256):
            slope[0] = np.clip(slope_zero + (7 if slope_zero < 0 else -7), -128, 127)
            to_scale = decisive(
                rng,
                range(35, 100, 7),
                lambda to: from_scale * slope_scale / f32(to),
                lambda to: float(from_scale) * float(slope_scale) / float(to),
            )
        stream = every_value(rng, 2) if shape == (1, 256) else samples(rng, shape, zero=zero)
        tensors = [activation(shape, from_scale, zero), constant(slope, slope_scale, slope_zero)]
        tensors.append(output(to_scale, int(rng.integers(-90, 90))))
        yield Case("PRELU", f"{shape}, slopes {slopes}", tensors, [0, 1], [2], [stream])


def quantize(rng):
    offsets = {np.int8: 0, np.uint8: 128}
    for number, (source, target) in itertools.product(range(10), itertools.product((np.int8, np.uint8), repeat=2)):
        if source == target == np.uint8:
            continue
        from_scale = scale(rng)
        to_scale = [
            from_scale,
            f32(from_scale * 2),
            scale(rng),
            f32(from_scale * 2 ** rng.uniform(-2, 2)),
            near_identity(rng, from_scale),
        ][number % 5]
        zero = zero_point(rng) if number % 5 < 4 else int(rng.integers(-90, 90))
        to_zero = zero if number == 0 else zero_point(rng)
        tensors = [
            activation((1, 256), from_scale, zero + offsets[source], source),
            output(to_scale, to_zero + offsets[target], target),
        ]
        about = f"{source.__name__} to {target.__name__}, scale {from_scale:.4g} to {to_scale:.4g}"
        yield Case("QUANTIZE", about, tensors, [0], [1], [every_value(rng, 2, source)], options("Quantize"), 2)
    for number in range(8):
        to_scale, zero, shape = scale(rng), zero_point(rng), [(1, 300), (1, 4, 5, 3)][number % 2]
        steps = rng.uniform(-300, 300, (8, *shape))
        halves = rng.integers(-300, 300, (8, *shape)) + 0.5
        values = np.where(rng.random(steps.shape) < 0.5, steps, halves).astype(f32) * to_scale
        values[0] = np.nextafter(values[1], f32(np.inf))
        values[2] = np.nextafter(values[1], f32(-np.inf))
        values[3].flat[:4] = [0.0, -0.0, 1e5 * to_scale, -1e5 * to_scale]
        tensors = [activation(shape, None, 0, np.float32), output(to_scale, zero)]
        yield Case(
            "QUANTIZE", f"float32 {shape} to int8", tensors, [0], [1], [values.astype(f32)], options("Quantize"), 2
        )


def dequantize(rng):
    for number, dtype in itertools.product(range(4), (np.int8, np.uint8)):
        zero = zero_point(rng) + (128 if dtype == np.uint8 else 0)
        tensors = [activation((1, 256), scale(rng, -6, 2), zero, dtype), output(None, 0, np.float32)]
        yield Case(
            "DEQUANTIZE", dtype.__name__, tensors, [0], [1], [every_value(rng, 2, dtype)], options("Dequantize"), 2
        )


def cases(rng):
    for family in (binary, unary, prelu, quantize, dequantize, functions, squared_difference):
        yield from family(rng)
