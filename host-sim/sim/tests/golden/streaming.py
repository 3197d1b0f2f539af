#!/usr/bin/env python3
"""A network that keeps variables, and LiteRT's outputs for 200 hops of one stream: streaming.tflite and streaming.bin (README.md)."""

import sys
from pathlib import Path

import numpy as np

import litert_outputs

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2] / "cli/tests/operators"))
import streams

HOPS = 200


def main():
    first = np.arange(-8, 8).astype(np.int8).reshape(1, 2, 1, 8)
    case = streams.detector(np.random.default_rng(20), first, unsigned=False, classes=4, inside=False)
    case.samples = [litert_outputs.random_inputs(20, (HOPS, 1, 3, 8))]
    case.solve()
    (HERE / "streaming.tflite").write_bytes(case.model)
    (HERE / "streaming.bin").write_bytes(case.expected[0].tobytes())
    print(f"{len(case.model)} bytes; {case.expected[0].shape} outputs, {len(np.unique(case.expected[0]))} values")


if __name__ == "__main__":
    main()
