"""Searches: which requests are refused, which designs are proposed, who trains a trial, when a run is pruned."""

import json
import multiprocessing
import os
import signal
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from roadmap import load_runs
from roadmap.config.compose import Composed, compose
from roadmap.errors import PrunedError, RequestError
from roadmap.sweeps.search_space import Prune, SearchSpace, distribution
from roadmap.sweeps.trials import SearchTrials, check_median, peers
from roadmap.training.many_runs import run_all
from roadmap.training.run import run_experiment
from tests.records import EXAMPLES, timeless_metrics, with_todays_recipes

# every axis but kernel and downsampling
FIXED = [
    *("study=search", "stage_ratio=swin", "stem=patchify", "conv=depthwise", "width=swin", "bottleneck=inverted"),
    *("depthwise_position=first", "activation=gelu", "activations=one_per_block", "norms=one_per_block", "norm=batch"),
    "kernel=k3,k7",
]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["data.holdout=0"], "data.holdout=0 would make the search choose designs by the test images"),
        (["seed=0,1"], "seed=0,1 cannot be varied by study=search, which compares designs trained alike"),
        (["hydra/launcher=basic,joblib"], "hydra/launcher=basic,joblib cannot be varied"),
        (["kernel=k3,k6"], "unknown kernel 'k6' (choose"),
        (["kernel=k3", "downsampling=separate"], "study.space is empty"),
        (["study.space.downsampling=separate"], "study.space.downsampling=separate is not a sweep to choose from"),
        (["kernel=interval(3,7)"], "study.space.kernel=interval(3,7) is not a sweep to choose from"),
        (["study.objectives=[gmacs]"], "unknown study.objectives ['gmacs'] (choose [top1]"),
        (["seeds=[0,1]"], "seeds= does not go with study=search"),
    ],
)
def test_wrong_requests_are_refused_before_a_trial(overrides: list[str], sentence: str) -> None:
    with pytest.raises(RequestError) as raised:
        SearchSpace.of([*FIXED, *overrides], [])
    assert sentence in str(raised.value)


def test_a_search_is_named_by_what_defines_its_trials() -> None:
    space = SearchSpace.of(FIXED, [])
    assert list(space.sweeps) == ["downsampling", "kernel"]
    assert SearchSpace.of([*reversed(FIXED), "study.n_trials=7", "workers=2", "runs_dir=other"], []).name == space.name
    others = [
        replace(space, search=space.search.replace(seed=1)),
        replace(space, search=space.search.replace(gmacs=(0.0, 1.0))),
        replace(space, sweeps=space.sweeps | {"kernel": "k3,k5"}),
        *(replace(space, base=Composed(space.base.values | change, {}, ())) for change in ({"seed": 1}, {"epochs": 7})),
    ]
    assert len({space.name, *(other.name for other in others)}) == 6


@pytest.mark.parametrize(
    ("sweep", "expected"),
    [
        ("kernel=k3,k7", CategoricalDistribution(["k3", "k7"])),
        ("design.depths=choice([1,1,2,1],[2,1,1,1])", CategoricalDistribution(["[1,1,2,1]", "[2,1,1,1]"])),
        ("design.width=range(16,40,8)", IntDistribution(16, 32, step=8)),  # Hydra's own range(16,40,8) is 16, 24, 32
        ("design.width=range(32,8,-8)", IntDistribution(16, 32, step=8)),
    ],
)
def test_sweeps_are_distributions_of_optuna(sweep: str, expected: BaseDistribution) -> None:
    assert distribution(sweep) == expected


@pytest.mark.parametrize("sweep", ["interval(8,64)", "range(3,3)", "range(0.5,3)"])
def test_other_sweeps_of_numbers_are_refused(sweep: str) -> None:
    with pytest.raises(RequestError, match="is not a sweep to choose from"):
        distribution(f"design.width={sweep}")


def test_a_field_of_the_design_replaces_its_axis() -> None:
    space = SearchSpace.of([*(word for word in FIXED if word != "width=swin"), "design.width=range(16,33,8)"], [])
    assert list(space.sweeps) == ["design.width", "downsampling", "kernel"]


def test_a_design_of_the_space_is_what_hydra_composes() -> None:
    words = ["design.depths=choice([1,1,2,1],[2,1,1,1])", "design.width=range(8,33,8)"]
    space = SearchSpace.of(["study=search", *words], [])
    random = np.random.default_rng(0)
    params: dict[str, Any] = dict(random.permutation(list(space.options)))
    params |= {"conv": "depthwise", "design.depths": "[2,1,1,1]", "design.width": int(random.integers(8, 33))}
    assert space.design(params) == space.composed(params).design
    refused = space.refusal(params | {"conv": "dense", "depthwise_position": "first"})
    assert "depthwise_position=first does not go with conv=dense" in str(refused)
    bounded = replace(space, search=space.search.replace(gmacs=(0.0, 1e-6)))
    assert str(bounded.refusal(params)).endswith(" is outside study.gmacs=[0,1e-06]")


