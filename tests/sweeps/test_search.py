"""Searches: what is refused before a trial, how trials are sampled and gone on with, when a run is pruned."""

import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.study import Study
from optuna.trial import TrialState

from roadmap import load_runs
from roadmap.__main__ import main
from roadmap.config.compose import compose
from roadmap.errors import PrunedError, RequestError
from roadmap.networks.flops import composed_flops
from roadmap.runs.run_folder import timeless_metrics
from roadmap.sweeps.pruning import MedianRule, peers
from roadmap.sweeps.search import Prune, checked_objectives, objective, search_of
from roadmap.sweeps.search_command import Plan, is_search
from roadmap.sweeps.search_space import SearchSpace
from roadmap.sweeps.trials import nsgaii, open_study, told, tpe
from roadmap.training.run import execute
from tests.records import EXAMPLES

# all but kernel and downsampling, with two options each: a plan composes every option
FIXED = [
    *("study=search", "stage_ratio=swin", "stem=patchify", "conv=depthwise", "width=swin", "bottleneck=inverted"),
    *("depthwise_position=first", "activation=gelu", "activations=one_per_block", "norms=one_per_block", "norm=batch"),
    "kernel=k3,k7",
]


def test_a_job_hands_its_sweeper_a_number_or_one_for_each_objective() -> None:
    summary = {"top1": 90, "gmacs": 0.5, "params_m": 2.0}
    assert objective(summary, ["top1"]) == 90.0
    assert isinstance(objective(summary, ["top1"]), float)
    assert objective(summary, ["top1", "gmacs"]) == (90.0, 0.5)
    assert checked_objectives(compose([]).values["objectives"]) == ["top1"]
    for names in ([], "top1", ["best_top1"], [1]):
        with pytest.raises(RequestError, match="objective"):
            checked_objectives(names)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["data.holdout=0"], "data.holdout=0 would make the search choose by the test images"),
        (["seed=0,1"], "seed=0,1 does not go with study=search, which compares designs trained alike"),
        (["kernel=k3,k6"], "unknown kernel 'k6' (choose"),
        (["kernel=k3", "downsampling=separate"], "study.space has nothing left to vary"),
        (["study.space.downsampling=separate"], "study.space.downsampling=separate does not fit: it wants a sweep"),
        (
            ["conv=dense", "kernel=k3,k5"],
            "no design that was tried of study.space fits: depthwise_position=first does not go with conv=dense",
        ),
        (["study.objectives=[gmacs]"], "(choose [top1]"),
        (["study.gmacs=[3,2]"], "study.gmacs must be [least, most] (got [3.0, 2.0])"),
        (["seeds=[0,1]"], "seeds= does not go with study=search; a trial has one seed="),
    ],
)
def test_what_does_not_fit_is_refused_before_a_trial(overrides: list[str], sentence: str) -> None:
    with pytest.raises(RequestError) as raised:
        Plan.of([*FIXED, *overrides], [])
    assert sentence in str(raised.value)


def test_optuna_does_not_choose_by_the_test_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["kernel=choice(k3,k7)", "hydra.sweeper.n_trials=1", "hydra.sweeper.n_jobs=1", f"runs_dir={tmp_path}"]
    assert main(["train", "-m", "hydra/sweeper=optuna", "hydra.sweeper.direction=maximize", *words]) == 2
    assert "data.holdout=0 would make the search choose by the test images" in capsys.readouterr().err


def test_a_search_is_known_by_what_defines_its_trials() -> None:
    plan = Plan.of(FIXED, [])
    assert set(plan.space.sweeps) == {"kernel", "downsampling"}
    assert Plan.of([*reversed(FIXED), "study.n_trials=7", "study.jobs=2", "runs_dir=elsewhere"], []).name == plan.name
    space, search = plan.space, plan.search
    others = [
        replace(space, search=search.replace(seed=1)),
        replace(space, search=search.replace(gmacs=(0.0, 1.0))),
        replace(space, sweeps=space.sweeps | {"kernel": "k3,k5"}),
        replace(space, sample=space.sample.with_seed(1)),
        replace(space, hydra=("hydra.sweeper.sampler.mutation_prob=0.5",)),
    ]
    assert len({plan.name, *(Plan(other, ()).name for other in others)}) == 6
    assert Plan(replace(space, hydra=("hydra/launcher=joblib",)), ()).name == plan.name
    assert is_search(["study=search"], [])
    assert not is_search(["study=orders"], [])


def test_a_field_of_the_design_takes_the_place_of_its_axis() -> None:
    plan = Plan.of([*(word for word in FIXED if word != "width=swin"), "design.width=range(16,33,8)"], [])
    assert plan.space.sweeps == {
        "kernel": "k3,k7",
        "downsampling": "choice(in_block,separate)",
        "design.width": "range(16,33,8)",
    }


def test_a_design_out_of_the_band_is_not_trained() -> None:
    composed = compose(["study=search", "step=gelu", "study.gmacs=[0,0.0018]"])
    search = search_of(composed.values)
    assert search is not None
    # nano's gelu has 0.001825 GMACs, as the README's table says
    assert search.refusal(composed_flops(composed)) == "0.001825 GMACs are outside study.gmacs=[0,0.0018]"
    wider = search_of(compose(["study=search", "study.gmacs=[0.0018,0.002]"]).values)
    assert wider is not None
    assert wider.refusal(composed_flops(composed)) is None


