"""Exports small quantized ONNX models and what ONNX Runtime answers for them.

    pip install onnx onnxruntime numpy torch
    python export.py

writes golden/*.onnx and golden/*.bin beside this script (README.md says what is in them), and prints how ONNX
Runtime's own optimized kernels differ from the same models without optimization.
"""

import pathlib
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).parent / "golden"
SAMPLES = 4
OUTPUTS = ["model,output,scale,zero_point"]
MASK = (1 << 64) - 1
# Results that keep the range of their input, so that exporters keep its scale.
MOVEMENT = {"MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Split", "Pad", "Resize",
            "GlobalMaxPool"}


def splitmix64(seed, count):
    """`count` bytes as int8; README.md gives the formula."""
    state = (np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    z = state
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(56)).astype(np.uint8).view(np.int8)


class Net:
    """A float32 network under construction; every method adds a node and returns the name of its result."""

    def __init__(self, name, *shapes, opset=13):
        self.name, self.opset = name, opset
        self.random = np.random.default_rng(sum(name.encode()))
        self.nodes, self.constants, self.count = [], {}, 0
        self.inputs = [(f"input{i}", list(shape)) for i, shape in enumerate(shapes)]

    def constant(self, array, name=None):
        name = name or f"constant{len(self.constants)}"
        self.constants[name] = np.asarray(array)
        return name

    def op(self, kind, *inputs, outputs=1, **attributes):
        inputs = [i if isinstance(i, str) else self.constant(i) for i in inputs]
        names = [f"{kind.lower()}{self.count}_{i}" if outputs > 1 else f"{kind.lower()}{self.count}"
                 for i in range(outputs)]
        self.count += 1
        self.nodes.append(helper.make_node(kind, inputs, names, name=f"node{self.count}", **attributes))
        return names[0] if outputs == 1 else names

    def weights(self, *shape):
        # Channels of very different sizes: a scale a channel matters.
        size = self.random.uniform(0.3, 2.0, (shape[0],) + (1,) * (len(shape) - 1))
        fan = np.prod(shape[1:]) ** 0.5
        return (self.random.normal(0, 1, shape) * size / fan).astype(np.float32)

    def conv(self, x, inputs, outputs, kernel, group=1, bias=True, **attributes):
        w = self.constant(self.weights(outputs, inputs // group, *kernel))
        b = [self.constant(self.random.normal(0, 0.5, outputs).astype(np.float32))] if bias else []
        return self.op("Conv", x, w, *b, group=group, kernel_shape=list(kernel), **attributes)

    def gemm(self, x, inputs, outputs, transposed=True):
        w = self.weights(outputs, inputs)
        b = self.random.normal(0, 0.5, outputs).astype(np.float32)
        w = self.constant(w if transposed else np.ascontiguousarray(w.T))
        return self.op("Gemm", x, w, self.constant(b), transB=int(transposed))

    def model(self, *outputs):
        graph = helper.make_graph(
            self.nodes, self.name,
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in self.inputs],
            [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs],
            [numpy_helper.from_array(a, n) for n, a in self.constants.items()])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])
        model.ir_version = 8
        return model


def session(model, optimized=False):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimized else level.ORT_DISABLE_ALL
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def samples(model, count=SAMPLES):
    """Inputs, one dictionary a sample: input after input of one stream, bytes / 32."""
    shapes = [(i.name, [d.dim_value or 1 for d in i.type.tensor_type.shape.dim]) for i in model.graph.input]
    size = sum(int(np.prod(s)) for _, s in shapes)
    stream = splitmix64(sum(model.graph.name.encode()), size * count)
    kinds = {i.type.tensor_type.elem_type for i in model.graph.input}
    if TensorProto.UINT8 in kinds:
        stream = (stream.astype(np.int16) + 128).astype(np.uint8)
    elif TensorProto.FLOAT in kinds:
        stream = stream.astype(np.float32) / 32
    feeds, at = [], 0
    for _ in range(count):
        feed = {}
        for name, shape in shapes:
            length = int(np.prod(shape))
            feed[name] = stream[at:at + length].reshape(shape)
            at += length
        feeds.append(feed)
    return feeds


