"""``roadmap sweep study=screening`` and ``roadmap attribution … study=screening`` from their command lines."""

import json
from pathlib import Path

import numpy as np
import pytest

from roadmap.__main__ import main
from roadmap.runs.sweep_plan import read_sweeps

WORDS = ["study=screening", "path=short", "--config-dir", "conf", "study.n=5", "study.replicates=1", "seeds=[0,1]"]


@pytest.fixture(autouse=True)
def short_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path of two changes, of which the second needs the first."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "path").mkdir(parents=True)
    (tmp_path / "conf" / "path" / "short.yaml").write_text(
        "name: short\nsteps:\n  - step=resnet50\n  - {change: conv=depthwise, name: depthwise}\n"
        "  - {change: depthwise_position=first, name: moved}\n"
    )


def test_a_sweep_prints_its_design_trains_it_and_reports_its_effects(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", *WORDS, "--dry-run"]) == 0
    out, _ = capfd.readouterr()
    assert "5 runs: 5 missing" in out
    assert "screening: 5 runs of 3 of 3 allowed combinations, all combinations" in out
    assert not Path("runs").exists()

    assert main(["sweep", *WORDS, "epochs=1"]) == 0
    out, _ = capfd.readouterr()
    assert "3 combinations and replicates = 5 runs" in out
    (sweep,) = read_sweeps("runs")
    planned = {(frozenset(run["changes"]), run["seed"]) for run in sweep.runs}
    assert len(planned) == 5
    assert {changes for changes, _ in planned} == {
        frozenset(),
        frozenset({"depthwise"}),
        frozenset({"depthwise", "moved"}),
    }
    assert (sweep.path / "effects.png").stat().st_size > 10_000

    # the effects by hand, of 0/1 columns
    rows, top1 = [], []
    for run in sweep.runs:
        (file,) = Path("runs").glob(f"*-{run['run_id']}/summary.json")
        top1.append(json.loads(file.read_text())["top1"])
        rows.append([1, "depthwise" in run["changes"], "moved" in run["changes"], run["seed"]])
    effects = np.linalg.lstsq(np.array(rows, float), np.array(top1), rcond=None)[0]
    for name, effect in zip(("depthwise", "moved"), effects[1:3], strict=True):
        assert f"{effect:+.2f} ±" in next(line for line in out.splitlines() if line.startswith(name))

    assert main(["attribution", "runs", *WORDS, "--json", "-o", "effects.svg"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert [row["effect"] for row in found["changes"]] == pytest.approx(effects[1:3].tolist())
    assert found["error_df"] == 1
    assert Path("effects.svg").stat().st_size > 10_000

    # a run that is missing leaves too few
    (file,) = Path("runs").glob(f"*-{sweep.runs[0]['run_id']}/summary.json")
    file.write_text(file.read_text().replace('"finished"', '"failed"'))
    words = [word if word != "study.n=5" else "study.n=6" for word in WORDS]
    assert main(["attribution", "runs", *words]) == 0
    assert "caution: 2 of 6 planned runs are failed, unfinished or missing" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["study.n=3"],
            "roadmap: study.n=3 is too small: 2 effects, a constant and 1 difference between seeds need at",
        ),
        (["study.n=many"], "roadmap: study.n must be an integer (got 'many')"),
        (["study.n=7"], "roadmap: study.n=7 is too large: 3 combinations are allowed, which with 2 seeds are 6 runs"),
        (["study.changes=[moved]"], "roadmap: study=screening cannot estimate the effect of moved: no allowed comb"),
        (["study.gmacs=[0,1e-9]"], "roadmap: no combination of these changes is within study.gmacs=[0.0, 1e-09]"),
        (["step=resnet50"], "roadmap: step= does not go with study=screening"),
    ],
)
def test_wrong_requests(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", *WORDS, "--dry-run", *words]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(sentence)


def test_the_effects_need_the_design(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attribution", *WORDS]) == 2
    assert "study=screening needs runs" in capsys.readouterr().err
