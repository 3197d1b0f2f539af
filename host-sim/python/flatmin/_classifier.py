"""A classifier by scikit-learn's conventions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from ._arrays import npy
from ._model import Model
from ._recipe import Recipe


class Classifier(ClassifierMixin, BaseEstimator):
    """A classifier whose ``fit`` tunes the last layers of a model and tests on nothing: for ``cross_val_score`` and its like.

    Parameters
    ----------
    model_path : str or path
        A ``.tflite`` or ``.onnx`` with one output per class.
    method, layers, train, epochs, learning_rate, rho, held_out, seed, recipe, start, compact
        As of :meth:`Model.tune`.
    classes : sequence of str, optional
        Names of the classes in the order of the outputs; labels and predictions are then names.

    Attributes
    ----------
    classes_ : array, shape (classes,)
        Class labels in the order of the outputs.
    tuning_ : Tuning
        The run. Its accuracies are those on the samples that were tuned on.

    Windows may be flat: ``(N, features)`` is read as ``(N, input shape)``.
    """

    def __init__(
        self,
        model_path: str | os.PathLike[str],
        *,
        method: str | None = None,
        layers: int | None = None,
        train: Sequence[str] | None = None,
        epochs: int | None = None,
        learning_rate: float | None = None,
        rho: float | None = None,
        held_out: float | None = None,
        seed: int | None = None,
        recipe: Recipe | str | os.PathLike[str] | None = None,
        start: str | None = None,
        compact: bool | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        self.model_path = model_path
        self.method = method
        self.layers = layers
        self.train = train
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.rho = rho
        self.held_out = held_out
        self.seed = seed
        self.recipe = recipe
        self.start = start
        self.compact = compact
        self.classes = classes

    def fit(self, x: npt.ArrayLike, y: npt.ArrayLike) -> Classifier:
        """Tunes on all samples.

        Parameters
        ----------
        x : array, shape (N, input shape) or (N, features)
            Floats in the model's units, or int8.
        y : array, shape (N,)
            Class indices, or names where ``classes`` has them.
        """
        self.model_ = Model(self.model_path, classes=self.classes)
        if self.model_.loss != "cross-entropy":
            raise ValueError(f"{self.model_.name}: not a classifier with one output per class")
        self.classes_ = np.array(self.model_.classes or range(int(np.prod(self.model_.output_shape))))
        own = set(self.get_params()) - {"model_path", "classes"}
        x = self._shaped(x)
        arguments = {name: getattr(self, name) for name in own}
        # Nothing is kept apart: whoever calls does that.
        self.tuning_ = self.model_.tune(x, y, test=(x, y), curve=False, **arguments)
        return self

    def predict(self, x: npt.ArrayLike) -> npt.NDArray[Any]:
        """Class labels by the int8 network in force, shape ``(N,)``."""
        check_is_fitted(self)
        return self.classes_[self.tuning_.predict(self._shaped(x))]

    def predict_proba(self, x: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Probabilities by the int8 network in force, shape ``(N, classes)``: its softmax, or that of its outputs. Rows add up
        to 1."""
        check_is_fitted(self)
        (_, outputs), (scale, zero_point) = self.tuning_._native.answer(npy(self._shaped(x)))
        outputs = outputs.reshape(len(outputs), -1)
        if outputs.dtype != np.float32:
            outputs = scale * (outputs.astype(np.float64) - zero_point)
        outputs = outputs.astype(np.float64)
        if self.model_._native.ends_in.upper() == "SOFTMAX":
            # int8 steps of 1/256: a row may add up to a little more or less.
            return outputs / outputs.sum(axis=1, keepdims=True)
        raised = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        return raised / raised.sum(axis=1, keepdims=True)

    def _shaped(self, x: npt.ArrayLike) -> npt.NDArray[Any]:
        x = np.asarray(x)
        shape = self.model_.input_shape
        if x.ndim == 2 and x.shape[1] == int(np.prod(shape)):
            return x.reshape(len(x), *shape)
        return x

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags
