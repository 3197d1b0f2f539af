"""Random quantization parameters and samples."""

import numpy as np

f32 = np.float32


def scale(rng, low=-3, high=0):
    """Log-uniform between powers of ten."""
    return f32(10 ** rng.uniform(low, high))


def zero_point(rng):
    """Mostly anywhere, often an end of the range or 0."""
    return int(rng.choice([-128, 0, 127])) if rng.random() < 0.3 else int(rng.integers(-128, 128))


def samples(rng, shape, count=16, zero=0, dtype=np.int8):
    """Random bytes, the extremes, the zero point, alternation, and a narrow spread about the zero point."""
    info = np.iinfo(dtype)
    low, high = info.min, info.max
    shape = (count, *shape)
    values = rng.integers(low, high + 1, shape)
    values[0], values[1], values[2] = low, high, zero
    values[3] = np.where(np.arange(values[3].size) % 2, low, high).reshape(values[3].shape)
    values[4] = np.clip(zero + rng.integers(-3, 4, values[4].shape), low, high)
    # Few distinct values: many equal maxima and exact ties.
    values[5] = rng.choice([low, -1 if low else 127, zero, high], values[5].shape)
    return values.astype(dtype)


def every_value(rng, copies=1, dtype=np.int8):
    """All 256 values in one sample of shape [1, 256], then shuffled."""
    info = np.iinfo(dtype)
    values = np.arange(info.min, info.max + 1).astype(dtype)
    return np.stack([values if copy == 0 else rng.permutation(values) for copy in range(copies)])[:, None]


# The real range of a fused activation: outputs should spread over it, and past it.
REACH = {"relu6": 4.0, "relu_n1_to_1": 1.0}


def fitted(rng, fused, output_scale):
    """The factor for an input's scale, the output's scale, and a zero point, with which outputs that spread over
    some 50 steps of `output_scale` reach both sides of the fused activation's clamp, which leaves several values."""
    factor = REACH[fused] / (50 * float(output_scale)) if fused in REACH else 1.0
    zero = {
        "none": lambda: zero_point(rng),
        "relu": lambda: rng.integers(-128, 60),
        "relu6": lambda: rng.integers(-128, 40),
    }
    zero["relu_n1_to_1"] = lambda: rng.integers(-90, 90)
    return f32(factor), int(zero[fused]())
