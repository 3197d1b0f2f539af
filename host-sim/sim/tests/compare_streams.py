#!/usr/bin/env python3
"""Compares `flatmin run --stream` with LiteRT's reference kernels on every output byte, over 200 hops of a stream.

Each model is taken as it is, and once more with what its last FULLY_CONNECTED reads as its output: many bytes, where a wake
word's probability is one. Hops are random bytes, and a slow walk about the zero point. Prints a table; exits with 1 if a byte
differs.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

HOPS = 200


def inside(model):
    """The model's bytes with another output: what the last FULLY_CONNECTED reads."""
    own = schema.ModelT.InitFromPackedBuf(model, 0)
    graph = own.subgraphs[0]
    code = lambda op: own.operatorCodes[op.opcodeIndex]
    name = lambda op: max(code(op).builtinCode, code(op).deprecatedBuiltinCode)
    last = [op for op in graph.operators if name(op) == schema.BuiltinOperator.FULLY_CONNECTED][-1]
    graph.outputs = [last.inputs[0]]
    own.signatureDefs = []
    builder = flatbuffers.Builder(len(model))
    builder.Finish(own.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def litert(model, hops):
    interpreter = Interpreter(model_content=model, experimental_op_resolver_type=OpResolverType.BUILTIN_REF, num_threads=1)
    interpreter.allocate_tensors()
    entry, exit_ = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    outputs = []
    for hop in hops:
        interpreter.set_tensor(entry["index"], hop.reshape(entry["shape"]))
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(exit_["index"]).reshape(-1).copy())
    return np.stack(outputs)


def streams(model):
    """Kinds of hops: their name and their bytes."""
    entry = Interpreter(model_content=model).get_input_details()[0]
    shape, zero = (HOPS, *entry["shape"][1:]), entry["quantization"][1]
    rng = np.random.default_rng(200)
    yield "random", rng.integers(-128, 128, shape).astype(np.int8)
    walk = np.cumsum(rng.normal(0, 6, shape), axis=0)
    # Back from the ends, again and again.
    yield "walk", np.clip(zero + np.abs((walk + 128) % 512 - 256), -128, 127).astype(np.int8)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("flatmin", type=Path, help="the binary")
    parser.add_argument("models", type=Path, nargs="+", help=".tflite files with one int8 input and one output")
    args = parser.parse_args()
    wrong = total = 0
    print(f"{'model':20} {'output':8} {'hops':8} {'bytes':>7} {'values':>6} {'differ':>6}")
    with tempfile.TemporaryDirectory() as folder:
        model, x, y = (Path(folder) / name for name in ("model.tflite", "x.npy", "y.npy"))
        for path in args.models:
            own = path.read_bytes()
            for output, content in (("own", own), ("inside", inside(own))):
                model.write_bytes(content)
                for kind, hops in streams(content):
                    np.save(x, hops)
                    command = [args.flatmin, "run", model, "--stream", "--input", x, "--output", y]
                    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                    expected, found = litert(content, hops), np.load(y)
                    same = found.dtype == expected.dtype and found.size == expected.size
                    differ = int((found.reshape(expected.shape) != expected).sum()) if same else expected.size
                    values = len(np.unique(expected))
                    print(f"{path.stem:20} {output:8} {kind:8} {expected.size:7} {values:6} {differ:6}")
                    wrong, total = wrong + differ, total + expected.size
    print(f"{wrong} of {total} output bytes differ")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
