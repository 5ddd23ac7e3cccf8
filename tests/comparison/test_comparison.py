"""Comparisons: what is refused, who is whose parent, what is said beside the table; against scipy and by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import roadmap
from roadmap.comparison.groups import Baseline, OwnPath, PaperPath
from roadmap.errors import RequestError
from roadmap.runs.select import grouped, where
from roadmap.steps.path_file import paper_parents
from tests.records import EXAMPLES, record, write


def loaded(tmp_path: Path, *records: dict) -> pd.DataFrame:
    return roadmap.load_runs(write(tmp_path, *records))


def test_the_examples_table_is_pandas_and_scipys() -> None:
    runs = roadmap.load_runs(EXAMPLES)
    table = roadmap.compare(runs, paired=True).table.set_index("variant")
    by_hand = runs.groupby("variant")["top1"].agg(["mean", "std", "size"]).loc[table.index]
    np.testing.assert_allclose(table[["top1", "top1_std", "n"]], by_hand)
    assert list(table.index) == list(paper_parents())
    wide = runs.pivot_table(index="seed", columns="variant", values="top1")
    for variant, parent in paper_parents().items():
        if parent is not None:
            test = stats.ttest_rel(wide[variant], wide[parent])
            interval = test.confidence_interval()
            found = table.loc[variant, ["delta", "delta_low", "delta_high", "delta_p"]].tolist()
            mean = (wide[variant] - wide[parent]).mean()
            assert found == pytest.approx([mean, interval.low, interval.high, test.pvalue])
    # rejected steps are compared with the adopted step before them
    assert table["parent"].loc[["kernel_5", "kernel_7", "kernel_9", "gelu"]].tolist() == [
        *["move_up_depthwise", "move_up_depthwise", "kernel_7", "kernel_7"]
    ]


RECIPE = record("gelu", 0, 80.0)["definition"]["recipe"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"epochs": 5}, r"epochs \(30 and 5\), so .* cannot be compared; select comparable runs with --where"),
        ({"image_size": 64}, r"image_size \(32 and 64\)"),
        ({"batch_size": 8}, r"batch_size \(64 and 8\)"),
        ({"data": {"name": "cifar10"}}, r"data \(digits and cifar10\)"),
        ({"recipe": RECIPE | {"eval_crop_ratio": 0.5}}, r"recipe \(eval_crop_ratio 1.0 and 0.5\)"),
        ({"pretrained": "ab"}, r"pretrained \(null and ab\)"),
    ],
)
def test_unequal_runs_are_refused_unless_forced(tmp_path: Path, change: dict, said: str) -> None:
    runs = loaded(tmp_path, record("gelu", 0, 80.0), record("kernel_7", 0, 81.0, **change))
    with pytest.raises(RequestError, match=f"these runs differ in {said}"):
        roadmap.compare(runs)
    forced = roadmap.compare(runs, force=True)
    assert len(forced.unequal) == 1
    # side by side, yes; a gap between them, no
    assert forced.table["delta"].isna().all()
    assert forced.agreements == []
    # nor is a run that has not finished compared with anything
    runs.loc[runs["variant"] == "kernel_7", "status"] = "failed"
    assert roadmap.compare(runs).unequal == []


def test_records_without_a_definition_are_compared_with_each_other(tmp_path: Path) -> None:
    old = [record("kernel_7", 0, 80.0), record("gelu", 0, 81.0)]
    for each in old:
        del each["definition"]
    assert roadmap.compare(loaded(tmp_path / "a", *old)).unequal == []
    with pytest.raises(RequestError, match=r"differ in epochs \("):
        roadmap.compare(loaded(tmp_path / "b", old[0] | {"epochs": 5}, old[1]))


def test_two_recipes_need_a_step_that_connects_them(tmp_path: Path) -> None:
    before, after, later = (record(name, 0, 80.0) for name in ("resnet50", "enhanced_recipe", "gelu"))
    assert roadmap.compare(loaded(tmp_path / "a", before, after, later)).unequal == []
    with pytest.raises(RequestError, match=r"differ in recipe \(enhanced and original\)"):
        roadmap.compare(loaded(tmp_path / "b", before, later))
    toggled = after | {"step": "resnet50", "variant": "resnet50 recipe=enhanced"}
    with pytest.raises(RequestError, match="differ in recipe"):
        roadmap.compare(loaded(tmp_path / "c", before, toggled, later))
    # a step that is still running leads there too
    table = roadmap.compare(loaded(tmp_path / "d", before, after | {"status": "running"}, later)).table
    assert table["n"].tolist() == [1, 0, 1]
    # as many epochs, or as large a share of the recipe's own
    shorter = record("enhanced_recipe", 0, 80.0, epochs=10)
    with pytest.raises(RequestError, match="differ in recipe"):
        roadmap.compare(loaded(tmp_path / "e", before, shorter))


def test_seeds_of_one_design_are_one_group_without_best_epochs(tmp_path: Path) -> None:
    made = [record("gelu", seed, 80.0 + seed) for seed in range(3)] + [record("gelu", 3, 10.0) | {"status": "failed"}]
    (row,) = roadmap.compare(loaded(tmp_path, *made)).table.to_dict("records")
    assert (row["n"], row["unfinished"], row["top1"], row["top1_std"]) == (3, 1, 81.0, 1.0)
    assert row["seeds"] == [0, 1, 2]
    assert not any("best" in name for name in row)


def test_parents() -> None:
    paper = PaperPath()
    assert paper.parent("resnet50", ()) is None
    assert paper.parent("kernel_9", ()) == "kernel_7"
    assert paper.parent("gelu kernel=k3", ()) == "gelu"
    assert paper.parent("gelu kernel=k3", {"kernel_7 kernel=k3"}) == "kernel_7 kernel=k3"
    assert paper.parent("no_step", ()) is None
    assert OwnPath({"a": None, "b": "a"}).parent("b", ()) == "a"


def test_a_baseline_is_compared_with_all_of_its_conditions(tmp_path: Path) -> None:
    made = [record(name, seed, top1 + seed) for name, top1 in (("kernel_7", 80), ("gelu", 81)) for seed in (0, 1, 2)]
    runs = loaded(tmp_path, *made, *(record("layer_norm", seed, 85.0 - 2 * seed) for seed in (0, 1)))
    table = roadmap.compare(runs, Baseline("kernel_7")).table.set_index("variant")
    assert table.loc[["kernel_7", "gelu", "layer_norm"], "delta"].tolist()[1:] == [1.0, 3.0]
    assert np.isnan(table.loc["kernel_7", "delta"])
    with pytest.raises(RequestError, match=r"no variant 'gulu' among these runs \(choose gelu, kernel_7"):
        roadmap.compare(runs, Baseline("gulu"))


def test_cautions(tmp_path: Path) -> None:
    other = record("gelu", 1, 80.0) | {"device": "H100", "batch_norm_images": 32, "versions": {"torch": "2.9"}}
    cautions = "\n".join(roadmap.compare(loaded(tmp_path, record("gelu", 0, 80.0), other)).cautions)
    for part in ("device", "H100, cpu", "images per batch-norm batch (recipe enhanced): 32, 64", "torch: 2.14.1, 2.9"):
        assert part in cautions
    assert roadmap.compare(EXAMPLES).cautions == []


def test_caution_where_averaged_runs_round_differently(tmp_path: Path) -> None:
    """Not where only the groups differ; runs of older versions name neither."""

    def cautions(place: str, *machines: tuple[str, dict[str, Any]]) -> list[str]:
        rows = [record(variant, seed, 80.0) | machine for seed, (variant, machine) in enumerate(machines)]
        return roadmap.compare(loaded(tmp_path / place, *rows)).cautions

    one, two = {"threads": 1, "device_name": "AMD"}, {"threads": 2, "device_name": "AMD"}
    other = {"threads": 1, "device_name": "Intel"}
    assert cautions("apart", ("gelu", one), ("layer_norm", two), ("gelu", {}), ("gelu", one)) == []
    (found,) = cautions(
        "mixed", ("gelu", one), ("gelu", two), ("gelu", other), ("layer_norm", one), ("layer_norm", two)
    )
    end = "whose rounding acts like another seed: gelu and 1 more"
    assert found == f"averaged runs differ in threads (1, 2) and hardware (AMD, Intel), {end}"


def test_where_takes_plain_expressions(tmp_path: Path) -> None:
    runs = roadmap.load_runs(EXAMPLES)
    assert len(where(runs, "regime == 'nano' and seed < 2")) == 34
    assert set(where(runs, "kernel > 7")["variant"]) == {"kernel_9", "kernel_11"}
    assert set(where(runs, "recipe.optimizer.lr > 0.01")["variant"]) == {"resnet50"}
    assert set(where(runs, "depths == '1-1-2-1'")["step"]) == {"resnet50", "enhanced_recipe"}
    assert len(where(runs, "data.holdout == 0 and norm in ['layer']")) == 6
    for expression, said in (
        ("sed < 2", "--where: unknown field 'sed' (choose "),
        ("seed <", 'cannot read --where "seed <": '),
        ("seed", '--where "seed" is not a condition'),
        ("seed + 1", "is not a condition"),
        ("step < 3", "cannot read"),
        ("@len(step) > 3", "cannot read"),
        ("__import__('os').getcwd() == step", "--where"),
    ):
        with pytest.raises(RequestError) as caught:
            where(runs, expression)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)


def test_grouping_by_fields_pools_designs_and_says_so() -> None:
    runs = roadmap.load_runs(EXAMPLES)
    table = grouped(runs, "norm").set_index("norm")
    layer = runs[runs["step"].isin(["layer_norm", "separate_downsampling"])]
    assert table.loc["layer", ["runs", "designs"]].tolist() == [6, 2]
    assert table.loc["layer", "top1"] == pytest.approx(layer["top1"].mean())
    assert grouped(runs, "norm, seed")["runs"].sum() == 51
    for by, said in (
        ("nrm", "--by: unknown field 'nrm'"),
        (",", "--by: unknown field ''"),
        ("design", "unknown field 'design'"),
    ):
        with pytest.raises(RequestError, match=said):
            grouped(runs, by)
