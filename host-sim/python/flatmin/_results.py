"""What comes out: figures as dataclasses, arrays as NumPy's."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _native
from ._native import Tuned as NativeTuned
from ._arrays import in_python, npy
from ._recipe import Recipe


def _fields(value: Any) -> dict[str, Any]:
    """The public fields of a dataclass, for JSON."""
    if isinstance(value, Recipe):
        return value.to_dict()
    public = (field.name for field in dataclasses.fields(value) if not field.name.startswith("_"))
    return {name: _plain(getattr(value, name)) for name in public}


def _plain(value: Any) -> Any:
    """Dataclasses and arrays as dicts and lists."""
    if dataclasses.is_dataclass(value):
        return _fields(value)
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {name: _plain(own) for name, own in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(own) for own in value]
    return value


def _number(value: float | None) -> float:
    """JSON has no NaN: null stands for it."""
    return float("nan") if value is None else value


def _parts(parts: list[dict[str, Any]]) -> dict[str, int]:
    return {part["purpose"]: part["bytes"] for part in parts}


@dataclasses.dataclass(frozen=True)
class Progress:
    """Where a run is: what a callback gets after every epoch."""

    epoch: int
    """Epochs that are done, from 1."""
    epochs: int
    """All of the run's."""
    loss: float | None
    """Mean loss of the samples tuned on, without label smoothing; ``None`` where no curve is kept."""
    accuracy: float | None
    """Share of the test samples that the f32 tail has right, 0 to 1; ``None`` where samples have no classes."""


@dataclasses.dataclass(frozen=True)
class CurvePoint:
    """A point of the learning curve."""

    epoch: int
    """Passes so far; 0 is the factory's tail."""
    adaptation_loss: float
    """Mean loss of the samples tuned on, without label smoothing."""
    test_accuracy: float | None
    """Share of the test samples that the f32 tail has right, 0 to 1."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether the tuned tail was taken, and what the held-out samples said."""

    accepted: bool
    """The tuned tail is in force; else the factory's is, and all figures of the run are its own."""
    samples: int
    """Samples that judged."""
    factory_accuracy: float
    """Share that the factory's tail has right, 0 to 1."""
    factory_loss: float
    """The factory tail's loss as it is trained; NaN where the test samples judged."""
    tuned_accuracy: float
    """Share that the tuned tail has right, 0 to 1."""
    tuned_loss: float
    """The tuned tail's loss as it is trained; NaN where the test samples judged."""
    evidence: str | None = None
    """``"better"``, ``"worse"``, ``"too-few"`` or ``"unmoved"``."""
    labels_agreed: float | None = None
    """Share of the labels to tune on that the factory's tail gives, too."""
    best_epochs: int | None = None
    """Epochs after which the best weights were seen, where they are kept."""


@dataclasses.dataclass(frozen=True)
class Anomalies:
    """How well an autoencoder copies, or a regression hits, its targets: int8, on the test samples."""

    factory_error: float
    """Mean squared error of the normal samples before tuning, in the output's units, squared."""
    tuned_error: float
    """After it."""
    factory_auc: float | None
    """Area under the ROC curve of the errors before tuning, where there are samples of both kinds."""
    tuned_auc: float | None
    """After it."""


@dataclasses.dataclass(frozen=True)
class Layer:
    """An operator."""

    index: int
    """Place in the file."""
    operator: str
    """The schema's name."""
    output: tuple[int, int, int, int]
    """Images, height, width, channels of the output."""
    scale: float
    """The output's scale."""
    zero_point: int
    """The output's zero point."""
    weights: int
    """Bytes of weights."""
    macs: int
    """Multiply-adds."""