def quantize(model, unsigned=False, per_channel=True, unsigned_weights=False, float_bias=False,
             float_weights=False, symmetric=False, raw=False):
    """QuantizeLinear and DequantizeLinear around every operator, calibrated on the model's own samples.

    unsigned: uint8 activations; float_weights: weights stay float32 behind a pair of both nodes, as PyTorch's
    fake quantization leaves them; raw: movement operators work on the integers, as tf2onnx has them.
    """
    graph = model.graph
    constants = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    produced = [o for n in graph.node for o in n.output]
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    del probe.graph.output[:]
    probe.graph.output.extend(helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in produced)
    run, ranges, shapes = session(probe), {}, {}
    for feed in samples(model):
        for name, value in list(feed.items()) + list(zip(produced, run.run(None, feed))):
            low, high = ranges.get(name, (0.0, 0.0))
            ranges[name] = (min(low, float(value.min())), max(high, float(value.max())))
            shapes[name] = value.shape

    initializers, nodes = [], []

    def store(name, array):
        initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    lowest, kind = (0, np.uint8) if unsigned else (-128, np.int8)
    parameters, dequantized = {}, {}

    def choose(name):
        low, high = ranges[name]
        if symmetric:
            scale, zero = max(-low, high) / 127, lowest + 128
        else:
            scale = (high - low) / 255 or 1.0
            zero = int(np.clip(round(lowest - low / scale), lowest, lowest + 255))
        parameters[name] = (store(f"{name}_scale", np.float32(scale)), store(f"{name}_zero", kind(zero)))

    def pair(name, source=None):
        """The nodes of `name`; parameters are there already."""
        if source is None:
            nodes.append(helper.make_node("QuantizeLinear", [name, *parameters[name]], [f"{name}_q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", *parameters[name]], [f"{name}_dq"]))
        dequantized[name] = f"{name}_dq"

    def weight(name, axis):
        array = constants[name]
        others = tuple(i for i in range(array.ndim) if i != axis)
        largest = np.abs(array).max(axis=others if per_channel else None)
        scale = np.maximum(largest, 1e-6).astype(np.float32) / np.float32(127)
        wide = scale.reshape([-1 if i == axis else 1 for i in range(array.ndim)]) if per_channel else scale
        q = np.clip(np.round(array / wide), -127, 127)
        q = (q + 128).astype(np.uint8) if unsigned_weights else q.astype(np.int8)
        zero = np.full_like(scale, 128 if unsigned_weights else 0, dtype=q.dtype)
        attributes = {"axis": axis} if per_channel else {}
        both = [store(f"{name}_scale", scale), store(f"{name}_zero", zero)]
        if float_weights:
            nodes.append(helper.make_node("QuantizeLinear", [store(name, array), *both], [f"{name}_q"], **attributes))
        else:
            store(f"{name}_q", q)
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", *both], [f"{name}_dq"], **attributes))
        return f"{name}_dq", scale

    def bias(name, x, scale):
        if float_bias:
            return store(name, constants[name])
        step = next(numpy_helper.to_array(i) for i in initializers if i.name == parameters[x][0]) * scale
        step = step.astype(np.float32)
        q = np.round(constants[name] / step).astype(np.int32)
        attributes = {"axis": 0} if step.ndim else {}
        both = [store(f"{name}_scale", step), store(f"{name}_zero", np.zeros_like(step, dtype=np.int32))]
        nodes.append(helper.make_node("DequantizeLinear", [store(f"{name}_q", q), *both], [f"{name}_dq"], **attributes))
        return f"{name}_dq"

    consumers = {}
    for node in graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    for value in graph.input:
        choose(value.name)
        pair(value.name)
    last_scale = {}
    for node in graph.node:
        node = onnx.NodeProto.FromString(node.SerializeToString())
        axis = {"Conv": 0, "MatMul": 1}.get(node.op_type)
        if node.op_type == "Gemm":
            axis = 0 if helper.get_node_attr_value(node, "transB") else 1
        originals = list(node.input)
        moves = node.op_type in MOVEMENT
        for place, name in enumerate(originals):
            if name in dequantized:
                node.input[place] = f"{name}_q" if raw and moves else dequantized[name]
            elif name in constants and axis is not None and place == 1:
                node.input[place], last_scale[node.output[0]] = weight(name, axis)
            elif name in constants and node.op_type in {"Conv", "Gemm"} and place == 2:
                node.input[place] = bias(name, originals[0], last_scale[node.output[0]])
            elif name in constants and node.op_type == "Add" and originals[1 - place] in last_scale:
                product = next(n for n in graph.node if originals[1 - place] in n.output)
                node.input[place] = bias(name, product.input[0], last_scale[originals[1 - place]])
            elif name in constants and node.op_type in {"Add", "Sub", "Mul", "PRelu"} and not float_bias:
                ranges[name] = (min(0.0, float(constants[name].min())), max(0.0, float(constants[name].max())))
                choose(name)
                scale, zero = [numpy_helper.to_array(i) for i in initializers[-2:]]
                q = np.clip(np.round(constants[name] / scale) + zero, lowest, lowest + 255).astype(kind)
                store(f"{name}_q", q)
                pair(name, source="constant")
                node.input[place] = dequantized[name]
            elif name in constants and name not in {i.name for i in initializers}:
                store(name, constants[name])
        nodes.append(node)
        for place, output in enumerate(list(node.output)):
            after = consumers.get(output, [])
            fuses = len(after) == 1 and (
                after[0].op_type in {"Relu", "Clip"} and node.op_type in {"Conv", "Gemm", "Add", "MatMul", "Sub", "Mul"}
                or node.op_type == "MatMul" and after[0].op_type == "Add"
                and any(i in constants for i in after[0].input))
            if fuses:
                continue
            if moves:
                parameters[output] = parameters[originals[0]]
            else:
                if node.op_type == "Softmax":
                    ranges[output] = (0.0, 255 / 256)
                choose(output)
            if raw and moves:
                node.output[place] = f"{output}_q"
                pair(output, source="integers")
            else:
                pair(output)
    outputs = [helper.make_tensor_value_info(dequantized[o.name], TensorProto.FLOAT, shapes[o.name]) for o in graph.output]
    inner = helper.make_graph(nodes, graph.name, list(graph.input), outputs, initializers)
    quantized = helper.make_model(inner, opset_imports=model.opset_import)
    quantized.ir_version = 8
    onnx.checker.check_model(quantized)
    return quantized


