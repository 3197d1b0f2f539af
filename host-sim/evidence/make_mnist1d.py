"""Generates MNIST-1D (Greydanus 2020, arXiv 2011.14439) from its own seed for `flatmin experiment scratch`, `width` and `late`.

    python3 -m venv target/mnist1d && target/mnist1d/bin/python -m pip install mnist1d==0.0.2.post1
    target/mnist1d/bin/python host-sim/evidence/make_mnist1d.py FOLDER

Writes FOLDER/mnist1d/samples.bin: 4,000 samples to train on, then 1,000 to test on. A sample is its label, a byte, and 40 values
in int8, of which 32 are one standard deviation of the whole set. Nothing is fetched but the package, which is Apache-2.0.
"""

import sys
from pathlib import Path

import numpy as np
from mnist1d.data import get_dataset_args, make_dataset

UNITS = 32
LENGTH = 40


def records(x, y):
    values = np.clip(np.rint(UNITS * x), -128, 127).astype(np.int8)
    assert values.shape == (len(y), LENGTH), values.shape
    return np.concatenate([y.astype(np.uint8)[:, None], values.view(np.uint8)], axis=1).tobytes()


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    data = make_dataset(get_dataset_args())
    folder = Path(sys.argv[1]) / "mnist1d"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "samples.bin"
    path.write_bytes(records(data["x"], data["y"]) + records(data["x_test"], data["y_test"]))
    print(f"{path}: {len(data['y'])} samples to train on, {len(data['y_test'])} to test on")


if __name__ == "__main__":
    main()
