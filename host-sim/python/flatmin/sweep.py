"""Sweeps: searches for what to train and how, by Optuna's samplers, over the choices of ``flatmin plan`` as plain data.

``pip install optuna``. A sweep may lie in a file (``storage="sqlite:///sweep.db"``): it is gone on with where it ended, and several
processes may work at it, on several machines with a database that they share. What was measured once is not measured again.

>>> import flatmin
>>> from flatmin import sweep
>>> own = flatmin.load_wearer(3, windows_per_class=3)
>>> found = sweep.sweep(own.model, own.x, own.y, trials=3, layers=1, space=sweep.space(own.model, layers=1) | {"epochs": [10]})
>>> found.recipe is not None, len(found.trials)
(True, 3)
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy.typing as npt

try:
    import optuna
except ImportError as error:
    raise ImportError('sweeps take Optuna: pip install "flatmin[sweep]", or pip install optuna') from error

from . import _native
from ._arrays import npy
from ._model import Model, _speaks_python
from ._recipe import Recipe

__all__ = ["Sweep", "Trial", "evaluate", "space", "sweep"]

Space = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Trial:
    """A choice, and what it was measured to bring."""

    recipe: Recipe
    """The choice."""
    accuracy: float
    """Share of right answers on samples that were not tuned on, 0 to 1: each judges twice."""
    loss: float
    """Mean loss on these samples."""
    ram_bytes: int
    """All RAM of a firmware that tunes so."""
    step_macs: int
    """Multiply-adds of a sample's share of a step; 0 of a head in closed form."""


@dataclasses.dataclass(frozen=True)
class Sweep:
    """What a sweep has found so far."""

    recipe: Recipe | None
    """The choice with most right answers, then the least loss; ``None`` where nothing is within the budget. Of many choices one looks
    better by chance: ``model.plan`` advises what is shown to be better, and test samples decide."""
    trials: list[Trial]
    """All that was measured, best first."""
    study: optuna.Study = dataclasses.field(repr=False, compare=False)
    """Optuna's own, for its plots."""


def space(model: Model, *, layers: int = 3) -> Space:
    """What a sweep chooses among, as plain data: lists of numbers and words, which may be changed before they are handed on.

    ``learning_rate_factors`` and ``rho_factors`` are times the usual value of the method; ``train`` is what of each layer is trained;
    ``layers`` is the most of them.
    """
    known, _ = _native.space(model._native, layers)
    return json.loads(known)


@_speaks_python
def evaluate(model: Model, x: npt.ArrayLike, y: npt.ArrayLike, recipe: Recipe) -> Trial | None:
    """Measures one choice as ``plan`` does: tuned on two thirds of the samples and judged on the others, six times. ``None`` where it
    takes more than the recipe's ``ram`` or ``macs``."""
    found = json.loads(_native.evaluate(model._native, npy(x), npy(y), recipe._json()))
    if found is None:
        return None
    return Trial(recipe, *(found[name] for name in ("accuracy", "loss", "ram_bytes", "step_macs")))


def _choice(trial: optuna.Trial, space: Space, usual: dict[str, Any], base: Recipe) -> Recipe:
    """A recipe that a sampler draws, with what ``base`` gives in its place."""
    method = base.method or trial.suggest_categorical("method", space["methods"])
    if method == "closed-form":
        return base.replace(method=method, layers=1)
    layers = base.layers or trial.suggest_int("layers", 1, space["layers"])
    # Counted from the end, so that a choice means the same whatever the depth.
    ways = [trial.suggest_categorical(f"train_{place}", space["train"]) for place in range(1, layers + 1)]
    rate, rho = (trial.suggest_categorical(f"{name}_factor", space[f"{name}_factors"]) for name in ("learning_rate", "rho"))
    drawn = {
        "method": method,
        "layers": layers,
        "train": ways[::-1],
        "learning_rate": usual[method]["learning_rate"] * rate,
        "rho": usual[method]["rho"] * rho,
        "label_smoothing": trial.suggest_categorical("label_smoothing", space["label_smoothing"]),
        "epochs": trial.suggest_categorical("epochs", space["epochs"]),
    }
    return Recipe.from_dict({**drawn, **base.to_dict()})


