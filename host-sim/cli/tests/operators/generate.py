#!/usr/bin/env python3
"""Writes single-operator `.tflite` files with inputs and the outputs of LiteRT's reference kernels.

One folder a case: model.tflite, input0.npy ..., output0.npy ..., with samples along axis 0; cases.json lists
them. The same seed gives the same bytes. README.md says how they are compared.
"""

import argparse
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np

import elementwise
import layers
import shapes
import streams

ROOT = Path(__file__).resolve().parents[4]


def samples_first(values):
    """[N, 1, ...] to [N, ...]: the batch of 1 gives way to the samples. Other shapes stay."""
    return values[:, 0] if values.ndim > 2 and values.shape[1] == 1 else values


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "target/operator-grid", help="emptied first")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--operator", action="append", help="this one alone; may be repeated")
    args = parser.parse_args()

    if args.folder.exists():
        if any(args.folder.iterdir()) and not (args.folder / "cases.json").exists():
            parser.error(f"{args.folder} holds something else than cases; it is not emptied")
        shutil.rmtree(args.folder)
    args.folder.mkdir(parents=True)
    # At once: it marks the folder as ours, should a case fail.
    (args.folder / "cases.json").write_text("[]\n")
    index, outputs, digest = [], 0, hashlib.sha256()
    counts = {}
    for number, module in enumerate((layers, elementwise, shapes, streams)):
        for case in module.cases(np.random.default_rng([args.seed, number])):
            if args.operator and case.operator not in args.operator:
                continue
            try:
                case.solve()
            except Exception as error:
                raise SystemExit(f"{case.operator} ({case.about}): {error}") from error
            counts[case.operator] = counts.get(case.operator, 0) + 1
            name = f"{case.operator.lower()}_{counts[case.operator]:02}"
            folder = args.folder / name
            folder.mkdir(parents=True)
            (folder / "model.tflite").write_bytes(case.model)
            for kind, arrays in (("input", case.samples), ("output", case.expected)):
                for position, values in enumerate(arrays):
                    np.save(folder / f"{kind}{position}.npy", samples_first(values))
                    digest.update(values.tobytes())
            outputs += sum(values.size for values in case.expected)
            index.append(
                {
                    "name": name,
                    "operator": case.operator,
                    "about": case.about,
                    "inputs": len(case.samples),
                    "outputs": len(case.expected),
                    "samples": len(case.samples[0]),
                    "stream": case.stream,
                }
            )
    (args.folder / "cases.json").write_text(json.dumps(index, indent=1) + "\n")
    for operator in sorted(counts):
        print(f"{operator:26} {counts[operator]:4}")
    print(f"{len(index)} cases, {outputs} output values, SHA-256 {digest.hexdigest()[:16]}: {args.folder}")


if __name__ == "__main__":
    main()
