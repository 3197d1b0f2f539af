"""Fleets: many devices improve one tail together, and no sample leaves a device. On Flower (``pip install flatmin[fleet]``).

The devices' side is Flower's :class:`ClientApp` (:func:`client_app`), whose nodes are :class:`flatmin.Device`: simulated,
emulated, on a TCP socket or on a serial port. The other side is a :class:`ServerApp` (:func:`server_app`) with Flower's own
strategies. What travels is the difference of a tail's weights from the factory's, with the CRC of the pack that it belongs to; a
device with another pack refuses it by name.

>>> import flatmin, flatmin.fleet as fleet
>>> own = flatmin.load_wearer(10)
>>> model, x, y = own.model, own.x_known[::30], own.y_known[::30]
>>> def node(context):                          # each of three devices has a third of them
...     part = context.node_config["partition-id"]
...     return fleet.Node(f"device {part}", flatmin.Device.simulated(model), x[part::3], y[part::3])
>>> result = fleet.run(fleet.server_app(model, rounds=2, epochs=1), fleet.client_app(node), nodes=3)
>>> [(own.devices, own.bytes_up) for own in result.rounds]
[(3, 51500), (3, 51500)]
>>> with flatmin.Device.simulated(model) as device:
...     crc32 = result.push(device)             # the fleet's tail on a device that took no part
"""

from __future__ import annotations

try:
    import flwr as _flwr
except ImportError as error:
    raise ImportError('fleets take Flower: pip install "flatmin[fleet]", or pip install flwr') from error

from ._apps import STRATEGIES, Fleet, Node, Round, client_app, server_app, strategy
from ._head import Head, Sums, head, sums
from ._local import run

__all__ = [
    "STRATEGIES",
    "Fleet",
    "Head",
    "Node",
    "Round",
    "Sums",
    "client_app",
    "head",
    "run",
    "server_app",
    "strategy",
    "sums",
]

del _flwr
