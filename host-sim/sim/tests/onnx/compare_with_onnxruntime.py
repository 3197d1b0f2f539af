#!/usr/bin/env python3
"""Compares `flatmin run` with ONNX Runtime on quantized ONNX models with one input and one output, both int8.

Operator by operator: each is cut out between its quantized neighbours and runs on the numbers that ONNX Runtime has
there, so that differences do not add up; none may be above --bound steps. And the whole network, where a step in
front of a steep layer becomes many behind it: printed, with how often both choose the same class.

Random inputs, and with --clips a file's int8 inputs for the first model. ONNX Runtime runs without graph
optimization, so that it computes what the file says.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper

COUNT = 200


def session(model):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def flatmin_outputs(flatmin, model, inputs, folder):
    paths = [folder / f"x{place}.npy" for place in range(len(inputs))]
    for path, values in zip(paths, inputs):
        np.save(path, values)
    command = [flatmin, "run", model, "--output", folder / "y.npy"]
    for path in paths:
        command += ["--input", path]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return np.load(folder / "y.npy")


def operators(model, values):
    """(result, what it is computed from, model) for every quantized result; `values` are one sample's."""
    graph = model.graph
    writer = {name: node for node in graph.node for name in node.output}
    cuts = [node.output[0] for node in graph.node if node.op_type == "QuantizeLinear"]
    borders = {i.name for i in graph.input} | set(cuts)
    for cut in cuts:
        inputs, names, places = [], set(), set()

        def visit(name):
            if name in borders and name != cut:
                inputs.extend([] if name in inputs else [name])
            elif name in writer:
                places.add(next(i for i, node in enumerate(graph.node) if name in node.output))
                for before in writer[name].input:
                    names.add(before)
                    visit(before)

        visit(cut)
        kind = onnx.TensorProto.INT8
        own = helper.make_graph(
            [graph.node[i] for i in sorted(places)], "operator",
            [helper.make_tensor_value_info(i, kind, values[i].shape) for i in inputs],
            [helper.make_tensor_value_info(cut, kind, values[cut].shape)],
            [i for i in graph.initializer if i.name in names])
        title = " ".join(graph.node[i].op_type for i in sorted(places) if "Linear" not in graph.node[i].op_type)
        yield cut, inputs, title, helper.make_model(own, opset_imports=model.opset_import, ir_version=model.ir_version)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("flatmin", type=Path, help="the binary")
    parser.add_argument("models", type=Path, nargs="+", help="int8 .onnx files")
    parser.add_argument("--clips", type=Path, help="int8 inputs of the first model in a headerless file")
    parser.add_argument("--bound", type=int, default=1, help="the largest difference that is no fault, in steps")
    args = parser.parse_args()

    cases = []
    for place, path in enumerate(args.models):
        model = onnx.load(path)
        shape = session(model).get_inputs()[0].shape[1:]
        random = np.random.default_rng(place).integers(-128, 128, (COUNT, *shape)).astype(np.int8)
        cases.append((path, model, "random", random))
        if place == 0 and args.clips:
            clips = np.fromfile(args.clips, np.int8).reshape(-1, *shape)
            # Spread over the file, which is sorted by word.
            cases.append((path, model, "real", clips[np.linspace(0, len(clips) - 1, COUNT).astype(int)]))

    largest = 0
    print(f"{'model':27} {'inputs':>6} | {'operators':>9} {'values':>8} {'differ':>7} {'steps':>5} "
          f"| whole: {'differ':>6} {'steps':>5} {'same class':>10}")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for path, model, kind, inputs in cases:
            probe = onnx.ModelProto()
            probe.CopyFrom(model)
            results = [node.output[0] for node in model.graph.node if node.op_type == "QuantizeLinear"]
            del probe.graph.output[:]
            probe.graph.output.extend(helper.make_tensor_value_info(r, onnx.TensorProto.INT8, None) for r in results)
            runtime, name = session(probe), model.graph.input[0].name
            runs = [dict(zip(results, runtime.run(None, {name: one[None]})), **{name: one[None]}) for one in inputs]
            total = differ = steps = count = 0
            for result, sources, title, own in operators(model, runs[0]):
                onnx.save(own, folder / "operator.onnx")
                gathered = [np.concatenate([run[source] for run in runs]) for source in sources]
                found = flatmin_outputs(args.flatmin, folder / "operator.onnx", gathered, folder)
                expected = np.concatenate([run[result] for run in runs])
                difference = np.abs(found.astype(int) - expected.astype(int))
                if difference.max() > args.bound:
                    print(f"{title} to {result}: {difference.max()} steps")
                total, differ, count = total + found.size, differ + (difference > 0).sum(), count + 1
                steps = max(steps, int(difference.max()))
            largest = max(largest, steps)
            expected = np.concatenate([run[model.graph.output[0].name] for run in runs]).reshape(COUNT, -1)
            found = flatmin_outputs(args.flatmin, path, [inputs], folder).reshape(COUNT, -1)
            whole = np.abs(found.astype(int) - expected.astype(int))
            same = (found.argmax(1) == expected.argmax(1)).sum()
            print(f"{path.stem:27} {kind:>6} | {count:9} {total:8} {differ:7} {steps:5} "
                  f"| {(whole > 0).mean():12.2%} {whole.max():6} {same:4} of {COUNT}")
    print(f"largest difference of an operator: {largest} step(s), {args.bound} allowed")
    sys.exit(largest > args.bound)


if __name__ == "__main__":
    main()
