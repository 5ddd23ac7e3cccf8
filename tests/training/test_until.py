"""`roadmap run until=decided`: its settings, its decisions, and the same decisions after a kill."""

import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from roadmap.__main__ import main
from roadmap.config.compose import Composed
from roadmap.runs.sweep_plan import read_sweeps
from roadmap.training.run_command import _steps, _write_plan
from roadmap.training.until import Budget, Summary, UntilDecided

PATH = 'path.steps=["step=kernel_7","step=gelu","step=fewer_activations","step=fewer_norms"]'
FOUR = [PATH, "seeds=[0,1,2]", "until=decided"]


def test_budgets() -> None:
    assert Budget.of("2h") == Budget(seconds=7200)
    assert Budget.of("1.5h") == Budget.of("90m") == Budget.of("90 min") == Budget(seconds=5400)
    assert Budget.of(60) == Budget(runs=60)
    assert [str(Budget.of(value)) for value in ("2h", 60)] == ["2.0 h of training", "60 runs"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["budget=2x"], "budget must be hours, minutes or a number of runs, such as 2h, 90m or 60 (got 2x)"),
        (["budget=0"], "such as 2h, 90m or 60 (got 0)"),
        (["budget=0h"], "such as 2h, 90m or 60 (got 0h)"),
        ([], "until=decided needs budget=: hours, minutes or a number of runs (2h, 90m or 60)"),
        (["budget=11"], "budget=11 is below the number of runs to start with, 12 (4 steps with 3 seeds)"),
        (["budget=60", "seeds=[0]"], "until=decided starts with at least 2 seeds"),
        (["budget=60", "steps=[gelu]"], "until=decided needs at least one gap"),
        (["budget=60", "until=null"], "budget=60 belongs to until=decided"),
        (["budget=60", "equivalence=0"], "equivalence must be above 0"),
        (["until=never"], "unknown until 'never' (choose decided or null)"),
    ],
)
def test_unusable_settings(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *FOUR, *words]) == 2
    assert message in capsys.readouterr().err


def study(runs_dir: Path, budget: str, workers: int = 0) -> UntilDecided:
    return UntilDecided.of(_steps([*FOUR, f"budget={budget}", f"runs_dir={runs_dir}"], ()), workers)


class Trainer:
    """Stands for training: runs take a minute and have made-up accuracies, kept in ``records`` as on a disk.

    ``left`` runs are trained before the process is killed, which may be in the middle of a round.
    """

    def __init__(self, records: dict[str, Summary], left: float = np.inf):
        self.records, self.left, self.asked = records, left, []

    def __call__(self, requests: Sequence[Composed]) -> tuple[list[Summary], list]:
        runs = [request.experiment() for request in requests]
        self.asked += [(run.step, run.seed) for run in runs]
        for run in random.Random(len(self.asked)).sample(runs, len(runs)):
            if run.run_id not in self.records:
                if self.left == 0:
                    raise KeyboardInterrupt
                self.left -= 1
                noise = np.random.default_rng([run.seed, len(run.step)]).standard_normal()
                top1 = {"kernel_7": 80.0, "gelu": 81.5, "fewer_activations": 81.6, "fewer_norms": 88.0}[
                    run.step
                ] + noise
                self.records[run.run_id] = {"run_id": run.run_id, "top1": top1, "train_seconds": 60.0}
        return [self.records[run.run_id] for run in runs], []


@pytest.mark.parametrize("workers", [0, 3])
def test_killed_at_any_run_it_takes_the_same_decisions(tmp_path: Path, workers: int) -> None:
    whole = Trainer({})
    said: list[str] = []
    end, failures = study(tmp_path, "30", workers).train(whole, said.append)
    assert end is not None
    assert not failures
    assert 28 <= end.runs <= 30 == 30
    assert end.seconds == 60 * end.runs
    assert any(sentence.startswith("decided: fewer_norms − fewer_activations: better") for sentence in said)
    assert len(set(whole.asked)) == len(whole.asked) == end.runs, "each run once"
    for left in range(12, 30, 3):
        records: dict[str, Summary] = {}
        with pytest.raises(KeyboardInterrupt):
            study(tmp_path, "30", workers).train(Trainer(records, left), said.append)
        again = Trainer(records)
        found, _ = study(tmp_path, "30", workers).train(again, lambda sentence: None)
        assert again.asked == whole.asked
        assert found is not None
        assert found.table() == end.table()


def test_hours_count_the_seconds_of_the_runs(tmp_path: Path) -> None:
    end, _ = study(tmp_path, "20m").train(Trainer({}), lambda sentence: None)
    assert end is not None
    assert 20 <= end.runs <= 21


def test_the_plan_declares_that_seeds_are_chosen_by_results(tmp_path: Path) -> None:
    _write_plan(*study(tmp_path, "30").plan())
    (plan,) = read_sweeps(tmp_path)
    assert plan.header["study"] == {"name": "until", "start": [0, 1, 2], "equivalence": None, "budget": 30}
    assert len(plan.runs) == 12


@pytest.mark.slow
def test_trained_with_workers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["steps=[gelu,fewer_activations]", "seeds=[0,1]", "until=decided", "budget=6", "epochs=1", "workers=2"]
    tables = []
    for _ in range(2):
        assert main(["run", *words, f"runs_dir={tmp_path}"]) == 0
        tables.append(capsys.readouterr().out.rpartition("this call")[0])
    assert tables[0] == tables[1]
    seeds = [json.loads(file.read_text())["seed"] for file in tmp_path.glob("*/summary.json")]
    assert sorted(seeds)[:4] == [0, 0, 1, 1]
    assert len(seeds) in (4, 6)
    assert main(["compare", str(tmp_path)]) == 0
    assert "1 gaps of until=decided, whose seeds were chosen by results: tested sequentially" in capsys.readouterr().out