@dataclasses.dataclass(frozen=True)
class Cut:
    """What tuning the last ``layers`` layers takes."""

    layers: int
    """Layers that are tuned."""
    feature_length: int
    """Bytes of a kept sample."""
    tail_parameters: int
    """Parameters that are tuned."""
    flash_bytes: int
    """Bytes of the pack."""
    train_ram_bytes: int
    """Bytes of the arena."""
    integer_ram_bytes: int | None
    """Bytes of the arena of a tuner in integers; ``None`` where none takes these layers."""
    integer_quarter_ram_bytes: int | None
    """Arena with a quarter of the input channels of all layers but the last trained."""
    solving_bytes: int
    """Bytes beside the arena that the last layer is solved in, in closed form; 0 where the arena has room for that."""
    memory: dict[str, int]
    """The arena's bytes by purpose."""
    firmware_ram_bytes: int
    """All RAM of a firmware that tunes these layers, in bytes."""
    firmware_ram: dict[str, int]
    """RAM of that firmware by purpose, in bytes."""
    trunk_macs: int
    """Multiply-adds of the layers in front, once per sample."""
    sgd_macs: int
    """Multiply-adds of a sample's share of a step with SGD."""
    sam_macs: int
    """Likewise with SAM."""
    asam_macs: int
    """Likewise with ASAM."""


@dataclasses.dataclass(frozen=True)
class End:
    """An input or output of a model: ``real = scale * (int8 - zero_point)``."""

    name: str
    """In the file."""
    shape: tuple[int, ...]
    """The file's, batch included."""
    element: str
    """``int8``, ``uint8`` or ``float32`` in the file."""
    scale: float
    """Scale of the int8 values."""
    zero_point: int
    """Zero point of the int8 values."""


@dataclasses.dataclass(frozen=True)
class Inspection:
    """Layers of a model, and what tuning takes. ``print`` shows what ``flatmin inspect`` prints."""

    model: str
    """The file."""
    file_bytes: int
    """Its size."""
    arena_bytes: int
    """Bytes of the int8 activations."""
    arena_lower_bound: int
    """No plan of the activations is smaller."""
    inputs: list[End]
    """Inputs in the file's order."""
    outputs: list[End]
    """Outputs in the file's order."""
    obstacle: str | None
    """What keeps further layers from being tuned, if anything does."""
    layers: list[Layer]
    """The operators in order."""
    cuts: list[Cut]
    """What can be tuned: the last layer, the last two, and so on."""
    replay_capacity: int
    """Kept samples that the RAM is counted for."""
    _text: str = dataclasses.field(repr=False, compare=False)

    @classmethod
    def _of(cls, found: dict[str, Any], text: str) -> Inspection:
        public = [field.name for field in dataclasses.fields(cls) if not field.name.startswith("_")]
        fields = {name: found[name] for name in public}
        for ends in ("inputs", "outputs"):
            fields[ends] = [End(**{**own, "shape": tuple(own["shape"])}) for own in found[ends]]
        fields["layers"] = [Layer(**{**own, "output": tuple(own["output"])}) for own in found["layers"]]
        parts = ("memory", "firmware_ram")
        fields["cuts"] = [Cut(**{**own, **{name: _parts(own[name]) for name in parts}}) for own in found["cuts"]]
        return cls(**fields, _text=text)

    def to_dict(self) -> dict[str, Any]:
        """All of it as dicts and lists."""
        return _fields(self)

    def __str__(self) -> str:
        return self._text


