#!/usr/bin/env python3
"""Compares `flatmin run` with LiteRT's reference kernels on every output byte.

The bundled models on 1,000 random and 1,000 real inputs each, the one-operator models of golden/, and, with
--kws, a keyword-spotting network on 1,000 random inputs and 1,000 of a file's clips; with --images, an image
classifier on 200 pictures in CIFAR's format; with --random, any models on 200 random inputs. Prints a table;
exits with 1 if a byte differs.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).resolve().parent / "golden"
sys.path.insert(0, str(GOLDEN))
import litert_outputs
from litert_outputs import COUNT, HOST_SIM


def flatmin_outputs(flatmin, model, inputs, folder):
    """What the binary answers, one output a row, flat."""
    x, y = folder / "x.npy", folder / "y.npy"
    np.save(x, inputs)
    command = [flatmin, "run", model, "--input", x, "--output", y]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    outputs = np.load(y)
    if outputs.dtype != np.int8 or len(outputs) != len(inputs):
        raise SystemExit(f"{model}: flatmin wrote {outputs.dtype} of shape {outputs.shape}")
    return outputs.reshape(len(outputs), -1)


FEW = 200


def cases(kws, images, others):
    """(model, kind, inputs for flatmin, the same as int8 for LiteRT), one after the other."""
    windows = litert_outputs.real_windows()
    for wearer in range(1, 11):
        path = HOST_SIM / f"models/wearer{wearer:02}.tflite"
        entry = litert_outputs.open_model(path).get_input_details()[0]
        random = litert_outputs.random_inputs(wearer, (COUNT, *entry["shape"][1:]))
        yield path, "random", random, random
        # float32, so that flatmin's own quantization of the input is compared, too.
        yield path, "real", windows, litert_outputs.quantize(windows, *entry["quantization"])
    for path in sorted(GOLDEN.glob("fully_connected_*.tflite")):
        every = np.arange(-128, 128).astype(np.int8).reshape(-1, 1)
        yield path, "every", every, every
    if kws:
        path, clips = kws
        shape = litert_outputs.open_model(path).get_input_details()[0]["shape"][1:]
        random = litert_outputs.random_inputs(0, (COUNT, *shape))
        yield path, "random", random, random
        spoken = np.fromfile(clips, np.int8).reshape(-1, *shape)
        # Spread over the file, which is sorted by word.
        spoken = spoken[np.linspace(0, len(spoken) - 1, COUNT).astype(int)]
        yield path, "real", spoken, spoken
    if images:
        path, pictures = images
        # A label, then the planes of red, green and blue; scale 1 and zero point -128 make pixel - 128.
        rows = np.fromfile(pictures, np.uint8).reshape(-1, 3073)[:FEW, 1:]
        pixels = rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        shifted = np.ascontiguousarray(pixels ^ 0x80).view(np.int8)
        yield path, "real", shifted, shifted
    for seed, path in enumerate(others):
        shape = litert_outputs.open_model(path).get_input_details()[0]["shape"][1:]
        random = litert_outputs.random_inputs(100 + seed, (FEW, *shape))
        yield path, "random", random, random


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("flatmin", type=Path, help="the binary")
    parser.add_argument("--kws", type=Path, nargs=2, metavar=("MODEL", "CLIPS"), help="a .tflite, and int8 inputs in a headerless file")
    parser.add_argument("--images", type=Path, nargs=2, metavar=("MODEL", "PICTURES"), help="a .tflite for 32x32x3, and CIFAR binary rows")
    parser.add_argument("--random", type=Path, nargs="*", default=[], metavar="MODEL", help="int8 .tflite files with one input and one output")
    args = parser.parse_args()

    wrong = total = 0
    print(f"{'model':28} {'inputs':>13} {'bytes':>7} {'values':>6} {'differ':>6}")
    with tempfile.TemporaryDirectory() as folder:
        for path, kind, inputs, quantized in cases(args.kws, args.images, args.random):
            found = flatmin_outputs(args.flatmin, path, inputs, Path(folder))
            expected = litert_outputs.run(litert_outputs.open_model(path), quantized)
            differ = int((found != expected).sum()) if found.shape == expected.shape else expected.size
            # How many different bytes there were: a network that always says the same proves little.
            values = len(np.unique(expected))
            print(f"{path.stem:28} {len(inputs):6} {kind:>6} {expected.size:7} {values:6} {differ:6}")
            wrong, total = wrong + differ, total + expected.size
    print(f"{wrong} of {total} output bytes differ")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
