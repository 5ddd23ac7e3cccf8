"""The commands as a user types them."""

import json
import subprocess
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


def test_run_continues_after_a_failure_and_retries_it(
    road: tuple[Path, list[str]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root, arguments = road
    subprocess.run(["cp", "-r", str(root / "runs"), str(tmp_path)], check=True)
    arguments = [a.replace(f"runs_dir={root}", f"runs_dir={tmp_path}") for a in arguments]
    (victim,) = (tmp_path / "runs").glob("*layer_norm-s1-*")
    (victim / "summary.json").write_text((victim / "summary.json").read_text().replace("finished", "running"))
    (victim / "checkpoints" / "last.pt").write_bytes(b"no checkpoint")
    (other,) = (tmp_path / "runs").glob("*separate_downsampling-s1-*")
    subprocess.run(["rm", "-r", str(other)], check=True)
    assert main(["run", *arguments]) == 1
    error = capfd.readouterr().err
    assert "failed: nano layer_norm seed 1: cannot read checkpoint" in error
    assert error.endswith("roadmap: 1 of 6 runs failed; the same command tries them again\n")
    assert next((tmp_path / "runs").glob("*separate_downsampling-s1-*/summary.json")).exists()
    (victim / "checkpoints" / "last.pt").unlink()
    assert main(["run", *arguments]) == 0


def test_figure_from_logged_runs(road: tuple[Path, list[str]], tmp_path: Path) -> None:
    root, _ = road
    runs, conf = str(root / "runs"), str(root / "conf")
    assert main(["figure", runs, "path=short", "--config-dir", conf, "-o", str(tmp_path / "f.pdf")]) == 0
    assert (tmp_path / "f.pdf").read_bytes().startswith(b"%PDF")
    assert main(["figure", runs, "-o", str(tmp_path / "paper.svg")]) == 0
    assert main(["figure", runs, "-o", str(tmp_path / "f.gif")]) == 2


@pytest.mark.parametrize("regime", ["nano", "nano_base", "tiny", "base"])
def test_steps_json(regime: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["steps", f"regime={regime}", "--json"]) == 0
    steps = json.loads(capsys.readouterr().out)
    assert len(steps) == 17
    wanted = {"name", "label", "adopted", "changes", "gmacs", "params_m", "paper_gflops", "paper_top1"}
    assert wanted <= set(steps[0])
    assert (steps[0]["paper_top1"] is None) == regime.startswith("nano")


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
    assert main(["train", "-m", "step=gelu", "norm=layer", "batch_size=1000"]) == 2
    assert capfd.readouterr().err.splitlines()[-1].startswith("roadmap: batch_size=1000 is larger than the 358")
    # what a resolver of the config objects to comes when the job has begun
    assert main(["train", "recipe=isotropic"]) == 2
    assert capfd.readouterr().err.splitlines() == [
        "roadmap: recipe isotropic has no values for a network of size nano (choose size s, b or l)"
    ]


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in ("steps", "train", "run", "compare", "figure", "doctor", "report"))


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


def test_overrides_may_follow_options(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--cfg", "job", "kernel=k7"]) == 0
    assert "kernel: 7" in capfd.readouterr().out
