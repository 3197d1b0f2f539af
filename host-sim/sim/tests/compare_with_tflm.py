#!/usr/bin/env python3
"""Compares flatmin with tflite-micro's interpreter: arena, code and every output byte.

For each model the activation arena that `flatmin inspect` announces, its lower bound, and what tflite-micro allocates:
`tensors` are its activations and scratch buffers, which overlap as ours do, `all` also what it keeps for itself. Code is
that of the benchmark's firmware for a board with the kernels of the model's operators alone.

Outputs are compared on random inputs, with LiteRT's reference kernels as the third. tflite-micro and LiteRT are not equal:
probably in how FULLY_CONNECTED rounds. Exits with 1 if an arena is larger than tflite-micro's for
tensors, or if a byte of flatmin's is not LiteRT's: then flatmin differs from tflite-micro only where LiteRT does.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from tflite_micro import runtime

sys.path.insert(0, str(Path(__file__).resolve().parent / "golden"))
import litert_outputs

ARENA_BYTES = 16 << 20


def flatmin(binary, *arguments):
    """The JSON object that a command prints."""
    found = subprocess.run([binary, *arguments, "--json"], stdout=subprocess.PIPE)
    if found.returncode != 0:
        raise SystemExit(f"flatmin {' '.join(map(str, arguments))} failed")
    return json.loads(found.stdout)


def allocations(interpreter):
    """(activations and scratch buffers, everything) in bytes. The interpreter writes them to the error stream."""
    with tempfile.TemporaryFile() as report:
        sys.stderr.flush()
        errors = os.dup(2)
        os.dup2(report.fileno(), 2)
        try:
            interpreter.print_allocations()
        finally:
            os.dup2(errors, 2)
            os.close(errors)
        report.seek(0)
        text = report.read().decode()
    numbers = dict(re.findall(r"Arena allocation (total|head) (\d+) bytes", text))
    if set(numbers) != {"total", "head"}:
        raise SystemExit(f"tflite-micro reports its allocations otherwise than expected:\n{text}")
    return int(numbers["head"]), int(numbers["total"])


def micro_outputs(interpreter, inputs):
    """What tflite-micro answers, one output a row, flat."""
    shape = interpreter.get_input_details(0)["shape"]
    outputs = []
    for values in inputs:
        interpreter.set_input(values.reshape(shape), 0)
        interpreter.invoke()
        outputs.append(interpreter.get_output(0).reshape(-1).copy())
    return np.stack(outputs)


def flatmin_outputs(binary, model, inputs):
    """The same of flatmin."""
    with tempfile.TemporaryDirectory() as folder:
        x, y = Path(folder) / "x.npy", Path(folder) / "y.npy"
        np.save(x, inputs)
        subprocess.run([binary, "run", model, "--input", x, "--output", y], check=True, stdout=subprocess.DEVNULL)
        return np.load(y).reshape(len(inputs), -1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("flatmin", type=Path, help="the binary")
    parser.add_argument("models", type=Path, nargs="+", help=".tflite files with one int8 input and one int8 output")
    parser.add_argument("--board", default="mps2-an386", help="whose code is counted")
    parser.add_argument("--inputs", type=int, default=200, help="random inputs for each model")
    args = parser.parse_args()

    failed = False
    print(f"{'':28} {'flatmin':>14} {'tflite-micro':>15} {'code, bytes':>16} {'output bytes that differ, of':>30}")
    print(
        f"{'model':28} {'arena':>7} {'bound':>6} {'tensors':>8} {'all':>6} {'firmware':>8} {'flatmin':>7}"
        f"{'ours':>9} {'LiteRT':>7} {'wrong':>6} {'all':>5}"
    )
    for model in args.models:
        inspection = flatmin(args.flatmin, "inspect", model)
        code = flatmin(args.flatmin, "bench", "--board", args.board, model)["code"]
        interpreter = runtime.Interpreter.from_file(str(model), arena_size=ARENA_BYTES)
        interpreter.invoke()
        tensors, everything = allocations(interpreter)
        reference = litert_outputs.open_model(model)
        shape = reference.get_input_details()[0]["shape"][1:]
        inputs = litert_outputs.random_inputs(7, (args.inputs, *shape))
        ours, micro, litert = (
            flatmin_outputs(args.flatmin, model, inputs),
            micro_outputs(interpreter, inputs),
            litert_outputs.run(reference, inputs),
        )
        if not (ours.shape == micro.shape == litert.shape and ours.dtype == micro.dtype == litert.dtype):
            raise SystemExit(f"{model}: outputs of unlike shapes or types")
        wrong = int((ours != litert).sum())
        arena, bound = inspection["arena_bytes"], inspection["arena_lower_bound"]
        larger = arena > tensors
        failed |= larger or wrong > 0
        print(
            f"{model.stem:28} {arena:7} {bound:6} {tensors:8} {everything:6} {code['firmware']:8} {code['flatmin']:7}"
            f"{int((ours != micro).sum()):9} {int((litert != micro).sum()):7} {wrong:6} {ours.size:5}"
            f"{'  <-- larger' if larger else ''}"
        )
    print("ours, LiteRT: bytes that differ from tflite-micro's; wrong: ours that differ from LiteRT's")
    sys.exit(failed)


if __name__ == "__main__":
    main()
