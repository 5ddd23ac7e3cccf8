"""EDFs of design spaces against exact distributions, brute force and scipy, and on cases of known answer."""

import itertools

import numpy as np
import pandas as pd
import pytest
from charts import drawn, texts
from records import record
from scipy import stats

from roadmap.design_spaces.edf import (
    DesignSample,
    cautions,
    design_sample,
    edf_text,
    medians,
    pairs,
    split,
    summary,
)
from roadmap.design_spaces.plots import best_probabilities, best_range, draw_edf, draw_scatter, parameters
from roadmap.errors import RequestError

RANDOM = np.random.default_rng(0)


def made(name: str, errors: object, missing: int = 0, **columns: object) -> DesignSample:
    designs = pd.DataFrame({"error": np.asarray(errors, float), "seeds": 2, "gmacs": 0.002, "params": 0.5})
    designs["key"] = [f"{name}{row}" for row in range(len(designs))]
    designs["design"] = [{"kernel": row} for row in range(len(designs))]
    return DesignSample(name, designs.assign(**columns), missing)


def runs(*rows: tuple[int, int, float, int], **changes: object) -> pd.DataFrame:
    """Runs of (kernel, width, top1, seed)."""
    base = record("separate_downsampling", 0, 90.0)
    records = []
    for kernel, width, top1, seed in rows:
        design = base["design"] | {"kernel": kernel, "width": width}
        records.append(record("separate_downsampling", seed, top1, design=design, **changes))
    return pd.DataFrame(records)


def test_seeds_are_averaged_before_anything_else() -> None:
    table = runs((3, 16, 90, 0), (3, 16, 92, 1), (3, 20, 80, 0), (7, 16, 70, 0))
    table.loc[3, ["status", "top1"]] = ["failed", None]
    found = design_sample("all", table)
    assert found.designs[["error", "seeds"]].to_numpy().tolist() == [[9, 2], [20, 1]]
    assert found.missing == 1
    with pytest.raises(RequestError, match="no run of none has finished"):
        design_sample("none", table[table["status"] == "failed"])


def test_spaces_by_a_field_of_the_design_or_by_an_expression() -> None:
    table = runs((11, 16, 90, 0), (3, 16, 92, 1), (3, 20, 80, 0))
    for by in ("kernel", "design.kernel"):
        assert {name: len(own) for name, own in split(table, by).items()} == {"kernel=3": 2, "kernel=11": 1}
    sizes = {name: len(own) for name, own in split(table, "width < 20").items()}
    assert sizes == {"width < 20=False": 1, "width < 20=True": 2}
    with pytest.raises(RequestError, match=r"--by: unknown field 'foo' \(choose accumulation"):
        split(table, "foo")


def test_median_interval_has_its_coverage() -> None:
    covered = 0
    for _ in range(100):
        low, high = np.quantile(medians(made("a", RANDOM.lognormal(size=41)), RANDOM), [0.025, 0.975])
        covered += low <= 1 <= high
    assert stats.binomtest(covered, 100, 0.95).pvalue > 0.001


def test_two_spaces_apart_have_the_exact_p_of_their_ranks() -> None:
    """Of the 252 ways to deal ten ranks to two spaces of five, two are as far apart."""
    (row,) = pairs([made("a", range(5)), made("b", range(10, 15))]).to_dict("records")
    assert (row["delta"], row["distance"]) == (10, 1)
    assert row["p"] == pytest.approx(2 / 252)
    assert row["p_holm"] == row["p"]
    three = pairs([made("a", range(5)), made("b", range(10, 15)), made("c", range(5))])
    assert three["p_holm"].tolist() == pytest.approx([6 / 252, 1, 6 / 252])
    assert three.loc[1, ["delta", "distance", "p"]].tolist() == [0, 0, 1]


def test_the_medians_difference_takes_spaces_as_independent() -> None:
    """Two draws of one distribution: the interval is √2 times as wide as that of one median."""
    errors = RANDOM.normal(size=400)
    one, other = made("a", errors), made("b", errors)
    (row,) = pairs([one, other]).to_dict("records")
    table = summary([one])
    assert (row["high"] - row["low"]) / (table["high"] - table["low"])[0] == pytest.approx(2**0.5, rel=0.15)


