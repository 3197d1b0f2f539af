"""The bundled models, and the command line where it was built."""

import os
import signal
import subprocess
from pathlib import Path

import flatmin
import numpy as np
import pytest

ROOT = Path(__file__).parents[3]
MODELS = ROOT / "host-sim" / "models"


@pytest.fixture(scope="session")
def model_path():
    return MODELS / "wearer03.tflite"


@pytest.fixture(scope="session")
def model(model_path):
    return flatmin.Model(model_path)


@pytest.fixture(scope="session")
def wearer():
    return flatmin.load_wearer(3)


@pytest.fixture
def command(tmp_path):
    """Runs `flatmin`, the program that FLATMIN names or that was built last; gives what it prints."""
    builds = [ROOT / "target" / profile / "flatmin" for profile in ("release", "debug")]
    builds = [Path(os.environ["FLATMIN"])] if "FLATMIN" in os.environ else [own for own in builds if own.exists()]
    if not builds:
        pytest.skip("SKIPPED: no flatmin here; cargo build --release -p host-sim, or name it in FLATMIN")
    program = max(builds, key=lambda own: own.stat().st_mtime)

    def run(*arguments):
        asked = [str(program), *map(str, arguments)]
        return subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True)

    run.root = ROOT
    return run


@pytest.fixture
def saved(tmp_path):
    """Writes arrays as `.npy`; gives their paths."""

    def save(**arrays):
        paths = []
        for name, array in arrays.items():
            paths.append(tmp_path / f"{name}.npy")
            np.save(paths[-1], array)
        return paths

    return save


@pytest.fixture
def interruptible():
    """Ctrl-C as in a terminal, wherever the tests run: what is started in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
