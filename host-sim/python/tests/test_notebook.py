"""The notebook runs from end to end, and has no outputs of another day in it."""

import importlib.util
import json
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[1] / "tune.ipynb"


def test_the_notebook_runs(tmp_path):
    pytest.importorskip("matplotlib", reason="SKIPPED: no matplotlib here")
    pytest.importorskip("ipykernel", reason="SKIPPED: no ipykernel here")
    nbclient = pytest.importorskip("nbclient", reason="SKIPPED: no nbclient here")
    import nbformat

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    text = "".join(output.get("text", "") for output in outputs)
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    assert any("<table>" in output.get("data", {}).get("text/html", "") for output in outputs)
    assert (tmp_path / "tuned.tflite").exists()
    if importlib.util.find_spec("ai_edge_litert"):
        assert "LiteRT: 0 of" in text
    else:
        assert "SKIPPED" in text


def test_the_notebook_is_kept_without_outputs():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
