"""What a user of NumPy does with it."""

import json
import signal
import threading
import time
from pathlib import Path

import flatmin
import numpy as np
import pytest


@pytest.fixture(scope="module")
def result(wearer):
    return wearer.model.tune(
        wearer.x, wearer.y, method="sam", layers=2, seed=1, test=(wearer.x_test, wearer.y_test)
    )


def test_tuning_helps_and_says_by_how_much(result, wearer):
    assert result.accuracy > result.factory_accuracy
    assert result.predictions.shape == wearer.y_test.shape
    assert np.mean(result.predictions == wearer.y_test) == result.accuracy
    assert np.array_equal(result.predict(wearer.x_test), result.predictions)
    assert result.confusion.sum() == len(wearer.y_test)
    assert np.trace(result.confusion_factory) / len(wearer.y_test) == result.factory_accuracy
    assert sum(result.memory.values()) == result.train_ram_bytes
    assert [point.epoch for point in result.curve] == list(range(result.recipe.epochs + 1))
    assert f"0x{result.weights_crc32:08x}" in repr(result)


def test_figures_go_into_json(result):
    figures = json.loads(json.dumps(result.to_dict()))
    assert figures["weights_crc32"] == result.weights_crc32
    assert figures["recipe"]["method"] == "sam"
    assert figures["predictions"] == result.predictions.tolist()
    assert not [name for name in figures if name.startswith("_")]


def test_the_factory_answers_as_before(wearer, result):
    outputs = wearer.model.run(wearer.x_test)
    assert np.mean(outputs.argmax(axis=1) == wearer.y_test) == result.factory_accuracy


def test_the_exported_file_answers_as_the_result(wearer, result, tmp_path):
    result.export(tmp_path / "tuned.tflite")
    again = flatmin.Model(tmp_path / "tuned.tflite")
    assert np.array_equal(again.run(wearer.x_test), result.run(wearer.x_test))
    assert np.array_equal(again.run(wearer.x_test).argmax(axis=1), result.predictions)


def test_floats_in_real_units_are_what_int8_stands_for(wearer):
    scale, zero_point = wearer.model.input_quantization
    real = (scale * (wearer.x_test.astype(np.float32) - zero_point)).astype(np.float32)
    assert np.array_equal(wearer.model.run(real), wearer.model.run(wearer.x_test))


def test_every_layout_and_type_of_array_is_the_same_sample(wearer):
    expected = wearer.model.run(wearer.x[:4])
    assert np.array_equal(wearer.model.run(np.asfortranarray(wearer.x[:4])), expected)
    assert np.array_equal(wearer.model.run(wearer.x[:8][::2]), wearer.model.run(wearer.x[[0, 2, 4, 6]]))
    assert np.array_equal(wearer.model.run(wearer.x[:4, :, 0, :]), expected)


def test_labels_of_any_kind_tune_alike(wearer, model_path):
    names = ["a", "b", "c", "d", "e", "f", "g"]
    model = flatmin.Model(model_path, classes=names)
    texts = np.array(names)[wearer.y]
    kinds = [wearer.y, wearer.y.astype(np.float64), np.eye(7)[wearer.y], texts, texts.astype(object)]
    crcs = {model.tune(wearer.x, y, method="sgd", layers=1, epochs=2).weights_crc32 for y in kinds}
    assert len(crcs) == 1
    assert model.tune(wearer.x, texts, method="sgd", layers=1, epochs=2).classes == names
    with pytest.raises(flatmin.Error, match="classes="):
        flatmin.Model(model_path).tune(wearer.x, texts)
    with pytest.raises(TypeError, match="Python objects"):
        model.tune(wearer.x, np.array([None] * len(wearer.x)))


def test_progress_is_told_after_every_epoch_and_may_end_the_run(wearer):
    news = []
    result = wearer.model.tune(wearer.x, wearer.y, method="sgd", epochs=3, progress=news.append)
    assert [(own.epoch, own.epochs) for own in news] == [(1, 3), (2, 3), (3, 3)]
    assert [own.loss for own in news] == [point.adaptation_loss for point in result.curve[1:]]
    assert [own.accuracy for own in news] == [point.test_accuracy for point in result.curve[1:]]

    class Enough(Exception):
        pass

    def stop(progress):
        if progress.epoch == 2:
            raise Enough

    with pytest.raises(Enough):
        wearer.model.tune(wearer.x, wearer.y, progress=stop)


