"""Cases of networks that keep variables from one inference to the next: VAR_HANDLE, READ_VARIABLE, ASSIGN_VARIABLE, CALL_ONCE."""

import numpy as np

from draw import f32, samples, scale, zero_point
from tflite import PADDING, Case, Tensor, activation, constant, integers, options, pack


class Network:
    """A network that is put together operator by operator; a tensor is its index."""

    def __init__(self):
        self.tensors, self.operators, self.inputs, self.first = [], [], [], {}

    def add(self, tensor):
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def input(self, shape, step, zero):
        self.inputs.append(self.add(activation(shape, step, zero)))
        return self.inputs[-1]

    def run(self, name, reads, writes, opts=None, version=1):
        """An operator; `writes` is its output's tensor, or None."""
        outputs = [] if writes is None else [self.add(writes)]
        self.operators.append((name, reads, outputs, opts, version))
        return outputs[0] if outputs else None

    def like(self, tensor, shape=None):
        own = self.tensors[tensor]
        return activation(shape or own.shape, own.scale, own.zero_point, own.dtype)

    def variable(self, name, first):
        """A handle; `first` is what it begins with, or None."""
        self.first[name] = first
        return self.run("VAR_HANDLE", [], Tensor((), dtype=object), options("VarHandle", sharedName=name, container=""))

    def read(self, handle, like):
        return self.run("READ_VARIABLE", [handle], like, options("ReadVariable"))

    def assign(self, handle, value):
        self.run("ASSIGN_VARIABLE", [handle, value], None, options("AssignVariable"))

    def together(self, parts, axis=1):
        shape = list(self.tensors[parts[0]].shape)
        shape[axis] = sum(self.tensors[part].shape[axis] for part in parts)
        opts = options("Concatenation", axis=axis)
        return self.run("CONCATENATION", parts, self.like(parts[0], tuple(shape)), opts, 2)

    def last(self, tensor, rows):
        """The last `rows` along axis 1."""
        shape = self.tensors[tensor].shape
        begin, end = [0, shape[1] - rows, *(0 for _ in shape[2:])], [1, *shape[1:]]
        limits = [self.add(integers(values)) for values in (begin, end, [1] * len(shape))]
        new = (1, rows, *shape[2:])
        return self.run("STRIDED_SLICE", [tensor, *limits], self.like(tensor, new), options("StridedSlice"), 2)

    def ring(self, name, tensor, rows, first=None):
        """`tensor` after the last `rows` rows of what came before."""
        shape = (1, rows, *self.tensors[tensor].shape[2:])
        own = self.tensors[tensor]
        if first is None:
            first = np.full(shape, own.zero_point, np.int8)
        handle = self.variable(name, constant(first, own.scale, own.zero_point))
        both = self.together([self.read(handle, self.like(tensor, shape)), tensor])
        self.assign(handle, self.last(both, rows))
        return both

    def convolution(self, rng, tensor, filters, fused=0, depthwise=False):
        """Along all of axis 1."""
        _, rows, _, channels = self.tensors[tensor].shape
        outputs = channels if depthwise else filters
        shape = (1, rows, 1, channels) if depthwise else (outputs, rows, 1, channels)
        scales = (10 ** rng.uniform(-2.5, -2, outputs)).astype(f32)
        weights = constant(rng.integers(-127, 128, shape).astype(np.int8), scales, axis=3 if depthwise else 0)
        step = self.tensors[tensor].scale
        biases = constant(rng.integers(-2000, 2000, outputs).astype(np.int32), step * scales)
        result = activation((1, 1, 1, outputs), f32(0.05), -128 if fused else zero_point(rng))
        fields = dict(padding=PADDING["valid"], strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1)
        kind = "DepthwiseConv2D" if depthwise else "Conv2D"
        opts = options(kind, fusedActivationFunction=fused, **fields)
        if depthwise:
            opts.depthMultiplier = 1
        name = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
        return self.run(name, [tensor, self.add(weights), self.add(biases)], result, opts, 3)

    def case(self, about, outputs, streams, once=True):
        operators, more = self.operators, []
        if once:
            operators = [("CALL_ONCE", [], [], options("CallOnce", initSubgraphIndex=1), 1), *operators]
            more = [self.beginning()]
        return Stream("STREAM", about, self.tensors, self.inputs, outputs, streams, operators, more)

    def beginning(self):
        """The subgraph that gives the variables their first values."""
        tensors, operators = [], []
        for name, value in self.first.items():
            if value is not None:
                place = len(tensors)
                tensors += [Tensor((), dtype=object), value]
                opts = options("VarHandle", sharedName=name, container="")
                operators.append(("VAR_HANDLE", [], [place], opts, 1))
                operators.append(("ASSIGN_VARIABLE", [place, place + 1], [], options("AssignVariable"), 1))
        return tensors, operators, [], []


class Stream(Case):
    def __init__(self, operator, about, tensors, inputs, outputs, streams, operators, more):
        super().__init__(operator, about, tensors, inputs, outputs, streams, stream=True)
        self.operators, self.more = operators, more

    def pack(self):
        return pack(self.tensors, self.operators, self.inputs, self.outputs, *self.more)


