#!/usr/bin/env python3
"""Outputs of LiteRT's reference kernels: the golden files here, or those of any model and inputs.

Without --model: for every bundled model, 1,000 random inputs and 1,000 windows of the recordings,
written as wearerNN_random.bin and wearerNN_real.bin (README.md). With --model, --input and
--output: runs one int8 model on every row of a .npy file.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

HERE = Path(__file__).resolve().parent
HOST_SIM = HERE.parents[2]
sys.path.insert(0, str(HOST_SIM / "data"))
import convert as recordings_file

COUNT = 1000
WINDOW = 100
STRIDE = 50


def splitmix64(seed, count):
    """Outputs 1 to `count` of the generator; arithmetic on uint64 arrays wraps."""
    z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def random_inputs(seed, shape):
    """One stream over all inputs: byte i is the top byte of output i, read as int8."""
    top = (splitmix64(seed, int(np.prod(shape))) >> np.uint64(56)).astype(np.uint8)
    return top.view(np.int8).reshape(shape)


def real_windows():
    """The first COUNT windows of stride STRIDE over all recordings in file order, float32."""
    _, factor, recordings = recordings_file.load()
    windows = []
    for recording in recordings:
        samples = recording.samples.astype(np.float32) * factor
        for start in range(0, len(samples) - WINDOW + 1, STRIDE):
            windows.append(samples[start : start + WINDOW])
            if len(windows) == COUNT:
                return np.stack(windows)
    raise SystemExit("too few windows")


def quantize(values, scale, zero_point):
    """All in float32, halves rounded away from zero: clamp(round(value / scale) + zero point)."""
    scaled = values.astype(np.float32) / np.float32(scale)
    whole = np.trunc(scaled)
    # The difference is exact, unlike scaled + 0.5, which may round up to the next integer.
    whole += np.copysign(np.abs(scaled - whole) >= np.float32(0.5), scaled)
    return np.clip(whole + zero_point, -128, 127).astype(np.int8)


def open_model(path):
    # BUILTIN_REF: the reference kernels, which define the bits; no optimized kernels, no delegate.
    interpreter = Interpreter(str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_REF, num_threads=1)
    interpreter.allocate_tensors()
    for details in (interpreter.get_input_details(), interpreter.get_output_details()):
        if len(details) != 1 or details[0]["dtype"] != np.int8:
            raise SystemExit(f"{path}: one int8 input and one int8 output expected")
    return interpreter


def run(interpreter, inputs):
    """int8 inputs, one a row and in the input's shape or flat; returns the outputs, flat."""
    entry, exit_ = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    outputs = np.empty((len(inputs), int(np.prod(exit_["shape"]))), np.int8)
    for row, values in zip(outputs, inputs):
        interpreter.set_tensor(entry["index"], values.reshape(entry["shape"]))
        interpreter.invoke()
        row[:] = interpreter.get_tensor(exit_["index"]).reshape(-1)
    return outputs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a .tflite file with one int8 input and one int8 output")
    parser.add_argument("--input", type=Path, help="int8 .npy, one input a row")
    parser.add_argument("--output", type=Path, help="where to write the int8 .npy of outputs, one a row")
    args = parser.parse_args()

    given = [args.model, args.input, args.output]
    if any(given):
        if not all(given):
            parser.error("--model, --input and --output go together")
        inputs = np.load(args.input)
        if inputs.dtype != np.int8:
            parser.error(f"{args.input} holds {inputs.dtype}, int8 expected")
        # A file object: np.save would append .npy to a path that ends otherwise.
        with args.output.open("wb") as file:
            np.save(file, run(open_model(args.model), inputs))
        return

    windows = real_windows()
    for wearer in range(1, 11):
        interpreter = open_model(HOST_SIM / f"models/wearer{wearer:02}.tflite")
        entry = interpreter.get_input_details()[0]
        for name, inputs in (
            ("random", random_inputs(wearer, (COUNT, *entry["shape"]))),
            ("real", quantize(windows, *entry["quantization"])),
        ):
            path = HERE / f"wearer{wearer:02}_{name}.bin"
            path.write_bytes(run(interpreter, inputs).tobytes())
            print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
