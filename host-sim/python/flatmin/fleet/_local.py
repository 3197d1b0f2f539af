"""Fleets in one process: Flower's apps and messages, without its network and without Ray."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from .. import _native
from ._apps import Fleet, FleetApp

FAILED = 500
"""Code of the answer of a device whose call has failed."""


class LocalGrid(Grid):
    """Hands messages to a ClientApp in this process, a thread per core: devices leave the interpreter to one another."""

    def __init__(self, app: ClientApp, nodes: int) -> None:
        self._app = app
        self._contexts = [
            Context(
                run_id=1,
                node_id=number + 1,
                node_config={"partition-id": number, "num-partitions": nodes},
                state=RecordDict(),
                run_config={},
            )
            for number in range(nodes)
        ]

    def get_node_ids(self) -> Iterable[int]:
        return [context.node_id for context in self._contexts]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(self._answer, messages))

    def _answer(self, message: Message) -> Message:
        context = self._contexts[message.metadata.dst_node_id - 1]
        try:
            return self._app(message, context)
        except Exception as error:
            return Message(Error(FAILED, f"node {context.node_id}: {error}"), reply_to=message)

    def set_run(self, run: Any) -> None:
        raise NotImplementedError("a fleet in one process is one run")

    @property
    def run(self) -> Any:
        raise NotImplementedError("a fleet in one process is one run")

    def create_message(self, *arguments: Any, **named: Any) -> Message:
        raise NotImplementedError("messages are Flower's `Message`")

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        raise NotImplementedError("messages are answered at once: send_and_receive")

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        raise NotImplementedError("messages are answered at once: send_and_receive")


def run(server: FleetApp, client: ClientApp, *, nodes: int, engine: str = "local") -> Fleet:
    """Runs a fleet of simulated nodes.

    Parameters
    ----------
    server, client
        Of :func:`server_app` and :func:`client_app`.
    nodes : int
        How many: ``context.node_config["partition-id"]`` counts them from 0.
    engine : {"local", "ray"}
        ``"ray"`` is Flower's simulation engine (``pip install "flwr[simulation]"``): processes, and other machines. Nodes are
        opened there.

    Raises
    ------
    flatmin.Error
        No device took part.
    """
    server.nodes = nodes
    logger = logging.getLogger("flwr")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        if engine == "local":
            # Flower's processes have it from their SuperLink, and messages are made with it.
            TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
            grid = LocalGrid(client, nodes)
            server(grid, Context(run_id=1, node_id=0, node_config={}, state=RecordDict(), run_config={}))
        elif engine == "ray":
            from flwr.simulation import run_simulation

            resources = {"num_cpus": 1, "num_gpus": 0.0}
            run_simulation(server, client, num_supernodes=nodes, backend_config={"client_resources": resources})
        else:
            raise _native.Error(f"there is no engine `{engine}`; there are local and ray")
    finally:
        logger.setLevel(level)
    return server.fleet