@dataclasses.dataclass(frozen=True)
class Pack:
    """The device format of a model with a tail to tune."""

    data: bytes = dataclasses.field(repr=False)
    """What lies in flash."""
    layers: int
    """Layers that can be tuned; 0 is inference alone."""
    pack_crc32: int
    """CRC-32 of the pack."""
    tail_parameters: int
    """Parameters that are tuned."""
    feature_length: int
    """Bytes of a kept sample."""
    arena_bytes: int
    """Bytes of the int8 activations."""
    _constants: Callable[[str], str] = dataclasses.field(repr=False, compare=False)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the pack, and beside it a Rust file with its constants: the same name, ending in ``.rs``."""
        path = Path(path)
        if path.suffix == ".rs":
            raise _native.Error(
                f"{path}: the pack would be overwritten by its Rust file; choose another extension"
            )
        constants = self._constants(os.fspath(path))
        path.write_bytes(self.data)
        path.with_suffix(".rs").write_text(constants, encoding="utf-8")


@dataclasses.dataclass(frozen=True)
class Candidate:
    """What could be trained and how, and what that was measured to bring."""

    layers: int
    """Layers in the tail."""
    train: list[str]
    """What of each is trained, first to last; empty where all is."""
    recipe: str
    """The hyperparameters in words."""
    parameters: int
    """Parameters that are trained."""
    ram_bytes: int
    """All RAM of a firmware that tunes so."""
    step_macs: int
    """Multiply-adds of a sample's share of a step; 0 of a head in closed form."""
    trials: int
    """Trials that it met."""
    factory_loss: float
    """Mean loss on the samples that judge before tuning."""
    loss: float
    """Mean loss on these samples after tuning."""
    accuracy: float
    """Share of the samples that judge which the int8 network has right after tuning on others, 0 to 1."""
    test_accuracy: float | None
    """Share of the test samples likewise, of those on the frontier."""

    @classmethod
    def _of(cls, found: dict[str, Any]) -> Candidate:
        names = [field.name for field in dataclasses.fields(cls)]
        own: dict[str, Any] = {name: found[name] for name in names}
        return cls(**{**own, **{name: _number(own[name]) for name in ("factory_loss", "loss", "accuracy")}})


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a search found. ``print`` shows what ``flatmin plan`` prints; in a notebook it is drawn."""

    recipe: Recipe | None
    """The advice, for :meth:`Model.tune`; ``None`` where nothing within the budget is better than the factory's network."""
    chosen: Candidate | None
    """The advice with what it was measured to bring."""
    is_default: bool
    """The advice is the default recipe, since no other was shown to be better."""
    factory_accuracy: float
    """Share of the samples that judge which the factory's network has right, 0 to 1."""
    factory_test_accuracy: float
    """Share of the test samples that it has right."""
    trials: int
    """Trials that were made."""
    measured: list[Candidate] = dataclasses.field(repr=False)
    """All that was tried."""
    frontier: list[Candidate] = dataclasses.field(repr=False)
    """Candidates that nothing cheaper beats, by RAM."""
    _text: str = dataclasses.field(repr=False, compare=False)
    _svg: str = dataclasses.field(repr=False, compare=False)

    @classmethod
    def _of(cls, found: dict[str, Any], text: str, svg: str) -> Plan:
        chosen = found["chosen"]
        return cls(
            recipe=None if found["recipe"] is None else Recipe._of_file(found["recipe"]),
            chosen=None if chosen is None else Candidate._of(chosen),
            is_default=found["is_default"],
            factory_accuracy=_number(found["factory_accuracy"]),
            factory_test_accuracy=_number(found["factory_test_accuracy"]),
            trials=found["trials"],
            measured=[Candidate._of(own) for own in found["measured"]],
            frontier=[Candidate._of(own) for own in found["frontier"]],
            _text=text,
            _svg=svg,
        )

    def to_dict(self) -> dict[str, Any]:
        """All of it as dicts and lists."""
        return _fields(self)

    def __str__(self) -> str:
        return self._text

    def _repr_svg_(self) -> str:
        return self._svg


