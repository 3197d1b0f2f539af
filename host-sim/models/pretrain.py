#!/usr/bin/env python3
"""Pretrain the factory models: one network for each held-out wearer, as int8 .tflite files.

wearerNN.tflite has seen no sample of wearer NN: neither in training, nor in batch
normalization, nor in the calibration of the int8 ranges. The number of epochs and every other
setting is fixed here, the same for all wearers; nothing is chosen by looking at a held-out wearer.
"""

import argparse
import os
import sys
from pathlib import Path

# One thread and deterministic kernels: the same files from the same seed on the same machine.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "data"))
import convert as recordings_file

WINDOW = 100
STRIDE = 50
CHANNELS = 6
# The factory's input range in input units (4 g, 8 rad/s). Beyond it int8 saturates, so training
# saturates too.
INPUT_LIMIT = 4.0


def network(classes):
    """Batch normalization stands before each ReLU, so that the converter folds it into the layer above."""
    layers = tf.keras.layers

    def normalized(x):
        return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))

    inputs = layers.Input((WINDOW, 1, CHANNELS))
    x = normalized(layers.Conv2D(24, (7, 1), strides=(2, 1), use_bias=False, name="conv")(inputs))
    x = normalized(layers.DepthwiseConv2D((5, 1), padding="same", use_bias=False, name="depthwise1")(x))
    x = normalized(layers.Conv2D(32, 1, use_bias=False, name="pointwise1")(x))
    x = layers.MaxPooling2D((2, 1), name="max_pool")(x)
    x = normalized(layers.DepthwiseConv2D((8, 1), use_bias=False, name="depthwise2")(x))
    x = normalized(layers.Conv2D(48, 1, use_bias=False, name="pointwise2")(x))
    x = layers.AveragePooling2D((4, 1), name="average_pool")(x)
    x = layers.Flatten(name="features")(x)
    x = layers.Dropout(0.3)(x)
    x = layers.Dense(64, activation="relu", name="dense1")(x)
    x = layers.Dropout(0.3)(x)
    x = layers.Dense(classes, name="dense2")(x)
    return tf.keras.Model(inputs, layers.Softmax(name="softmax")(x))


def windows(recordings, stride, part=lambda samples: samples):
    """All windows of the given stride in a part of each recording, with their labels."""
    samples, labels = [], []
    for samples_of_one, label in recordings:
        piece = part(samples_of_one)
        for start in range(0, len(piece) - WINDOW + 1, stride):
            samples.append(piece[start : start + WINDOW])
            labels.append(label)
    return np.stack(samples), np.array(labels)


