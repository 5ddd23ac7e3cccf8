"""What changes are worth from logged runs: which run is which set, and every column against a hand calculation."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from charts import drawn, texts

from roadmap.attribution import shapley
from roadmap.attribution.attribution import attribute, count, paper_deltas
from roadmap.attribution.attribution_plot import attribution_chart
from roadmap.attribution.change_subsets import ChangeSubsets, SubsetTable, beginnings
from roadmap.attribution.interactions_plot import interactions_chart
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("conf")
    (folder / "path").mkdir()
    (folder / "path" / "four.yaml").write_text(PATH)
    return folder


@pytest.fixture(scope="module")
def subsets(folder: Path) -> ChangeSubsets:
    steps = compose_path(["path=four", "regime=nano", "data=digits", "epochs=5"], [str(folder)])
    return ChangeSubsets.of(steps, config_dirs=[str(folder)])


@pytest.fixture(scope="module")
def sets(subsets: ChangeSubsets) -> SubsetTable:
    return SubsetTable.of(subsets)


def run_of(subsets: ChangeSubsets, mask: int, seed: int, top1: float, **definition: Any) -> dict[str, Any]:
    """A record of a set by its definition, under the name of another step."""
    point = subsets.point(mask)
    made = record("gelu", seed, top1) | {"design": point.design.to_dict(), "recipe": point.recipe.name}
    made["definition"] = point.with_seed(seed).experiment().definition | definition
    return made | {"run_id": f"{mask:02}{seed:02}{abs(hash(str(definition))) % 10**6:06}", "epochs": 5}


def loaded(folder: Path, *records: dict[str, Any]) -> pd.DataFrame:
    return load_runs(write(folder, *records))


def header(orders: list[list[str]] | None, how: Any = "random") -> dict[str, Any]:
    """What a sweep of orders leaves of its plan."""
    study = {"name": "orders", "changes": None, "keep_others": False, "orders": how}
    return {"study": study, "seeds": [0, 1], "changes": NAMES, "orders": orders}


def worth(mask: int) -> float:
    """Additive, but the wide kernel is worth 3 more when the depthwise convolution has moved."""
    return 90 + sum((2.0, -1.0, 0.5, 1.0)[place] for place in range(4) if mask >> place & 1) + 3 * (mask & 12 == 12)


def found_of(
    subsets: ChangeSubsets, sets: SubsetTable, folder: Path, masks: list[int], headers: list[dict[str, Any]]
) -> Any:
    """The attribution of two seeds a set, 0.1 either side of its worth; which is the better seed differs."""
    runs = [
        run_of(subsets, mask, seed, worth(mask) + (-0.1, 0.1)[seed] * (-1 if mask & 9 in (1, 8) else 1))
        for mask in masks
        for seed in (0, 1)
    ]
    return attribute(loaded(folder, *runs), sets, headers, "nano", [("gelu", "kernel_7")] * 4)


def test_sets_are_feasible_by_the_designs_own_rule_and_cost_what_networks_do(sets: SubsetTable) -> None:
    assert [mask for mask in range(16) if not sets.feasible[mask]] == [4, 5, 12, 13]
    assert np.isnan(sets.gmacs[4])
    golden = json.loads(GOLDEN.read_text())["nano"]["resnet50"]
    assert (round(sets.gmacs[0] * 1e9), round(sets.params_m[0] * 1e6)) == (golden["macs"], golden["params"])
    assert (sets.without[1], sets.alone[2]) == (TRAINED | WIDE, DEPTHWISE | MOVED)


def test_a_run_is_of_its_set_by_definition_and_not_by_name(
    subsets: ChangeSubsets, sets: SubsetTable, tmp_path: Path
) -> None:
    other_rate = run_of(subsets, 3, 0, 90.0)
    other_rate["definition"] = json.loads(json.dumps(other_rate["definition"]))
    other_rate["definition"]["recipe"]["optimizer"]["lr"] *= 2
    other_rate["run_id"] = "other"
    runs = loaded(tmp_path, run_of(subsets, 0, 0, 90.0), run_of(subsets, 11, 1, 90.0), other_rate)
    found = dict(zip(runs["run_id"], sets.of_runs(runs), strict=True))
    assert found.pop("other") is None
    assert sorted(found.values()) == [0, 11]


def test_every_set_makes_the_exact_value(subsets: ChangeSubsets, sets: SubsetTable, tmp_path: Path) -> None:
    masks = [mask for mask in range(16) if sets.feasible[mask]]
    found = found_of(subsets, sets, tmp_path, masks, [])
    values = np.array([worth(mask) if sets.feasible[mask] else np.nan for mask in range(16)])
    np.testing.assert_allclose(found.table["shapley"], shapley.exact(values))
    assert found.whole
    # variance 0.02 of a run, two seeds, no seed better on average over the 12 sets: Σ w² · 0.01 · 12 / 11
    squares = (shapley.weights(sets.feasible) ** 2).sum(axis=1)
    np.testing.assert_allclose(found.table["shapley_se"] ** 2, squares * 0.01 * 12 / 11)
    np.testing.assert_allclose(found.table["shapley_se_orders"], 0)
    # leave-one-out and add-one-in by hand; the depthwise convolution leaves with the one that needs it
    full = worth(15)
    np.testing.assert_allclose(found.table["loo"], [2, full - worth(9), 3.5, 4])
    np.testing.assert_allclose(found.table["aoi"], [2, -1, -0.5, 1])
    assert list(found.table["loo_with"]) == ["", "moved", "", ""]
    assert list(found.table["aoi_with"]) == ["", "", "depthwise", ""]
    # differences of 1.8 and 2.2, t(1) = 12.706; equal ones, without any spread, have no interval
    assert found.table["loo_high"].iloc[0] - 2 == pytest.approx(12.706 * 0.2, rel=1e-3)
    assert found.table["loo_low"].isna().tolist() == [False, True, True, False]
    assert found.missing("loo", "aoi", "shapley") == 0
    shown = text(found)
    assert "they sum to +5.50" in shown
    assert "moved comes with depthwise" in shown


def test_orders_are_those_of_the_sweeps_and_what_is_missing_is_counted(
    subsets: ChangeSubsets, sets: SubsetTable, tmp_path: Path
) -> None:
    orders = [
        ["trained", "depthwise", "moved", "wide"],
        ["depthwise", "wide", "moved", "trained"],
        NAMES[1:] + NAMES[:1],
    ]
    places = [[NAMES.index(name) for name in order] for order in orders]
    ran = sorted({mask for order in places[:2] for mask in beginnings(order)})
    found = found_of(subsets, sets, tmp_path, ran, [header(orders), header([["depthwise", "wide"]])])
    assert [order.places for order in found.used] == [tuple(order) for order in places[:2]]
    # of the third order's sets the others lack {depthwise, moved}, two seeds
    assert set(beginnings(places[2])) - set(ran) == {DEPTHWISE | MOVED}
    assert found.missing("shapley") == 2
    marginals = np.zeros((2, 4))
    for row, order in enumerate(places[:2]):
        for before, after, place in zip(beginnings(order), beginnings(order)[1:], order, strict=False):
            marginals[row, place] = worth(after) - worth(before)
    np.testing.assert_allclose(found.table["shapley"], marginals.mean(axis=0))
    # add-one-in lacks {wide} as well
    assert found.missing("aoi") == 2 * 2
    assert found.missing("aoi", "shapley") == 2 * 2
    assert "mean over 2 of 12 orders" in text(found)


def test_given_orders_are_no_random_sample(subsets: ChangeSubsets, sets: SubsetTable, tmp_path: Path) -> None:
    found = found_of(subsets, sets, tmp_path, beginnings([0, 1, 2, 3]), [header([NAMES], [NAMES])])
    shown = text(found)
    assert "given, not drawn" in shown
    assert "one order says nothing" in shown


def test_a_sweep_of_all_orders_wants_every_set(subsets: ChangeSubsets, sets: SubsetTable, tmp_path: Path) -> None:
    found = found_of(subsets, sets, tmp_path, [0, 1], [header(None, "all")])
    assert found.missing("shapley") == 2 * (12 - 2)
    assert "not every set of all orders has been run whole" in text(found)


def test_unequal_runs_are_refused(subsets: ChangeSubsets, sets: SubsetTable, tmp_path: Path) -> None:
    steps = [("gelu", "kernel_7")] * 4
    for number, (mask, change, words) in enumerate(
        [(0, {"precision": "bf16"}, "precision"), (2, {"epochs": 9}, "epochs"), (1, {"epochs": 9}, "different shares")]
    ):
        runs = loaded(tmp_path / str(number), run_of(subsets, 0, 0, 90.0), run_of(subsets, mask, 1, 90.0, **change))
        with pytest.raises(RequestError, match=words):
            attribute(runs, sets, [], "nano", steps)


def test_no_run_of_these_sets_is_refused(sets: SubsetTable, tmp_path: Path) -> None:
    runs = loaded(tmp_path, record("gelu", 0, 90.0))
    with pytest.raises(RequestError, match="none of these 1 runs is a finished one of a set"):
        attribute(runs, sets, [], "nano", [("gelu", "kernel_7")] * 4)


def test_changes_of_one_axis_share_sets(folder: Path) -> None:
    """Kernel 7 after kernel 5 is kernel 7: two sets, one design, and its runs are of both."""
    (folder / "path" / "kernels.yaml").write_text(
        "name: kernels\nsteps: [{change: step=resnet50, name: start}, kernel=k5, kernel=k7]\n"
    )
    subsets = ChangeSubsets.of(compose_path(["path=kernels"], [str(folder)]), config_dirs=[str(folder)])
    sets = SubsetTable.of(subsets)
    assert sets.same.tolist() == [0, 1, 2, 2]
    found = count(sets)
    kernel_5, kernel_7 = found.table["gmacs_shapley"]
    assert kernel_5 == pytest.approx((sets.gmacs[1] - sets.gmacs[0]) / 2)
    assert kernel_5 + kernel_7 == pytest.approx(sets.gmacs[2] - sets.gmacs[0])


def test_the_papers_gaps_have_its_own_intervals() -> None:
    table = paper_deltas([("gelu", "kernel_7"), ("enhanced_recipe", "resnet50"), ("gelu", "resnet50")], "nano")
    # 80.62 ± 0.14 less 80.57 ± 0.14 over three seeds each: t(4) = 2.776
    assert table["paper"].iloc[0] == pytest.approx(0.05)
    assert table["paper_high"].iloc[0] - 0.05 == pytest.approx(2.776 * (2 * 0.14**2 / 3) ** 0.5, rel=1e-3)
    assert table["paper"].iloc[1] == pytest.approx(2.69)
    assert np.isnan(table["paper_low"].iloc[1])  # the first step has one run
    assert np.isnan(table["paper"].iloc[2])  # no step of the paper's
    assert paper_deltas([("gelu", "kernel_7")], "base")["paper_low"].isna().all()  # one seed each


def test_the_figure_tells_its_marks_apart_without_colour(
    subsets: ChangeSubsets, sets: SubsetTable, tmp_path: Path
) -> None:
    masks = [mask for mask in range(16) if sets.feasible[mask]]
    found = found_of(subsets, sets, tmp_path, masks, [])
    points = drawn(attribution_chart(found, title="title", subtitle="subtitle"), "point", "shape", "x")
    values = {way: [x for _, x in points] for way, points in itertools.groupby(points, lambda point: point[0])}
    assert len(values) == 4
    np.testing.assert_allclose(values["Shapley value (all orders, 24 runs)"], found.table["shapley"])
    np.testing.assert_allclose(values["leave-one-out (mean over 2 seeds)"], found.table["loo"].dropna())


def test_the_interaction_of_two_changes_stands_in_their_cell(
    subsets: ChangeSubsets, sets: SubsetTable, tmp_path: Path
) -> None:
    found = found_of(subsets, sets, tmp_path, [mask for mask in range(16) if sets.feasible[mask]], [])
    chart = interactions_chart(found, title="title", subtitle="subtitle")
    cells = {(row, column - 1): cell for row, column, cell in drawn(chart, "text", "y", "x", "text")}
    assert float(cells[3, 2]) == pytest.approx(3, abs=0.3)  # of accuracy, by `worth`
    assert all(abs(float(cells[row, column])) < 0.3 for row, column in ((1, 0), (2, 0), (3, 0), (3, 1)))
    assert cells[2, 1] == "–", "the convolution cannot move before it is depthwise"
    assert {cells[0, column] for column in (1, 2, 3)} == {"0"}, "a recipe costs no MACs"
    assert {"trained · 1", "below the diagonal: top-1 (percentage points); above the diagonal: MFLOPs (MACs)"} <= set(
        texts(chart)
    )


def test_a_record_is_plain_json(subsets: ChangeSubsets, sets: SubsetTable, tmp_path: Path) -> None:
    found = found_of(subsets, sets, tmp_path, [0, 15, 7], [])
    read = json.loads(json.dumps(as_record(found), allow_nan=False))
    assert [row["change"] for row in read["changes"]] == NAMES
    assert read["changes"][3]["loo"] == pytest.approx(4)
    assert read["changes"][0]["loo"] is None


@pytest.mark.slow
@pytest.mark.parametrize("regime", ["tiny", "base", "nano", "nano_base"])
def test_the_papers_path_sums_and_has_the_golden_numbers_on_it(regime: str) -> None:
    sets = SubsetTable.of(ChangeSubsets.of(compose_path([f"regime={regime}"])))
    golden = json.loads(GOLDEN.read_text())[regime]
    table = count(sets).table
    for mask, name in zip(sets.path(), ["resnet50", *sets.names], strict=True):
        counted = round(sets.gmacs[mask] * 1e9), round(sets.params_m[mask] * 1e6)
        assert counted == (golden[name]["macs"], golden[name]["params"])
    for name in ("gmacs", "params_m"):
        values = getattr(sets, name)
        total = values[-1] - values[0]
        assert table[f"{name}_shapley"].sum() == pytest.approx(total, rel=1e-9)
        assert table[f"{name}_path"].sum() == pytest.approx(total, rel=1e-9)
