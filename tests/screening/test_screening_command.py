"""``roadmap sweep study=screening`` and ``roadmap attribution … study=screening`` from their command lines."""

import json
from pathlib import Path

import numpy as np
import pytest

from roadmap.__main__ import main
from roadmap.runs.sweep_plan import read_sweeps
from tests.records import COMMITTED

WORDS = ["study=screening", "path=short", "--config-dir", "conf", "study.n=6", "study.replicates=1", "seeds=[0,1]"]

NAMES = ("depthwise", "moved", "gelu")


@pytest.fixture(autouse=True)
def short_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path of three changes, of which the second needs the first."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "path").mkdir(parents=True)
    (tmp_path / "conf" / "path" / "short.yaml").write_text(
        "name: short\nsteps:\n  - step=resnet50\n  - {change: conv=depthwise, name: depthwise}\n"
        "  - {change: depthwise_position=first, name: moved}\n  - {change: activation=gelu, name: gelu}\n"
    )


def test_a_sweep_prints_its_design_trains_it_and_reports_its_effects(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", *WORDS, "--dry-run"]) == 0
    out, _ = capfd.readouterr()
    assert "6 runs: 6 missing" in out
    assert "screening: 6 runs of 5 of 6 allowed combinations, D-optimal" in out
    assert not Path("runs").exists()

    assert main(["sweep", *WORDS, "epochs=1"]) == 0
    out, _ = capfd.readouterr()
    assert "5 combinations and replicates = 6 runs" in out
    (sweep,) = read_sweeps("runs")
    planned = {(frozenset(run["changes"]), run["seed"]) for run in sweep.runs}
    assert len(planned) == 6
    assert all("depthwise" in changes for changes, _ in planned if "moved" in changes)
    assert (sweep.path / "effects.png").stat().st_size > 10_000

    # the effects by hand, of 0/1 columns
    rows, top1 = [], []
    for run in sweep.runs:
        (file,) = Path("runs").glob(f"*-{run['run_id']}/summary.json")
        top1.append(json.loads(file.read_text())["top1"])
        rows.append([1, *(name in run["changes"] for name in NAMES), run["seed"]])
    effects = np.linalg.lstsq(np.array(rows, float), np.array(top1), rcond=None)[0]
    for name, effect in zip(NAMES, effects[1:4], strict=True):
        assert f"{effect:+.2f} ±" in next(line for line in out.splitlines() if line.startswith(name))

    assert main(["attribution", "runs", *WORDS, "--json", "-o", "effects.svg"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert [row["effect"] for row in found["changes"]] == pytest.approx(effects[1:4].tolist())
    assert found["error_df"] == 1
    assert Path("effects.svg").stat().st_size > 10_000
    assert main(["figure", "--kind", "effects", "runs", *WORDS, "-o", "again.svg"]) == 0
    assert Path("again.svg").read_bytes() == Path("effects.svg").read_bytes()
    capfd.readouterr()

    # without one of six runs there is no error left, without two no effect
    for run, sentence in zip(
        sweep.runs, ("no degrees of freedom for an error", "4 finished runs of the 6"), strict=False
    ):
        (file,) = Path("runs").glob(f"*-{run['run_id']}/summary.json")
        file.write_text(file.read_text().replace('"finished"', '"failed"'))
        main(["attribution", "runs", *WORDS])
        assert sentence in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["study.n=3"],
            "roadmap: study.n=3 is too small: 3 effects, a constant and 1 difference between seeds need at",
        ),
        (["study.n=many"], "roadmap: study.n must be an integer (got 'many')"),
        (["study.n=13"], "roadmap: study.n=13 is too large: 6 combinations are allowed, which with 2 seeds are 12 r"),
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


@pytest.mark.slow
def test_the_committed_study_gives_the_effects_of_the_docs(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["study=screening", "norm=batch", "study.n=51", "study.replicates=6", "study.gmacs=[0,0.02]"]
    assert main(["attribution", str(COMMITTED / "studies" / "nano-digits-screening.runs.jsonl.gz"), *words]) == 0
    out = capsys.readouterr().out
    page = (COMMITTED.parent / "docs" / "screening.md").read_text(encoding="utf-8")
    rows = [line.rstrip() for line in out.splitlines() if "±" in line and "effect" not in line]
    assert len(rows) == 12
    assert all(row in page for row in rows)
