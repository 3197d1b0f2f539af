"""Models."""

from __future__ import annotations

import functools
import html
import json
import os
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import numpy.typing as npt

from . import _native
from ._arrays import in_python, names, npy, warn
from ._progress import listener
from ._recipe import Recipe
from ._results import Inspection, Pack, Plan, Progress, Tuning

Samples = tuple[npt.ArrayLike, npt.ArrayLike]


Asked = ParamSpec("Asked")
Answer = TypeVar("Answer")


def _speaks_python(function: Callable[Asked, Answer]) -> Callable[Asked, Answer]:
    """Messages name Python's arguments."""

    @functools.wraps(function)
    def asked(*arguments: Asked.args, **named: Asked.kwargs) -> Answer:
        try:
            return function(*arguments, **named)
        except _native.Error as error:
            raise _native.Error(in_python(str(error))) from None

    return asked


class Model:
    """A full-integer network.

    Parameters
    ----------
    path : str or path
        A ``.tflite``, or an ``.onnx`` with QuantizeLinear and DequantizeLinear nodes.
    loss : {"cross-entropy", "bce", "mse"}, optional
        What the tail is tuned with. Usual: binary cross-entropy where the network ends in a sigmoid, else cross-entropy.
        ``"mse"`` is of a regression, and of an autoencoder, whose samples are their own targets.
    classes : sequence of str, optional
        Names of the classes in the order of the outputs; labels may then be names.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    flatmin.Error
        The file is no such model; the message says what is wrong with it.

    >>> import flatmin
    >>> model = flatmin.load_wearer(3).model
    >>> model.input_shape, model.output_shape
    ((100, 1, 6), (7,))
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        loss: str | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        self._native = _native.Network(os.fspath(path), loss, names(classes))

    @classmethod
    def _of(cls, network: _native.Network) -> Model:
        model = cls.__new__(cls)
        model._native = network
        return model

    @property
    def name(self) -> str:
        """The file, or what a bundled model is called."""
        return self._native.name

    @property
    def loss(self) -> str:
        """``"cross-entropy"``, ``"bce"`` or ``"mse"``."""
        return self._native.loss

    @property
    def classes(self) -> list[str]:
        """Names of the classes, if they are known."""
        return self._native.names

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of a sample: of the first input without the batch."""
        return tuple(self._native.input_shapes[0])

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the first output for one sample."""
        return tuple(self._native.output_shapes[0])

    @property
    def input_quantization(self) -> tuple[float, int]:
        """Scale and zero point of the first input: an int8 value q stands for ``scale * (q - zero_point)``."""
        return self._native.input_quantization

    @_speaks_python
    def run(self, *inputs: npt.ArrayLike, stream: bool = False) -> Any:
        """The network's outputs, byte for byte those of ``flatmin run`` and of LiteRT's reference kernels.

        Parameters
        ----------
        *inputs : array, shape (N, input shape)
            One batch per input of the model, axes of extent 1 optional. int8 (or uint8) is taken as it is, other numbers
            are in the units that the model was trained on and are quantized.
        stream : bool
            The rows are hops of one stream: a network that keeps variables goes on from row to row, where it begins anew with
            each row otherwise. As ``flatmin run --stream`` has it.

        Returns
        -------
        array, shape (N, output shape), or a tuple of arrays where the model has several outputs
            In the type that the model's file declares: int8, uint8, or float32 in real units.

        >>> import flatmin, numpy as np
        >>> model = flatmin.load_wearer(3).model
        >>> model.run(np.zeros((2, 100, 6), np.float32)).shape
        (2, 7)
        """
        outputs = self._native.run([npy(own) for own in inputs], stream)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    @_speaks_python
    def inspect(self, *, replay_capacity: int = 128, sharpness_batch: int = 1) -> Inspection:
        """Layers, shapes, scales and multiply-adds, and what tuning each possible tail takes.

        Parameters
        ----------
        replay_capacity : int
            Samples that the device keeps.
        sharpness_batch : int
            Samples that share one ascent of SAM: more than one takes a gradient buffer.
        """
        found, text = self._native.inspect(replay_capacity, sharpness_batch)
        return Inspection._of(json.loads(found), text)

    @_speaks_python
    def pack(self, *, layers: int | None = None, train: Sequence[str] = ()) -> Pack:
        """The device format: what a firmware includes.

        Parameters
        ----------
        layers : int, optional
            Layers with weights to train, counted from the end; 0 packs for inference alone. Usual: 2, or 1 if the network
            has no more.
        train : sequence of str
            What of each layer is trained, first to last: ``"all"``, ``"50%"``, ``"channels:8"``, ``"scales"``,
            ``"biases"``, ``"nothing"``; layers that are not named are trained whole.
        """
        data, known = self._native.pack(layers, list(train))
        constants = functools.partial(self._native.constants, layers=layers, trains=list(train))
        return Pack(data=data, **json.loads(known), _constants=constants)

    @_speaks_python
    def calibrated(self, x: npt.ArrayLike, y: npt.ArrayLike | None = None) -> Model:
        """This model with class means and the covariance of what its last layer reads for samples that it knows:
        training data. Heads in closed form start from them.

        Parameters
        ----------
        x : array, shape (N, input shape)
            Samples, at least one of each class.
        y : array, shape (N,), optional
            Their labels; without, the model's own answers stand in.
        """
        return Model._of(self._native.calibrated(npy(x), None if y is None else npy(y)))

    @_speaks_python
    def tune(
        self,
        x: npt.ArrayLike,
        y: npt.ArrayLike | None = None,
        *,
        test: Samples | npt.ArrayLike | None = None,
        method: str | None = None,
        layers: int | None = None,
        train: Sequence[str] | None = None,
        seed: int | None = None,
        epochs: int | None = None,
        learning_rate: float | None = None,
        rho: float | None = None,
        held_out: float | None = None,
        recipe: Recipe | str | os.PathLike[str] | None = None,
        start: str | None = None,
        compact: bool | None = None,
        label_noise: float = 0.0,
        groups: npt.ArrayLike | None = None,
        progress: Callable[[Progress], Any] | bool = False,
        curve: bool = True,
    ) -> Tuning:
        """Tunes the last layers, with the bits of ``flatmin tune`` and of the device. The model itself stays as it is.

        Parameters
        ----------
        x : array, shape (N, input shape)
            Samples: floats in the units that the model was trained on, or int8 as it takes them. N is at most 65,535.
        y : array, shape (N,) or (N, classes)
            Class indices from 0, names of classes, or one-hot rows. Of yes-or-no outputs: rows of zeros and ones. Of a
            regression: shape (N, outputs), in the output's units. Of an autoencoder: nothing.
        test : pair of arrays, optional
            Samples to test on and their labels. Without, half of each class (or whole ``groups``) is kept to test on.
        method : str, optional
            ``"sgd"``, ``"sam"`` (usual), ``"asam"``, ``"sam-on"``, or ``"closed-form"``: the last layer is solved.
        layers, train
            What is tuned: see :meth:`pack`.
        seed, epochs, learning_rate, rho, held_out
            Fields of the recipe that are often asked for.
        recipe : Recipe or path, optional
            All that can be asked for, or a ``recipe.toml`` that says it; arguments win over it.
        start : {"factory", "closed-form"}, optional
            What steps begin with. Usual: the factory's tail; where more than two layers are tuned and the model is
            :meth:`calibrated`, the head in closed form.
        compact : bool
            The trainer of integers alone, which takes less RAM: fully connected layers only.
        label_noise : float
            Share of the labels to flip, 0 to 1, for a trial.
        groups : array, shape (N,), optional
            Groups (people, recordings) that are not split between tuning and test.
        progress : callable or bool
            Called with a :class:`Progress` after every epoch; ``True`` shows a bar.
        curve : bool
            Go through the test samples after every epoch, for the learning curve.

        Raises
        ------
        flatmin.Error
            Samples, labels or a recipe that the model cannot be tuned with.
        KeyboardInterrupt
            Ctrl-C ends a run between two steps.

        >>> import flatmin
        >>> own = flatmin.load_wearer(3)
        >>> result = own.model.tune(own.x, own.y, layers=1, method="sgd", test=(own.x_test, own.y_test))
        >>> result.predictions.shape == own.y_test.shape
        True
        """
        if not isinstance(recipe, Recipe):
            recipe = Recipe() if recipe is None else Recipe.from_toml(recipe)
        asked = recipe.replace(
            method=method,
            layers=layers,
            train=train,
            seed=seed,
            epochs=epochs,
            learning_rate=learning_rate,
            rho=rho,
            held_out=held_out,
            start=start,
            compact=compact,
        )
        x_test, y_test = test if isinstance(test, (tuple, list)) else (test, None)
        with listener(progress) as listen:
            tuned = self._native.tune(
                npy(x),
                None if y is None else npy(y),
                None if x_test is None else (npy(x_test), None if y_test is None else npy(y_test)),
                asked._json(),
                label_noise,
                names(groups),
                curve,
                listen,
            )
        result = Tuning._of(tuned)
        warn(result.warnings)
        return result

    @_speaks_python
    def plan(
        self,
        x: npt.ArrayLike,
        y: npt.ArrayLike,
        *,
        ram: int | None = None,
        macs: int | None = None,
        trials: int = 120,
        layers: int | None = None,
        seed: int | None = None,
        test: Samples | None = None,
        groups: npt.ArrayLike | None = None,
        recipe: Recipe | str | os.PathLike[str] | None = None,
    ) -> Plan:
        """Searches what to train and how, within a budget: ``flatmin plan``. The test samples have no say in it.

        Parameters
        ----------
        x, y, test, groups
            As of :meth:`tune`; at least three samples of a class to tune on.
        ram : int, optional
            All RAM that a firmware may take, in bytes.
        macs : int, optional
            Multiply-adds that a sample's share of a step may take.
        trials : int
            Runs to find out by: more of them try more, and judge the better ones more often.
        layers : int, optional
            How far back to search. Usual: 8.
        seed : int, optional
            The same seed gives the same answer on any machine.
        recipe : Recipe or path, optional
            What is not to be searched.

        >>> import flatmin
        >>> own = flatmin.load_wearer(3)
        >>> plan = own.model.plan(own.x, own.y, ram=65_536, trials=20, test=(own.x_test, own.y_test))
        >>> all(candidate.ram_bytes <= 65_536 for candidate in plan.measured)
        True
        """
        if not isinstance(recipe, Recipe):
            recipe = Recipe() if recipe is None else Recipe.from_toml(recipe)
        asked = recipe.replace(layers=layers, seed=seed, ram=ram, macs=macs)
        x_test, y_test = (None, None) if test is None else test
        found, text, svg = self._native.plan(
            npy(x),
            npy(y),
            None if x_test is None else (npy(x_test), None if y_test is None else npy(y_test)),
            asked._json(),
            trials,
            names(groups),
        )
        return Plan._of(json.loads(found), text, svg)

    def _shown(self) -> tuple[str, list[tuple[str, ...]], str]:
        """A title, a table of what tuning takes, and a line below it."""
        inputs, outputs = (
            ", ".join("x".join(map(str, shape)) for shape in shapes)
            for shapes in (self._native.input_shapes, self._native.output_shapes)
        )
        title = f"{self.name}: {inputs} -> {outputs} ({self.loss})"
        try:
            found = self.inspect()
        except _native.Error as error:
            return title, [], str(error)
        title += f", {len(found.layers)} operators, {found.file_bytes:,} bytes, {found.arena_bytes:,} of activations"
        if not found.cuts:
            return title, [], "no layers that can be tuned"
        rows: list[tuple[str, ...]] = [("tuned layers", "parameters", "RAM to tune, bytes", "pack in flash, bytes")]
        for own in found.cuts:
            numbers = (own.tail_parameters, own.train_ram_bytes, own.flash_bytes)
            rows.append((f"last {own.layers}", *(f"{number:,}" for number in numbers)))
        return title, rows, f"with {found.replay_capacity} samples kept"

    def __repr__(self) -> str:
        title, rows, note = self._shown()
        widths = [max(map(len, column)) for column in zip(*rows)]
        lines = ["  ".join(text.rjust(width) for text, width in zip(row, widths)) for row in rows]
        return "\n".join([f"<Model {title}", *(f"  {line}" for line in lines), f"  {note}>"])

    def _repr_html_(self) -> str:
        title, rows, note = self._shown()

        def line(cells: tuple[str, ...], kind: str) -> str:
            return "<tr>" + "".join(f"<{kind}>{html.escape(text)}</{kind}>" for text in cells) + "</tr>"

        table = [line(row, "td" if place else "th") for place, row in enumerate(rows)]
        return f"<p>{html.escape(title)}</p><table>{''.join(table)}</table><p>{html.escape(note)}</p>"