def long_run(wearer):
    wearer.model.tune(wearer.x, wearer.y, layers=7, epochs=65_535, learning_rate=1e-6, curve=False)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_a_run_within_a_second(wearer):
    sent = []

    def interrupt():
        sent.append(time.monotonic())
        signal.raise_signal(signal.SIGINT)

    timer = threading.Timer(0.5, interrupt)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        long_run(wearer)
    assert time.monotonic() - sent[0] < 1


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_inference_within_a_second(wearer):
    sent = []

    def interrupt():
        sent.append(time.monotonic())
        signal.raise_signal(signal.SIGINT)

    many = np.repeat(wearer.x_test, 200, axis=0)
    timer = threading.Timer(0.3, interrupt)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        for _ in range(100):
            wearer.model.run(many)
    assert time.monotonic() - sent[0] < 1


def test_other_threads_go_on_during_a_run(wearer):
    counted = []
    done = threading.Event()

    def count():
        while not done.is_set():
            counted.append(time.monotonic())
            time.sleep(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    begin = time.monotonic()
    wearer.model.tune(wearer.x, wearer.y, layers=7, epochs=25, curve=False, method="sam")
    end = time.monotonic()
    done.set()
    thread.join()
    during = [own for own in counted if begin < own < end]
    # One that held the interpreter would let nobody count between its epochs' callbacks, of which there are none.
    assert len(during) > 10


def test_two_threads_tune_at_once_to_the_same_bits(wearer):
    crcs = []

    def tune():
        crcs.append(wearer.model.tune(wearer.x, wearer.y, layers=2, method="asam", epochs=5).weights_crc32)

    threads = [threading.Thread(target=tune) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(crcs) == 3 and len(set(crcs)) == 1


def test_errors_are_pythons(tmp_path, model, model_path, wearer, result):
    with pytest.raises(FileNotFoundError, match="none.tflite"):
        flatmin.Model(tmp_path / "none.tflite")
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"no model")
    with pytest.raises(flatmin.Error, match="broken.tflite"):
        flatmin.Model(broken)
    assert issubclass(flatmin.Error, ValueError)
    with pytest.raises(flatmin.Error, match='recipe: method: .*"sma", expected one of "sgd", "sam", '):
        model.tune(wearer.x, wearer.y, method="sma")
    with pytest.raises(flatmin.Error, match="recipe: learning_rate is -1, must be from 0 to 1000"):
        model.tune(wearer.x, wearer.y, learning_rate=-1)
    with pytest.raises(flatmin.Error, match="recipe: epochs: .*a whole number from 1 to 65535"):
        flatmin.Recipe(epochs=2.5).resolved()
    with pytest.raises(flatmin.Error, match="there is no loss `rmse`"):
        flatmin.Model(model_path, loss="rmse")
    with pytest.raises(flatmin.Error, match="the network ends in 7 trainable layer"):
        model.tune(wearer.x, wearer.y, layers=99)
    with pytest.raises(OSError, match="there is no folder"):
        result.export(tmp_path / "nowhere" / "tuned.tflite")
    with pytest.raises(flatmin.Error, match="there is no wearer 11"):
        flatmin.load_wearer(11)


def test_labels_are_missed(wearer, model_path):
    for arguments in [dict(), dict(y=wearer.y, test=wearer.x_test)]:
        with pytest.raises(flatmin.Error, match="labels are needed, too"):
            wearer.model.tune(wearer.x, **arguments)
    with pytest.raises(TypeError, match="one text"):
        flatmin.Model(model_path, classes="abcdefg")


def test_messages_name_pythons_arguments(wearer):
    with pytest.raises(flatmin.Error, match="give replay_capacity=28, or fewer samples"):
        wearer.model.tune(wearer.x, wearer.y, recipe=flatmin.Recipe(replay_capacity=5))
    with pytest.raises(flatmin.Error, match="recipe: rho is nan, must be a finite number"):
        wearer.model.tune(wearer.x, wearer.y, rho=float("nan"))


def test_the_model_is_not_written_over(wearer, model_path, tmp_path):
    own = tmp_path / "own.tflite"
    own.write_bytes(model_path.read_bytes())
    result = flatmin.Model(own).tune(wearer.x, wearer.y, method="sgd", epochs=1)
    with pytest.raises(flatmin.Error, match="would be overwritten"):
        result.export(own)
    assert own.read_bytes() == model_path.read_bytes()
    own.write_bytes(own.read_bytes() + bytes(16))
    with pytest.raises(flatmin.Error, match="the file has changed since it was read"):
        result.export(tmp_path / "tuned.tflite")


def test_a_tail_that_is_not_better_is_not_exported(wearer, tmp_path):
    # Wrong labels throughout: whatever was learnt, the held-out samples speak against it, or no weight has moved.
    result = wearer.model.tune(
        wearer.x, wearer.y, method="sgd", held_out=0.3, learning_rate=0.0, test=(wearer.x_test, wearer.y_test)
    )
    assert result.verdict is not None and not result.verdict.accepted and not result.is_tuned
    assert result.verdict.evidence == "unmoved"
    assert result.accuracy == result.factory_accuracy
    assert np.array_equal(result.run(wearer.x_test), wearer.model.run(wearer.x_test))
    with pytest.raises(flatmin.Error, match="the factory's tail is in force"):
        result.export(tmp_path / "tuned.tflite")
    with pytest.raises(flatmin.Error, match="the factory's tail is in force"):
        result.delta()


def test_warnings_are_pythons(wearer):
    with pytest.warns(UserWarning, match="lie outside"):
        wearer.model.tune(1000 * np.ones((63, 100, 6), np.float32), wearer.y, method="sgd", epochs=1)


def test_a_recipe_has_the_fields_of_the_crate():
    source = (Path(__file__).parents[3] / "src/recipe.rs").read_text()
    body = source.split("pub struct Recipe {")[1].split("\n}")[0]
    lines = [line for line in body.splitlines() if line.startswith("    pub ")]
    fields = [line.removeprefix("    pub ").split(":")[0] for line in lines]
    whole = flatmin.Recipe().resolved()
    assert list(whole.to_dict()) == fields
    assert whole.resolved() == whole and flatmin.Recipe.from_dict(whole.to_dict()) == whole
    with pytest.raises(flatmin.Error, match="there is no field `radius`"):
        flatmin.Recipe.from_dict({"radius": 1.0})


def test_usual_values_go_with_method_and_start():
    asam = flatmin.Recipe(method="asam").resolved()
    assert (asam.rho_unit, asam.rho) == ("nats", flatmin.Recipe(method="sam").resolved().rho)
    factory, solved = flatmin.Recipe().resolved(), flatmin.Recipe(start="closed-form").resolved()
    assert factory.learning_rate != solved.learning_rate
    assert flatmin.Recipe(learning_rate=0.5, start="closed-form").resolved().learning_rate == 0.5
    assert flatmin.Recipe(epochs=np.int64(3), rho=np.float32(0.25)).resolved().epochs == 3


def test_a_recipe_goes_into_a_file_and_back(wearer, tmp_path):
    asked = flatmin.Recipe(method="asam", rho=0.2, epochs=3, layers=3, train=["biases", "all"], ram=65_536)
    asked.to_toml(tmp_path / "recipe.toml")
    again = flatmin.Recipe.from_toml(tmp_path / "recipe.toml")
    assert again.to_dict() == {**asked.to_dict(), "train": ["biases", "all"]}
    result = wearer.model.tune(wearer.x, wearer.y, recipe=again)
    assert (result.layers, result.train, result.recipe.epochs) == (3, ["biases", "all", "all"], 3)
    # Arguments win over it.
    assert wearer.model.tune(wearer.x, wearer.y, recipe=tmp_path / "recipe.toml", epochs=1).recipe.epochs == 1
    # A radius in units of the weights goes with the method.
    assert again.replace(method="sam").rho == 0.2
    weights = again.replace(rho_unit="weights")
    assert weights.replace(method="sam").rho is None and weights.replace(method="asam", epochs=1).rho == 0.2
    (tmp_path / "recipe.toml").write_text("version = 1\n[recipe]\nepochs = 0\n")
    with pytest.raises(flatmin.Error, match="recipe.toml:3: .*a whole number from 1 to 65535"):
        flatmin.Recipe.from_toml(tmp_path / "recipe.toml")
    with pytest.raises(FileNotFoundError, match="none.toml"):
        flatmin.Recipe.from_toml(tmp_path / "none.toml")


def test_models_show_what_tuning_takes(model):
    text = repr(model)
    for cut in model.inspect().cuts:
        assert f"{cut.train_ram_bytes:,}" in text and f"{cut.train_ram_bytes:,}" in model._repr_html_()
    assert "100x1x6 -> 7 (cross-entropy)" in text
    assert model.inspect(replay_capacity=10).cuts[0].train_ram_bytes < model.inspect().cuts[0].train_ram_bytes
    assert model.inspect().layers[-1].operator


def test_inspections_name_scale_and_zero_point_of_the_input(model, wearer):
    found = model.inspect()
    (own,) = found.inputs
    assert own.shape == (1, 100, 1, 6) and found.outputs[0].shape == (1, 7) and found.obstacle is None
    # The wearer's windows are int8 already; their real values give the same answers.
    reals = (own.scale * (wearer.x.astype(np.float64) - own.zero_point)).astype(np.float32)
    assert np.array_equal(model.run(reals), model.run(wearer.x))


def test_a_stream_goes_on_from_row_to_row(command, saved):
    words = pytest.importorskip("pymicro_wakeword", reason="SKIPPED: no pymicro-wakeword: its networks keep variables")
    path = Path(words.__file__).parent / "models" / "okay_nabu.tflite"
    model = flatmin.Model(path)
    (border,) = model.inspect().inputs
    # A walk of many hops: noise makes no network of these answer anything but 0.
    walk = np.cumsum(np.random.default_rng(1).normal(0, 30, (200, *border.shape[1:])), 0)
    hops = np.clip(walk, -128, 127).astype(np.int8)
    stream, anew = model.run(hops, stream=True), model.run(hops)
    assert not np.array_equal(stream, anew)
    (x,) = saved(x=hops)
    for rows, own in ((["--stream"], stream), ([], anew)):
        answer = command("run", path, "--input", x, "--output", x.parent / "y.npy", *rows)
        assert answer.returncode == 0, answer.stderr
        assert np.array_equal(np.load(x.parent / "y.npy"), own)


def test_what_a_loss_does_not_fit_is_said_in_pythons_words(wearer, model_path):
    numbers = np.zeros((63, 7), np.float32)
    # This network ends in a softmax.
    with pytest.raises(flatmin.Error, match='the loss wants bare outputs.*loss="mse"'):
        flatmin.Model(model_path, loss="mse").tune(wearer.x, numbers, layers=1)


GOLDEN = Path(__file__).parents[2] / "sim" / "tests" / "onnx" / "golden"


def test_a_regression_is_tuned_to_numbers():
    model = flatmin.Model(GOLDEN / "flatten_gemm.onnx", loss="mse")
    draws = np.random.default_rng(2)
    scale, zero_point = model.input_quantization
    x = (scale * (draws.integers(-128, 128, (40, 3, 4, 5)) - zero_point)).astype(np.float32)
    y = np.float32(0.5) * model.run(x)
    result = model.tune(x, y, test=(x, y), layers=1, method="sgd", learning_rate=0.001)
    assert result.anomalies.tuned_error < result.anomalies.factory_error
    assert np.isnan(result.accuracy) and len(result.predictions) == 0
    assert "error" in repr(result)
    json.dumps(result.to_dict())
    # Targets are compared as int8.
    mean = np.mean((result.run(x).astype(np.float64) - y) ** 2)
    assert mean == pytest.approx(result.anomalies.tuned_error, rel=0.03)
    with pytest.raises(flatmin.Error, match="only a .tflite can be exported"):
        result.export("never.tflite")


def test_onnx_files_keep_their_order_and_their_bytes():
    model = flatmin.Model(GOLDEN / "network_uint8.onnx")
    draws = np.random.default_rng(3)
    scale, _ = model.input_quantization
    x = (scale * draws.integers(-100, 100, (30, 3, 16, 16))).astype(np.float32)
    y = np.arange(30) % 5
    result = model.tune(x, y, test=(x, y), layers=2, method="sgd", learning_rate=0.02)
    assert result.is_tuned and result.run(x).shape == model.run(x).shape
    assert np.array_equal(result.run(x).reshape(30, -1).argmax(axis=1), result.predictions)
    assert np.mean(result.predictions == y) == result.accuracy


def test_several_inputs_and_outputs():
    add, split = flatmin.Model(GOLDEN / "add.onnx"), flatmin.Model(GOLDEN / "split.onnx")
    x = np.random.default_rng(4).normal(size=(3, 6, 7, 5)).astype(np.float32)
    # Real numbers, up to the steps of int8.
    span = np.abs(add.run(x, x)).max()
    assert np.abs(add.run(x, x) - add.run(x, 0 * x) - add.run(0 * x, x)).max() < span / 10
    parts = split.run(x)
    assert [part.shape for part in parts] == [(3, 1, 7, 5), (3, 3, 7, 5), (3, 2, 7, 5)]
    with pytest.raises(flatmin.Error, match=r"takes 2 input\(s\), 1 given"):
        add.run(x)
    with pytest.raises(flatmin.Error, match="inputs of 3 and of 2 samples"):
        add.run(x, x[:2])
    assert "no layers that can be tuned" in repr(add)