def sweep(
    model: Model,
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    trials: int = 50,
    layers: int = 3,
    space: Space | None = None,
    ram: int | None = None,
    macs: int | None = None,
    seed: int = 1,
    recipe: Recipe | None = None,
    storage: str | None = None,
    name: str = "flatmin",
    sampler: optuna.samplers.BaseSampler | None = None,
) -> Sweep:
    """Searches, until the sweep has so many trials.

    Parameters
    ----------
    x, y
        As of :meth:`flatmin.Model.tune`: all judge in turn. Keep others to test on.
    trials : int
        Choices to try in all, those of an earlier call with this ``storage`` and ``name`` included.
    layers : int
        Most layers of a tail.
    space : dict, optional
        What to choose among: see :func:`space`.
    ram, macs : int, optional
        Budget of a firmware's RAM in bytes, and of the multiply-adds of a sample's share of a step.
    seed : int
        Of the sampler, and of the parts of the samples.
    recipe : Recipe, optional
        What is not searched.
    storage, name : str, optional
        Where it is kept: ``"sqlite:///sweep.db"``, or another database that Optuna takes; and what it is called there.
    sampler : optuna sampler, optional
        Usual: Optuna's tree of Parzen estimators.
    """
    _, told = _native.space(model._native, layers)
    usual = json.loads(told)
    chosen = globals()["space"](model, layers=layers) if space is None else space
    base = (recipe or Recipe()).replace(ram=ram, macs=macs, seed=seed)
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(
            study_name=name,
            storage=storage,
            sampler=sampler or optuna.samplers.TPESampler(seed=seed),
            direction="maximize",
            load_if_exists=True,
        )
        # Another model or other samples are another sweep.
        of = f"{model.pack(layers=0).pack_crc32:#010x}, {len(npy(x))} bytes of samples, seed {seed}"
        if study.user_attrs.setdefault("of", of) != of:
            raise _native.Error(f"the sweep `{name}` is of another model or other samples: give it another name")
        study.set_user_attr("of", of)

        def objective(trial: optuna.Trial) -> float:
            own = _choice(trial, chosen, usual, base)
            key = json.dumps(own.to_dict(), sort_keys=True)
            trial.set_user_attr("recipe", key)
            for other in study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE]):
                if other.user_attrs["recipe"] == key:
                    trial.set_user_attr("measured", other.user_attrs["measured"])
                    trial.set_user_attr("again", True)
                    return other.values[0]
            try:
                measured = evaluate(model, x, y, own)
            except _native.Error as error:
                # A share of the channels of a layer that has none, for instance.
                trial.set_user_attr("refused", str(error))
                raise optuna.TrialPruned from None
            if measured is None:
                trial.set_user_attr("refused", "beyond the budget")
                raise optuna.TrialPruned
            numbers = [measured.accuracy, measured.loss, measured.ram_bytes, measured.step_macs]
            trial.set_user_attr("measured", numbers)
            return measured.accuracy

        over = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
        study.optimize(objective, callbacks=[optuna.study.MaxTrialsCallback(trials, states=over)])
    finally:
        optuna.logging.set_verbosity(level)
    return _found(study)


def _found(study: optuna.Study) -> Sweep:
    trials = []
    for own in study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE]):
        if not own.user_attrs.get("again"):
            trials.append(Trial(Recipe.from_dict(json.loads(own.user_attrs["recipe"])), *own.user_attrs["measured"]))
    trials.sort(key=lambda own: (-own.accuracy, own.loss))
    return Sweep(trials[0].recipe if trials else None, trials, study)
