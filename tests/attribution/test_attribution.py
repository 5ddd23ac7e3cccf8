"""What changes are worth from logged runs: which run is which set, and every column against a hand calculation."""

import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from charts import drawn, texts

from roadmap.attribution import shapley
from roadmap.attribution.attribution import Attribution, attribute, count
from roadmap.attribution.change_subsets import ChangeSubsets, SubsetTable, beginnings
from roadmap.attribution.plots import attribution_chart, interactions_chart
from roadmap.attribution.text import record as as_record
from roadmap.attribution.text import text
from roadmap.errors import RequestError
from roadmap.runs.reading import load_runs
from roadmap.steps.path import compose_path
from tests.records import record, write

GOLDEN = Path(__file__).parent.parent / "golden" / "steps.json"
PATH = """name: four
steps:
  - {change: step=resnet50, name: start}
  - {change: recipe=enhanced, name: trained}
  - {change: conv=depthwise, name: depthwise, label: depthwise conv}
  - {change: depthwise_position=first, name: moved}
  - {change: kernel=k7, name: wide}
"""
NAMES = ["trained", "depthwise", "moved", "wide"]
# bits of trained, depthwise, moved, wide
TRAINED, DEPTHWISE, MOVED, WIDE = 1, 2, 4, 8
FEASIBLE = [mask for mask in range(16) if mask & DEPTHWISE or not mask & MOVED]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("conf")
    (folder / "path").mkdir()
    (folder / "path" / "four.yaml").write_text(PATH)
    return folder


@pytest.fixture(scope="module")
def sets(folder: Path) -> SubsetTable:
    steps = compose_path(["path=four", "regime=nano", "data=digits", "epochs=5"], [str(folder)])
    return SubsetTable.of(ChangeSubsets.of(steps, config_dirs=[str(folder)]))


def run_of(sets: SubsetTable, mask: int, seed: int, top1: float, **definition: Any) -> dict[str, Any]:
    """A record of a set by its definition, under the name of another step."""
    point = sets.subsets.point(mask)
    made = record("gelu", seed, top1) | {"design": point.design.to_dict(), "recipe": point.recipe.name}
    made["definition"] = point.with_seed(seed).experiment().definition | definition
    return made | {"run_id": f"{mask:02}{seed:02}{abs(hash(str(definition))) % 10**6:06}", "epochs": 5}


def header(orders: list[list[str]] | None, how: Any = "random") -> dict[str, Any]:
    """What a sweep of orders leaves of its plan."""
    return {"study": {"name": "orders", "orders": how}, "orders": orders}


def worth(mask: int) -> float:
    """Additive, but the wide kernel is worth 3 more when the depthwise convolution has moved."""
    return 90 + sum((2.0, -1.0, 0.5, 1.0)[place] for place in range(4) if mask >> place & 1) + 3 * (mask & 12 == 12)


def found_of(sets: SubsetTable, folder: Path, masks: Iterable[int], *headers: dict[str, Any]) -> Attribution:
    """The attribution of two seeds a set, 0.1 either side of its worth; which is the better seed differs."""
    runs = [
        run_of(sets, mask, seed, worth(mask) + (-0.1, 0.1)[seed] * (-1 if mask & 9 in (1, 8) else 1))
        for mask in masks
        for seed in (0, 1)
    ]
    return attribute(load_runs(write(folder, *runs)), sets, headers, "nano", [("gelu", "kernel_7")] * 4)


@pytest.fixture(scope="module")
def whole(sets: SubsetTable, tmp_path_factory: pytest.TempPathFactory) -> Attribution:
    """The attribution of all sets."""
    return found_of(sets, tmp_path_factory.mktemp("whole"), FEASIBLE)


def test_sets_are_feasible_by_the_designs_own_rule_and_cost_what_networks_do(sets: SubsetTable) -> None:
    assert np.nonzero(sets.feasible)[0].tolist() == FEASIBLE
    assert np.isnan(sets.gmacs[4])
    golden = json.loads(GOLDEN.read_text())["nano"]["resnet50"]
    assert (round(sets.gmacs[0] * 1e9), round(sets.params_m[0] * 1e6)) == (golden["macs"], golden["params"])
    assert (sets.pairs["loo"][1], sets.pairs["aoi"][2]) == ((15, TRAINED | WIDE), (DEPTHWISE | MOVED, 0))