SPACE = ["study=search", "study.gmacs=[0,0.003]", "conv=choice(dense,depthwise)", "step=separate_downsampling"]
SPACE += ["stage_ratio=swin", "stem=patchify", "bottleneck=inverted", "activation=gelu", "activations=one_per_block"]
SPACE += ["norms=one_per_block", "norm=layer", "downsampling=separate", "design.width=range(8,32,4)", "kernel=k3,k7"]


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return SearchSpace.of([*SPACE, "study.n_trials=7", "study.population=3"], [])


def within(space: SearchSpace, runs_dir: Path, **settings: Any) -> SearchSpace:
    """The same space in another folder, its search with other settings."""
    search = space.search.replace(**settings)
    return replace(space, search=search, base=Composed(space.base.values | {"runs_dir": str(runs_dir)}, {}, ()))


def reached(trial: FrozenTrial) -> list[float]:
    """Made-up values of a trial, the same for the same design."""
    width = trial.params["design.width"]
    return [width % 17 + len(trial.params["kernel"]), width]


def train(trials: SearchTrials, most: int = 1000) -> list[dict[str, Any]]:
    """Work on a search until no trial is missing, or for so many trials; its parameters by number."""
    while most and (trial := trials.next()):
        trials.study.tell(trial.number, reached(trial))
        most -= 1
    return [trial.params for trial in trials.all()]


@pytest.mark.parametrize("sampler", ["nsgaii", "tpe"])
def test_a_killed_search_proposes_what_it_would_have(sampler: str, space: SearchSpace, tmp_path: Path) -> None:
    settings = {"sampler": sampler, "n_trials": 14}
    whole = train(SearchTrials(within(space, tmp_path / "whole", **settings)))
    assert len({json.dumps(params) for params in whole}) == 14
    assert [space.refusal(params) for params in whole] == [None] * 14
    assert train(SearchTrials(within(space, tmp_path / "other", **settings, seed=1))) != whole
    killed = SearchTrials(within(space, tmp_path / "killed", **settings))
    assert train(killed, 11) == whole[:11]
    trial = killed.next()
    assert trial is not None
    assert killed.trial_lock is not None
    killed.trial_lock.release()  # as the end of a process does
    again = SearchTrials(killed.space)
    assert [trial.state for trial in again.all()][10:] == [TrialState.COMPLETE, TrialState.RUNNING]
    resumed = again.next()
    assert resumed is not None
    assert (resumed.number, resumed.params) == (trial.number, trial.params)
    again.study.tell(resumed.number, reached(resumed))
    assert train(again) == whole


def work(space: SearchSpace, dies: bool) -> None:
    trials = SearchTrials(space)
    if dies:
        trials.next()
        os.kill(os.getpid(), signal.SIGKILL)
    train(trials)


