"""Flower's two halves: what a device does with a message, and what the server makes of the answers."""

from __future__ import annotations

import dataclasses
import functools
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg, FedMedian, FedTrimmedAvg, Krum, MultiKrum, Strategy

from .. import _native
from .._device import Device
from .._model import Model
from .._recipe import Recipe
from ._head import Head, Sums, head, sums

REFUSED = 409
"""Code of the answer of a device with another base."""


@dataclasses.dataclass
class Node:
    """A device of the fleet."""

    name: str
    """What it is called in messages."""
    device: Device
    """Opened with its model."""
    x: npt.ArrayLike | None = None
    """Samples to give it before each round; without, it learns from those that it keeps."""
    y: npt.ArrayLike | None = None
    """Their labels."""


@dataclasses.dataclass(frozen=True)
class Round:
    """What a round came to."""

    devices: int
    """Devices that took part."""
    refused: list[str]
    """Why others did not."""
    loss: float
    """Mean loss on the devices after their steps, by samples."""
    bytes_down: int
    """Bytes of numbers to one device."""
    bytes_up: int
    """Bytes of numbers from one device."""


@dataclasses.dataclass
class Fleet:
    """What a server has learnt."""

    tail: bytes = b""
    """The fleet's tail, for a device's ``push_tail``."""
    layers: int = 0
    """Layers in it."""
    rounds: list[Round] = dataclasses.field(default_factory=list)
    """Round by round."""
    sums: Sums | None = None
    """What a head in closed form was solved from."""

    def push(self, device: Device) -> int:
        """Puts the fleet's tail in force on a device; returns the CRC-32 of its weights."""
        return device._native.push_tail(self.tail)


# ---- tails as records ----


def _delta(weights: Any, factory: Any, ranges: Any) -> ArrayRecord:
    return ArrayRecord({"weights": Array((weights - factory).astype(np.float32)), "ranges": Array(ranges)})


def _bytes(record: RecordDict) -> int:
    return sum(len(array.data) for own in record.array_records.values() for array in own.values())


def _tail(model: Model, layers: int, train: Sequence[str], delta: ArrayRecord) -> bytes:
    """The tail's bytes of a difference from the factory's."""
    factory, _ = _native.tail_weights(model._native, layers, list(train))
    weights = (factory + delta["weights"].numpy()).astype(np.float32)
    ranges = np.ascontiguousarray(delta["ranges"].numpy(), np.float32).ravel()
    return _native.tail_of(model._native, layers, list(train), weights, ranges)


def _is_nothing(delta: ArrayRecord) -> bool:
    return not delta["weights"].numpy().any()


# ---- devices ----


def client_app(open_node: Callable[[Context], Node], *, mods: Sequence[Any] = ()) -> ClientApp:
    """The devices' half.

    Parameters
    ----------
    open_node : callable
        Gives the :class:`Node` that Flower's context is about (``context.node_config["partition-id"]`` counts them from 0 in
        simulations). It is called for every message; whoever has a line to keep open returns the same device again.
    mods : sequence, optional
        Flower's mods, around every message.
    """
    app = ClientApp(mods=list(mods))

    @app.train()
    def answer_train(message: Message, context: Context) -> Message:
        node, config = open_node(context), message.content["config"]
        refusal = _refusal(node, config)
        if refusal is not None:
            return Message(refusal, reply_to=message)
        device, model = node.device, node.device.model
        assert model is not None
        layers, train = int(config["layers"]), list(config["train"])
        recipe = Recipe.from_dict(json.loads(str(config["recipe"])))
        # Another order of samples in every round.
        seed = int(recipe.resolved().seed or 0) + int(config["server-round"]) - 1
        if node.x is not None:
            device.forget()
            device.observe(node.x, node.y)
        fleet = message.content["arrays"]
        if not _is_nothing(fleet):
            device._native.push_tail(_tail(model, layers, train, fleet))
        adapted = device.adapt(recipe=recipe.replace(seed=seed))
        factory, _ = _native.tail_weights(model._native, layers, train)
        weights, ranges = _native.tail_weights(model._native, layers, train, device._native.pull_tail(False))
        metrics = MetricRecord({"num-examples": adapted.samples, "loss": adapted.loss})
        content = RecordDict({"arrays": _delta(weights, factory, ranges.ravel()), "metrics": metrics})
        return Message(content, reply_to=message)

    @app.query("sums")
    def answer_sums(message: Message, context: Context) -> Message:
        node = open_node(context)
        refusal = _refusal(node, message.content["config"])
        if refusal is None and (node.x is None or node.y is None):
            refusal = Error(REFUSED, f"{node.name}: sums are taken of samples that are given to the device, and it has its own")
        if refusal is not None:
            return Message(refusal, reply_to=message)
        assert node.device.model is not None and node.x is not None and node.y is not None
        own = sums(node.device.model, node.x, node.y)
        fields = {name: Array(getattr(own, name)) for name in ("counts", "sums", "products")}
        metrics = MetricRecord({"num-examples": int(own.counts.sum())})
        return Message(RecordDict({"arrays": ArrayRecord(fields), "metrics": metrics}), reply_to=message)

    return app