def test_a_run_is_of_its_set_by_definition_and_not_by_name(sets: SubsetTable, tmp_path: Path) -> None:
    other_rate = run_of(sets, 3, 0, 90.0)
    other_rate["definition"] = json.loads(json.dumps(other_rate["definition"]))
    other_rate["definition"]["recipe"]["optimizer"]["lr"] *= 2
    other_rate["run_id"] = "other"
    runs = load_runs(write(tmp_path, run_of(sets, 0, 0, 90.0), run_of(sets, 11, 1, 90.0), other_rate))
    found = dict(zip(runs["run_id"], sets.of_runs(runs), strict=True))
    assert found.pop("other") is None
    assert sorted(found.values(), key=str) == [0, 11]


def test_every_set_makes_the_exact_value(sets: SubsetTable, whole: Attribution) -> None:
    table = whole.table
    values = np.array([worth(mask) if sets.feasible[mask] else np.nan for mask in range(16)])
    np.testing.assert_allclose(table["shapley"], shapley.exact(values))
    # variance 0.02 of a run, two seeds: Σ w² · 0.01
    squares = (shapley.weights(sets.feasible) ** 2).sum(axis=1)
    np.testing.assert_allclose(table["shapley_se"] ** 2, squares * 0.01)
    np.testing.assert_allclose(table["shapley_se_orders"], 0)
    # leave-one-out and add-one-in by hand; the depthwise convolution leaves with the one that needs it
    full = worth(15)
    np.testing.assert_allclose(table["loo"], [2, full - worth(9), 3.5, 4])
    np.testing.assert_allclose(table["aoi"], [2, -1, -0.5, 1])
    assert list(table["loo_with"]) == ["", "moved", "", ""]
    assert list(table["aoi_with"]) == ["", "", "depthwise", ""]
    # Welch's test of two seeds each with a variance of 0.02 has two degrees of freedom, t 4.303; moderated, more
    assert 1.96 < (table["loo_high"].iloc[0] - 2) / np.sqrt(0.02) < 4.303
    assert table["loo_low"].notna().all()
    assert table["paper"].iloc[0] == pytest.approx(0.05)  # 80.62 less 80.57
    shown = text(whole)
    assert "they sum to +5.50" in shown
    assert "moved comes with depthwise" in shown
    read = json.loads(json.dumps(as_record(whole), allow_nan=False))
    assert [row["change"] for row in read["changes"]] == NAMES
    assert read["changes"][3]["loo"] == pytest.approx(4)


def test_orders_are_those_of_the_sweeps(sets: SubsetTable, tmp_path: Path) -> None:
    orders = [NAMES, ["depthwise", "wide", "moved", "trained"], NAMES[1:] + NAMES[:1]]
    places = [[NAMES.index(name) for name in order] for order in orders]
    ran = sorted({mask for order in places[:2] for mask in beginnings(order)})
    # of the third order's sets one has not been run
    assert set(beginnings(places[2])) - set(ran) == {DEPTHWISE | MOVED}
    found = found_of(sets, tmp_path, ran, header(orders), header([["moved", *NAMES[:2], "wide"]], "given"))
    assert (found.planned_orders, found.used_orders, found.drawn) == (3, 2, True)
    marginals = [np.diff([worth(mask) for mask in beginnings(order)])[np.argsort(order)] for order in places[:2]]
    np.testing.assert_allclose(found.table["shapley"], np.mean(marginals, axis=0))
    assert "mean over 2 of 12 orders" in text(found)


def test_given_orders_are_no_random_sample(sets: SubsetTable, tmp_path: Path) -> None:
    found = found_of(sets, tmp_path, beginnings([0, 1, 2, 3]), header([NAMES], [NAMES]))
    assert "given, not drawn" in text(found)


@pytest.mark.parametrize(
    ("mask", "change", "words"),
    [
        (0, {"precision": "bf16"}, "precision"),
        (2, {"epochs": 9}, "epochs"),
        (1, {"epochs": 9}, "different shares"),
        (None, {}, "none of these 1 runs has finished and is of these changes"),
    ],
)
def test_other_runs_are_refused(
    mask: int | None, change: dict[str, Any], words: str, sets: SubsetTable, tmp_path: Path
) -> None:
    records = [record("gelu", 0, 90.0)]
    if mask is not None:
        records = [run_of(sets, 0, 0, 90.0), run_of(sets, mask, 1, 90.0, **change)]
    with pytest.raises(RequestError, match=words):
        attribute(load_runs(write(tmp_path, *records)), sets, [], "nano", [("gelu", "kernel_7")] * 4)


