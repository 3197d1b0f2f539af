"""Fleets: what devices send, what the server makes of it, who is refused."""

import json
import os
import shutil
import subprocess
import sys

import flatmin
import numpy as np
import pytest

pytest.importorskip("flwr", reason="SKIPPED: no flwr here")
fleet = pytest.importorskip("flatmin.fleet")
from flwr.app import Array, ArrayRecord, Context, RecordDict  # noqa: E402


@pytest.fixture(scope="module")
def own():
    return flatmin.load_wearer(10)


def shares(own, count):
    drawn = np.random.default_rng(7).permutation(len(own.x_known))[: 50 * count].reshape(count, 50)
    return [(own.x_known[places], own.y_known[places]) for places in drawn]


@pytest.fixture(scope="module")
def parts(own):
    """What three devices have: 50 windows each."""
    return shares(own, 3)


def nodes_of(model, parts, layers=2):
    def node(context):
        number = context.node_config["partition-id"]
        return fleet.Node(f"device {number}", flatmin.Device.simulated(model, layers=layers), *parts[number])

    return node


def test_one_device_and_one_round_are_its_own_run(own, parts):
    """The fleet's tail of one device is that device's, up to the rounding of a difference."""
    app = fleet.server_app(own.model, layers=2, rounds=1, epochs=2, method="sgd")
    result = fleet.run(app, fleet.client_app(nodes_of(own.model, parts[:1])), nodes=1)
    with flatmin.Device.simulated(own.model, layers=2) as device, flatmin.Device.simulated(own.model, layers=2) as other:
        device.observe(*parts[0])
        device.adapt(method="sgd", epochs=2)
        result.push(other)
        same = device.classify(own.x_test) == other.classify(own.x_test)
        assert same.mean() > 0.99
    assert [round.devices for round in result.rounds] == [1] and result.rounds[0].refused == []


def test_the_mean_is_weighted_by_samples(own, parts):
    """Against the mean that NumPy makes of what the devices send."""
    uneven = [(parts[0][0][:10], parts[0][1][:10]), parts[1]]
    sent = {}

    def watch(message, context, call_next):
        answer = call_next(message, context)
        number = context.node_config["partition-id"]
        sent[number] = (answer.content["arrays"]["weights"].numpy(), answer.content["metrics"]["num-examples"])
        return answer

    app = fleet.server_app(own.model, layers=2, rounds=1, epochs=1)
    result = fleet.run(app, fleet.client_app(nodes_of(own.model, uneven), mods=[watch]), nodes=2)
    assert [count for _, count in (sent[0], sent[1])] == [10, 50]
    expected = (10 * sent[0][0].astype(float) + 50 * sent[1][0].astype(float)) / 60
    native = flatmin._native
    factory, _ = native.tail_weights(own.model._native, 2, [])
    weights, _ = native.tail_weights(own.model._native, 2, [], result.tail)
    np.testing.assert_allclose(weights - factory, expected, atol=2e-6)
    assert np.abs(expected).max() > 1e-3


def test_rounds_go_on_from_the_fleets_tail(own, parts):
    app = fleet.server_app(own.model, layers=2, rounds=3, epochs=1)
    result = fleet.run(app, fleet.client_app(nodes_of(own.model, parts)), nodes=3)
    losses = [round.loss for round in result.rounds]
    assert losses[2] < losses[1] < losses[0]
    parameters = own.model.pack(layers=2).tail_parameters
    # Weights, the lowest and highest output of two layers, and the two headers of .npy files.
    assert {(own.bytes_up, own.bytes_down) for own in result.rounds} == {(4 * (parameters + 4) + 2 * 128,) * 2}


def test_a_device_with_another_base_is_refused_by_name(own, parts):
    stranger = flatmin.load_wearer(4).model

    def node(context):
        number = context.node_config["partition-id"]
        model = stranger if number == 1 else own.model
        return fleet.Node(f"board {number}", flatmin.Device.simulated(model, layers=2), *parts[number])

    result = fleet.run(fleet.server_app(own.model, layers=2, rounds=1), fleet.client_app(node), nodes=3)
    [round] = result.rounds
    assert round.devices == 2
    [why] = round.refused
    bases = [f"{model.pack(layers=2).pack_crc32:#010x}" for model in (own.model, stranger)]
    assert why == f"board 1: the fleet's tail is of pack {bases[0]}, this device has {bases[1]}"
    with pytest.raises(flatmin.Error, match="no device took part: board 1"):
        fleet.run(fleet.server_app(own.model, layers=2, rounds=1), fleet.client_app(lambda context: node(_second)), nodes=1)


