"""``roadmap attribution`` as a user types it: counted alone, and on copies of the example runs."""

import io
import json
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from roadmap.__main__ import main
from roadmap.runs.sweep_plan import write_sweep
from tests.records import EXAMPLES

# three steps of the paper's path, which compose in a fifth of the time
PATH = """name: short
steps:
  - {change: step=kernel_7, label: start}
  - {change: step=gelu, label: GELU, section: micro}
  - {change: step=fewer_activations, label: fewer activations, section: micro}
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example runs of three steps, and a sweep's plan of the one order that they are."""
    folder = tmp_path_factory.mktemp("short")
    for step in ("kernel_7", "gelu", "fewer_activations"):
        for path in EXAMPLES.glob(f"nano-digits-{step}-s*"):
            shutil.copytree(path, folder / path.name)
    (folder / "conf" / "path").mkdir(parents=True)
    (folder / "conf" / "path" / "short.yaml").write_text(PATH)
    plan(folder, "ours", ["gelu", "fewer_activations"])
    plan(folder, "other", ["gelu"])
    return folder


def plan(folder: Path, name: str, changes: list[str]) -> None:
    study: dict[str, Any] = {
        "name": "orders",
        "changes": changes,
        "keep_others": False,
        "orders": "random",
        "n": 1,
        "seed": 0,
    }
    header = {"name": name, "study": study, "regime": "nano", "data": "digits", "path": "short", "seeds": [0, 1, 2]}
    write_sweep(folder, header | {"planned": "", "runs": 0, "changes": changes, "orders": [changes]}, [])


def path(runs: Path) -> list[str]:
    return ["path=short", "--config-dir", str(runs / "conf")]


def test_costs_alone_take_no_run(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attribution", "path=short", "regime=tiny", "--config-dir", str(runs / "conf"), "--json"]) == 0
    read = json.loads(capsys.readouterr().out)
    assert [row["change"] for row in read["changes"]] == ["gelu", "fewer_activations"]
    assert read["changes"][0]["gmacs_shapley"] == pytest.approx(0)
    assert "4.146 without these changes" in read["notes"][0]


def test_runs_make_a_table(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attribution", str(runs), *path(runs)]) == 0
    printed = capsys.readouterr().out
    # the gap of the two steps in the README
    assert "+0.94 +0.71 to +1.18 3" in next(
        " ".join(line.split()) for line in printed.splitlines() if line.startswith("gelu")
    )
    assert "Shapley: mean over 1 of 2 orders, from 9 runs" in printed


def test_runs_make_csv_and_a_figure(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figure = tmp_path / "attribution.svg"
    assert main(["attribution", str(runs), *path(runs), "--csv", "-o", str(figure)]) == 0
    assert pd.read_csv(io.StringIO(capsys.readouterr().out))["aoi"].iloc[0] == pytest.approx(0.944, abs=0.001)
    words = " ".join(" ".join(ET.parse(figure).getroot().itertext()).split())
    assert "What each change is worth, from nano ResNet to nano ConvNeXt" in words
    assert "add-one-in (mean over 3 seeds)" in words


def test_figure_draws_interactions(runs: Path, tmp_path: Path) -> None:
    file = tmp_path / "interactions.svg"
    assert main(["figure", "--kind", "interactions", str(runs), *path(runs), "-o", str(file)]) == 0
    words = " ".join(" ".join(ET.parse(file).getroot().itertext()).split())
    assert "How changes depend on each other" in words
    assert "above the diagonal: MFLOPs (MACs)" in words


def test_some_of_the_changes(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = ["study=orders", "study.changes=[gelu]"]
    assert main(["attribution", str(runs), *path(runs), *chosen]) == 0
    assert "mean over all orders, from 6 runs; they sum to +0.94" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["step=gelu"], "step= and seed= do not go with an attribution"),
        (["study=leave_one_out"], "study=leave_one_out does not go with an attribution"),
        (["study=orders", "study.changes=[glu]"], "unknown change 'glu' in study.changes"),
        (["-o", "a.png"], "--where and --output need runs"),
        (["RUNS", "-o", "a.bmp"], "cannot draw a figure as '.bmp'"),
        (["RUNS", "regime=tiny"], "none of these runs is of regime tiny"),
        (
            ["RUNS", "--where", "step == 'gelu'", "path=paper", "regime=nano_base"],
            "none of these runs is of regime nano_base",
        ),
    ],
)
def test_wrong_requests_are_one_sentence(
    runs: Path, words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(runs) if word == "RUNS" else word for word in words]
    assert main(["attribution", *path(runs), *words]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
