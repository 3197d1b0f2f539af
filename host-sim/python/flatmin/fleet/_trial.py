"""The bundled wearers as a fleet: does it help the one whom no device knows?"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, Context, Error, Message

from .. import _native
from .._data import Wearer, load_wearer
from .._device import Device
from .._model import Model
from .._recipe import Recipe
from ._apps import STRATEGIES, Fleet, Node, client_app, server_app
from ._local import run

WEARERS = 10
ATTACKS = ("noise", "labels")

T_975 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
"""Student's t for intervals of 95 %, by degrees of freedom."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """What is tried."""

    devices: int = 10
    """How many there are; one of them is the stranger's, which takes no part."""
    rounds: int = 5
    epochs: int = 5
    layers: int = 2
    method: str = "sam"
    strategy: str = "fedavg"
    hostile: int = 0
    attack: str = "noise"
    expected: int | None = None
    """Hostile devices that the strategy is told of; usual: those that there are."""
    drop: float = 0.0
    turn: float = 60.0
    """Degrees by which all watches are turned about the axis of their display, as the factory's network has never seen them."""
    learning_rate: float | None = 0.05
    windows: int = 9
    """Labelled windows per class of each wearer."""
    strangers: tuple[int, ...] = tuple(range(1, WEARERS + 1))
    seed: int = 1
    engine: str = "local"

    def check(self) -> None:
        """Refuses what cannot be tried."""
        limits = [
            (self.devices >= 3, "devices: three at least, one of which is the stranger's"),
            (self.rounds >= 1 and self.epochs >= 1, "rounds and epochs: one at least"),
            (0 <= self.hostile < self.devices - 1, "hostile: from 0 to fewer than the devices that take part"),
            (0.0 <= self.drop < 1.0, "drop: from 0 to below 1"),
            (self.attack in ATTACKS, f"attack: one of {', '.join(ATTACKS)}"),
            (math.isfinite(self.turn), "turn: degrees"),
            (self.strategy in STRATEGIES, f"strategy: one of {', '.join(STRATEGIES)}"),
            (all(1 <= own <= WEARERS for own in self.strangers), f"strangers: from 1 to {WEARERS}"),
            (len(self.strangers) > 0, "strangers: one at least"),
        ]
        for holds, text in limits:
            if not holds:
                raise _native.Error(text)


@functools.lru_cache(maxsize=64)
def _wearer(number: int, windows: int, seed: int) -> Wearer:
    return load_wearer(number, windows_per_class=windows, seed=seed)


def _real(model: Model, x: npt.NDArray[np.int8]) -> npt.NDArray[np.float32]:
    scale, zero_point = model.input_quantization
    return np.asarray(scale * (x.astype(np.float32) - zero_point), np.float32)


def worn(x: npt.NDArray[np.float32], turn: float) -> npt.NDArray[np.float32]:
    """Windows of watches that are turned about the axis of their display: by so many degrees, accelerations and rates alike."""
    angle = math.radians(turn)
    cos, sin = (np.float32(own) for own in (math.cos(angle), math.sin(angle)))
    turned = x.copy()
    for first in (0, 3):
        ahead, aside = x[..., first], x[..., first + 1]
        turned[..., first] = cos * ahead - sin * aside
        turned[..., first + 1] = sin * ahead + cos * aside
    return turned


def _part(trial: Trial, stranger: int, number: int) -> tuple[int, int]:
    """Wearer and seed of a device of the fleet: beyond nine, other windows of the same people."""
    others = [own for own in range(1, WEARERS + 1) if own != stranger]
    return others[number % len(others)], trial.seed + number // len(others)


def _node(trial: Trial, stranger: int, context: Context) -> Node:
    number = int(context.node_config["partition-id"])
    wearer, seed = _part(trial, stranger, number)
    own, model = _wearer(wearer, trial.windows, seed), _wearer(stranger, trial.windows, trial.seed).model
    x, y = worn(_real(own.model, own.x), trial.turn), own.y
    if number < trial.hostile and trial.attack == "labels":
        # Each class is called the next.
        y = (y + 1) % int(np.prod(model.output_shape))
    layers = 1 if trial.strategy == "closed-form" else trial.layers
    return Node(f"wearer {wearer}", Device.simulated(model, layers=layers, samples=len(x)), x, y)


def _mishaps(trial: Trial, message: Message, context: Context, call_next: Callable[..., Message]) -> Message:
    """What befalls a device: it is not there, or it sends noise."""
    number = int(context.node_config["partition-id"])
    config = message.content["config"]
    draws = np.random.default_rng([trial.seed, number, int(config.get("server-round", 0))])
    if draws.random() < trial.drop:
        return Message(Error(404, f"node {number}: not there"), reply_to=message)
    answer = call_next(message, context)
    if answer.has_error() or number >= trial.hostile or trial.attack != "noise":
        return answer
    arrays = answer.content["arrays"]
    noisy = {}
    for name, array in arrays.items():
        own = array.numpy()
        if name == "weights":
            # As long as a weight is large, and ten times that of an honest step.
            own = draws.normal(0.0, 1.0, own.shape).astype(own.dtype)
        elif name in ("sums", "products"):
            own = draws.integers(-(10**5), 10**5, own.shape)
        noisy[name] = Array(own)
    answer.content["arrays"] = ArrayRecord(noisy)
    return answer


