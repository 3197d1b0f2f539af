"""Devices: simulated ones in every run of the tests, emulated ones in the slow ones."""

import _thread
import json
import os
import shutil
import threading
import time

import flatmin
import numpy as np
import pytest


@pytest.fixture
def device(wearer):
    with flatmin.Device.simulated(wearer.model, layers=2) as device:
        yield device


def test_it_says_who_it_is(device, wearer):
    info = device.info
    pack = wearer.model.pack(layers=2)
    assert (info.board, info.pack_crc32, info.capacity, info.samples) == ("simulated", pack.pack_crc32, 128, 0)
    assert (info.is_tuned, info.sequence, info.slots, info.access) == (False, None, 2, "Anybody")
    assert info.input_length == 600 and info.contents == "Int8AndF32"


@pytest.mark.parametrize(
    ("options", "made"),
    [
        ({"method": "sgd", "epochs": 2}, {}),
        ({"method": "asam", "epochs": 2, "seed": 5}, {}),
        ({"method": "sam", "epochs": 3, "held_out": 0.25}, {}),
        ({"method": "closed-form"}, {"layers": 1}),
        ({"epochs": 2}, {"recipe": flatmin.Recipe(compact=True)}),
    ],
)
def test_its_bits_are_those_of_tune(wearer, options, made):
    test = (wearer.x_test[:200], wearer.y_test[:200])
    with flatmin.Device.simulated(wearer.model, **{"layers": 2, **made}) as device:
        there = device.tune(wearer.x, wearer.y, test=test, **options)
        answers = device.classify(test[0])
    here = wearer.model.tune(wearer.x, wearer.y, test=test, **{"layers": 2, **made}, **options)
    same = ("weights_crc32", "accuracy", "factory_accuracy", "loss", "sharpness", "method", "layers", "is_tuned")
    assert [getattr(there, name) for name in same] == [getattr(here, name) for name in same]
    assert there.confusion.tolist() == here.confusion.tolist()
    assert there.predictions.tolist() == here.predictions.tolist() == answers.tolist()
    assert there.recipe.epochs == here.recipe.epochs
    losses = [point.adaptation_loss for point in here.curve[1:]]
    assert [point.adaptation_loss for point in there.curve] == losses
    if here.is_tuned:
        assert there.delta() == here.delta()


