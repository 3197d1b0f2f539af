"""Tunes the last layers of int8 networks by the very code that runs on the microcontroller.

A model is a full-integer ``.tflite``, or an ONNX file with QuantizeLinear and DequantizeLinear nodes. Samples are NumPy
arrays, batch first: float arrays are in the units that the model was trained on, ``int8`` arrays are quantized already.

>>> import flatmin
>>> wearer = flatmin.load_wearer(3)             # a bundled model, and a person whom it does not know
>>> wearer.x.shape, wearer.y.shape              # 63 windows of 100 readings of six axes
((63, 100, 1, 6), (63,))
>>> result = wearer.model.tune(wearer.x, wearer.y, method="sam", layers=2, seed=1,
...                            test=(wearer.x_test, wearer.y_test))
>>> result.accuracy > result.factory_accuracy
True

The bits are those of ``flatmin tune`` on the command line and of the device: ``result.weights_crc32`` is the same there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._data import Wearer, load_wearer
from ._device import Device
from ._model import Model
from ._native import Error, __version__
from ._recipe import Recipe
from ._results import (
    Adapted,
    Anomalies,
    Candidate,
    CurvePoint,
    Cut,
    DeviceInfo,
    End,
    InForce,
    Inspection,
    Layer,
    Pack,
    Plan,
    Progress,
    Tuning,
    Verdict,
)

if TYPE_CHECKING:
    from ._classifier import Classifier

__all__ = [
    "Adapted",
    "Anomalies",
    "Candidate",
    "Classifier",
    "CurvePoint",
    "Cut",
    "Device",
    "DeviceInfo",
    "End",
    "Error",
    "InForce",
    "Inspection",
    "Layer",
    "Model",
    "Pack",
    "Plan",
    "Progress",
    "Recipe",
    "Tuning",
    "Verdict",
    "Wearer",
    "__version__",
    "load_wearer",
]


def __getattr__(name: str) -> Any:
    # scikit-learn takes a second to import: only for those who ask.
    if name == "Classifier":
        from ._classifier import Classifier

        return Classifier
    raise AttributeError(f"module 'flatmin' has no attribute {name!r}")