def test_a_design_of_the_space_is_what_hydra_composes() -> None:
    space = SearchSpace.of(
        ["study=search", "design.depths=choice([1,1,2,1],[2,1,1,1])", "design.width=range(8,33,8)"], []
    )
    random = np.random.default_rng(0)
    for _ in range(2):
        params: dict[str, Any] = dict(random.permutation(list(space.fields)))
        params |= {"conv": "depthwise", "design.depths": "[2,1,1,1]", "design.width": int(random.integers(8, 33))}
        composed = compose([*space.fixed, *(f"{key}={option}" for key, option in params.items())])
        assert space.design(params) == composed.design
    refused = space.refusal(params | {"conv": "dense", "depthwise_position": "first"})
    assert refused is not None
    assert "depthwise_position=first does not go with conv=dense" in refused


SPACE = ["study=search", "study.gmacs=[0,0.003]", "conv=choice(dense,depthwise)", "step=separate_downsampling"]
SPACE += ["stage_ratio=swin", "stem=patchify", "bottleneck=inverted", "activation=gelu", "activations=one_per_block"]
SPACE += ["norms=one_per_block", "norm=layer", "downsampling=separate", "design.width=range(8,32,4)", "kernel=k3,k7"]


def sampled(study: Study, trials: int) -> list[dict]:
    """Ask and tell, with values made up from what was sampled."""
    for _ in range(trials):
        trial = study.ask()
        for name, distribution in trial.relative_search_space.items():
            trial._suggest(name, distribution)
        width = trial.params["design.width"]
        study.tell(trial, [width % 17 + len(trial.params["kernel"]), width])
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize("kind", ["nsgaii", pytest.param("tpe", marks=pytest.mark.slow)])
def test_a_killed_search_samples_what_it_would_have(kind: str, tmp_path: Path) -> None:
    sampler = nsgaii(0, population_size=3) if kind == "nsgaii" else tpe(0, n_startup_trials=3)

    def study(name: str) -> Study:
        opened = open_study(name, f"sqlite:///{tmp_path}/trials.db", ["maximize", "minimize"], SPACE, [])
        opened.sampler = sampler
        return opened

    whole = sampled(study("whole"), 7)
    assert len({json.dumps(params) for params in whole}) == 7
    assert sampler.space is not None
    assert [sampler.space.refusal(params) for params in whole] == [None] * 7
    begun = sampled(study("killed"), 5)
    killed = study("killed").ask()
    killed._suggest("kernel", killed.relative_search_space["kernel"])
    again = study("killed")
    assert [trial.state for trial in again.trials][4:] == [TrialState.COMPLETE, TrialState.WAITING]
    assert len(told(again)) == 5
    resumed = sampled(again, 2)
    assert begun == whole[:5]
    assert resumed == whole


def test_the_median_rule() -> None:
    random = np.random.default_rng(0)
    prune = Prune(warmup_epochs=3, startup_runs=4)
    pruned = 0
    for count in (0, 3, 4, 5, 9):
        curves = [dict(enumerate(random.uniform(0, 100, 8), 1)) for _ in range(count)]
        for _ in range(20):
            rule, rows = MedianRule(curves, prune, None), []
            for epoch, top1 in enumerate(random.uniform(0, 80, 7), 1):
                rows.append({"epoch": epoch, "top1": top1})
                best = max(row["top1"] for row in rows)
                below = count >= 4 and epoch >= 3 and best < statistics.median(c[epoch] for c in curves)
                try:
                    rule(rows)
                except PrunedError:
                    pruned += 1
                    assert below
                    break
                assert not below
    assert pruned > 10


def test_peers_are_trained_alike_and_cost_no_more() -> None:
    composed = compose(["step=gelu", f"runs_dir={EXAMPLES}"])
    records = [json.loads(file.read_text()) for file in EXAMPLES.glob("*/summary.json")]
    enhanced = [record for record in records if record["recipe"] == "enhanced"]
    cheap = [record for record in enhanced if record["gmacs"] <= 0.001826]
    assert 0 < len(cheap) < len(enhanced) < len(records)
    found = peers(composed, "gmacs")
    assert sorted(curve[30] for curve in found) == sorted(record["top1"] for record in cheap)
    assert len(peers(composed, None)) == len(enhanced)
    for other in ("epochs=29", "data.holdout=0.2", "recipe.optimizer.lr=1", f"runs_dir={EXAMPLES}/none"):
        assert not peers(compose([*composed.overrides, other]), None)


def test_a_pruned_run_is_no_result_and_can_be_gone_on_with(tmp_path: Path) -> None:
    words = ["step=separate_downsampling", "epochs=2"]
    whole, folder = execute(compose([*words, f"runs_dir={tmp_path}/whole"]))
    composed = compose([*words, f"runs_dir={tmp_path}/pruned"])

    def judge(rows: list[dict]) -> None:
        if len(rows) == 1:
            raise PrunedError("pruned after epoch 1: for a test")

    for _ in range(2):  # the second time at once
        with pytest.raises(PrunedError):
            execute(composed, judge=judge)
        (run,) = load_runs(tmp_path / "pruned").to_dict("records")
        assert (run["status"], run["error"]) == ("interrupted", "pruned after epoch 1: for a test")
        assert np.isnan(run["top1"])
        assert len(timeless_metrics(Path(run["path"]) / "metrics.jsonl")) == 1
    summary, gone_on = execute(composed)
    assert (summary["status"], summary["error"], summary["top1"]) == ("finished", None, whole["top1"])
    assert timeless_metrics(gone_on.path / "metrics.jsonl") == timeless_metrics(folder.path / "metrics.jsonl")
