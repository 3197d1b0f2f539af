"""``python -m flatmin.fleet``: the bundled wearers as a fleet, on the desktop."""

from __future__ import annotations

import argparse
import json
import sys

from .. import _native
from ._trial import Trial, stranger, summary, table


def main(arguments: list[str] | None = None) -> int:
    """Runs it; what is wrong goes to standard error."""
    parser = argparse.ArgumentParser(prog="python -m flatmin.fleet", description=__doc__)
    add = parser.add_argument
    add("--devices", type=int, default=10, help="devices; one is the stranger's and takes no part (default: 10)")
    add("--rounds", type=int, default=5, help="times that the devices are asked (default: 5)")
    add("--epochs", type=int, default=5, help="passes over its samples of a device in a round (default: 5)")
    add("--layers", type=int, default=2, help="layers that are tuned (default: 2)")
    add("--method", default="sam", choices=["sgd", "sam", "asam"], help="what devices take steps by (default: sam)")
    add("--strategy", default="fedavg", help="fedavg, trimmed-mean, median, krum, multi-krum, or closed-form: the last layer, exact")
    add("--hostile", type=int, default=0, metavar="N", help="devices that send noise or have wrong labels (default: 0)")
    add("--attack", default="noise", choices=["noise", "labels"], help="what hostile devices do (default: noise)")
    add("--expected", type=int, metavar="N", help="hostile devices that the strategy is told of (default: those of --hostile)")
    add("--drop", type=float, default=0.0, metavar="SHARE", help="share of the devices that are not there in a round (default: 0)")
    add("--learning-rate", type=float, default=0.05, metavar="RATE", help="of the devices' steps (default: 0.05)")
    add(
        "--turn",
        type=float,
        default=60.0,
        metavar="DEGREES",
        help="all watches are turned about the axis of their display, which the factory's network has not seen; 0: worn as in its "
        "training data, of which the fleet's samples are a part (default: 60)",
    )
    add("--windows-per-class", type=int, default=9, metavar="N", help="labelled windows of each wearer (default: 9)")
    add("--stranger", type=int, nargs="+", metavar="WEARER", help="whom no device knows, 1 to 10 (default: each in turn)")
    add("--seed", type=int, default=1)
    add("--engine", default="local", choices=["local", "ray"], help="ray: Flower's simulation engine (default: local)")
    add("--json", action="store_true", help="one JSON object in place of a table")
    asked = parser.parse_args(arguments)
    options = {name: value for name, value in vars(asked).items() if name not in ("json", "stranger", "windows_per_class")}
    if asked.stranger is not None:
        options["strangers"] = tuple(asked.stranger)
    try:
        trial = Trial(windows=asked.windows_per_class, **options)
        trial.check()
        told = summary(trial, [stranger(trial, wearer) for wearer in trial.strangers])
    except (_native.Error, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(told) if asked.json else table(trial, told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