@dataclasses.dataclass(frozen=True)
class DeviceInfo:
    """Who a device is, and what it holds."""

    board: str
    """The board's name; ``"simulated"`` in this process."""
    pack_crc32: int
    """CRC-32 of the pack that it was built with."""
    arena_bytes: int
    """Bytes of its arena."""
    input_length: int
    """Values that its network takes."""
    capacity: int
    """Samples that it can keep."""
    samples: int
    """Samples that it keeps."""
    weights_crc32: int
    """CRC-32 of its weights: the same as in this package for the same run."""
    is_tuned: bool
    """A tuned tail classifies; else the factory's."""
    sequence: int | None
    """Number of the record in flash that came into force last; ``None`` is the factory's tail."""
    slots: int
    """Records that its flash has room for; 0 without a store."""
    hertz: int
    """Ticks of its clock in a second."""
    contents: str
    """What its tail holds: ``"Int8AndF32"``, ``"Int8AndCompact"`` or ``"Int8"``."""
    access: str
    """From whom it takes what changes it: ``"Anybody"``, ``"Unclaimed"``, ``"KeyHolder"`` or ``"Nobody"``."""

    @classmethod
    def _of(cls, found: dict[str, Any]) -> DeviceInfo:
        return cls(is_tuned=found.pop("tuned"), **found)


@dataclasses.dataclass(frozen=True)
class InForce:
    """What is in force on a device after its flash was written."""

    sequence: int | None
    """Number of the record in flash; ``None`` is the factory's tail."""
    weights_crc32: int
    """CRC-32 of the weights."""


