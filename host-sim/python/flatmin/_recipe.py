"""Hyperparameters."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import _native

# Fields that lie in a recipe's file beside its hyperparameters.
_FILE = ("model", "loss", "layers", "train", "start", "compact", "spare_classes")
_BUDGET = ("ram", "macs")


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Recipe:
    """What is tuned, and how. What is ``None`` is as usual for the method and for what steps begin with.

    ``model``, ``loss``, ``layers``, ``train``, ``start``, ``compact``,
    ``spare_classes``, ``ram`` and ``macs`` are those of a ``recipe.toml``,
    all others the fields of the Rust crate's ``Recipe``, by name.

    >>> import flatmin
    >>> recipe = flatmin.Recipe(method="asam", epochs=10)
    >>> recipe
    Recipe(method='asam', epochs=10)
    >>> recipe.resolved().momentum
    0.9
    """

    method: str | None = None
    """``"sgd"``, ``"sam"``, ``"asam"``, ``"sam-on"`` (moves biases alone), or ``"closed-form"``: no steps are taken."""
    optimizer: str | None = None
    """``"sgd"``, or ``"adam"``: AdamW with moments in 8 bits."""
    rho: float | None = None
    """Radius of the ascent, 0 to 1,000. 0 is SGD."""
    rho_unit: str | None = None
    """What ``rho`` is measured in: ``"nats"``, about the rise of a mislabelled sample's loss, the same for all networks and
    methods; or ``"weights"``."""
    eta: float | None = None
    """ASAM's floor under ``|w|``, 0 to 1,000."""
    sharpness_batch: int | None = None
    """Samples that share one ascent, 1 to the minibatch: m of m-sharpness."""
    ascent_every: int | None = None
    """Steps from one that ascends to the next, 1 or more."""
    store_perturbation: bool | None = None
    """Write ``w + e`` into the weights even where that can be spared. For comparison."""
    learning_rate: float | None = None
    """Step size before schedule and warm-up, 0 to 1,000."""
    momentum: float | None = None
    """0 to below 1."""
    weight_decay: float | None = None
    """0 to 1."""
    label_smoothing: float | None = None
    """Share of every label that is spread over all classes, 0 to below 1."""
    schedule: str | None = None
    """``"cosine"`` or ``"constant"``."""
    warm_up: float | None = None
    """Share of the steps over which the learning rate rises, 0 to 1."""
    bias: str | None = None
    """What happens to biases: ``"unit"``, ``"elementwise"`` or ``"frozen"``."""
    epochs: int | None = None
    """Passes over the samples, 1 or more."""
    minibatch: int | None = None
    """Samples per step, 1 or more."""
    seed: int | None = None
    """Seed of the order of samples, and of flipped labels."""
    replay_capacity: int | None = None
    """Samples that a device keeps. On the desktop all are kept."""
    replay_policy: str | None = None
    """Which sample gives way on a device whose replay is full: ``"oldest"`` or ``"balanced"``."""
    held_out: float | None = None
    """Share of each class's samples that is held out, 0 to 0.5: the tuned tail is taken only if they do not speak against
    it."""
    keep_best: bool | None = None
    """End with the best weights that were seen after an epoch."""
    sample_losses: bool | None = None
    """Keep every sample's mean loss over the run."""

    model: str | None = None
    """The model's file, for the command line and for firmware."""
    loss: str | None = None
    """``"cross-entropy"``, ``"bce"`` or ``"mse"``."""
    layers: int | None = None
    """Layers with weights to train, counted from the end."""
    train: Sequence[str] | None = None
    """What of each is trained, first to last: ``"all"``, ``"50%"``, ``"channels:8"``, ``"scales"``, ``"biases"`` or
    ``"nothing"``."""
    start: str | None = None
    """What steps begin with: ``"factory"`` or ``"closed-form"``."""
    compact: bool | None = None
    """The trainer of integers alone, which takes less RAM: fully connected layers only."""
    spare_classes: int | None = None
    """Outputs for classes that the model lacks, for the command line and for firmware: Python does not add classes yet."""
    ram: int | None = None
    """Budget of a firmware's RAM in bytes, for ``flatmin plan`` and for builds of firmware."""
    macs: int | None = None
    """Budget of multiply-adds of a sample's share of a step."""

    def resolved(self) -> Recipe:
        """All hyperparameters, as a run takes them.

        Raises
        ------
        flatmin.Error
            A value out of range, or a name that does not exist.
        """
        return self.replace(**json.loads(_native.recipe(self._json())))

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> Recipe:
        """Reads a ``recipe.toml``, the file that every command of ``flatmin`` takes with ``--recipe``.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        flatmin.Error
            What stands there is no recipe; the message names file and line.
        """
        return cls._of_file(json.loads(_native.read_recipe(os.fspath(path))))

    @classmethod
    def _of_file(cls, fields: dict[str, Any]) -> Recipe:
        own = {name: value for name, value in fields.items() if name not in ("version", "recipe", "budget")}
        return cls.from_dict({**fields.get("recipe", {}), **fields.get("budget", {}), **own})

    def to_toml(self, path: str | os.PathLike[str]) -> None:
        """Writes a ``recipe.toml`` with the fields that are not as usual."""
        _native.write_recipe(self._json(), os.fspath(path))

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Recipe:
        """The recipe with these fields; those that are left out are as usual."""
        unknown = fields.keys() - {field.name for field in dataclasses.fields(cls)}
        if unknown:
            raise _native.Error(f"recipe: there is no field `{min(unknown)}`")
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        """The fields that are not as usual, by name."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}

    def replace(self, **fields: Any) -> Recipe:
        """This recipe with other values; those that are ``None`` change nothing. A radius in units of the weights goes with
        the method: another method has its own."""
        own = self.to_dict()
        if fields.get("method") not in (None, self.method) and self.rho_unit == "weights":
            del own["rho_unit"]
            own.pop("rho", None)
        return Recipe.from_dict({**own, **{name: value for name, value in fields.items() if value is not None}})

    def _json(self) -> str:
        fields = self.to_dict()
        for name, value in fields.items():
            if isinstance(value, (float, np.floating)) and not np.isfinite(value):
                raise _native.Error(f"recipe: {name} is {value}, must be a finite number")
        file = {name: fields.pop(name) for name in _FILE if name in fields}
        budget = {name: fields.pop(name) for name in _BUDGET if name in fields}
        if "train" in file:
            file["train"] = [file["train"]] if isinstance(file["train"], str) else list(file["train"])
        whole = {"version": 1, **file, "recipe": fields, "budget": budget}
        # NumPy's numbers are no numbers of JSON.
        return json.dumps(whole, default=lambda value: value.item() if hasattr(value, "item") else str(value))

    def __repr__(self) -> str:
        return f"Recipe({', '.join(f'{name}={value!r}' for name, value in self.to_dict().items())})"