def second_half(samples):
    return samples[len(samples) // 2 :]


def random_rotations(rng, count, degrees):
    """Rotation matrices about uniformly drawn axes (Rodrigues' formula), angles normal with this deviation."""
    axis = rng.normal(size=(count, 3))
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    angle = rng.normal(scale=np.radians(degrees), size=count)[:, None, None]
    k = np.zeros((count, 3, 3))
    k[:, 0, 1], k[:, 0, 2], k[:, 1, 2] = -axis[:, 2], axis[:, 1], -axis[:, 0]
    k -= k.transpose(0, 2, 1)
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * (k @ k)


def epoch_windows(rng, recordings):
    """One epoch: as many windows as stride STRIDE yields, at random places, each augmented.

    A random tempo (the wearer moves slower or faster: angular rate scales with it), a random
    small rotation of the sensor on the wrist, and sensor noise.
    """
    samples, labels = [], []
    for samples_of_one, label in recordings:
        for _ in range((len(samples_of_one) - WINDOW) // STRIDE + 1):
            tempo = np.exp(rng.normal(scale=0.12))
            tempo = min(tempo, (len(samples_of_one) - 1) / (WINDOW - 1))
            start = rng.uniform(0, len(samples_of_one) - 1 - (WINDOW - 1) * tempo)
            position = start + tempo * np.arange(WINDOW)
            before = np.minimum(position.astype(int), len(samples_of_one) - 2)
            share = (position - before)[:, None]
            window = (1 - share) * samples_of_one[before] + share * samples_of_one[before + 1]
            window[:, 3:] *= tempo
            samples.append(window)
            labels.append(label)
    samples = np.stack(samples)
    rotation = random_rotations(rng, len(samples), 10.0)
    samples[:, :, :3] = samples[:, :, :3] @ rotation
    samples[:, :, 3:] = samples[:, :, 3:] @ rotation
    samples += rng.normal(scale=0.03, size=samples.shape)
    return np.clip(samples, -INPUT_LIMIT, INPUT_LIMIT).astype(np.float32)[:, :, None, :], np.array(labels)


def train(recordings, classes, epochs, batch, seed):
    tf.keras.backend.clear_session()
    tf.keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    model = network(classes)
    steps = sum((len(samples) - WINDOW) // STRIDE + 1 for samples, _ in recordings) // batch
    rate = tf.keras.optimizers.schedules.CosineDecay(3e-3, epochs * steps)
    optimizer = tf.keras.optimizers.AdamW(rate, weight_decay=1e-3)
    cross_entropy = tf.keras.losses.CategoricalCrossentropy(label_smoothing=0.05)

    @tf.function(input_signature=[
        tf.TensorSpec((batch, WINDOW, 1, CHANNELS)), tf.TensorSpec((batch,), tf.int32)])
    def step(samples, labels):
        with tf.GradientTape() as tape:
            loss = cross_entropy(tf.one_hot(labels, classes), model(samples, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables))
        return loss

    optimizer.build(model.trainable_variables)
    for _ in range(epochs):
        samples, labels = epoch_windows(rng, recordings)
        order = rng.permutation(len(samples))
        for i in range(steps):
            chosen = order[i * batch : (i + 1) * batch]
            loss = step(tf.constant(samples[chosen]), tf.constant(labels[chosen], tf.int32))
    return model, float(loss)


def to_int8(model, calibration):
    """Standard full-integer post-training quantization; a batch of exactly 1 keeps SHAPE and PACK out."""
    function = tf.function(lambda x: model(x, training=False)).get_concrete_function(
        tf.TensorSpec((1, WINDOW, 1, CHANNELS), tf.float32))
    function = convert_variables_to_constants_v2(function)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([window[None]] for window in calibration)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.int8
    converter.inference_output_type = tf.int8
    return converter.convert()


def quantize(samples, scale, zero_point):
    """int8 of float32 input, halves rounded away from zero."""
    scaled = samples.astype(np.float32) / np.float32(scale)
    whole = np.trunc(scaled)
    # The difference is exact, unlike scaled + 0.5, which may round up to the next integer.
    whole += np.copysign(np.abs(scaled - whole) >= np.float32(0.5), scaled)
    return np.clip(whole + zero_point, -128, 127).astype(np.int8)


def int8_predictions(content, samples):
    interpreter = Interpreter(
        model_content=content, num_threads=1, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    entry, exit_ = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    predictions = []
    for window in quantize(samples, *entry["quantization"]):
        interpreter.set_tensor(entry["index"], window[None])
        interpreter.invoke()
        predictions.append(interpreter.get_tensor(exit_["index"])[0].argmax())
    return np.array(predictions)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wearers", type=int, nargs="+", default=list(range(1, 11)), help="held-out wearers (default: all)")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1000, help="wearer NN is trained with seed + NN")
    parser.add_argument("--output", type=Path, default=HERE, help="folder for the .tflite files")
    args = parser.parse_args()

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.experimental.enable_op_determinism()

    names, factor, recordings = recordings_file.load()
    print("| held-out wearer | float32 | int8 | test windows | bytes |\n| --- | --- | --- | --- | --- |", flush=True)
    for wearer in args.wearers:
        pairs = [(r.samples * factor, r.exercise) for r in recordings if r.wearer != wearer]
        held_out = [(r.samples * factor, r.exercise) for r in recordings if r.wearer == wearer]
        model, loss = train(pairs, len(names), args.epochs, args.batch, args.seed + wearer)

        calibration, _ = windows(pairs, WINDOW)
        # The windows with the largest values first: the input range must reach the limit.
        largest = np.argsort(-np.abs(calibration).max(axis=(1, 2)), kind="stable")[:100]
        spread = np.arange(0, len(calibration), max(1, len(calibration) // 400))
        calibration = calibration[np.concatenate([largest, spread])]
        calibration = np.clip(calibration, -INPUT_LIMIT, INPUT_LIMIT)[:, :, None, :]
        content = to_int8(model, calibration.astype(np.float32))
        (args.output / f"wearer{wearer:02}.tflite").write_bytes(content)

        samples, labels = windows(held_out, STRIDE, second_half)
        samples = samples[:, :, None, :]
        clipped = np.clip(samples, -INPUT_LIMIT, INPUT_LIMIT)
        float_accuracy = (model.predict(clipped, verbose=0).argmax(axis=1) == labels).mean()
        int8_accuracy = (int8_predictions(content, samples) == labels).mean()
        print(f"| {wearer} | {100 * float_accuracy:.1f} % | {100 * int8_accuracy:.1f} % | {len(labels)} | {len(content)} |", flush=True)


if __name__ == "__main__":
    main()
