"""The Pareto front of runs: who is on it, how far noise allows, the table, the picture and what trains it again."""

import json
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from charts import drawn, texts
from scipy import stats

from roadmap import load_runs
from roadmap.comparison.pareto import AXES, Front, draw_pareto, front, text
from roadmap.comparison.tradeoff_plot import BEATEN, COSTS, FRONT, MAYBE
from roadmap.config.compose import compose
from roadmap.errors import RequestError
from tests.records import EXAMPLES, make_run, record


def runs_of(*designs: tuple[float, list[float]], held_out: float = 0.2, **fields: object) -> pd.DataFrame:
    """A design each with its GMACs and the accuracies of its seeds; known by the width that is its number."""
    made = []
    for number, (gmacs, accuracies) in enumerate(designs):
        for seed, top1 in enumerate(accuracies):
            made.append(record("gelu", seed, top1))
            made[-1] |= {"gmacs": gmacs, "params_m": 10 - gmacs, "variant": f"gelu design.width={number}", **fields}
            made[-1]["definition"]["design"] |= {"width": number}
            made[-1]["definition"]["data"] |= {"holdout": held_out}
            made[-1] |= {"path": f"runs/{number}-{seed}"}
    return pd.DataFrame(made)


def variants(found: Front, mark: str) -> set[int]:
    table = found.table[found.table["mark"] == mark]
    return {int(variant.rpartition("=")[2]) for variant in table["variant"]}


def test_who_is_on_the_front_by_hand() -> None:
    #                      cheapest      as good, dearer  better, dearer  equal in both   worse, dearer
    found = front(runs_of((1.0, [90.0]), (2.0, [90.0]), (2.0, [92.0]), (2.0, [92.0]), (3.0, [60.0])))
    assert variants(found, FRONT) == {0, 2, 3}
    assert variants(found, MAYBE) == {1}
    assert variants(found, BEATEN) == {4}
    assert list(found.members["point"]) == ["A", "B", "C"]
    # by parameters, which fall as MACs rise, all is turned
    turned = front(runs_of((1.0, [90.0]), (2.0, [90.0]), (2.0, [92.0]), (2.0, [92.0]), (3.0, [60.0])), "params")
    assert variants(turned, FRONT) == {2, 3, 4}


def test_the_front_and_its_noise_against_brute_force() -> None:
    random = np.random.default_rng(0)
    designs = [(float(gmacs), list(random.uniform(80, 95, 3))) for gmacs in random.integers(1, 6, 20)]
    found = front(runs_of(*designs))
    means = [np.mean(accuracies) for _, accuracies in designs]
    half = [stats.t.ppf(0.975, 2) * np.std(accuracies, ddof=1) / np.sqrt(3) for _, accuracies in designs]
    on_front, clearly = set(), set()
    for one, (cost, _) in enumerate(designs):
        others = [other for other, (price, _) in enumerate(designs) if price <= cost and other != one]
        if not any(means[o] > means[one] or (means[o] == means[one] and designs[o][0] < cost) for o in others):
            on_front.add(one)
        if any(means[o] - half[o] > means[one] + half[one] for o in others):
            clearly.add(one)
    assert variants(found, FRONT) == on_front
    assert variants(found, BEATEN) == clearly
    assert len(variants(found, MAYBE)) == 20 - len(on_front) - len(clearly)


def test_means_do_not_depend_on_the_order_of_seeds() -> None:
    accuracies = [89.7, 94.8, 93.6]
    assert np.mean(accuracies) != np.mean(accuracies[::-1])
    found = front(runs_of((1.0, accuracies), (2.0, accuracies[::-1])))
    assert variants(found, FRONT) == {0}


def test_one_seed_has_the_interval_of_the_images() -> None:
    found = front(runs_of((1.0, [90.0]), val_images=100))
    # Wilson's interval, written out
    z, p, n = stats.norm.ppf(0.975), 0.9, 100
    middle, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    row = found.table.iloc[0]
    low, high = (100 * (middle + sign * half) / (1 + z**2 / n) for sign in (-1, 1))
    np.testing.assert_allclose((row["low"], row["high"]), (low, high), rtol=1e-9)
    assert "95 %: for one seed over the 100 images only (Wilson), without the noise of seeds" in text(found)


