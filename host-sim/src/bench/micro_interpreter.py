"""Nanoseconds an inference of tflite-micro's interpreter: `micro_interpreter.py MODEL`, one JSON number."""

import json
import sys
import time

import numpy
from tflite_micro import runtime

ARENA_BYTES = 16 << 20


def nanoseconds(model):
    interpreter = runtime.Interpreter.from_file(model, arena_size=ARENA_BYTES)
    generator = numpy.random.default_rng(1)
    with open(model, "rb") as file:
        inputs = runtime.convert_bytearray_to_object(file.read()).subgraphs[0].inputs
    for index in range(len(inputs)):
        detail = interpreter.get_input_details(index)
        shape, kind = detail["shape"], detail["dtype"]
        values = generator.integers(-128, 128, shape) if kind == numpy.int8 else generator.random(shape)
        interpreter.set_input(values.astype(kind), index)
    best, repeats, end = float("inf"), 1, time.perf_counter() + 1.0
    while time.perf_counter() < end:
        start = time.perf_counter_ns()
        for _ in range(repeats):
            interpreter.invoke()
        took = time.perf_counter_ns() - start
        best = min(best, took / repeats)
        if took < 10_000_000:
            repeats *= 2
    return best


print(json.dumps(nanoseconds(sys.argv[1])))
