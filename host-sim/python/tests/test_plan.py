"""The search for what to train and how."""

import json
import signal
import threading
import time

import flatmin
import numpy as np
import pytest


@pytest.fixture(scope="module")
def data(wearer):
    # As on the command line: half of each class is kept to test on.
    return np.concatenate([wearer.x, wearer.x_test]), np.concatenate([wearer.y, wearer.y_test])


def test_the_plan_is_that_of_the_command_line(data, model, model_path, command, saved):
    x, y = saved(x=data[0], y=data[1])
    answer = command("plan", model_path, "--data", x, y, "--ram", 100_000, "--trials", 24, "--layers", 3, "--json")
    assert answer.returncode == 0, answer.stderr
    expected = json.loads(answer.stdout)
    plan = model.plan(*data, ram=100_000, trials=24, layers=3)
    figures = ("layers", "train", "recipe", "ram_bytes", "loss", "accuracy")
    assert [[getattr(own, name) for name in figures] for own in plan.measured] == [
        [own[name] for name in figures] for own in expected["measured"]
    ]
    assert plan.factory_test_accuracy == expected["factory_test_accuracy"]
    assert (plan.recipe is None) == (expected["recipe"] is None)
    assert all(own.ram_bytes <= 100_000 for own in plan.measured)
    if plan.recipe is not None:
        result = model.tune(*data, recipe=plan.recipe)
        assert result.layers == plan.chosen.layers
    assert json.dumps(plan.to_dict()) and plan._repr_svg_().startswith("<svg")


def test_a_budget_that_nothing_fits_is_refused(data, model):
    with pytest.raises(flatmin.Error, match="within the budget"):
        model.plan(*data, ram=1000, trials=10)
    with pytest.raises(flatmin.Error, match="trials is 0"):
        model.plan(*data, trials=0)
    with pytest.raises(flatmin.Error, match="train is what a plan searches"):
        model.plan(*data, recipe=flatmin.Recipe(train=["biases"]))


def test_ctrl_c_ends_a_search(data, model):
    sent = []

    def interrupt():
        sent.append(time.monotonic())
        signal.raise_signal(signal.SIGINT)

    threading.Timer(1, interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        model.plan(*data, ram=10_000_000, trials=100_000)
    # Two trials may be under way, of all layers.
    assert time.monotonic() - sent[0] < 5