_second = Context(run_id=1, node_id=2, node_config={"partition-id": 1}, state=RecordDict(), run_config={})


def test_sums_are_exact_whatever_the_order(own, parts):
    """Bit by bit: the head of all devices' sums is that of all samples together."""
    together = fleet.sums(own.model, *(np.concatenate(own) for own in zip(*parts)))
    whole = fleet.head(own.model, together)
    for order in ([0, 1, 2], [2, 0, 1]):
        app = fleet.server_app(own.model, strategy="closed-form")
        mixed = [parts[number] for number in order]
        result = fleet.run(app, fleet.client_app(nodes_of(own.model, mixed, layers=1)), nodes=3)
        for name in ("counts", "sums", "products"):
            assert (getattr(result.sums, name) == getattr(together, name)).all()
        assert result.tail == whole.tail(own.model)
        assert len(result.rounds) == 1
    # Against means and a covariance that NumPy makes of the features in f64.
    x, y = (np.concatenate(own) for own in zip(*parts))
    features = flatmin._native.features(own.model._native, flatmin._arrays.npy(x)).astype(float)
    for label in range(7):
        np.testing.assert_allclose(together.sums[label] / together.counts[label], features[y == label].mean(0))
    # As what the factory knows they are what `calibrated` makes of the samples.
    assert together.model(own.model).pack(layers=1).pack_crc32 == own.model.calibrated(x, y).pack(layers=1).pack_crc32


def test_a_solved_head_answers_as_discriminant_analysis_does(own):
    drawn = np.random.default_rng(7).permutation(len(own.x_known))[:1000]
    x, y = own.x_known[drawn], own.y_known[drawn]
    solved = fleet.head(own.model, fleet.sums(own.model, x, y))
    sklearn = pytest.importorskip("sklearn.discriminant_analysis")
    features = flatmin._native.features(own.model._native, flatmin._arrays.npy(x)).astype(float)
    tested = flatmin._native.features(own.model._native, flatmin._arrays.npy(own.x_test)).astype(float)
    share = 64 / (64 + 1000)
    analysis = sklearn.LinearDiscriminantAnalysis(solver="lsqr", shrinkage=share, priors=np.full(7, 1 / 7))
    expected = analysis.fit(features, y).predict(tested)
    with flatmin.Device.simulated(own.model, layers=1) as device:
        device._native.push_tail(solved.tail(own.model))
        # int8 logits have 256 steps, and equal ones the first class.
        assert np.mean(device.classify(own.x_test) == expected) > 0.97


def test_a_missing_class_is_named(own, parts):
    x, y = parts[0]
    with pytest.raises(flatmin.Error, match="no device has a sample of class 3"):
        fleet.head(own.model, fleet.sums(own.model, x[y != 3], y[y != 3]))


def test_sums_that_no_samples_have_are_left_out(own, parts):
    def noise(message, context, call_next):
        answer = call_next(message, context)
        if context.node_config["partition-id"] == 1:
            draws = np.random.default_rng(3)
            arrays = {name: array.numpy() for name, array in answer.content["arrays"].items()}
            arrays["sums"] = draws.integers(-(10**5), 10**5, arrays["sums"].shape)
            answer.content["arrays"] = ArrayRecord({name: Array(array) for name, array in arrays.items()})
        return answer

    app = fleet.server_app(own.model, strategy="closed-form")
    result = fleet.run(app, fleet.client_app(nodes_of(own.model, parts, layers=1), mods=[noise]), nodes=3)
    [round] = result.rounds
    assert round.devices == 2 and round.refused == ["node 2: no samples have its sums"]
    honest = fleet.sums(own.model, *parts[0]) + fleet.sums(own.model, *parts[2])
    assert result.tail == fleet.head(own.model, honest).tail(own.model)


def test_robust_strategies_leave_noise_out(own, parts):
    """One of five sends noise: the mean is ruined, the others are not."""
    five = shares(own, 5)

    def noise(message, context, call_next):
        answer = call_next(message, context)
        if context.node_config["partition-id"] == 2:
            draws = np.random.default_rng(3)
            own = answer.content["arrays"]
            loud = draws.normal(0, 3, own["weights"].numpy().shape).astype(np.float32)
            answer.content["arrays"] = ArrayRecord({"weights": Array(loud), "ranges": own["ranges"]})
        return answer

    right = {}
    for strategy in ("fedavg", "trimmed-mean", "median", "krum", "multi-krum"):
        app = fleet.server_app(own.model, layers=2, rounds=1, epochs=1, strategy=strategy, hostile=1)
        result = fleet.run(app, fleet.client_app(nodes_of(own.model, five), mods=[noise]), nodes=5)
        with flatmin.Device.simulated(own.model, layers=2) as device:
            result.push(device)
            right[strategy] = np.mean(device.classify(own.x_test) == own.y_test)
    robust = min(value for name, value in right.items() if name != "fedavg")
    assert right["fedavg"] < robust - 0.1, right


