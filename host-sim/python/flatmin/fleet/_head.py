"""Heads in closed form from sums that devices add up: one round, exact, whatever the order."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _native
from .._arrays import npy
from .._model import Model

MARGIN = 8.0
"""Mean distance, in nats, of a class's own logit at its mean to the next: logits of discriminant analysis span hundreds, from
which no gradient step comes back."""

SPREAD = 4.0
"""Standard deviations around the class means that the output's int8 range covers."""


@dataclasses.dataclass(frozen=True, eq=False)
class Sums:
    """Counts and sums of what the last layer reads, in int8 steps above its zero point. They are integers: sums of sums are those of
    all samples together, in every bit."""

    counts: npt.NDArray[np.int64]
    """Samples of each class, shape ``(classes,)``."""
    sums: npt.NDArray[np.int64]
    """Sums of the features by class, shape ``(classes, features)``."""
    products: npt.NDArray[np.int64]
    """Sums of the products of two features, shape ``(features, features)``."""

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.counts + other.counts, self.sums + other.sums, self.products + other.products)

    def are_of_samples(self) -> bool:
        """Whether there are samples with these sums: what scatters within the classes has no negative variance in any direction.
        Noise does not pass; wrong labels do."""
        empty = self.counts == 0
        if (self.counts < 0).any() or self.sums[empty].any() or (self.products != self.products.T).any():
            return False
        means = self.sums / np.where(empty, 1, self.counts)[:, None]
        scatter = self.products - means.T @ self.sums
        return bool(np.linalg.eigvalsh(scatter)[0] >= -1e-7 * max(np.trace(scatter), 1.0))

    def model(self, model: Model) -> Model:
        """The model with these sums as what its factory knows: heads that devices solve start from them, as after
        :meth:`flatmin.Model.calibrated` with all samples.

        Raises
        ------
        flatmin.Error
            A class without a sample, or sums of another model.
        """
        flat = (np.ascontiguousarray(own, np.int64).ravel() for own in (self.counts, self.sums, self.products))
        return Model._of(_native.with_sums(model._native, *flat))


def sums(model: Model, x: npt.ArrayLike, y: npt.ArrayLike) -> Sums:
    """Counts and sums of labelled samples: what a device contributes to a head.

    Parameters
    ----------
    model : Model
        It ends in a fully connected layer of classes.
    x : array, shape (N, input shape)
        Floats in the model's units, or int8.
    y : array of int, shape (N,)
        Class indices.
    """
    classes = int(np.prod(model.output_shape))
    labels = np.asarray(y)
    if labels.size and not (0 <= labels.min() and labels.max() < classes):
        raise _native.Error(f"{model.name}: labels from {labels.min()} to {labels.max()}, there are {classes} classes")
    features = _native.features(model._native, npy(x)).astype(np.int64)
    members = (labels[:, None] == np.arange(classes)).astype(np.int64)
    return Sums(members.sum(0), members.T @ features, features.T @ features)


@dataclasses.dataclass(frozen=True, eq=False)
class Head:
    """A last layer, solved."""

    weights: npt.NDArray[np.float32]
    """One row per class, then the biases, in the units of the f32 tail; flat."""
    ranges: npt.NDArray[np.float32]
    """Lowest and highest logit."""

    def tail(self, model: Model) -> bytes:
        """What a device with one tuned layer takes."""
        return _native.tail_of(model._native, 1, [], self.weights, self.ranges)


def head(model: Model, sums: Sums) -> Head:
    """The last layer by linear discriminant analysis: class means and one covariance within all classes, shrunk to its mean
    variance by ``features / (features + samples)``, plus 1/12, the variance of rounding to int8.

    Raises
    ------
    flatmin.Error
        A class without a sample; sums that no samples have.
    """
    if not sums.are_of_samples():
        raise _native.Error(f"{model.name}: no samples have these sums")
    missing = np.flatnonzero(sums.counts == 0)
    if missing.size:
        raise _native.Error(f"{model.name}: no device has a sample of class {missing[0]}")
    classes, features = sums.sums.shape
    counts = sums.counts.astype(np.float64)
    samples = counts.sum()
    means = sums.sums / counts[:, None]
    within = (sums.products - (sums.sums / counts[:, None]).T @ sums.sums) / max(samples - classes, 1.0)
    share = features / (features + samples)
    variance = np.trace(within) / features
    covariance = (1 - share) * within + (share * variance + 1 / 12) * np.eye(features)
    weights = np.linalg.solve(covariance, means.T).T
    biases = -0.5 * (weights * means).sum(1)
    logits = means @ weights.T + biases
    own = np.diag(logits)
    others = np.where(np.eye(classes, dtype=bool), -np.inf, logits).max(1)
    scale = min(1.0, MARGIN / max(float((own - others).mean()), 1e-9))
    weights, biases, logits = scale * weights, scale * biases, scale * logits
    deviations = SPREAD * np.sqrt((weights @ covariance * weights).sum(1))
    ranges = np.array([(logits - deviations).min(), (logits + deviations).max()], np.float32)
    flat: Any = np.concatenate([(weights / _native.head_scale(model._native)).ravel(), biases])
    return Head(flat.astype(np.float32), ranges)