def _refusal(node: Node, config: ConfigRecord) -> Error | None:
    base, own = int(config["base-crc32"]), node.device.info.pack_crc32
    if base == own:
        return None
    return Error(REFUSED, f"{node.name}: the fleet's tail is of pack {base:#010x}, this device has {own:#010x}")


# ---- server ----

STRATEGIES = ("fedavg", "trimmed-mean", "median", "krum", "multi-krum", "closed-form")
"""Ways to make one tail of many."""


def strategy(name: str, *, nodes: int, hostile: int = 0) -> Strategy:
    """Flower's strategy by name: ``"fedavg"`` (mean by samples), ``"trimmed-mean"``, ``"median"``, ``"krum"`` or
    ``"multi-krum"``.

    Parameters
    ----------
    nodes : int
        Devices of the fleet, all of which are asked in each round.
    hostile : int
        Devices that may send anything: the trimmed mean leaves out as many at either end of each weight, Krum takes the device that
        is nearest to its ``nodes - hostile - 2`` neighbours.
    """
    few = {"min_train_nodes": min(2, nodes), "min_available_nodes": min(2, nodes)}
    usual: dict[str, Any] = {"fraction_evaluate": 0.0, "min_evaluate_nodes": 0, **few}
    if name == "fedprox":
        raise _native.Error(
            'fedprox needs a proximal term in the devices\' steps, and recipes have none: fewer epochs a round keep devices near the '
            "fleet, too"
        )
    match name:
        case "fedavg":
            return FedAvg(**usual)
        case "trimmed-mean":
            # A little more than the share, or rounding down leaves one in.
            return FedTrimmedAvg(beta=min((hostile + 0.5) / max(nodes, 1), 0.49), **usual)
        case "median":
            return FedMedian(**usual)
        case "krum":
            return Krum(num_malicious_nodes=hostile, **usual)
        case "multi-krum":
            return MultiKrum(num_malicious_nodes=hostile, num_nodes_to_select=max(nodes - hostile, 1), **usual)
    raise _native.Error(f"there is no strategy `{name}`; there are {', '.join(STRATEGIES)}")


class FleetApp(ServerApp):
    """A server that keeps what it has learnt."""

    def __init__(self, nodes: int) -> None:
        super().__init__()
        self.fleet = Fleet()
        self.nodes = nodes
        """Devices that it waits for before the first round."""