@dataclasses.dataclass(frozen=True)
class Stranger:
    """What came of it for one whom no device knows: shares of right answers, 0 to 1."""

    wearer: int
    factory: float
    fleet: float
    own: float
    """Own samples alone."""
    both: float
    """Own samples after the fleet's tail."""
    devices: list[int]
    """That took part, by round."""
    refused: int
    """Answers that were none, in all rounds."""
    bytes_down: int
    bytes_up: int
    link_bytes: int
    """Bytes of the fleet's tail in int8, as a delta over a device's line."""


def _accuracy(device: Device, x: npt.NDArray[np.float32], y: npt.NDArray[np.int64]) -> float:
    return float(np.mean(device.classify(x) == y))


@contextlib.contextmanager
def _fresh(model: Model, layers: int, samples: int) -> Iterator[Device]:
    with Device.simulated(model, layers=layers, samples=samples) as device:
        yield device


def stranger(trial: Trial, wearer: int) -> Stranger:
    """Runs a fleet of the other wearers, and tries its tail on this one."""
    own = _wearer(wearer, trial.windows, trial.seed)
    model = own.model
    x, x_test = (worn(_real(model, part), trial.turn) for part in (own.x, own.x_test))
    layers = 1 if trial.strategy == "closed-form" else trial.layers
    expected = trial.hostile if trial.expected is None else trial.expected
    recipe = Recipe(method=trial.method, seed=trial.seed, learning_rate=trial.learning_rate)
    server = server_app(
        model,
        layers=layers,
        rounds=trial.rounds,
        epochs=trial.epochs,
        strategy=trial.strategy,
        hostile=expected,
        recipe=recipe,
    )
    client = client_app(
        functools.partial(_node, trial, wearer), mods=[functools.partial(_mishaps, trial)]
    )
    fleet: Fleet = run(server, client, nodes=trial.devices - 1, engine=trial.engine)
    with _fresh(model, layers, len(x)) as device:
        factory = _accuracy(device, x_test, own.y_test)
        fleet.push(device)
        there = _accuracy(device, x_test, own.y_test)
        delta = device.delta()
        # `adapt` goes on from the fleet's tail, and forgets nothing of it.
        device.observe(x, own.y)
        device.adapt(recipe=recipe)
        both = _accuracy(device, x_test, own.y_test)
    with _fresh(model, layers, len(x)) as device:
        device.observe(x, own.y)
        device.adapt(recipe=recipe)
        alone = _accuracy(device, x_test, own.y_test)
    return Stranger(
        wearer=wearer,
        factory=factory,
        fleet=there,
        own=alone,
        both=both,
        devices=[own.devices for own in fleet.rounds],
        refused=sum(len(own.refused) for own in fleet.rounds),
        bytes_down=fleet.rounds[-1].bytes_down,
        bytes_up=max(own.bytes_up for own in fleet.rounds),
        link_bytes=len(delta),
    )


def interval(differences: npt.ArrayLike) -> tuple[float, float, float] | None:
    """Mean and the ends of its interval of 95 %, by Student's t over wearers; none of fewer than two."""
    values = np.asarray(differences, float)
    if len(values) < 2:
        return None
    half = T_975[len(values) - 1] * float(values.std(ddof=1)) / math.sqrt(len(values))
    mean = float(values.mean())
    return mean, mean - half, mean + half


ROWS = {
    "factory": "factory",
    "fleet": "the fleet's tail, no own sample",
    "own": "own tuning alone",
    "both": "own tuning after the fleet's tail",
}


def summary(trial: Trial, found: list[Stranger]) -> dict[str, Any]:
    """All of it as dicts, lists and numbers."""
    rows = {}
    for name in ROWS:
        shares = [getattr(own, name) for own in found]
        gain = interval([getattr(own, name) - own.factory for own in found])
        rows[name] = {
            "accuracy": float(np.mean(shares)),
            "better": sum(getattr(own, name) > own.factory for own in found),
            "gain": None if gain is None or name == "factory" else dict(zip(("mean", "low", "high"), gain)),
        }
    return {
        "trial": dataclasses.asdict(trial),
        "rows": rows,
        "strangers": [dataclasses.asdict(own) for own in found],
    }


def table(trial: Trial, told: dict[str, Any]) -> str:
    """The result for people."""
    found = told["strangers"]
    people = f"watches turned by {trial.turn:g} degrees" if trial.turn else "watches worn as in the training data"
    head = (
        f"{trial.devices - 1} devices, {trial.strategy}, {trial.method}, {trial.rounds} rounds of {trial.epochs} epochs; {people}"
        if trial.strategy != "closed-form"
        else f"{trial.devices - 1} devices, one round of sums, the last layer in closed form; {people}"
    )
    lines = [head]
    if trial.hostile:
        lines.append(f"{trial.hostile} of them hostile: {trial.attack}")
    if trial.drop:
        lines.append(f"in each round {100 * trial.drop:.0f} % of them are not there")
    lines += ["", f"{'on the stranger':36}{'right, %':>9}{'gain, points [95 %]':>24}{'better for':>14}"]
    for name, text in ROWS.items():
        row = told["rows"][name]
        gain = row["gain"]
        shown = "" if gain is None else "{mean:+.1f} [{low:+.1f}, {high:+.1f}]".format(
            **{key: 100 * value for key, value in gain.items()}
        )
        better = "" if name == "factory" else f"{row['better']} of {len(found)}"
        lines.append(f"{text:36}{100 * row['accuracy']:9.1f}{shown:>24}{better:>14}")
    first = found[0]
    lines += [
        "",
        f"numbers of a round: {first['bytes_down']:,} bytes to a device, {first['bytes_up']:,} from it; "
        f"the tail as an int8 delta over a line: {first['link_bytes']:,}",
    ]
    return "\n".join(lines)