def test_cautions() -> None:
    spaces = [made("a", range(9)), made("b", range(9), gmacs=0.003, seeds=[1, *[2] * 8])]
    spaces.append(DesignSample("c", spaces[0].designs, 3))
    said = " ".join(cautions(spaces))
    assert "differ in median GMACs (a 0.002, b 0.003, c 0.002)" in said
    assert "designs differ in the number of seeds" in said
    assert "9 of the designs are in more than one space" in said
    assert "3 designs of c have no finished run" in said
    assert cautions([made("a", range(9)), made("b", range(9))]) == []


SPACES = {
    "two": [made("kernel=3", RANDOM.gamma(4, size=30)), made("kernel=7", RANDOM.gamma(5, size=25))],
    "six with long names": [made(f"separate_downsampling space number {n}", RANDOM.gamma(4, size=9)) for n in range(6)],
    "one of one design": [made("a", [5.0])],
    "no error": [made("a", [0.0] * 4), made("b", [0.0, 100.0])],
    "a long tail": [made("a", np.geomspace(0.5, 90, 20)), made("b", np.geomspace(1, 90, 20))],
}


@pytest.mark.parametrize("name", SPACES)
def test_the_chart_draws_the_edf(name: str) -> None:
    spaces = SPACES[name]
    chart = draw_edf(spaces, "data digits, 32 pixels")
    lines = drawn(chart, "line", "color", "x", "y")
    for each, (space, points) in zip(spaces, itertools.groupby(lines, lambda point: point[0]), strict=True):
        assert space == f"{each.name} ({len(each.designs)} designs, 2 seeds each)"
        x, y = np.array([point[1:] for point in points]).T
        for error in each.errors:
            assert y[np.searchsorted(x, error, side="right") - 1] == pytest.approx(100 * (each.errors <= error).mean())
    assert [x for x, _ in drawn(chart, "point", "x", "y")] == pytest.approx(summary(spaces)["median"].tolist())
    assert {space for space, *_ in lines} <= set(texts(chart))


def test_the_numbers_are_written_and_many_spaces_refused() -> None:
    text = edf_text(SPACES["two"])
    assert "Kolmogorov-Smirnov p" in text
    assert [line.split()[0] for line in text.splitlines()[2:4]] == ["kernel=3", "kernel=7"]
    with pytest.raises(RequestError, match=r"--kind edf shows at most 6 spaces \(got 7\)"):
        draw_edf([made(f"a{n}", [1.0]) for n in range(7)], "")


def test_the_best_of_a_quarter_against_many_draws() -> None:
    errors = np.array([3.0, 1.0, 1.0, 2.0, 5.0, 4.0, 8.0, 9.0])
    draws = RANDOM.integers(0, 8, (40_000, 2))
    # of designs of one error each is as probable, whatever the order
    shuffled = errors[draws] + RANDOM.uniform(0, 0.1, draws.shape)
    best = draws[np.arange(len(draws)), shuffled.argmin(axis=1)]
    expected = np.bincount(best, minlength=8) / len(draws)
    np.testing.assert_allclose(best_probabilities(errors), expected, atol=0.012)
    assert best_probabilities(errors).sum() == pytest.approx(1)
    values = np.array([1, 2, 3, 4, 5, 6, 7, 8.0])
    assert best_range(values, errors) == tuple(np.quantile(values[best], [0.025, 0.5, 0.975], method="inverted_cdf"))


def test_a_panel_for_each_parameter_that_differs() -> None:
    names = ("resnet50", "stage_ratio", "gelu", "layer_norm", "separate_downsampling", "kernel_7")
    table = pd.DataFrame(
        [record(name, seed, 90 + number + seed) for number, name in enumerate(names) for seed in (0, 1)]
    )
    found = design_sample("all", table)
    labels = [*parameters(found.designs)]
    assert labels[:4] == ["MFLOPs (MACs)", "parameters (millions)", "blocks in stage 3", "width (channels)"]
    assert "kernel (pixels)" in labels
    assert labels[-1] == "downsampling"
    chart = draw_scatter(found, "data digits")
    points = drawn(chart, "point", "x", "y")
    assert len(points) == len(labels) * len(names)
    np.testing.assert_allclose([x for x, _ in points[: len(names)]], found.designs["gmacs"] * 1000)
    assert [y for _, y in points] == list(found.errors) * len(labels)
    low, high = np.array(drawn(chart, "rect", "x", "x2")[0])
    assert found.designs["gmacs"].min() * 1000 <= low <= high <= found.designs["gmacs"].max() * 1000
    assert set(labels) <= set(texts(chart))
    with pytest.raises(RequestError, match="these designs differ in nothing"):
        draw_scatter(design_sample("one", table[:2]), "")