def server_app(
    model: Model,
    *,
    layers: int | None = None,
    train: Sequence[str] = (),
    rounds: int = 5,
    epochs: int = 2,
    strategy: str | Strategy = "fedavg",
    hostile: int = 0,
    nodes: int = 1,
    recipe: Recipe | None = None,
    **fields: Any,
) -> FleetApp:
    """The server's half. What it has learnt is ``app.fleet`` afterwards.

    Parameters
    ----------
    model : Model
        What all devices were built with.
    layers, train
        What is tuned: see :meth:`flatmin.Model.pack`. A head in closed form is one layer.
    rounds : int
        Times that the devices are asked; a head in closed form takes one.
    epochs : int
        Passes over its samples that a device makes in a round.
    strategy : str or Strategy
        A name of :data:`STRATEGIES`, or a strategy of Flower's.
    hostile : int
        Devices that may send anything: see :func:`strategy`.
    nodes : int
        Devices that it waits for before the first round; :func:`run` knows its own.
    recipe, **fields
        What devices take steps by, ``method="asam"`` for instance.
    """
    app = FleetApp(nodes)
    exact = strategy == "closed-form"
    if exact and layers not in (None, 1):
        raise _native.Error("a head in closed form is one layer: leave layers out")
    pack = model.pack(layers=1 if exact else layers, train=train)
    asked = (recipe or Recipe()).replace(epochs=epochs, **fields)
    config = {
        "base-crc32": pack.pack_crc32,
        "layers": pack.layers,
        "train": list(train),
        "recipe": json.dumps(asked.to_dict()),
    }

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        while (nodes := len(list(grid.get_node_ids()))) < app.nodes:
            time.sleep(0.1)
        watched = _Watched(grid)
        fleet = app.fleet
        fleet.layers, fleet.rounds = pack.layers, watched.rounds
        if exact:
            fleet.sums, solved = _exact(watched, model, ConfigRecord(config))
            fleet.tail = solved.tail(model)
            return
        chosen = strategy if isinstance(strategy, Strategy) else _named(strategy, nodes=nodes, hostile=hostile)
        factory, ranges = _native.tail_weights(model._native, pack.layers, list(train))
        result = chosen.start(
            grid=watched,
            initial_arrays=_delta(factory, factory, ranges.ravel()),
            num_rounds=rounds,
            train_config=ConfigRecord(config),
        )
        if not len(result.arrays):
            why = "; ".join(reason for own in watched.rounds for reason in own.refused)
            raise _native.Error(f"no device took part: {why or 'none answered'}")
        fleet.tail = _tail(model, pack.layers, train, result.arrays)

    return app


_named = strategy


def _exact(grid: _Watched, model: Model, config: ConfigRecord) -> tuple[Sums, Head]:
    content = RecordDict({"config": config})
    asked = [Message(content, message_type="query.sums", dst_node_id=node) for node in grid.get_node_ids()]
    found, refused = [], []
    for answer in grid.send_and_receive(asked):
        if answer.has_error():
            continue
        arrays = answer.content["arrays"]
        own = Sums(*(arrays[name].numpy() for name in ("counts", "sums", "products")))
        if own.are_of_samples():
            found.append(own)
        else:
            refused.append(f"node {answer.metadata.src_node_id}: no samples have its sums")
    if refused:
        last = grid.rounds[-1]
        grid.rounds[-1] = dataclasses.replace(last, devices=len(found), refused=last.refused + refused)
    if not found:
        why = "; ".join(reason for own in grid.rounds for reason in own.refused)
        raise _native.Error(f"no device took part: {why or 'none answered'}")
    total = functools.reduce(Sums.__add__, found)
    return total, head(model, total)


class _Watched(Grid):
    """A grid, and what passed over it."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self.rounds: list[Round] = []

    def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> Any:
        sent = list(messages)
        if not sent:
            return []
        replies = list(self._grid.send_and_receive(sent, timeout=timeout))
        good = [own for own in replies if not own.has_error()]
        metrics = [(own.content["metrics"]["num-examples"], own.content["metrics"].get("loss")) for own in good]
        told = [(count, loss) for count, loss in metrics if loss is not None and np.isfinite(loss)]
        samples = sum(count for count, _ in told)
        self.rounds.append(
            Round(
                devices=len(good),
                refused=[own.error.reason for own in replies if own.has_error()],
                loss=sum(count * loss for count, loss in told) / samples if samples else float("nan"),
                bytes_down=_bytes(sent[0].content),
                bytes_up=max((_bytes(own.content) for own in good), default=0),
            )
        )
        return replies

    def set_run(self, run: Any) -> None:
        self._grid.set_run(run)

    @property
    def run(self) -> Any:
        return self._grid.run

    def create_message(self, *arguments: Any, **named: Any) -> Message:
        return self._grid.create_message(*arguments, **named)

    def get_node_ids(self) -> Any:
        return self._grid.get_node_ids()

    def push_messages(self, messages: Any) -> Any:
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Any) -> Any:
        return self._grid.pull_messages(message_ids)
