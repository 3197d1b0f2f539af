"""Behind timing.py. Nanoseconds an inference of tflite-micro's interpreter: `micro_interpreter.py MODEL`, one JSON number."""

import json
import sys

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
    return fastest(interpreter.invoke)


print(json.dumps(nanoseconds(sys.argv[1])))
