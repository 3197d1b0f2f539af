#!/usr/bin/env python3
"""Write watch_dataset.bin from the recordings in the Python package seglearn 1.2.5.

The byte layout is described in README.md. Needs numpy; seglearn itself is only located,
never imported, so none of its own dependencies are needed.
"""

import argparse
import importlib.util
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

MAGIC = b"IMUR"
VERSION = 1
SAMPLE_RATE_HZ = 50
NAME_BYTES = 8
HEADER = struct.Struct("<4sHHHBBBBHI6f6f")
RECORD = struct.Struct("<BBBBI")

# Powers of two, so that integer times scale is exact in float32. The ranges (8 g, 32 rad/s) are
# the smallest of that kind that hold every sample.
PHYSICAL_SCALE = [2.0**-12] * 3 + [2.0**-10] * 3
# Network input = physical value * gain: acceleration in g, rotation in units of 2 rad/s. A tensor
# has one int8 scale for all channels; with these units the usual ranges of wrist motion, 4 g and
# 8 rad/s (about 460 degrees a second), fill it alike. One constant for all wearers (README.md).
INPUT_GAIN = [1.0] * 3 + [0.5] * 3


class Recording(NamedTuple):
    wearer: int  # 1..10
    side: int  # 0 left, 1 right
    exercise: int  # index into the exercise names
    samples: np.ndarray  # int16, shape (length, 6)


def locate(path):
    """The .npy file: `path` itself, the one inside an unpacked package, or the installed one."""
    if path is None:
        spec = importlib.util.find_spec("seglearn")
        if spec is None or not spec.submodule_search_locations:
            raise SystemExit("seglearn is not installed: pip install --no-deps seglearn==1.2.5, or give a path")
        path = spec.submodule_search_locations[0]
    path = Path(path)
    for candidate in (path, path / "data/watch_dataset.npy", path / "seglearn/data/watch_dataset.npy"):
        if candidate.is_file():
            return candidate
    raise SystemExit(f"no watch_dataset.npy at {path}")


def convert(source, target):
    """Quantize every recording; returns the largest error of each channel in physical units."""
    # The file is a pickled dict: load it only from a package you trust.
    data = np.load(source, allow_pickle=True).item()
    names = [name.encode("ascii") for name in data["y_labels"]]
    scale = np.array(PHYSICAL_SCALE)
    table, bodies = [], []
    worst = np.zeros(6)
    for samples, exercise, side, wearer in zip(data["X"], data["y"], data["side"], data["subject"]):
        quantized = np.rint(samples / scale)
        if np.abs(quantized).max() > 32767:
            raise SystemExit("a sample exceeds the int16 range")
        worst = np.maximum(worst, np.abs(quantized * scale - samples).max(axis=0))
        table.append(RECORD.pack(int(wearer), int(side), int(exercise), 0, len(samples)))
        bodies.append(quantized.astype("<i2").tobytes())
    header_bytes = HEADER.size + NAME_BYTES * len(names)
    total = sum(len(samples) for samples in data["X"])
    header = HEADER.pack(
        MAGIC, VERSION, header_bytes, SAMPLE_RATE_HZ, 6, len(names),
        len(np.unique(data["subject"])), len(np.unique(data["side"])), len(table), total,
        *PHYSICAL_SCALE, *INPUT_GAIN,
    )
    header += b"".join(name.ljust(NAME_BYTES, b"\0") for name in names)
    Path(target).write_bytes(header + b"".join(table) + b"".join(bodies))
    return worst


def load(path=Path(__file__).with_name("watch_dataset.bin")):
    """Read the .bin file: (exercise names, float32 factor to network input per channel, recordings)."""
    blob = Path(path).read_bytes()
    fields = HEADER.unpack_from(blob)
    magic, version, header_bytes, _, channels, classes, _, _, count, total = fields[:10]
    if (magic, version, channels) != (MAGIC, VERSION, 6):
        raise ValueError(f"{path} is not a version {VERSION} recordings file")
    factor = np.array(fields[10:16], np.float32) * np.array(fields[16:22], np.float32)
    names = [
        blob[HEADER.size + i * NAME_BYTES : HEADER.size + (i + 1) * NAME_BYTES].rstrip(b"\0").decode("ascii")
        for i in range(classes)
    ]
    start = header_bytes + count * RECORD.size
    samples = np.frombuffer(blob, "<i2", total * 6, start).reshape(total, 6)
    recordings, position = [], 0
    for i in range(count):
        wearer, side, exercise, _, length = RECORD.unpack_from(blob, header_bytes + i * RECORD.size)
        recordings.append(Recording(wearer, side, exercise, samples[position : position + length]))
        position += length
    return names, factor, recordings


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", help="watch_dataset.npy, or a folder with the unpacked package (default: the installed package)")
    parser.add_argument("--output", default=Path(__file__).with_name("watch_dataset.bin"), type=Path)
    args = parser.parse_args()
    worst = convert(locate(args.source), args.output)
    print(f"{args.output}: {args.output.stat().st_size} bytes")
    for name, error in zip(["ax", "ay", "az", "wx", "wy", "wz"], worst):
        print(f"largest quantization error {name}: {error:.6f} {'g' if name[0] == 'a' else 'rad/s'}")


if __name__ == "__main__":
    main()
