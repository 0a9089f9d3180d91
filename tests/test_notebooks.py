"""The notebooks of the documentation run as they are, and say what they promise."""

from __future__ import annotations

from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

NOTEBOOKS = Path(__file__).parents[1] / "docs" / "notebooks"


@pytest.mark.filterwarnings("ignore")  # of the kernel's libraries
@pytest.mark.parametrize("name", ["first_steps", "own_data"])
def test_a_notebook_runs(name, tmp_path, monkeypatch):
    monkeypatch.delenv("SKYPROBE_STORE", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOKS.parents[1]))
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "clear the outputs before you commit"
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [_text_of(cell) for cell in notebook.cells if cell.cell_type == "code"]
    if name == "first_steps":
        assert shown[1] == "2158"
        assert shown[2] == "0"  # nothing is computed again
        assert float(shown[5]) > 0.5  # of four classes
        assert "ProbeResult(12 runs" in shown[6]
    else:
        assert shown[1] == "(120, ('label',), {'label': ('elongated', 'round')})"
        assert "elongated" in shown[-1]


def _text_of(cell):
    """What a cell shows last, as text."""
    values = [output["data"]["text/plain"] for output in cell["outputs"] if "data" in output]
    return values[-1] if values else ""
