"""Mean corruption errors: constructed cases by hand, and AlexNet, which they are normalised by, against itself."""

import csv
from pathlib import Path

import pytest

import roadmap
from roadmap.analysis.robustness import (
    ALEXNET_CLEAN_ERROR,
    alexnet_errors,
    by_severity,
    complete,
    mce,
    mean_error,
    missing,
    relative_mce,
)
from roadmap.corruptions import CORRUPTIONS, WITHOUT_PHOTOGRAPHS
from roadmap.errors import RequestError

# two corruptions, worked out by hand: means 30 and 40 against 60 and 50
ERRORS = {"fog": [10.0, 20.0, 30.0, 40.0, 50.0], "snow": [20.0, 30.0, 40.0, 50.0, 60.0]}
BASELINE = {"fog": 60.0, "snow": 50.0}


def test_mce_by_hand() -> None:
    result = mce(ERRORS, BASELINE)
    assert result.by_corruption == pytest.approx({"fog": 50.0, "snow": 80.0})
    assert result.mean == pytest.approx(65.0)
    # the mean of ratios is not the ratio of means
    assert result.mean != pytest.approx(100 * 35 / 55)


def test_relative_mce_by_hand() -> None:
    # (30 - 15) / (60 - 40) and (40 - 15) / (50 - 40)
    result = relative_mce(ERRORS, 15.0, BASELINE, 40.0)
    assert result.by_corruption == pytest.approx({"fog": 75.0, "snow": 250.0})
    assert result.mean == pytest.approx(162.5)


def test_the_plain_mean_by_hand() -> None:
    assert mean_error(ERRORS).mean == pytest.approx(35.0)
    assert mean_error(ERRORS).by_corruption == pytest.approx({"fog": 30.0, "snow": 40.0})


def test_alexnets_own_are_a_hundred() -> None:
    own = {name: [error - 2, error - 1, error, error + 1, error + 2] for name, error in alexnet_errors().items()}
    assert tuple(own) == CORRUPTIONS
    assert mce(own).mean == pytest.approx(100)
    assert relative_mce(own, ALEXNET_CLEAN_ERROR).mean == pytest.approx(100)


def test_alexnets_clean_error_is_torchvisions() -> None:
    from torchvision.models import AlexNet_Weights

    accuracy = AlexNet_Weights.IMAGENET1K_V1.meta["_metrics"]["ImageNet-1K"]["acc@1"]
    assert pytest.approx(100 - accuracy) == ALEXNET_CLEAN_ERROR


def test_published_means_bound_what_a_row_can_be() -> None:
    """ResNet-50's published 76.7 and its clean error, all corruptions scaled alike: its errors lie between the two."""
    file = Path(roadmap.__file__).parent / "paper" / "table8_robustness.csv"
    with open(file, newline="", encoding="utf-8") as lines:
        row = next(row for row in csv.DictReader(lines) if row["model"] == "ResNet-50")
    scaled = {name: [float(row["c_mce"]) / 100 * error] * 5 for name, error in alexnet_errors().items()}
    assert mce(scaled).mean == pytest.approx(76.7)
    assert (
        100 - float(row["clean"])
        < mean_error(scaled).mean
        < mean_error({n: [e] * 5 for n, e in alexnet_errors().items()}).mean
    )


def test_parts_become_errors_and_what_is_missing_is_named() -> None:
    top1 = {f"{name}/{severity}": 90.0 - severity for name in CORRUPTIONS for severity in range(1, 6)} | {"": 99.0}
    errors = by_severity(top1)
    assert complete(errors)["fog"] == [11.0, 12.0, 13.0, 14.0, 15.0]
    assert missing(errors) == []
    del top1["fog/5"], top1["fog/2"]
    partial = by_severity({part: value for part, value in top1.items() if not part.startswith("frost")})
    assert missing(partial) == ["frost", "fog/2", "fog/5"]
    with pytest.raises(RequestError, match=r"no mean over the 15 corruptions: frost, fog/2, fog/5 not evaluated"):
        complete(partial)


def test_a_synthetic_frost_is_not_the_published_one() -> None:
    errors = by_severity({f"{name}/{severity}": 50.0 for name in WITHOUT_PHOTOGRAPHS for severity in range(1, 6)})
    assert missing(errors) == ["frost"]
    with pytest.raises(RequestError, match=r"frost not evaluated; a part of them is not to be compared"):
        complete(errors)
    with pytest.raises(RequestError, match=r"corruption frost(_synthetic)? "):
        mce({name: list(values.values()) for name, values in errors.items()})
    # among themselves, over the same parts, runs may be compared
    assert mean_error({name: list(values.values()) for name, values in errors.items()}).mean == 50


@pytest.mark.parametrize(
    ("errors", "words"),
    [
        ({"fog": ERRORS["fog"]}, "corruption snow was not evaluated; this mean is over fog or snow"),
        (ERRORS | {"rain": [1.0] * 5}, "corruption rain is none of those to average over"),
        (ERRORS | {"fog": [1.0] * 4}, "corruption fog has errors at 4 severities; the mean wants all five"),
    ],
)
def test_unequal_things_are_not_averaged(errors: dict, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        mce(errors, BASELINE)
