"""Sweeps: what is drawn, what is kept, what is measured once."""

import json

import flatmin
import pytest

pytest.importorskip("optuna", reason="SKIPPED: no optuna here")
from flatmin import sweep  # noqa: E402


@pytest.fixture(scope="module")
def own():
    return flatmin.load_wearer(3, windows_per_class=3)


@pytest.fixture
def few(own):
    return sweep.space(own.model, layers=2) | {"epochs": [2, 4]}


def test_the_space_is_plain_data(own):
    known = sweep.space(own.model, layers=2)
    assert json.loads(json.dumps(known)) == known
    assert known["layers"] == 2 and known["methods"] == ["sgd", "sam", "asam", "closed-form"]
    assert {"25%", "all", "biases"} < set(known["train"])


def test_a_choice_is_measured_as_a_plan_measures_it(own):
    """The head in closed form is among what a plan tries, on as many parts of the samples."""
    plan = own.model.plan(own.x, own.y, trials=60, layers=1, seed=1, test=(own.x_test[:50], own.y_test[:50]))
    [there] = [one for one in plan.measured if one.recipe == "closed form"]
    here = sweep.evaluate(own.model, own.x, own.y, flatmin.Recipe(method="closed-form", seed=1))
    assert (here.ram_bytes, here.step_macs) == (there.ram_bytes, there.step_macs)
    if there.trials == 6:
        assert (here.accuracy, here.loss) == (there.accuracy, there.loss)
    assert sweep.evaluate(own.model, own.x, own.y, flatmin.Recipe(method="sam", ram=10_000)) is None


def test_it_is_gone_on_with_and_nothing_is_measured_twice(own, few, tmp_path, monkeypatch):
    storage = f"sqlite:///{tmp_path}/sweep.db"
    measured = []
    real = sweep.evaluate
    monkeypatch.setattr(sweep, "evaluate", lambda *arguments: measured.append(arguments[3]) or real(*arguments))
    first = sweep.sweep(own.model, own.x, own.y, trials=4, layers=2, space=few, storage=storage)
    assert len(first.study.trials) == 4
    again = sweep.sweep(own.model, own.x, own.y, trials=6, layers=2, space=few, storage=storage)
    assert len(again.study.trials) == 6
    keys = [json.dumps(one.to_dict(), sort_keys=True) for one in measured]
    assert len(keys) == len(set(keys))
    best = again.trials[0]
    assert again.recipe == best.recipe and best.accuracy == max(one.accuracy for one in again.trials)
    assert real(own.model, own.x, own.y, best.recipe) == best
    # What it found can be tuned with.
    assert own.model.tune(own.x, own.y, recipe=again.recipe, test=(own.x_test[:50], own.y_test[:50])).tested_samples == 50
    other = flatmin.load_wearer(4, windows_per_class=3)
    with pytest.raises(flatmin.Error, match="another model"):
        sweep.sweep(other.model, other.x, other.y, trials=9, layers=2, space=few, storage=storage)


def test_what_is_given_is_not_searched_and_budgets_hold(own, few):
    asked = flatmin.Recipe(method="sgd", epochs=2, layers=1)
    found = sweep.sweep(own.model, own.x, own.y, trials=6, space=few, recipe=asked, ram=30_000)
    assert {(one.recipe.method, one.recipe.epochs, one.recipe.layers) for one in found.trials} <= {("sgd", 2, 1)}
    assert all(one.ram_bytes <= 30_000 for one in found.trials)
    nothing = sweep.sweep(own.model, own.x, own.y, trials=2, space=few, ram=1_000)
    assert nothing.recipe is None and nothing.trials == []
