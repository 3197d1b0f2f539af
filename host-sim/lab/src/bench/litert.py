"""Behind timing.py. Nanoseconds an inference of LiteRT's interpreter on one thread: `litert.py MODEL`, one JSON object."""

import json
import sys

import numpy
from ai_edge_litert.interpreter import Interpreter, OpResolverType


def nanoseconds(model, resolver):
    interpreter = Interpreter(model_path=model, num_threads=1, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    generator = numpy.random.default_rng(1)
    for detail in interpreter.get_input_details():
        shape, kind = detail["shape"], detail["dtype"]
        values = generator.integers(-128, 128, shape) if kind == numpy.int8 else generator.random(shape)
        interpreter.set_tensor(detail["index"], values.astype(kind))
    return fastest(interpreter.invoke)


print(
    json.dumps(
        {
            "without_xnnpack": nanoseconds(sys.argv[1], OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES),
            "with_xnnpack": nanoseconds(sys.argv[1], OpResolverType.BUILTIN),
        }
    )
)
