"""Devices: on a line, emulated, or simulated."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _native
from ._arrays import names, npy, warn
from ._model import Model, Samples, _speaks_python
from ._progress import listener
from ._recipe import Recipe
from ._results import Adapted, DeviceInfo, InForce, Progress, Tuning

Path = str | os.PathLike[str]


def _path(path: Path | None) -> str | None:
    return None if path is None else os.fspath(path)


def _recipe(recipe: Recipe | Path | None, **fields: Any) -> Recipe:
    if not isinstance(recipe, Recipe):
        recipe = Recipe() if recipe is None else Recipe.from_toml(recipe)
    return recipe.replace(**fields)


class Device:
    """A device that keeps samples, tunes its last layers and classifies: on a serial port, on a TCP socket, in QEMU, or in this
    process. All have the same bits. Make one with :meth:`simulated`, :meth:`emulate`, :meth:`serial` or :meth:`tcp`; it is
    closed at the end of a ``with``.

    While a call waits, other threads go on. Ctrl-C ends it between two requests, with the device as the last one has left it.

    >>> import flatmin
    >>> own = flatmin.load_wearer(3)
    >>> with flatmin.Device.simulated(own.model, layers=2) as device:
    ...     there = device.tune(own.x, own.y, test=(own.x_test, own.y_test), epochs=3)
    ...     device.info.samples, device.info.is_tuned
    (63, True)
    >>> here = own.model.tune(own.x, own.y, test=(own.x_test, own.y_test), layers=2, epochs=3)
    >>> there.weights_crc32 == here.weights_crc32
    True
    """

    def __init__(self, native: _native.Device, model: Model | None) -> None:
        self._native = native
        self._model = model

    @classmethod
    @_speaks_python
    def simulated(
        cls,
        model: Model,
        *,
        layers: int | None = None,
        train: Sequence[str] = (),
        samples: int = 128,
        recipe: Recipe | Path | None = None,
    ) -> Device:
        """A device in this process: the firmware's own application and its store, over a flash that forgets. It takes the RAM of
        the device and little more, so there may be thousands.

        Parameters
        ----------
        model : Model
            What it is built with.
        layers, train
            What is tuned: see :meth:`Model.pack`.
        samples : int
            Samples that it can keep.
        recipe : Recipe or path, optional
            What its memory is made for: a method, ``keep_best``, ``compact``.
        """
        asked = _recipe(recipe, replay_capacity=samples)
        return cls(_native.Device.simulated(model._native, layers, list(train), asked._json()), model)

    @classmethod
    @_speaks_python
    def emulate(
        cls,
        model: Model,
        board: str = "mps2-an386",
        *,
        layers: int | None = None,
        train: Sequence[str] = (),
        samples: int = 128,
        recipe: Recipe | Path | None = None,
        flash: Path | None = None,
        log: Path | None = None,
        key: Path | None = None,
    ) -> Device:
        """Builds a board's firmware around the model and starts it in QEMU. That takes QEMU, flatmin's sources (the current
        folder, or where ``FLATMIN_SOURCES`` says) and Rust's target of the board; the first build takes a minute.

        Parameters
        ----------
        board : str
            A board that runs in QEMU: ``"mps2-an386"``, ``"riscv32-virt"``, ... (``docs/boards.md``).
        model, layers, train, samples, recipe
            As of :meth:`simulated`. A recipe whose method is ``"closed-form"`` builds the solver in.
        flash : path, optional
            A file with the flash of a board that has one (``"riscv32-virt"``), made where there is none: what is committed
            outlasts the emulator.
        log : path, optional
            Where the firmware's log goes.
        key : path, optional
            A file with the device's key, as of ``flatmin device --key``: firmware that its holder alone changes.

        Raises
        ------
        flatmin.Error
            QEMU, sources or a target that is missing; a board with too little RAM; what the compiler says.
        """
        asked = _recipe(recipe, replay_capacity=samples)
        native = _native.Device.emulated(
            model._native, layers, list(train), asked._json(), board, _path(flash), _path(log), _path(key)
        )
        return cls(native, model)

    @classmethod
    @_speaks_python
    def tcp(
        cls,
        address: str,
        model: Model | None = None,
        *,
        layers: int | None = None,
        train: Sequence[str] = (),
        key: Path | None = None,
    ) -> Device:
        """Connects to a device on a TCP socket.

        Parameters
        ----------
        address : str
            ``"host:port"``.
        model, layers, train
            What its firmware was built with. Without, it can be asked who it is, and its flash and its tail be handled.
        key : path, optional
            A file with its key.
        """
        native = _native.Device.tcp(
            address, None if model is None else model._native, layers, list(train), _path(key)
        )
        return cls(native, model)

    @classmethod
    @_speaks_python
    def serial(
        cls,
        port: str,
        model: Model | None = None,
        *,
        baud: int = 115_200,
        layers: int | None = None,
        train: Sequence[str] = (),
        key: Path | None = None,
    ) -> Device:
        """Opens a serial port, for instance ``/dev/ttyACM0``; all else is as of :meth:`tcp`."""
        native = _native.Device.serial(
            port, baud, None if model is None else model._native, layers, list(train), _path(key)
        )
        return cls(native, model)

    @property
    def model(self) -> Model | None:
        """What it was built with, if that was said."""
        return self._model

    @property
    @_speaks_python
    def info(self) -> DeviceInfo:
        """Who it is, and what it holds: asked anew every time."""
        return DeviceInfo._of(json.loads(self._native.info()))

    @_speaks_python
    def observe(self, x: npt.ArrayLike, y: npt.ArrayLike | None = None) -> None:
        """Has it keep labelled samples. Where it has no room, one that it kept gives way.

        Parameters
        ----------
        x : array, shape (N, input shape)
            Floats in the model's units, or int8.
        y : array, shape (N,)
            Class indices, or names; nothing for an autoencoder.
        """
        self._native.observe(npy(x), None if y is None else npy(y))

    @_speaks_python
    def forget(self) -> None:
        """Has it forget its samples, with the factory's tail in force. Its flash stays as it is."""
        self._native.forget()

    @_speaks_python
    def tune(
        self,
        x: npt.ArrayLike,
        y: npt.ArrayLike | None = None,
        *,
        test: Samples | npt.ArrayLike | None = None,
        method: str | None = None,
        seed: int | None = None,
        epochs: int | None = None,
        learning_rate: float | None = None,
        rho: float | None = None,
        held_out: float | None = None,
        recipe: Recipe | Path | None = None,
        start: str | None = None,
        label_noise: float = 0.0,
        groups: npt.ArrayLike | None = None,
        progress: Callable[[Progress], Any] | bool = False,
    ) -> Tuning:
        """Tunes it from the factory's tail with these samples alone: ``flatmin device tune``. Parameters, errors and result are
        those of :meth:`Model.tune`, and so are the weights, bit by bit. ``seconds`` are the device's; its curve has no test
        accuracy, since test samples stay here until the run is over.
        """
        asked = _recipe(
            recipe,
            method=method,
            seed=seed,
            epochs=epochs,
            learning_rate=learning_rate,
            rho=rho,
            held_out=held_out,
            start=start,
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
                listen,
            )
        result = Tuning._of(tuned)
        warn(result.warnings)
        return result

    @_speaks_python
    def adapt(
        self,
        *,
        method: str | None = None,
        seed: int | None = None,
        epochs: int | None = None,
        learning_rate: float | None = None,
        rho: float | None = None,
        held_out: float | None = None,
        recipe: Recipe | Path | None = None,
    ) -> Adapted:
        """Tunes it on the samples that it keeps, from the tail in force: as somebody does who wears it for long, and a fleet in
        each round.

        >>> import flatmin
        >>> own = flatmin.load_wearer(3)
        >>> with flatmin.Device.simulated(own.model) as device:
        ...     device.observe(own.x, own.y)
        ...     first = device.adapt(epochs=1)
        ...     second = device.adapt(epochs=1, seed=2)
        >>> second.loss < first.loss
        True
        """
        asked = _recipe(
            recipe,
            method=method,
            seed=seed,
            epochs=epochs,
            learning_rate=learning_rate,
            rho=rho,
            held_out=held_out,
        )
        return Adapted._of(json.loads(self._native.adapt(asked._json())))

    @_speaks_python
    def classify(self, x: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Class indices by the tail in force, shape ``(N,)``."""
        return self._native.classify(npy(x))

    @_speaks_python
    def commit(self) -> InForce:
        """Keeps the tuned tail in flash: it outlasts the power."""
        return InForce(**json.loads(self._native.change("commit")))

    @_speaks_python
    def roll_back(self) -> InForce:
        """Takes the last commit back."""
        return InForce(**json.loads(self._native.change("roll-back")))

    @_speaks_python
    def factory_reset(self) -> InForce:
        """Puts the factory's tail in force, in flash, too."""
        return InForce(**json.loads(self._native.change("factory-reset")))

    @_speaks_python
    def delta(self) -> bytes:
        """The int8 difference of its tail from the factory's: small, and what ``flatmin device restore`` takes, too."""
        return self._native.delta()

    @_speaks_python
    def pull(self) -> bytes:
        """Its tail with all weights, as ``flatmin device backup`` writes it."""
        return self._native.pull()

    @_speaks_python
    def push(self, tail: bytes) -> int:
        """Puts a tail in force that :meth:`delta`, :meth:`pull` or :meth:`Tuning.delta` gave; returns the CRC-32 of its weights.

        Raises
        ------
        flatmin.Error
            A tail that is damaged, or of another model: the one before it stays in force.

        >>> import flatmin
        >>> own = flatmin.load_wearer(3)
        >>> result = own.model.tune(own.x, own.y, layers=2, epochs=2, test=(own.x_test, own.y_test))
        >>> with flatmin.Device.simulated(own.model, layers=2) as device:
        ...     crc32 = device.push(result.delta())
        ...     bool((device.classify(own.x_test[:50]) == result.predictions[:50]).all())
        True
        """
        return self._native.push(tail)

    def close(self) -> None:
        """Ends the session; an emulator ends with it."""
        self._native.close()

    def __enter__(self) -> Device:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Device{'' if self._model is None else f' of {self._model.name}'}>"