def detector(rng, first=None, unsigned=True, classes=1, inside=True):
    """The shape of a wake-word network: rings of rows in front of convolutions, and a probability, or several. With `inside`
    what the last layer reads is an output, too."""
    net, zero = Network(), zero_point(rng)
    x = net.input((1, 3, 8), scale(rng, -2, 0), zero)
    rows = net.run("RESHAPE", [x, net.add(integers((1, 3, 1, 8)))], net.like(x, (1, 3, 1, 8)), options("Reshape"))
    stage = net.convolution(rng, net.ring("stream/states", rows, 2, first), 6, fused=1)
    stage = net.convolution(rng, net.ring("stream_1/states", stage, 4), 6, depthwise=True)
    stage = net.convolution(rng, stage, 8, fused=1)
    ring = net.ring("stream_2/states", stage, 3)
    flat = net.run("RESHAPE", [ring, net.add(integers((1, 32)))], net.like(ring, (1, 32)), options("Reshape"))
    weights = net.add(constant(rng.integers(-127, 128, (classes, 32)).astype(np.int8), f32(0.01)))
    biases = rng.integers(-100, 100, classes).astype(np.int32)
    reads = [flat, weights, net.add(constant(biases, net.tensors[flat].scale * f32(0.01)))]
    shape, step = (1, classes), f32(1 / 256)
    logit = net.run("FULLY_CONNECTED", reads, activation(shape, f32(0.2), 9), options("FullyConnected"), 5)
    if classes > 1:
        chance = net.run("SOFTMAX", [logit], activation(shape, step, -128), options("Softmax", beta=1.0), 2)
    else:
        chance = net.run("LOGISTIC", [logit], activation(shape, step, -128), None, 2)
    if unsigned:
        chance = net.run("QUANTIZE", [chance], activation(shape, step, 0, np.uint8), options("Quantize"), 2)
    about = f"a detector of {classes}, uint8 {unsigned}, variables begin with {'zeros' if first is None else 'values'}"
    return net.case(about, [ring] * inside + [chance], [samples(rng, (1, 3, 8), 40, zero=zero)])


def total(rng, once):
    """What comes in is added up; the sum is output and variable."""
    net, step, zero = Network(), f32(0.1), zero_point(rng)
    x = net.input((1, 2, 3), step, zero)
    first = constant(np.full((1, 2, 3), zero, np.int8), step, zero) if once else None
    handle = net.variable("sum", first)
    both = [net.read(handle, net.like(x)), x]
    result = net.run("ADD", both, net.like(x), options("Add"), 2)
    net.assign(handle, result)
    inputs = np.clip(zero + rng.integers(-30, 31, (40, 1, 2, 3)), -128, 127).astype(np.int8)
    return net.case("a sum", [result], [inputs], once)


def exchange(rng):
    """Two variables that swap their values, one of them with what came in beside it."""
    net, step, zero = Network(), scale(rng, -2, 0), zero_point(rng)
    x = net.input((1, 2, 3), step, zero)
    random = lambda: constant(rng.integers(-128, 128, (1, 2, 3)).astype(np.int8), step, zero)
    a, b = net.variable("a", random()), net.variable("b", random())
    old_a, old_b = net.read(a, net.like(x)), net.read(b, net.like(x))
    net.assign(a, old_b)
    net.assign(b, net.run("MAXIMUM", [old_a, x], net.like(x), options("MaximumMinimum"), 2))
    return net.case("two that swap", [net.together([old_a, old_b])], [samples(rng, (1, 2, 3), 20, zero=zero)])


def before_and_after(rng):
    """A variable that is read, assigned, and read again: the old value is used last."""
    net, step, zero = Network(), scale(rng, -2, 0), zero_point(rng)
    x = net.input((1, 2, 3), step, zero)
    handle = net.variable("x", constant(rng.integers(-128, 128, (1, 2, 3)).astype(np.int8), step, zero))
    old = net.read(handle, net.like(x))
    net.assign(handle, x)
    new = net.read(handle, net.like(x))
    flat = net.run("RESHAPE", [old, net.add(integers((1, 2, 3)))], net.like(x), options("Reshape"))
    sum_ = net.run("ADD", [new, old], net.like(x), options("Add"), 2)
    outputs = [net.together([new, flat, old]), sum_]
    return net.case("read before and after", outputs, [samples(rng, (1, 2, 3), 20, zero=zero)])


def delay(rng):
    """The output is what came in three inferences ago: a variable straight to the output."""
    net, step, zero = Network(), scale(rng, -2, 0), zero_point(rng)
    x = net.input((1, 5), step, zero)
    handles = [net.variable(f"d{i}", constant(rng.integers(-128, 128, (1, 5)).astype(np.int8), step, zero)) for i in range(3)]
    values = [net.read(handle, net.like(x)) for handle in handles]
    for handle, value in zip(handles, [x, *values[:2]]):
        net.assign(handle, value)
    return net.case("a delay", [values[2]], [samples(rng, (1, 5), 20, zero=zero)])


def once(rng):
    """A variable that is never assigned, and one that is never read."""
    net, step, zero = Network(), scale(rng, -2, 0), zero_point(rng)
    x = net.input((1, 2, 3), step, zero)
    first = constant(rng.integers(-128, 128, (1, 2, 3)).astype(np.int8), step, zero)
    fixed, unread = net.variable("fixed", first), net.variable("unread", first)
    net.assign(unread, x)
    result = net.run("MINIMUM", [net.read(fixed, net.like(x)), x], net.like(x), options("MaximumMinimum"), 2)
    return net.case("never assigned", [result], [samples(rng, (1, 2, 3), 20, zero=zero)])


def cases(rng):
    yield detector(rng)
    yield detector(rng, rng.integers(-128, 128, (1, 2, 1, 8)).astype(np.int8), unsigned=False)
    yield detector(rng, classes=5)
    for case in (exchange, before_and_after, delay, once):
        yield case(rng)
    yield total(rng, True)