def test_what_a_reader_is_told() -> None:
    told = text(front(runs_of((1.0, [90.0]), (2.0, [91.0]), (3.0, [90.9]))))
    assert "held out of the training images" in told
    assert "caution: as the best of 3 noisy ones, the front's accuracies are biased upward\n" in told + "\n"
    assert "1 of the 1 others are dominated within noise" in told
    tested = text(front(runs_of((1.0, [90.0]), (2.0, [91.0]), held_out=0.0)))
    assert "held out" not in tested
    assert "they are on the test images, which must not be used to choose a design" in tested


def test_runs_that_are_not_comparable_have_no_front() -> None:
    runs = runs_of((1.0, [90.0]), (2.0, [91.0]))
    with pytest.raises(RequestError, match=r"differ in recipe \(enhanced and original\), .* --where"):
        front(runs.assign(recipe=["enhanced", "original"]))
    other = runs_of((3.0, [92.0]), held_out=0.0)
    with pytest.raises(RequestError, match="these runs differ in data"):
        front(pd.concat([runs, other], ignore_index=True))
    longer = runs_of((3.0, [92.0]), regime="tiny")
    longer["definition"].iloc[0]["epochs"] = 60
    with pytest.raises(RequestError, match="these runs differ in epochs"):
        front(pd.concat([runs, longer], ignore_index=True))
    with pytest.raises(RequestError, match="no finished run"):
        front(runs.assign(status="interrupted"))
    with pytest.raises(RequestError, match=r"unknown x 'time' of a Pareto front \(choose gmacs or params\)"):
        front(runs, "time")


def test_records_that_do_not_say_how_many_images_there_were() -> None:
    runs = runs_of((1.0, [90.0]), (2.0, [80.0])).assign(val_images=float("nan"))
    found = front(runs)
    assert variants(found, MAYBE) == {1}
    assert found.table["low"].isna().all()
    assert "nan to nan" not in text(found)


def test_a_pruned_run_is_no_point_of_it() -> None:
    runs = runs_of((1.0, [90.0]), (0.5, [99.0]))
    runs["status"] = ["finished", "interrupted"]
    assert len(front(runs).table) == 1
    assert "not included: 1 run pruned" in text(front(runs))


def test_printed_command_trains_the_design_and_uses_test_images() -> None:
    runs = load_runs(EXAMPLES)
    runs = runs[(runs["recipe"] == "enhanced") & (runs["seed"] < 2)]
    found = front(runs)
    commands = list(found.members["command"])
    assert len(commands) > 1
    defined = {row["variant"]: row["definition"] for row in found.table.to_dict("records")}
    for variant, command in zip(found.members["variant"], commands, strict=True):
        assert command in text(found).splitlines()
        start, words = shlex.split(command)[:3], shlex.split(command)[3:]
        assert start == ["roadmap", "train", "-m"]
        assert "seed=2,3,4" in words
        definition = compose([word for word in words if not word.startswith("seed=")]).experiment().definition
        assert definition == defined[variant] | {"seed": 0}


def test_a_searched_run_is_trained_again_without_its_search(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "a-0123456789"
    record = make_run(folder, "gelu")
    record["definition"]["data"]["holdout"] = 0.2
    (folder / "summary.json").write_text(json.dumps(record))
    words = ["study=search", "study.n_trials=3", "study.objectives=[top1]", "kernel=k9", "data.holdout=0.2", "epochs=5"]
    (folder / ".hydra" / "overrides.yaml").write_text("".join(f"- {word}\n" for word in [*words, "runs_dir=x"]))
    (command,) = front(load_runs(tmp_path)).members["command"]
    new = f"runs_dir={tmp_path}/runs-front data.holdout=0 seed=1,2,3"
    assert command == f"roadmap train -m step=gelu kernel=k9 epochs=5 {new}"


@pytest.mark.parametrize(("count", "x"), [(1, "gmacs"), (6, "params"), (40, "gmacs")])
def test_the_chart_has_every_design_and_letters_for_the_front(count: int, x: str) -> None:
    random = np.random.default_rng(count)
    found = front(runs_of(*((float(g), list(random.uniform(70, 95, 2))) for g in random.uniform(1, 5, count))), x)
    assert set(AXES) <= set(COSTS)
    chart = draw_pareto(found)
    marks = drawn(chart, "point", "x", "y", "fill")
    assert marks == list(zip(found.table[found.cost.column], found.table["top1"], found.table["mark"], strict=True))
    members = found.members
    assert sorted(drawn(chart, "rule", "y", "y2")[: len(members)]) == sorted(
        zip(members["low"], members["high"], strict=True)
    )
    assert set(members["point"]) <= set(texts(chart))
