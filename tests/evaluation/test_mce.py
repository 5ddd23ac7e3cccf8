"""Mean corruption errors compared with values computed by hand and with published ones."""

import pytest

from roadmap.errors import RequestError
from roadmap.evaluation.mce import alexnet_errors, by_severity, corruption_errors, mce, missing
from roadmap.schema.corruptions import CORRUPTIONS, WITHOUT_PHOTOGRAPHS

# means 30 and 40, relative to 60 and 50
ERRORS = {
    "fog": {1: 10.0, 2: 20.0, 3: 30.0, 4: 40.0, 5: 50.0},
    "snow": {1: 20.0, 2: 30.0, 3: 40.0, 4: 50.0, 5: 60.0},
}
BASELINE = {"fog": 60.0, "snow": 50.0}

# AlexNet's errors in percent, from the code released with arXiv:1903.12261
ALEXNET = {
    "gaussian_noise": 88.6428,
    "shot_noise": 89.4468,
    "impulse_noise": 92.2640,
    "defocus_blur": 81.9880,
    "glass_blur": 82.6268,
    "motion_blur": 78.5948,
    "zoom_blur": 79.8360,
    "snow": 86.6816,
    "frost": 82.6572,
    "fog": 81.9324,
    "brightness": 56.4592,
    "contrast": 85.3204,
    "elastic_transform": 64.6056,
    "pixelate": 71.7840,
    "jpeg_compression": 60.6500,
}

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


def test_mce_is_the_mean_of_ratios() -> None:
    assert corruption_errors(ERRORS, BASELINE) == pytest.approx({"fog": 50.0, "snow": 80.0})
    assert mce(ERRORS, BASELINE) == pytest.approx(65.0)


def test_alexnet_errors_equal_the_released_ones() -> None:
    assert alexnet_errors() == pytest.approx(ALEXNET, abs=1e-6)
    assert tuple(alexnet_errors()) == CORRUPTIONS


def test_resnet50_corruption_errors_equal_the_published_ones() -> None:
    """Nine of the fifteen: those published to two decimals."""
    errors = {name: dict.fromkeys(range(1, 6), 100 - top1) for name, (top1, _) in RESNET50.items()}
    ours = corruption_errors(errors, {name: ALEXNET[name] for name in RESNET50})
    assert ours == pytest.approx({name: error for name, (_, error) in RESNET50.items()}, abs=0.012)


def test_parts_become_errors_and_missing_ones_are_named() -> None:
    top1 = {f"{name}/{severity}": 90.0 - severity for name in CORRUPTIONS for severity in range(1, 6)} | {"": 99.0}
    errors = by_severity(top1)
    assert errors["fog"] == {1: 11.0, 2: 12.0, 3: 13.0, 4: 14.0, 5: 15.0}
    assert missing(errors) == []
    del top1["fog/5"], top1["fog/2"]
    partial = by_severity({part: value for part, value in top1.items() if not part.startswith("frost")})
    assert missing(partial) == ["frost", "fog/2", "fog/5"]
    with pytest.raises(RequestError, match=r"not evaluated: frost, fog/2, fog/5"):
        mce(partial)


def test_synthetic_frost_does_not_replace_the_published_one() -> None:
    errors = by_severity({f"{name}/{severity}": 50.0 for name in WITHOUT_PHOTOGRAPHS for severity in range(1, 6)})
    assert missing(errors) == ["frost"]


def test_corruptions_without_a_baseline_are_refused() -> None:
    with pytest.raises(RequestError, match=r"corruption rain is not part of mCE \(choose fog or snow\)"):
        mce(ERRORS | {"rain": dict.fromkeys(range(1, 6), 1.0)}, BASELINE)
