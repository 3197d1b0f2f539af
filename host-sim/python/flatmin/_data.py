"""The bundled task: exercises recognized from a wrist-worn sensor, for ten people whom their model does not know."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from . import _native
from ._model import Model


@dataclasses.dataclass(frozen=True)
class Wearer:
    """A person, the model that was trained without them, and windows of their exercises as the model takes them."""

    model: Model
    """7 classes, from windows of 100 readings of six axes."""
    x: npt.NDArray[np.int8] = dataclasses.field(repr=False)
    """Windows to tune on, shape ``(7 * windows_per_class, 100, 1, 6)``."""
    y: npt.NDArray[np.int64] = dataclasses.field(repr=False)
    """Their classes, some of them flipped if that was asked for."""
    x_test: npt.NDArray[np.int8] = dataclasses.field(repr=False)
    """Windows to test on, shape ``(N, 100, 1, 6)``."""
    y_test: npt.NDArray[np.int64] = dataclasses.field(repr=False)
    """Their classes."""
    x_known: npt.NDArray[np.int8] = dataclasses.field(repr=False)
    """Windows of the other wearers, on whom the model was trained: for :meth:`Model.calibrated`."""
    y_known: npt.NDArray[np.int64] = dataclasses.field(repr=False)
    """Their classes."""


def load_wearer(number: int, *, windows_per_class: int = 9, label_noise: float = 0.0, seed: int = 1) -> Wearer:
    """A bundled wearer: the samples of ``flatmin tune --wearer``.

    Parameters
    ----------
    number : int
        1 to 10.
    windows_per_class : int
        Windows per class to tune on.
    label_noise : float
        Share of the labels to tune on that are flipped, 0 to 1.
    seed : int
        Seed of the draw of windows and of flipped labels.

    >>> import flatmin
    >>> flatmin.load_wearer(1, windows_per_class=2).x.shape
    (14, 100, 1, 6)
    """
    network, (own, test, known) = _native.wearer(number, windows_per_class, label_noise, seed)
    return Wearer(Model._of(network), *own, *test, *known)