def test_what_is_not_there_is_said(own):
    with pytest.raises(flatmin.Error, match="proximal term"):
        fleet.strategy("fedprox", nodes=3)
    with pytest.raises(flatmin.Error, match="there is no strategy `best`"):
        fleet.strategy("best", nodes=3)
    with pytest.raises(flatmin.Error, match="one layer"):
        fleet.server_app(own.model, layers=2, strategy="closed-form")


@pytest.fixture
def ran(capsys):
    """Runs the command; gives what it returns and prints."""
    from flatmin.fleet.__main__ import main

    def run(*arguments):
        returned = main([str(own) for own in arguments])
        return returned, *capsys.readouterr()

    return run


def test_the_command_prints_one_table(ran):
    returned, printed, _ = ran("--devices", 4, "--rounds", 2, "--epochs", 1, "--stranger", 3, 5, "--json")
    assert returned == 0
    told = json.loads(printed)
    assert [own["wearer"] for own in told["strangers"]] == [3, 5]
    assert all(own["devices"] == [3, 3] for own in told["strangers"])
    asked = [sys.executable, "-m", "flatmin.fleet", "--devices", "4", "--rounds", "2", "--epochs", "1", "--stranger", "3", "5"]
    shown = subprocess.run(asked, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    for name, row in told["rows"].items():
        assert f"{100 * row['accuracy']:.1f}" in shown.stdout, name
    _, printed, _ = ran("--devices", 6, "--stranger", 3, "--drop", 0.5, "--epochs", 1, "--rounds", 3, "--json")
    [own] = json.loads(printed)["strangers"]
    assert own["refused"] == sum(5 - devices for devices in own["devices"]) > 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--devices", 2], "devices: three at least"),
        (["--drop", 1], "drop: from 0 to below 1"),
        (["--strategy", "fedprox"], "strategy: one of fedavg"),
        (["--stranger", 11], "strangers: from 1 to 10"),
        (["--devices", 4, "--hostile", 3], "hostile: from 0 to fewer"),
    ],
)
def test_what_cannot_be_tried_is_refused(ran, arguments, text):
    returned, printed, errors = ran(*arguments)
    assert returned == 1 and text in errors and printed == ""


def test_two_emulated_firmwares_take_part(own, parts, monkeypatch):
    if os.environ.get("FLATMIN_SLOW_TESTS") != "1":
        pytest.skip("part of the slow tests: FLATMIN_SLOW_TESTS=1")
    if shutil.which("qemu-system-arm") is None:
        pytest.skip("SKIPPED: no qemu-system-arm here")
    root = __import__("pathlib").Path(__file__).parents[3]
    monkeypatch.setenv("FLATMIN_SOURCES", str(root))
    with (
        flatmin.Device.emulate(own.model, layers=2, samples=50) as first,
        flatmin.Device.emulate(own.model, layers=2, samples=50) as second,
    ):
        boards = [first, second]

        def node(context):
            number = context.node_config["partition-id"]
            if number == 2:
                return fleet.Node("simulated", flatmin.Device.simulated(own.model, layers=2, samples=50), *parts[number])
            return fleet.Node(f"board {number}", boards[number], *parts[number])

        app = fleet.server_app(own.model, layers=2, rounds=2, epochs=1)
        emulated = fleet.run(app, fleet.client_app(node), nodes=3)
    app = fleet.server_app(own.model, layers=2, rounds=2, epochs=1)
    simulated = fleet.run(app, fleet.client_app(nodes_of(own.model, parts)), nodes=3)
    assert [round.devices for round in emulated.rounds] == [3, 3]
    assert [round.loss for round in emulated.rounds] == pytest.approx([round.loss for round in simulated.rounds])
    right = []
    for result in (emulated, simulated):
        with flatmin.Device.simulated(own.model, layers=2) as device:
            result.push(device)
            right.append(device.classify(own.x_test).tolist())
    assert np.mean(np.array(right[0]) == np.array(right[1])) > 0.99


