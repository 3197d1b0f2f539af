#!/usr/bin/env python3
"""Writes a `.tflite` whose layers are read by constant MULs and ADDs (batch normalization after a ReLU), a residual ADD, a
MAX_POOL_2D and a MEAN, with samples of four classes to tune it on: MODEL.tflite X.npy Y.npy."""

import sys

import numpy as np

from tflite import FUSED, activation, constant, integers, options, pack, schema

LENGTH, CLASSES = 16, 4


def main():
    model, features, labels = sys.argv[1:]
    random = np.random.default_rng(1)
    tensors, operators = [], []

    def tensor(new):
        tensors.append(new)
        return len(tensors) - 1

    def operator(name, inputs, output, own_options=None, version=1):
        operators.append((name, inputs, [output], own_options, version))
        return output

    def layer(name, shape, x, output, own_options, version):
        taps = int(np.prod(shape[1:]))
        scale = 1 / 127 / np.sqrt(taps)
        weights = tensor(constant(random.integers(-127, 128, shape, np.int8), scale))
        biases = tensor(constant(np.zeros(shape[0], np.int32), tensors[x].scale * scale))
        return operator(name, [x, weights, biases], output, own_options, version)

    def conv(shape, x, extent, scale, zero_point, fused):
        window = options("Conv2D", padding=schema.Padding.SAME, strideH=1, strideW=1, fusedActivationFunction=FUSED[fused])
        output = tensor(activation((1, 1, extent, shape[0]), scale, zero_point))
        return layer("CONV_2D", shape, x, output, window, 3)

    def normalized(x, shape):
        gain, offset = (
            tensor(constant(random.integers(20, 121, (1, 1, 1, shape[-1])).astype(np.int8), 0.01)) for _ in range(2)
        )
        plain = FUSED["none"]
        x = operator("MUL", [x, gain], tensor(activation(shape, 0.012, -128)), options("Mul", fusedActivationFunction=plain), 2)
        return operator("ADD", [x, offset], tensor(activation(shape, 0.012, -120)), options("Add", fusedActivationFunction=plain), 2)

    input_ = tensor(activation((1, 1, LENGTH, 3), 0.02, 0))
    x = conv((8, 1, 3, 3), input_, LENGTH, 0.004, -128, "relu")
    x = normalized(x, (1, 1, LENGTH, 8))
    pool = options("Pool2D", padding=schema.Padding.SAME, strideH=1, strideW=2, filterHeight=1, filterWidth=2)
    halved = (1, 1, LENGTH // 2, 8)
    x = operator("MAX_POOL_2D", [x], tensor(activation(halved, 0.012, -120)), pool, 2)
    y = conv((8, 1, 3, 8), x, LENGTH // 2, 0.004, 0, "none")
    relu = options("Add", fusedActivationFunction=FUSED["relu"])
    x = operator("ADD", [x, y], tensor(activation(halved, 0.012, -128)), relu, 2)
    x = normalized(x, halved)
    x = conv((12, 1, 1, 8), x, LENGTH // 2, 0.004, -128, "relu")
    axes = tensor(integers([1, 2]))
    x = operator("MEAN", [x, axes], tensor(activation((1, 12), 0.002, -128)), options("Reducer", keepDims=False), 2)
    logits = tensor(activation((1, CLASSES), 0.002, 0))
    x = layer("FULLY_CONNECTED", (CLASSES, 12), x, logits, options("FullyConnected"), 4)
    x = operator("SOFTMAX", [x], tensor(activation((1, CLASSES), 1 / 256, -128)), options("Softmax", beta=1.0), 2)
    with open(model, "wb") as file:
        file.write(pack(tensors, operators, [input_], [x]))

    label = np.arange(160) % CLASSES
    turn = np.arange(LENGTH)[None, :, None] * (label[:, None, None] + 1) / LENGTH * 2 * np.pi
    wave = 80 * np.sin(turn + random.random((160, 1, 1)) + np.arange(3))
    noise = 30 * (2 * random.random((160, LENGTH, 3)) - 1)
    np.save(features, (wave + noise).astype(np.int8)[:, None])
    np.save(labels, label)


if __name__ == "__main__":
    main()
