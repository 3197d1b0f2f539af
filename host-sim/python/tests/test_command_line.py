"""Python and the command line are two faces of one thing: the same bytes, the same bits, the same words."""

import json

import flatmin
import numpy as np
import pytest


def tuned(command, *arguments):
    answer = command("tune", *arguments, "--json")
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8])
def test_outputs_are_those_of_run(model, model_path, command, saved, tmp_path, dtype):
    draws = np.random.default_rng(5)
    scale, zero_point = model.input_quantization
    x = draws.integers(-128, 128, (9, 100, 6))
    x = x.astype(np.int8) if dtype == np.int8 else (scale * (x - zero_point)).astype(dtype)
    [path] = saved(x=x)
    answer = command("run", model_path, "--input", path, "--output", tmp_path / "out.npy")
    assert answer.returncode == 0, answer.stderr
    expected = np.load(tmp_path / "out.npy")
    outputs = model.run(x)
    assert outputs.dtype == expected.dtype and outputs.shape == expected.shape
    assert outputs.tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("method", "layers", "options"),
    [
        ("sgd", 1, {}),
        ("sam", 2, {"epochs": 4}),
        ("asam", 2, {"seed": 7, "learning_rate": 0.01}),
        ("sam-on", 3, {"epochs": 2, "rho": 0.1}),
        ("closed-form", 1, {}),
        ("sam", 2, {"held_out": 0.25, "keep_best": True}),
        ("sgd", 2, {"optimizer": "adam", "warm_up": 0.1, "sharpness_batch": 4}),
    ],
)
def test_weights_are_those_of_tune(wearer, model, model_path, command, saved, method, layers, options):
    data = dict(x=wearer.x, y=wearer.y, xt=wearer.x_test[:300], yt=wearer.y_test[:300])
    x, y, xt, yt = saved(**data)
    given = []
    for name, value in options.items():
        given += [f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)])
    command_line = tuned(
        command, model_path, "--data", x, y, "--test-data", xt, yt, "--method", method, "--layers", layers, *given
    )
    recipe = flatmin.Recipe(method=method, **options)
    result = model.tune(data["x"], data["y"], test=(data["xt"], data["yt"]), layers=layers, recipe=recipe)
    run = command_line["runs"][0]["subjects"][0]
    assert (result.weights_crc32, result.method) == (run["weights_crc32"], method)
    assert result.accuracy == run["accuracy_int8"] and result.factory_accuracy == run["factory_accuracy"]
    assert result.confusion.tolist() == run["confusion_tuned"]
    assert result.train_ram_bytes == run["train_ram_bytes"]
    assert [point.test_accuracy for point in result.curve] == [own["test_accuracy"] for own in run["curve"]]


def test_a_bundled_wearer_is_that_of_tune(command):
    own = flatmin.load_wearer(4, label_noise=0.2, seed=3)
    result = own.model.tune(own.x, own.y, test=(own.x_test, own.y_test), method="asam", seed=3)
    command_line = tuned(command, "--wearer", 4, "--label-noise", 0.2, "--seed", 3, "--method", "asam")
    assert result.weights_crc32 == command_line["runs"][0]["weights_crc32"]
    # From the head in closed form, with what the model knows of the others.
    known = own.model.calibrated(own.x_known, own.y_known)
    result = known.tune(own.x, own.y, test=(own.x_test, own.y_test), method="sam", layers=7, epochs=1, seed=3)
    assert result.start == "closed-form"
    deep = ["--method", "sam", "--layers", 7, "--epochs", 1]
    command_line = tuned(command, "--wearer", 4, "--label-noise", 0.2, "--seed", 3, *deep)
    assert result.weights_crc32 == command_line["runs"][0]["weights_crc32"]


def test_the_split_is_that_of_tune(wearer, model, model_path, command, saved):
    x, y = saved(x=wearer.x, y=wearer.y)
    command_line = tuned(command, model_path, "--data", x, y, "--method", "sgd")
    result = model.tune(wearer.x, wearer.y, method="sgd")
    assert result.weights_crc32 == command_line["runs"][0]["weights_crc32"]
    assert (result.tuned_samples, result.tested_samples) == (28, 35)
    assert result.split == "first half of each class tuned, second tested"
    groups = np.repeat(["ann", "bob", "eve"], 21)
    [by] = saved(groups=groups)
    command_line = tuned(command, model_path, "--data", x, y, "--method", "sgd", "--groups", by)
    result = model.tune(wearer.x, wearer.y, method="sgd", groups=groups)
    assert result.weights_crc32 == command_line["runs"][0]["weights_crc32"]


def test_the_export_is_that_of_export(wearer, model, model_path, command, saved, tmp_path):
    data = dict(x=wearer.x, y=wearer.y)
    x, y = saved(**data)
    answer = command("export", model_path, "--data", x, y, "--method", "asam", "-o", tmp_path / "own.tflite")
    assert answer.returncode == 0, answer.stderr
    model.tune(wearer.x, wearer.y, method="asam").export(tmp_path / "python.tflite")
    assert (tmp_path / "python.tflite").read_bytes() == (tmp_path / "own.tflite").read_bytes()


def test_packs_and_inspections_are_those_of_the_command_line(model, model_path, command, tmp_path):
    answer = command("pack", model_path, "--layers", 3, "--train", "biases,50%", "-o", tmp_path / "own.pack")
    assert answer.returncode == 0, answer.stderr
    pack = model.pack(layers=3, train=["biases", "50%"])
    assert pack.data == (tmp_path / "own.pack").read_bytes()
    constants = (tmp_path / "own.rs").read_text()
    pack.save(tmp_path / "own.pack")
    assert (tmp_path / "own.rs").read_text() == constants
    answer = json.loads(command("inspect", model_path, "--json").stdout)
    found = model.inspect()
    assert [cut.train_ram_bytes for cut in found.cuts] == [cut["train_ram_bytes"] for cut in answer["cuts"]]
    assert found.to_dict()["layers"] == answer["layers"]
    assert str(found) == command("inspect", model_path).stdout.rstrip("\n")


def test_refusals_have_the_same_words(model, model_path, command, saved):
    cases = [
        (np.zeros((4, 50, 6), np.float32), np.zeros(4, int)),
        (np.full((4, 100, 6), np.nan, np.float32), np.zeros(4, int)),
        (np.zeros((4, 100, 6), np.float32), np.array([0, 1, 2, 9])),
        (np.zeros((4, 100, 6), np.float32), np.zeros(3, int)),
        (np.zeros((1, 100, 6), np.float32), np.zeros(1, int)),
    ]
    for x, y in cases:
        paths = saved(x=x, y=y)
        answer = command("tune", model_path, "--data", *paths, "--method", "sgd")
        assert answer.returncode == 1
        expected = answer.stderr.removeprefix("flatmin: ").strip()
        for path, name in zip(paths, "xy"):
            expected = expected.replace(str(path), name)
        with pytest.raises(flatmin.Error) as refusal:
            model.tune(x, y, method="sgd")
        assert str(refusal.value) == expected
