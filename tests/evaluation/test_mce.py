"""Mean corruption errors: constructed cases by hand, and AlexNet, which they are normalised by, against itself."""

import pytest

from roadmap.errors import RequestError
from roadmap.evaluation.mce import (
    alexnet_errors,
    by_severity,
    complete,
    mce,
    missing,
)
from roadmap.schema.corruptions import CORRUPTIONS, WITHOUT_PHOTOGRAPHS

# two corruptions, worked out by hand: means 30 and 40 against 60 and 50
ERRORS = {"fog": [10.0, 20.0, 30.0, 40.0, 50.0], "snow": [20.0, 30.0, 40.0, 50.0, 60.0]}
BASELINE = {"fog": 60.0, "snow": 50.0}


def test_mce_by_hand() -> None:
    result = mce(ERRORS, BASELINE)
    assert result.by_corruption == pytest.approx({"fog": 50.0, "snow": 80.0})
    assert result.mean == pytest.approx(65.0)
    # the mean of ratios is not the ratio of means
    assert result.mean != pytest.approx(100 * 35 / 55)


def test_alexnets_own_are_a_hundred() -> None:
    own = {name: [error - 2, error - 1, error, error + 1, error + 2] for name, error in alexnet_errors().items()}
    assert tuple(own) == CORRUPTIONS
    assert mce(own).mean == pytest.approx(100)


# torchvision's ResNet-50 (76.13 % clean) as a public evaluation on ImageNet-C logged it: top-1, corruption error
RESNET50 = {
    "gaussian_noise": (29.29, 79.77),
    "impulse_noise": (23.81, 82.58),
    "defocus_blur": (38.75, 74.71),
    "glass_blur": (26.79, 88.61),
    "frost": (38.14, 74.84),
    "fog": (45.83, 66.11),
    "brightness": (68.02, 56.64),
    "contrast": (39.06, 71.43),
    "elastic_transform": (45.25, 84.75),
}


def test_resnet50s_corruption_errors_are_the_public_ones() -> None:
    """Nine of the fifteen, all that could be found to the hundredth; the row's mean over all is 76.7."""
    errors = {name: [100 - top1] * 5 for name, (top1, _) in RESNET50.items()}
    ours = mce(errors, {name: alexnet_errors()[name] for name in RESNET50}).by_corruption
    assert ours == pytest.approx({name: error for name, (_, error) in RESNET50.items()}, abs=0.012)


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
