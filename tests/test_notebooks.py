"""The notebooks from a clean kernel: they run, and say what their committed outputs say."""

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
# what a clock or the machine says
CHANGING = r"\d+\.\d+ minutes|images/s|seconds|torch\.\S+"


@pytest.mark.parametrize(
    "name",
    ["1_roadmap_figure", pytest.param("2_your_own_change", marks=pytest.mark.slow), "3_comparing_runs"],
)
def test_a_notebook_says_what_it_said(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert list(outputs(fresh)) == list(outputs(committed))


def outputs(notebook: nbformat.NotebookNode) -> Iterator[str]:
    """What each cell says, less what differs from run to run; a picture as that."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            text = output.get("text") or ("picture" if "image/png" in data else data.get("text/plain", ""))
            yield "\n".join(line for line in text.splitlines() if not re.search(CHANGING, line))
