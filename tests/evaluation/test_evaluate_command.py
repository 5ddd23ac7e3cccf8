"""The command ``roadmap evaluate``: output, files and errors."""

import json
import shutil
from pathlib import Path

import pytest
from records import example, make_run

from roadmap.__main__ import main
from roadmap.config.compose import compose
from roadmap.training.run import run_experiment

QUICK = ["step=patchify_stem", "epochs=1"]


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished runs, a failed one, and one without checkpoints."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        run_experiment(compose([*QUICK, f"seed={seed}", f"runs_dir={folder}"]))
    make_run(folder / "failed-00000000aa", status="failed", top1=None, error="loss is nan")
    shutil.copytree(example("gelu"), folder / example("gelu").name)
    return folder


def evaluated(runs_dir: Path) -> list[Path]:
    return sorted(runs_dir.glob("*/evaluations/*.json"))


def test_folder_of_runs_evaluates_each_finished_run(runs_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(runs_dir)]) == 0
    out, err = capsys.readouterr()
    summaries = [json.loads((file.parent.parent / "summary.json").read_text()) for file in evaluated(runs_dir)]
    assert len(summaries) == 2
    transform = "image_size 32, resize shorter_side, crop_ratio 1.0, interpolation bicubic, precision fp32"
    assert out.startswith(f"data digits, {transform}\n")
    for summary in summaries:
        assert f"patchify_stem seed {summary['seed']}" in out
        assert f"{summary['top1']:.2f}" in out
    assert err.count("skipped") == 1, "only the finished run without a checkpoint"
    assert "no checkpoint" in err
    assert main(["evaluate", str(runs_dir)]) == 0
    assert "2 of 2 evaluations already existed; --force evaluates again" in capsys.readouterr().out


def test_runs_older_than_the_batch_of_bn_are_evaluated(
    runs_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(sorted(runs_dir.glob("*/checkpoints/last.pt"))[0].parent.parent, tmp_path / "run")
    shutil.rmtree(run / "evaluations", ignore_errors=True)
    config = run / ".hydra" / "config.yaml"
    kept = [line for line in config.read_text().splitlines(keepends=True) if "batch_norm_images" not in line]
    assert len(kept) == len(config.read_text().splitlines()) - 1
    config.write_text("".join(kept))
    assert main(["evaluate", str(run)]) == 0
    assert f"{json.loads((run / 'summary.json').read_text())['top1']:.2f}" in capsys.readouterr().out


def test_json_prints_the_records(runs_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = sorted(runs_dir.glob("*/checkpoints/last.pt"))[0].parent.parent
    assert main(["evaluate", str(run), "corruptions=[contrast,fog]", "severities=[1,4]", "--json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    names = ["", "fog/1", "fog/4", "contrast/1", "contrast/4"]
    assert [part["part"] for part in record["parts"]] == names, "in the order of ImageNet-C"
    assert json.loads((run / "evaluations" / f"{record['key']}.json").read_text()) == record
    assert main(["evaluate", str(run), "corruptions=[contrast,fog]", "severities=[1,4]"]) == 0
    out = capsys.readouterr().out
    accuracies = [part["top1"] for part in record["parts"]]
    error = 100 - sum(accuracies[1:]) / 4
    assert f"mean corruption error over 2 corruptions at severities 1, 4: {error:.2f} %, not normalised (no mCE)" in out
    fog = [f"{value:.2f}" for value in (*accuracies[1:3], (accuracies[1] + accuracies[2]) / 2)]
    assert " ".join(fog) in " ".join(out.split())


def test_checkpoint_files_and_weights_without_a_run(
    runs_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = evaluated(runs_dir)[0].parent.parent
    top1 = json.loads((run / "summary.json").read_text())["top1"]
    assert main(["evaluate", str(run / "checkpoints" / "best.pt")]) == 0
    out = capsys.readouterr().out
    assert "best.pt, epoch 1" in out
    assert "caution: patchify_stem seed 0: this checkpoint was selected on these images" in out
    file = tmp_path / "record.json"
    weights = f"pretrained={run / 'checkpoints' / 'last.pt'}"
    assert main(["evaluate", *QUICK, weights, "-o", str(file)]) == 0
    assert f"{top1:.2f}" in capsys.readouterr().out
    assert json.loads(file.read_text())["parts"][0]["top1"] == top1
    assert file.with_suffix(".npz").is_file()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "nowhere is not a run folder or a checkpoint (.pt)"),
        ([], "name run folders or a checkpoint (roadmap evaluate runs/), or weights"),
        (["{run}", "step=gelu"], "step= is not a setting of an evaluation"),
        (["{runs}", "-o", "one.json"], "-o takes one record, not 2"),
        (["step=patchify_stem", "pretrained={run}"], "require a file for the record: -o FILE.json"),
        (["step=patchify_stem", "pretrained={run}", "weights=averaged"], "unknown setting 'weights'"),
        (["{run}", "weights=averaged"], "has no averaged weights (its recipe has no EMA); choose weights=network"),
        (["{run}/summary.json"], "is not a run folder or a checkpoint (.pt)"),
        (["{failed}"], "is failed, not finished; to evaluate it anyway, name its checkpoint"),
    ],
)
def test_invalid_commands_are_refused(
    runs_dir: Path, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = next(folder for folder in sorted(runs_dir.glob("*patchify*-s0-*")))
    places = {"run": run, "runs": runs_dir, "failed": runs_dir / "failed-00000000aa"}
    assert main(["evaluate", *(word.format(**places) for word in arguments)]) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("roadmap: ")
    assert sentence in message