def test_what_is_tuned_twice_goes_on(device, wearer):
    device.observe(wearer.x, wearer.y)
    assert device.info.samples == 63
    first = device.adapt(method="sgd", epochs=2)
    again = device.adapt(method="sgd", epochs=2)
    minibatch = flatmin.Recipe().resolved().minibatch
    assert (first.samples, first.steps, first.is_accepted) == (63, 2 * -(-63 // minibatch), True)
    assert again.loss < first.loss and again.weights_crc32 != first.weights_crc32
    # From the factory's tail it is the run of `tune`.
    test = (wearer.x_test[:10], wearer.y_test[:10])
    here = wearer.model.tune(wearer.x, wearer.y, test=test, layers=2, method="sgd", epochs=2)
    assert first.weights_crc32 == here.weights_crc32
    device.forget()
    assert not device.info.is_tuned and device.info.samples == 0
    device.observe(wearer.x, wearer.y)
    assert device.adapt(method="sgd", epochs=2).weights_crc32 == first.weights_crc32


def test_flash_keeps_and_gives_back(device, wearer):
    factory = device.info.weights_crc32
    with pytest.raises(flatmin.Error, match="refuses"):
        device.commit()
    tuned = device.tune(wearer.x, wearer.y, epochs=1).weights_crc32
    assert device.commit() == flatmin.InForce(sequence=1, weights_crc32=tuned)
    assert device.info.sequence == 1
    other = device.adapt(epochs=1).weights_crc32
    assert device.commit() == flatmin.InForce(sequence=2, weights_crc32=other)
    assert device.roll_back().weights_crc32 == tuned
    assert device.factory_reset() == flatmin.InForce(sequence=None, weights_crc32=factory)


def test_tails_travel_from_one_to_another(device, wearer):
    result = device.tune(wearer.x, wearer.y, epochs=2)
    whole, delta = device.pull(), device.delta()
    assert len(delta) < len(whole) / 3
    answers = device.classify(wearer.x_test)
    with flatmin.Device.simulated(wearer.model, layers=2) as other:
        assert other.push(whole) == result.weights_crc32
        assert (other.classify(wearer.x_test) == answers).all()
        other.factory_reset()
        assert not other.info.is_tuned
        # The int8 tail alone stands for other weights, and answers likewise.
        assert other.push(delta) != result.weights_crc32
        assert (other.classify(wearer.x_test) == answers).all()
        damaged = bytearray(whole)
        damaged[5_000] ^= 4
        before = other.info
        with pytest.raises(flatmin.Error, match="damaged"):
            other.push(bytes(damaged))
        assert other.info == before
    stranger = flatmin.load_wearer(4)
    with flatmin.Device.simulated(stranger.model, layers=2) as other:
        with pytest.raises(flatmin.Error, match="pack"):
            other.push(delta)


def test_what_cannot_be_is_refused(device, wearer):
    with pytest.raises(flatmin.Error, match="samples"):
        device.adapt()
    with pytest.raises(flatmin.Error, match="layers and train are the device's"):
        device.tune(wearer.x, wearer.y, recipe=flatmin.Recipe(layers=1))
    with pytest.raises(flatmin.Error, match="holds 8"):
        with flatmin.Device.simulated(wearer.model, samples=8) as small:
            small.tune(wearer.x, wearer.y)
    device.close()
    with pytest.raises(flatmin.Error, match="closed"):
        device.info
    with pytest.raises(OSError, match="cannot connect to nowhere.invalid:1"):
        flatmin.Device.tcp("nowhere.invalid:1")
    with pytest.raises(flatmin.Error, match="cannot open /dev/no-such-port"):
        flatmin.Device.serial("/dev/no-such-port")


def test_many_are_cheap(wearer):
    begin = time.monotonic()
    devices = [flatmin.Device.simulated(wearer.model, layers=1, samples=16) for _ in range(200)]
    assert {device.info.samples for device in devices} == {0}
    for device in devices:
        device.close()
    assert time.monotonic() - begin < 30


def test_progress_is_told_and_may_end_it(device, wearer):
    told = []
    device.tune(wearer.x, wearer.y, epochs=3, progress=told.append)
    assert [(news.epoch, news.epochs) for news in told] == [(1, 3), (2, 3), (3, 3)]

    def enough(news):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        device.tune(wearer.x, wearer.y, epochs=1000, progress=enough)
    # It can be asked again: half of each class was sent, the others are to test on.
    assert device.info.samples == 28


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_it_and_other_threads_go_on(device, wearer):
    ticks = []
    done = threading.Event()

    def count():
        while not done.is_set():
            ticks.append(None)
            time.sleep(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    threading.Timer(0.5, _thread.interrupt_main).start()
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        device.tune(wearer.x, wearer.y, epochs=60_000)
    done.set()
    thread.join()
    assert time.monotonic() - begin < 10 and len(ticks) > 50
    assert device.info.samples == 28


def test_an_emulated_device_is_that_of_the_command_line(wearer, command, tmp_path, monkeypatch):
    if os.environ.get("FLATMIN_SLOW_TESTS") != "1":
        pytest.skip("part of the slow tests: FLATMIN_SLOW_TESTS=1")
    if shutil.which("qemu-system-arm") is None:
        pytest.skip("SKIPPED: no qemu-system-arm here")
    monkeypatch.setenv("FLATMIN_SOURCES", str(command.root))
    arguments = "emulate --board mps2-an386 --wearer 3 --method sam --epochs 2 --json".split()
    answer = command(*arguments)
    assert answer.returncode == 0, answer.stderr
    run = json.loads(answer.stdout)["runs"][0]
    own = flatmin.load_wearer(3)
    # What the command line's pack has, too.
    model = own.model.calibrated(own.x_known, own.y_known)
    with flatmin.Device.emulate(model, "mps2-an386", layers=2, samples=63) as device:
        assert device.info.board == "mps2-an386"
        test = (own.x_test, own.y_test)
        there = device.tune(own.x, own.y, test=test, method="sam", epochs=2)
        assert there.weights_crc32 == run["subjects"][0]["weights_crc32"]
        assert np.mean(device.classify(own.x_test[:100]) == there.predictions[:100]) == 1
        with flatmin.Device.simulated(model, layers=2, samples=63) as simulated:
            assert simulated.tune(own.x, own.y, test=test, method="sam", epochs=2).weights_crc32 == there.weights_crc32
            assert simulated.delta() == device.delta()