def test_changes_of_one_axis_share_sets(folder: Path) -> None:
    """Kernel 7 after kernel 5 is kernel 7: two sets, one design, and its runs are of both."""
    (folder / "path" / "kernels.yaml").write_text(
        "name: kernels\nsteps: [{change: step=resnet50, name: start}, kernel=k5, kernel=k7]\n"
    )
    subsets = ChangeSubsets.of(compose_path(["path=kernels"], [str(folder)]), config_dirs=[str(folder)])
    sets = SubsetTable.of(subsets)
    assert sets.same.tolist() == [0, 1, 2, 2]
    kernel_5, kernel_7 = count(sets).table["gmacs_shapley"]
    assert kernel_5 == pytest.approx((sets.gmacs[1] - sets.gmacs[0]) / 2)
    assert kernel_5 + kernel_7 == pytest.approx(sets.gmacs[2] - sets.gmacs[0])


def test_the_figure_tells_its_marks_apart_without_colour(whole: Attribution) -> None:
    points = drawn(attribution_chart(whole, title="title", subtitle="subtitle"), "point", "shape", "x")
    values = {way: [x for _, x in points] for way, points in itertools.groupby(points, lambda point: point[0])}
    assert len(values) == 4
    np.testing.assert_allclose(values["Shapley value (all orders, 24 runs)"], whole.table["shapley"])
    np.testing.assert_allclose(values["leave-one-out (mean over 2 seeds)"], whole.table["loo"].dropna())


def test_the_interaction_of_two_changes_stands_in_their_cell(whole: Attribution) -> None:
    chart = interactions_chart(whole, title="title", subtitle="subtitle")
    cells = {(row, column - 1): cell for row, column, cell in drawn(chart, "text", "y", "x", "text")}
    assert float(cells[3, 2]) == pytest.approx(3, abs=0.3)  # of accuracy, by `worth`
    assert all(abs(float(cells[row, column])) < 0.3 for row, column in ((1, 0), (2, 0), (3, 0), (3, 1)))
    assert cells[2, 1] == "–", "the convolution cannot move before it is depthwise"
    assert {cells[0, column] for column in (1, 2, 3)} == {"0"}, "a recipe costs no MACs"
    assert {"trained · 1", "below the diagonal: top-1 (percentage points); above the diagonal: MFLOPs (MACs)"} <= set(
        texts(chart)
    )


def test_pairs_are_found_with_their_size(whole: Attribution) -> None:
    pairs = whole.interactions
    assert pairs is not None
    assert (pairs.sets, pairs.terms, pairs.left_out, pairs.f_df) == (12, 10, 1, (5, 2))
    strong = pairs.pairs[pairs.pairs["p"] < 0.05]
    assert [*zip(strong["first"], strong["second"], strict=True)] == [("moved", "wide")]
    assert strong["estimate"].item() == pytest.approx(3)
    assert "what a change is worth depends on the others" in text(whole)


def test_few_designs_tell_main_effects_or_nothing(sets: SubsetTable, tmp_path: Path) -> None:
    found = found_of(sets, tmp_path / "some", [0, TRAINED, DEPTHWISE, WIDE, DEPTHWISE | MOVED, TRAINED | WIDE])
    assert found.interactions is not None
    assert found.interactions.additive == pytest.approx(1)
    assert not len(found.interactions.pairs)
    assert "to test pairs takes more than" in text(found)
    assert found_of(sets, tmp_path / "few", [0, 1]).interactions is None


@pytest.mark.slow
def test_the_papers_path_sums_and_has_the_golden_numbers_on_it() -> None:
    sets = SubsetTable.of(ChangeSubsets.of(compose_path(["regime=tiny"])))
    golden = json.loads(GOLDEN.read_text())["tiny"]
    table = count(sets).table
    for mask, name in zip(beginnings(range(len(sets.names))), ["resnet50", *sets.names], strict=True):
        counted = round(sets.gmacs[mask] * 1e9), round(sets.params_m[mask] * 1e6)
        assert counted == (golden[name]["macs"], golden[name]["params"])
    for name in ("gmacs", "params_m"):
        values = getattr(sets, name)
        total = values[-1] - values[0]
        assert table[f"{name}_shapley"].sum() == pytest.approx(total, rel=1e-9)
        assert table[f"{name}_path"].sum() == pytest.approx(total, rel=1e-9)
