#!/usr/bin/env python3
"""MLPerf Tiny's quality metric on real samples: accuracy by `flatmin run` beside LiteRT's on the same samples.

--clips gives a keyword-spotting network, its int8 features and the table of their labels; --images, once or more, an
image classifier and files in CIFAR's binary format. Prints a table; exits with 1 if a byte of an output differs.
"""

import argparse
import csv
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from compare_with_litert import flatmin_outputs, litert_outputs


def spread(most, *arrays):
    """At most that many entries, spread over all: files may be sorted by label."""
    count = len(arrays[0])
    chosen = np.linspace(0, count - 1, min(count, most or count)).astype(int)
    return [array[chosen] for array in arrays]


def clips(model, features, table):
    shape = litert_outputs.open_model(model).get_input_details()[0]["shape"][1:]
    inputs = np.fromfile(features, np.int8).reshape(-1, *shape)
    with table.open(newline="") as file:
        labels = np.array([int(row["label"]) for row in csv.DictReader(file)])
    if len(labels) != len(inputs):
        raise SystemExit(f"{table}: {len(labels)} labels for {len(inputs)} clips")
    return inputs, labels


def pictures(path):
    """A label, then the planes of red, green and blue; scale 1 and zero point -128 make pixel - 128."""
    rows = np.fromfile(path, np.uint8).reshape(-1, 3073)
    pixels = rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(pixels ^ 0x80).view(np.int8), rows[:, 0].astype(int)


def cases(args):
    if args.clips:
        model, features, table = args.clips
        yield model, features, *spread(args.most_clips, *clips(model, features, table))
    for model, *files in args.images:
        for path in files:
            yield model, path, *spread(args.most_images, *pictures(path))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("flatmin", type=Path, help="the binary")
    parser.add_argument("--clips", type=Path, nargs=3, metavar=("MODEL", "FEATURES", "CSV"))
    parser.add_argument("--images", type=Path, nargs="+", action="append", default=[], metavar="MODEL and files")
    parser.add_argument("--most-clips", type=int, help="all without it")
    parser.add_argument("--most-images", type=int, help="of each file; all without it")
    args = parser.parse_args()

    wrong = 0
    print(f"{'model':28} {'samples':30} {'number':>6} {'LiteRT':>7} {'flatmin':>7} {'bytes differ':>12}")
    with tempfile.TemporaryDirectory() as folder:
        for model, path, inputs, labels in cases(args):
            found = flatmin_outputs(args.flatmin, model, inputs, Path(folder))
            expected = litert_outputs.run(litert_outputs.open_model(model), inputs)
            differ = int((found != expected).sum()) if found.shape == expected.shape else expected.size
            wrong += differ
            # Among equal outputs the first class, on both sides.
            theirs, ours = (100 * (y.argmax(axis=1) == labels).mean() for y in (expected, found))
            print(f"{model.stem:28} {path.stem:30} {len(labels):6} {theirs:6.2f}% {ours:6.2f}% {differ:12}")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