@dataclasses.dataclass(frozen=True)
class Adapted:
    """What a run on the samples that a device keeps came to."""

    samples: int
    """Samples that it keeps."""
    steps: int
    """Steps that it took."""
    loss: float
    """Mean loss of the last epoch's minibatches, as it is trained; NaN without steps."""
    is_accepted: bool
    """The tuned tail is in force; false where held-out samples spoke against it."""
    weights_crc32: int
    """CRC-32 of the weights after it."""
    seconds: float
    """Time that it took by the device's clock."""

    @classmethod
    def _of(cls, found: dict[str, Any]) -> Adapted:
        verdict = found.pop("verdict")
        accepted = verdict is None or verdict["accepted"]
        return cls(is_accepted=accepted, **{**found, "loss": _number(found["loss"])})


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Tuning:
    """What a run came to, and the tuned network.

    Accuracies are shares of the test samples from 0 to 1, NaN where samples have no classes.
    """

    method: str
    """How it was tuned."""
    accuracy: float
    """Accuracy of the int8 network that is in force after the run, 0 to 1: what the device answers."""
    factory_accuracy: float
    """Accuracy of the int8 network as the file has it."""
    accuracy_f32: float
    """Accuracy of the tuned tail before it is quantized."""
    loss: float
    """Mean loss of the tuned tail on the test samples."""
    sharpness: float
    """Mean rise of a sample's loss at its own worst step, less that of a straight line."""
    weights_crc32: int
    """CRC-32 of the tuned weights: the same on the command line and on every device."""
    train_ram_bytes: int
    """RAM that tuning takes on a device that keeps all of these samples."""
    memory: dict[str, int]
    """That RAM by purpose, in bytes."""
    tail_parameters: int
    """Parameters that were tuned."""
    macs: int
    """Multiply-adds of the whole run."""
    seconds: float
    """Time that solving and stepping took here."""
    recipe: Recipe
    """All hyperparameters as they were used."""
    layers: int
    """Layers that were tuned."""
    train: list[str]
    """What of each was trained, first to last."""
    start: str
    """What steps began with: ``"factory"`` or ``"closed-form"``."""
    classes: list[str]
    """Names of the classes in the order of the outputs."""
    split: str
    """How samples were split into those to tune on and those to test on."""
    tuned_samples: int
    """Samples that were tuned on."""
    tested_samples: int
    """Samples that were tested on."""
    is_tuned: bool
    """The tuned tail is in force; else the factory's is, since the tuned one was not better."""
    predictions: npt.NDArray[np.int64]
    """Class index per test sample by the network in force, shape ``(tested_samples,)``; empty where samples have no
    classes."""
    confusion: npt.NDArray[np.int64]
    """Test samples by true class (row) and predicted class (column), by the network in force."""
    confusion_factory: npt.NDArray[np.int64]
    """Test samples by true class (row) and predicted class (column), by the factory's network."""
    curve: list[CurvePoint]
    """Loss and accuracy by epoch."""
    verdict: Verdict | None
    """What held-out samples said, where there were some."""
    anomalies: Anomalies | None
    """Errors of an autoencoder or a regression."""
    warnings: list[str]
    """What should be known of the samples and of the run."""
    _native: NativeTuned

    @classmethod
    def _of(cls, tuned: NativeTuned) -> Tuning:
        report = json.loads(tuned.report)
        run = report["run"]
        same = ("method", "weights_crc32", "train_ram_bytes", "tail_parameters", "macs")
        numbers = ("factory_accuracy", "accuracy_f32", "loss", "sharpness")
        own = ("seconds", "layers", "train", "start", "classes", "split", "tuned_samples", "tested_samples")
        curve = [
            CurvePoint(point["epoch"], _number(point["adaptation_loss"]), point.get("test_accuracy"))
            for point in run["curve"]
        ]
        verdict, anomalies = run.get("verdict"), run.get("anomalies")
        if verdict is not None:
            losses = {name: _number(verdict[name]) for name in ("factory_loss", "tuned_loss")}
            verdict = Verdict(**{**verdict, **losses})
        fields: dict[str, Any] = {name: run[name] for name in same}
        fields |= {name: _number(run[name]) for name in numbers}
        fields |= {name: report[name] for name in own}
        return cls(
            **fields,
            accuracy=_number(run["accuracy_int8"]),
            memory=_parts(run["memory"]),
            recipe=Recipe.from_dict(report["recipe"]),
            is_tuned=report["tuned"],
            predictions=tuned.predictions,
            confusion=np.array(run["confusion_tuned"], dtype=np.int64),
            confusion_factory=np.array(run["confusion_factory"], dtype=np.int64),
            curve=curve,
            verdict=verdict,
            anomalies=None if anomalies is None else Anomalies(**anomalies),
            warnings=[in_python(text) for text in report["warnings"] + run.get("warnings", [])],
            _native=tuned,
        )

    def run(self, x: npt.ArrayLike) -> npt.NDArray[Any]:
        """The outputs of the network in force, as :meth:`Model.run` gives them.

        Parameters
        ----------
        x : array, shape (N, input shape)
            Floats in the model's units, or int8.
        """
        (_, outputs), _ = self._native.answer(npy(x))
        return outputs

    def predict(self, x: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Class indices by the network in force, shape ``(N,)``. Of yes-or-no outputs a class is the set of those that say
        yes, output 0 as bit 0."""
        (labels, _), _ = self._native.answer(npy(x))
        return labels

    def export(self, path: str | os.PathLike[str]) -> None:
        """Writes the model's ``.tflite`` with the tuned layers in it: it answers in LiteRT as the tuned device does.

        Raises
        ------
        flatmin.Error
            The factory's tail is in force, the model is no ``.tflite``, or its file has changed.
        """
        self._native.export(os.fspath(path))

    def delta(self) -> bytes:
        """What of the tail differs from the factory's: ``flatmin device restore`` takes it to a device."""
        return self._native.delta()

    def to_dict(self) -> dict[str, Any]:
        """All figures as dicts, lists and numbers."""
        return _fields(self)

    def __repr__(self) -> str:
        figures = f"{100 * self.factory_accuracy:.1f} → {100 * self.accuracy:.1f} % right"
        if self.anomalies is not None:
            figures = f"error {self.anomalies.factory_error:.4g} → {self.anomalies.tuned_error:.4g}"
        kept = "" if self.is_tuned else ", the factory's tail is in force"
        return (
            f"<Tuning: {self.method}, {self.layers} layer(s), {figures} of {self.tested_samples} test samples{kept}, "
            f"{self.train_ram_bytes:,} bytes of RAM, weights 0x{self.weights_crc32:08x}>"
        )
