"""The commands as a user types them."""

import json
from pathlib import Path

import pytest

from roadmap.__main__ import main

PATH = """name: short
steps:
  - {change: step=layer_norm, label: before}
  - {change: kernel=k3, adopted: false}
  - {change: step=separate_downsampling, label: after, section: end}
"""
COSTS = {"gmacs", "params_m"}


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A path of the user's own, run with two seeds."""
    root = tmp_path_factory.mktemp("road")
    (root / "conf" / "path").mkdir(parents=True)
    (root / "conf" / "path" / "short.yaml").write_text(PATH)
    arguments = [
        "path=short",
        "seeds=[0,1]",
        "epochs=1",
        f"runs_dir={root / 'runs'}",
        "--config-dir",
        str(root / "conf"),
    ]
    assert main(["run", *arguments]) == 0
    return root, arguments


def test_run_trains_all_and_draws_the_figure(road: tuple[Path, list[str]]) -> None:
    root, _ = road
    assert len(list((root / "runs").glob("nano-digits-*/summary.json"))) == 6
    assert (root / "runs" / "nano-digits-short.png").stat().st_size > 10_000
    assert "before" in (root / "runs" / "nano-digits-short.svg").read_text()


def test_rerun_keeps_finished_runs_and_prints_the_same_table(
    road: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    root, arguments = road
    before = {file: file.stat().st_mtime_ns for file in (root / "runs").rglob("metrics.jsonl")}
    assert main(["run", *arguments]) == 0
    assert {file: file.stat().st_mtime_ns for file in (root / "runs").rglob("metrics.jsonl")} == before
    table = capsys.readouterr().out
    assert "kernel=k3 (rejected)" in table
    assert table.count(" ± ") == 3


@pytest.mark.parametrize("regime", ["nano", "nano_base", "cifar", "tiny", "base"])
def test_steps_json(regime: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["steps", f"regime={regime}", "--json"]) == 0
    steps = json.loads(capsys.readouterr().out)
    assert len(steps) == 17
    wanted = {"name", "label", "adopted", "changes", "gmacs", "params_m", "paper_gflops", "paper_top1"}
    assert wanted <= set(steps[0])
    assert (steps[0]["paper_top1"] is None) == (regime not in ("tiny", "base"))


def test_steps_table_explains_the_two_cells_that_differ(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["steps", "regime=tiny"]) == 0
    text = capsys.readouterr().out
    assert text.count("*") == 4
    assert "* layer_norm: Table 10 prints 4.46" in text
    assert main(["steps", "regime=base"]) == 0
    assert "*" not in capsys.readouterr().out


def test_toggled_step_has_no_published_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["steps", "regime=tiny", "norm=layer", "--json"]) == 0
    steps = {step["name"]: step for step in json.loads(capsys.readouterr().out)}
    assert steps["gelu"]["paper_top1"] is None
    assert steps["layer_norm"]["paper_top1"] == 81.47


def test_hydras_own_flags_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "step=gelu", "--cfg", "job"]) == 0
    assert "activation: gelu" in capfd.readouterr().out
    assert main(["train", "-m", "step=gelu,kernel_7", "epochs=1"]) == 0, capfd.readouterr().err
    assert len(list((tmp_path / "runs").glob("nano-digits-*/summary.json"))) == 2
    assert sorted(file.name for file in tmp_path.iterdir()) == ["runs"]
    capfd.readouterr()
    assert main(["train", "-m", "step=gelu", "norm=layer", "batch_size=960"]) == 2
    assert capfd.readouterr().err.splitlines()[-1].startswith("roadmap: batch_size=960 is larger than the 358")
    # what a resolver of the config objects to comes when the job has begun
    assert main(["train", "recipe=isotropic"]) == 2
    assert capfd.readouterr().err.splitlines() == [
        "roadmap: recipe isotropic has no values for a network of size nano (choose size s, b or l)"
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cfg", "job", "--info"], "invalid config: Only one of --run, --multirun, --cfg, --info and"),
        (["--config-name", "x"], "--config-path and --config-name are not supported"),
        (["~epochs"], "'~epochs' takes away what every config needs"),
    ],
)
def test_unsupported_hydra_options_are_refused(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"roadmap: {words}")