def test_processes_share_a_journal_and_take_over_from_a_killed_one(space: SearchSpace, tmp_path: Path) -> None:
    shared = within(space, tmp_path, n_trials=12)
    context = multiprocessing.get_context("fork")
    first = context.Process(target=work, args=(shared, True))
    first.start()
    first.join()
    assert first.exitcode == -signal.SIGKILL
    processes = [context.Process(target=work, args=(shared, False)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    found = SearchTrials(shared).all()
    assert [trial.state for trial in found] == [TrialState.COMPLETE] * 12
    assert [trial.values for trial in found] == [reached(trial) for trial in found]
    assert len({json.dumps(trial.params) for trial in found}) == 12


def test_a_search_ends_where_its_space_does(space: SearchSpace, tmp_path: Path) -> None:
    small = replace(space, distributions=space.distributions | {"design.width": IntDistribution(8, 8)})
    choices = [["dense", "depthwise"], ["first", "middle"], ["k3", "k7"]]
    designs = [
        {"conv": conv, "depthwise_position": position, "kernel": kernel, "design.width": 8}
        for conv, position, kernel in product(*choices)
    ]
    valid = sum(space.refusal(design) is None for design in designs)
    assert 1 < valid < 7
    assert len(train(SearchTrials(within(small, tmp_path / "small")))) == valid
    none = within(space, tmp_path / "none", gmacs=(0.0, 1e-9))
    with pytest.raises(RequestError, match=r"no design of study\.space can be trained: .*(outside study|does not go)"):
        SearchTrials(none).next()


@pytest.mark.parametrize("below", [0, 4])
def test_the_median_rule_is_optunas(below: int) -> None:
    random = np.random.default_rng(below)
    prune = Prune(warmup_epochs=3, startup_runs=4)
    pruned = 0
    for count in (0, 3, 4, 5, 9):
        curves = [dict(enumerate(random.uniform(0, 100, 8), 1)) for _ in range(count)]
        study = optuna.create_study(direction="maximize", pruner=optuna.pruners.MedianPruner(4, 3))
        study.add_trials(
            [optuna.trial.create_trial(value=curve[8], intermediate_values=dict(curve)) for curve in curves]
        )
        for _ in range(20):
            trial, rows = study.ask(), []
            for epoch, top1 in enumerate(random.uniform(0, 80 - below, 7), 1):
                rows.append({"epoch": epoch, "top1": top1})
                trial.report(top1, epoch)
                if trial.should_prune():
                    with pytest.raises(PrunedError, match=f"^pruned after epoch {epoch}: "):
                        check_median(rows, curves, prune)
                    pruned += 1
                    break
                check_median(rows, curves, prune)
            study.tell(trial, state=TrialState.FAIL)
    assert pruned > 10


def test_the_median_rule_with_epochs_that_were_not_evaluated() -> None:
    """Compared are runs that were evaluated after the same epoch."""
    prune, often, seldom = Prune(warmup_epochs=1, startup_runs=2), dict.fromkeys(range(1, 5), 50.0), {2: 40.0, 4: 60.0}
    rows: list[dict[str, Any]] = [{"epoch": 1}, {"epoch": 2, "top1": 44.0}, {"epoch": 3}, {"epoch": 4, "top1": 54.0}]
    check_median(rows[:1], [often, often], prune)
    with pytest.raises(PrunedError, match=r"44\.00 %, is below 45\.00 %, the median of 2 finished runs"):
        check_median(rows[:2], [often, seldom], prune)
    check_median(rows[:3], [often, often], prune)
    check_median([{"epoch": 1, "top1": 1.0}], [often, seldom], prune)
    with pytest.raises(PrunedError, match=r"54\.00 %, is below 55\.00 %"):
        check_median(rows, [often, seldom], prune)


def test_peers_are_trained_alike_and_cost_no_more(tmp_path: Path) -> None:
    """Runs of another recipe, as those of older versions are, are none."""
    assert not peers(compose(["step=gelu", f"runs_dir={EXAMPLES}"]), None)
    runs = with_todays_recipes([file.parent for file in EXAMPLES.glob("*/summary.json")], tmp_path)
    composed = compose(["step=gelu", f"runs_dir={runs}"])
    records = [json.loads(file.read_text()) for file in runs.glob("*/summary.json")]
    enhanced = [record for record in records if record["recipe"] == "enhanced"]
    cheap = [record for record in enhanced if record["gmacs"] <= 0.001826]
    assert 0 < len(cheap) < len(enhanced) < len(records)
    found = peers(composed, "gmacs")
    assert sorted(curve[30] for curve in found) == sorted(record["top1"] for record in cheap)
    assert len(peers(composed, None)) == len(enhanced)
    for other in ("epochs=29", "data.holdout=0.2", "recipe.optimizer.lr=1", f"runs_dir={runs}/none"):
        assert not peers(compose([*composed.overrides, other]), None)


def test_a_pruned_run_has_no_result_and_can_be_resumed(tmp_path: Path) -> None:
    words = ["step=separate_downsampling", "epochs=2"]
    whole, folder = run_experiment(compose([*words, f"runs_dir={tmp_path}/whole"]))
    composed = compose([*words, f"runs_dir={tmp_path}/pruned"])

    def prune(rows: list[dict]) -> None:
        if len(rows) == 1:
            raise PrunedError("pruned after epoch 1: for a test")

    with pytest.raises(PrunedError):
        run_all([composed], pruner=prune)
    (run,) = load_runs(tmp_path / "pruned").to_dict("records")
    assert (run["status"], run["error"]) == ("interrupted", "pruned after epoch 1: for a test")
    assert np.isnan(run["top1"])
    assert len(timeless_metrics(Path(run["path"]) / "metrics.jsonl")) == 1
    summary, resumed = run_experiment(composed)
    assert (summary["status"], summary["error"], summary["top1"]) == ("finished", None, whole["top1"])
    assert timeless_metrics(resumed.path / "metrics.jsonl") == timeless_metrics(folder.path / "metrics.jsonl")
