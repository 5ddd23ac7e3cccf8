"""The notebooks run in a fresh kernel and reproduce their committed outputs."""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
EXAMPLES = NOTEBOOKS.parent / "runs" / "examples"
TRAINS = "2_your_own_change"


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(file.stem for file in NOTEBOOKS.glob("*.ipynb")))
def test_notebooks_reproduce_their_outputs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    committed = nbformat.read(NOTEBOOKS / f"{name}.ipynb", 4)
    cells = [cell for cell in committed.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), "not run from top to bottom"
    assert not any("def " in cell.source for cell in cells), "a function belongs in the package"
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "examples").symlink_to(EXAMPLES)
    (tmp_path / "notebooks").mkdir()
    # the console script of this environment, activated or not
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    shutil.copy(NOTEBOOKS / f"{name}.ipynb", tmp_path / "notebooks")
    fresh = nbformat.read(tmp_path / "notebooks" / f"{name}.ipynb", 4)
    for cell in fresh.cells:
        cell.pop("outputs", None)
        if cell.cell_type == "code":
            cell.outputs = []
    NotebookClient(fresh, timeout=500, resources={"metadata": {"path": str(tmp_path / "notebooks")}}).execute()
    for now, before in zip(outputs(fresh), outputs(committed), strict=True):
        # trained numbers depend on the machine: compare the words only
        if name == TRAINS:
            now, before = words(now), words(before)
        assert now == before


def words(text: str) -> list[str]:
    return re.findall("[a-z_]{3,}", text)


def outputs(notebook: nbformat.NotebookNode) -> Iterator[str]:
    """Each cell's text, in however many pieces; a chart is the word "chart"."""
    for cell in notebook.cells:
        yield "".join(map(text_of, cell.get("outputs", []))).strip()


def text_of(output: nbformat.NotebookNode) -> str:
    data = output.get("data", {})
    if any("vegalite" in kind for kind in data):
        return "chart"
    return output.get("text") or data.get("text/plain", "")