def by_the_library(model, operators=False, **options):
    """ONNX Runtime's own static quantizer; `operators`: in the format of operators on integers."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.left = iter(samples(model, 16))

        def get_next(self):
            return next(self.left, None)

    with tempfile.TemporaryDirectory() as directory:
        paths = [f"{directory}/{name}.onnx" for name in ("float", "prepared", "quantized")]
        onnx.save(model, paths[0])
        quant_pre_process(paths[0], paths[1], skip_symbolic_shape=True)
        kind = QuantFormat.QOperator if operators else QuantFormat.QDQ
        quantize_static(paths[1], paths[2], Reader(), quant_format=kind, **options)
        quantized = onnx.load(paths[2])
    quantized.graph.name = model.graph.name
    # Declared shapes of inner results are of no use to a test, and large.
    del quantized.graph.value_info[:]
    return quantized


def output_parameters(model, name):
    """Scale and zero point of an output, and whether it is unsigned."""
    constants = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    node = next(n for n in model.graph.node if name in n.output)
    while node.op_type not in {"QuantizeLinear", "DequantizeLinear"}:
        node = next(n for n in model.graph.node if node.input[0] in n.output)
    # PyTorch shares equal constants through Identity.
    copies = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type == "Identity"}
    scale, zero = [constants[copies.get(i, i)] for i in node.input[1:3]]
    return np.float32(scale.item()), int(zero.item()), zero.dtype == np.uint8


def write(model):
    name = model.graph.name
    plain, optimized = session(model), session(model, optimized=True)
    golden, largest = b"", 0
    described = [output_parameters(model, info.name) for info in model.graph.output]
    for feed in samples(model):
        answers = zip(model.graph.output, described, plain.run(None, feed), optimized.run(None, feed))
        for info, (scale, zero, unsigned), one, other in answers:
            if info.type.tensor_type.elem_type == TensorProto.FLOAT:
                one, other = [np.round(x / np.float64(scale)) + zero for x in (one, other)]
            one, other = [x.astype(np.int64) - (128 if unsigned else 0) for x in (one, other)]
            largest = max(largest, int(np.abs(one - other).max()))
            golden += np.clip(one, -128, 127).astype(np.int8).tobytes()
    (HERE / f"{name}.onnx").write_bytes(model.SerializeToString())
    (HERE / f"{name}.bin").write_bytes(golden)
    for output, (scale, zero, unsigned) in enumerate(described):
        OUTPUTS.append(f"{name},{output},{scale},{zero - (128 if unsigned else 0)}")
    print(f"{name:32} {len(model.SerializeToString()):7} bytes, {len(golden):6} outputs, "
          f"optimized kernels differ by up to {largest}")


IMAGE = (1, 6, 7, 5)
SMALL = (1, 2, 7, 5)


def convolutions():
    def one(name, inputs=6, outputs=8, kernel=(3, 3), shape=IMAGE, options=None, **attributes):
        net = Net(name, shape)
        write(quantize(net.model(net.conv("input0", inputs, outputs, kernel, **attributes)), **(options or {})))

    one("conv_valid")
    one("conv_same_per_tensor", pads=[1, 1, 1, 1], options={"per_channel": False})
    one("conv_uint8", pads=[1, 1, 1, 1], strides=[2, 2], options={"unsigned": True, "unsigned_weights": True})
    one("conv_pads_differ", pads=[2, 0, 1, 1], strides=[2, 1])
    one("conv_same_upper", auto_pad="SAME_UPPER", strides=[2, 2], kernel=(2, 3))
    one("conv_same_lower", auto_pad="SAME_LOWER", strides=[2, 2], kernel=(2, 3))
    one("conv_dilated", pads=[2, 2, 2, 2], dilations=[2, 2])
    one("conv_groups", outputs=9, group=3, pads=[1, 1, 1, 1])
    one("conv_depthwise", outputs=6, group=6, pads=[1, 1, 1, 1])
    one("conv_depthwise_twice", outputs=12, group=6, strides=[2, 2])
    one("conv_no_bias", kernel=(1, 1), bias=False)
    one("conv_float_bias", options={"float_bias": True})
    one("conv_fake_quantized", options={"float_weights": True, "float_bias": True})
    one("conv_line", shape=(1, 6, 20), kernel=(5,), pads=[2, 2], strides=[2])
    for name, after in [("relu", ("Relu",)), ("relu6", ("Clip", np.float32(0), np.float32(6))),
                        ("relu_n1_to_1", ("Clip", np.float32(-1), np.float32(1)))]:
        for unsigned in (False, True):
            net = Net(f"conv_{name}_{'uint8' if unsigned else 'int8'}", IMAGE)
            x = net.conv("input0", 6, 8, (3, 3))
            # Symmetric: the range does not end where the clamp does.
            write(quantize(net.model(net.op(after[0], x, *after[1:])), unsigned=unsigned, symmetric=True))


def dense():
    for transposed in (True, False):
        net = Net(f"gemm_{'rows' if transposed else 'columns'}", (1, 24))
        write(quantize(net.model(net.gemm("input0", 24, 10, transposed)), unsigned=transposed))
    net = Net("matmul_add", (1, 24))
    w, b = net.weights(10, 24).T.copy(), net.random.normal(0, 0.5, 10).astype(np.float32)
    write(quantize(net.model(net.op("Relu", net.op("Add", net.op("MatMul", "input0", w), b)))))
    net = Net("matmul_lines", (1, 5, 12))
    write(quantize(net.model(net.op("MatMul", "input0", net.weights(7, 12).T.copy())), per_channel=False))
    net = Net("flatten_gemm", (1, 3, 4, 5))
    x = net.op("Flatten", net.op("Relu", net.conv("input0", 3, 4, (3, 3), pads=[1, 1, 1, 1])))
    write(quantize(net.model(net.gemm(x, 80, 9))))
    net = Net("reshape_gemm_uint8", (1, 3, 4, 5))
    x = net.op("Reshape", net.op("MaxPool", "input0", kernel_shape=[2, 2]), np.array([0, -1]))
    write(quantize(net.model(net.gemm(x, 36, 9, False)), unsigned=True, raw=True))


def pools():
    def one(name, kind, options=None, **attributes):
        net = Net(name, IMAGE)
        write(quantize(net.model(net.op(kind, "input0", **attributes)), **(options or {})))

    one("max_pool", "MaxPool", kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1])
    one("max_pool_ceil", "MaxPool", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1, options={"unsigned": True})
    one("average_pool", "AveragePool", kernel_shape=[3, 2], strides=[2, 1])
    one("average_pool_padded", "AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    one("average_pool_counts", "AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)
    one("average_pool_uint8", "AveragePool", kernel_shape=[7, 5], options={"unsigned": True})
    # As large as the image, but not on it.
    one("average_pool_shifted", "AveragePool", kernel_shape=[7, 5], pads=[2, 0, 1, 0], strides=[7, 5],
        count_include_pad=1)
    one("global_average_pool", "GlobalAveragePool")
    one("global_max_pool", "GlobalMaxPool")
    one("reduce_mean", "ReduceMean", axes=[2, 3], keepdims=0)
    one("reduce_mean_channels", "ReduceMean", axes=[1], keepdims=1)
    net = Net("reduce_mean_18", IMAGE, opset=18)
    write(quantize(net.model(net.op("ReduceMean", "input0", np.array([-1, -2]), keepdims=1)), unsigned=True))


def elementwise():
    def one(name, build, *shapes, opset=13, **options):
        net = Net(name, *(shapes or (IMAGE,)), opset=opset)
        write(quantize(net.model(build(net)), **options))

    for kind in ("Add", "Sub", "Mul"):
        low = kind.lower()
        one(f"{low}", lambda n: n.op(kind, "input0", "input1"), IMAGE, IMAGE)
        one(f"{low}_channels_uint8", lambda n: n.op(kind, "input0", "input1"), IMAGE, (1, 6, 1, 1), unsigned=True)
        constant = np.linspace(-2, 3, 6, dtype=np.float32).reshape(6, 1, 1)
        one(f"{low}_constant", lambda n: n.op(kind, "input0", constant))
        one(f"{low}_float_constant", lambda n: n.op(kind, np.float32(0.37), "input0"), float_bias=True)
    one("add_relu", lambda n: n.op("Relu", n.op("Add", "input0", "input1")), IMAGE, IMAGE, symmetric=True)
    one("div_constant", lambda n: n.op("Div", "input0", np.float32(0.5)), float_bias=True)
    for kind in ("Relu", "Sigmoid", "Tanh"):
        one(kind.lower(), lambda n: n.op(kind, "input0"), symmetric=kind == "Relu")
    one("sigmoid_uint8", lambda n: n.op("Sigmoid", "input0"), unsigned=True)
    one("hard_swish", lambda n: n.op("HardSwish", "input0"), opset=14)
    one("leaky_relu", lambda n: n.op("LeakyRelu", "input0", alpha=0.1))
    one("clip_6", lambda n: n.op("Clip", "input0", np.float32(0), np.float32(6)), symmetric=True)
    slopes = np.linspace(-0.2, 0.6, 6, dtype=np.float32).reshape(6, 1, 1)
    one("prelu", lambda n: n.op("PRelu", "input0", slopes))
    one("softmax", lambda n: n.op("Softmax", "input0"), (1, 12))
    one("softmax_channels_uint8", lambda n: n.op("Softmax", "input0", axis=1), unsigned=True)


def functions():
    def one(name, kind, opset=13, **attributes):
        net = Net(name, IMAGE, opset=opset)
        write(quantize(net.model(net.op(kind, "input0", **attributes))))

    for kind in ("Elu", "Exp", "Abs"):
        one(kind.lower(), kind)
    one("gelu", "Gelu", opset=20)
    one("gelu_tanh", "Gelu", opset=20, approximate="tanh")
    # Of positive numbers.
    net = Net("log", IMAGE)
    write(quantize(net.model(net.op("Log", net.op("Sigmoid", "input0")))))


def movement():
    def one(name, build, *shapes, **options):
        net = Net(name, *(shapes or (IMAGE,)))
        built = build(net)
        write(quantize(net.model(*(built if isinstance(built, list) else [built])), **options))

    one("concat", lambda n: n.op("Concat", "input0", n.op("Relu", "input1"), axis=1), IMAGE, (1, 2, 7, 5))
    one("concat_width", lambda n: n.op("Concat", "input0", "input1", axis=-1), SMALL, SMALL, unsigned=True)
    one("split", lambda n: n.op("Split", "input0", np.array([1, 3, 2]), outputs=3, axis=1))
    one("slice", lambda n: n.op("Slice", "input0", np.array([1, -1]), np.array([5, -5]), np.array([1, 2]),
                                np.array([2, -2])), raw=True)
    one("pad", lambda n: n.op("Pad", "input0", np.array([0, 1, 2, 0, 0, 0, 1, 3])), SMALL)
    one("pad_value_uint8", lambda n: n.op("Pad", "input0", np.array([0, 0, 1, 1, 0, 0, 1, 1]), np.float32(1.5)),
        SMALL, unsigned=True)
    one("transpose", lambda n: n.op("Transpose", "input0", perm=[0, 3, 1, 2]))
    one("squeeze_unsqueeze", lambda n: n.op("Squeeze", n.op("Unsqueeze", "input0", np.array([0, 3])), np.array([1])))
    one("resize_twice", lambda n: n.op("Resize", "input0", "", np.array([1, 1, 2, 2], np.float32), mode="nearest",
                                       coordinate_transformation_mode="asymmetric", nearest_mode="floor"), SMALL)
    one("resize_half_pixel", lambda n: n.op("Resize", "input0", "", np.array([1, 1, 3, 2], np.float32),
                                            mode="nearest"), SMALL, unsigned=True)
    one("resize_sizes", lambda n: n.op("Resize", "input0", "", "", np.array([1, 2, 4, 9]), mode="nearest",
                                       coordinate_transformation_mode="asymmetric", nearest_mode="floor"), SMALL)

    def shuffle(n):
        # Channels in two groups, interleaved (ShuffleNet): elements have to move.
        x = n.conv("input0", 6, 8, (1, 1))
        x = n.op("Reshape", x, np.array([1, 2, 4, 7, 5]))
        x = n.op("Reshape", n.op("Transpose", x, perm=[0, 2, 1, 3, 4]), np.array([1, 8, 7, 5]))
        return n.conv(x, 8, 4, (3, 3))

    def rows(n):
        # Half a row to each of twice as many: no order of axes does it.
        x = n.op("Reshape", n.conv("input0", 6, 8, (1, 1)), np.array([1, 10, 28]))
        return n.op("Softmax", x)

    one("channel_shuffle", shuffle)
    one("reshape_moves", rows)


def networks():
    def images(name, **options):
        net = Net(name, (1, 3, 16, 16))
        x = net.op("Relu", net.conv("input0", 3, 8, (3, 3), pads=[1, 1, 1, 1], strides=[2, 2]))
        y = net.op("Relu", net.conv(x, 8, 8, (3, 3), pads=[1, 1, 1, 1], group=8))
        x = net.op("Relu", net.op("Add", x, net.conv(y, 8, 8, (1, 1))))
        x = net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
        gate = net.op("Sigmoid", net.conv(net.op("GlobalAveragePool", x), 8, 8, (1, 1)))
        x = net.op("Mul", x, gate)
        x = net.op("Concat", x, net.op("Relu", net.conv(x, 8, 4, (1, 1))), axis=1)
        x = net.op("Clip", net.conv(x, 12, 8, (3, 3)), np.float32(0), np.float32(6))
        x = net.op("Relu", net.gemm(net.op("Flatten", x), 32, 12))
        return net.model(net.op("Softmax", net.gemm(x, 12, 5))), options

    from onnxruntime.quantization import QuantType

    model, _ = images("network_int8")
    write(quantize(model))
    model, _ = images("network_uint8")
    write(quantize(model, unsigned=True, unsigned_weights=True, per_channel=False, float_bias=True))
    for name, options in {
        "library_int8_per_channel": {"per_channel": True, "activation_type": QuantType.QInt8,
                                     "weight_type": QuantType.QInt8},
        "library_uint8_per_tensor": {"per_channel": False, "activation_type": QuantType.QUInt8,
                                     "weight_type": QuantType.QInt8},
        "library_symmetric": {"per_channel": True, "activation_type": QuantType.QInt8,
                              "weight_type": QuantType.QInt8, "extra_options": {"ActivationSymmetric": True}},
    }.items():
        model, _ = images(name)
        write(by_the_library(model, **options))

    # tf2onnx: channels last at the borders, a Transpose around every convolution.
    net = Net("network_channels_last", (1, 8, 8, 3))
    x = net.op("Transpose", "input0", perm=[0, 3, 1, 2])
    x = net.op("Transpose", net.op("Relu", net.conv(x, 3, 6, (3, 3), pads=[0, 0, 1, 1], strides=[2, 2])), perm=[0, 2, 3, 1])
    x = net.op("Transpose", x, perm=[0, 3, 1, 2])
    x = net.op("Transpose", net.op("Relu", net.conv(x, 6, 6, (3, 3), pads=[1, 1, 1, 1], group=6)), perm=[0, 2, 3, 1])
    x = net.op("Reshape", x, np.array([-1, 96]))
    w, b = net.weights(4, 96).T.copy(), net.random.normal(0, 0.5, 4).astype(np.float32)
    write(quantize(net.model(net.op("Add", net.op("MatMul", x, w), b)), raw=True))


def operators_on_integers():
    """QLinearConv and its like, one in each model, and a network of them."""
    from onnxruntime.quantization import QuantType

    int8 = {"per_channel": True, "activation_type": QuantType.QInt8, "weight_type": QuantType.QInt8}
    uint8 = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}

    def one(name, build, shape=IMAGE, options=uint8, inputs=1):
        net = Net(f"qoperator_{name}", *[shape] * inputs)
        write(by_the_library(net.model(build(net)), operators=True, **options))

    one("conv_int8", lambda n: n.op("Relu", n.conv("input0", 6, 4, (3, 3), pads=[1, 1, 1, 1])), options=int8)
    one("conv_uint8", lambda n: n.conv("input0", 6, 12, (3, 2), group=6, bias=False))
    one("gemm_int8", lambda n: n.gemm("input0", 24, 5), (1, 24), int8)
    one("gemm_uint8", lambda n: n.gemm("input0", 24, 5, transposed=False), (1, 24))
    one("matmul", lambda n: n.op("MatMul", "input0", n.weights(5, 24).T.copy()), (1, 24), int8)
    one("add", lambda n: n.op("Add", "input0", "input1"), inputs=2)
    one("mul", lambda n: n.op("Mul", "input0", "input1"), options=int8, inputs=2)
    one("concat", lambda n: n.op("Concat", "input0", n.op("Sigmoid", "input0"), axis=1))
    one("leaky_relu", lambda n: n.op("LeakyRelu", "input0", alpha=0.1), options=int8)
    one("average_pool", lambda n: n.op("AveragePool", "input0", kernel_shape=[3, 3], pads=[1, 1, 1, 1]), options=int8)
    one("global_average_pool", lambda n: n.op("GlobalAveragePool", n.op("Sigmoid", "input0")))
    one("softmax", lambda n: n.op("Softmax", "input0"), (1, 12), int8)

    for name, options in {"network_of_qlinear_int8": int8, "network_of_qlinear_uint8": uint8}.items():
        net = Net(name, (1, 3, 12, 10))
        x = net.op("Relu", net.conv("input0", 3, 8, (3, 3), pads=[1, 1, 1, 1], strides=[2, 2]))
        y = net.conv(x, 8, 8, (3, 3), pads=[1, 1, 1, 1], group=8)
        x = net.op("Add", x, net.op("LeakyRelu", y, alpha=0.1))
        x = net.op("MaxPool", x, kernel_shape=[2, 2], strides=[1, 1])
        gate = net.op("Sigmoid", net.conv(net.op("GlobalAveragePool", x), 8, 8, (1, 1)))
        x = net.op("Concat", net.op("Mul", x, gate), net.op("AveragePool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
                   axis=1)
        x = net.op("Flatten", net.conv(x, 16, 3, (1, 1)))
        write(by_the_library(net.model(net.gemm(x, 60, 12, transposed=False)), operators=True, **options))


def borders():
    """The quantized borders of tf2onnx: integers in and out, without the outermost pair of nodes."""
    for unsigned in (False, True):
        net = Net(f"border_{'uint8' if unsigned else 'int8'}", (1, 3, 6, 5))
        x = net.op("Relu", net.conv("input0", 3, 4, (3, 3), pads=[1, 1, 1, 1]))
        x = net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
        model = quantize(net.model(net.conv(x, 4, 2, (2, 1))), unsigned=unsigned)
        graph = model.graph
        kind = TensorProto.UINT8 if unsigned else TensorProto.INT8
        first = next(n for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] == "input0")
        last = next(n for n in graph.node if n.output[0] == graph.output[0].name)
        graph.input[0].name, graph.output[0].name = first.output[0], last.input[0]
        for value in (graph.input[0], graph.output[0]):
            value.type.tensor_type.elem_type = kind
        # The batch stays open, as tf2onnx leaves it.
        graph.input[0].type.tensor_type.shape.dim[0].dim_param = "unk__1"
        graph.node.remove(first)
        graph.node.remove(last)
        onnx.checker.check_model(model)
        write(model)


def pytorch():
    """Quantization-aware training in PyTorch, exported with its fake quantization as pairs of nodes."""
    try:
        import torch
        from torch import nn
        from torch.ao import quantization
        from torch.ao.quantization.quantize_fx import prepare_qat_fx
    except ImportError as error:
        print(f"SKIPPED: pytorch_*: {error}")
        return

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU())
            self.second = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU6())
            self.third = nn.Sequential(nn.Hardswish(), nn.Conv2d(8, 12, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
            self.last = nn.Linear(12, 5)

        def forward(self, x):
            x = self.first(x)
            x = nn.functional.max_pool2d(x + self.second(x), 2)
            return self.last(torch.flatten(self.third(x), 1))

    torch.manual_seed(1)
    shape, name = (1, 3, 16, 16), "pytorch_uint8"
    activations = quantization.FakeQuantize.with_args(
        observer=quantization.MinMaxObserver, quant_min=0, quant_max=255, dtype=torch.quint8)
    weights = quantization.FakeQuantize.with_args(
        observer=quantization.PerChannelMinMaxObserver, quant_min=-128, quant_max=127, dtype=torch.qint8,
        qscheme=torch.per_channel_symmetric, ch_axis=0)
    mapping = quantization.QConfigMapping().set_global(quantization.QConfig(activation=activations, weight=weights))
    example = torch.zeros(shape)
    network = prepare_qat_fx(Network().train(), mapping, (example,))
    for seed in range(8):
        stream = splitmix64(1000 + seed, example.numel()).astype(np.float32) / 32
        network(torch.from_numpy(stream.reshape(shape)))
    network.eval().apply(quantization.disable_observer)
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/{name}.onnx"
        torch.onnx.export(network, (example,), path, opset_version=13, dynamo=False, input_names=["x"])
        model = onnx.load(path)
    model.graph.name = name
    write(model)


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    for family in (convolutions, dense, pools, elementwise, movement, networks, operators_on_integers, borders, pytorch, functions):
        family()
    (HERE / "outputs.csv").write_text("\n".join(OUTPUTS) + "\n")
