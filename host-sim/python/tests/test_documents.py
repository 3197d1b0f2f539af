"""The manual's page does what it says."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


def test_the_examples_run_one_after_the_other(wearer, model_path, tmp_path, monkeypatch, capsys):
    pytest.importorskip("sklearn", reason="SKIPPED: no scikit-learn here")
    pytest.importorskip("optuna", reason="SKIPPED: no optuna here")
    monkeypatch.chdir(tmp_path)
    shutil.copy(model_path, "model.tflite")
    np.save("x.npy", wearer.x)
    np.save("y.npy", wearer.y)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert len(blocks) > 4
    names = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    for written in ("tuned.tflite", "recipe.toml", "model.pack", "model.rs"):
        assert Path(written).stat().st_size > 0
    assert "RAM to tune" in capsys.readouterr().out


def test_every_public_name_is_documented():
    import flatmin

    for name in flatmin.__all__:
        if name != "__version__":
            assert getattr(flatmin, name).__doc__, name
