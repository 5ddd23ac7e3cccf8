"""Mean corruption errors compared with values computed by hand and with published ones."""

import pandas as pd
import pytest

from roadmap.evaluation.text import accuracies, corruption_errors, mce
from roadmap.schema.corruptions import CORRUPTIONS, WITHOUT_PHOTOGRAPHS

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


def rows(names: tuple[str, ...], top1: float = 60.0, data: str = "imagenet_c", severities: int = 5) -> pd.DataFrame:
    grid = [(name, severity, top1 - severity) for name in names for severity in range(1, severities + 1)]
    return pd.DataFrame(grid, columns=["corruption", "severity", "top1"]).assign(data=data)


def test_resnet50_corruption_errors_equal_the_published_ones() -> None:
    """Nine of the fifteen: those published to two decimals."""
    top1 = pd.DataFrame({severity: {name: top1 for name, (top1, _) in RESNET50.items()} for severity in range(1, 6)})
    published = {name: error for name, (_, error) in RESNET50.items()}
    assert corruption_errors(top1).to_dict() == pytest.approx(published, abs=0.012)


def test_mce_is_the_mean_over_all_corruptions_and_severities() -> None:
    # 43 % over AlexNet's errors, averaged: 100 * mean(43 / (88.6428, 89.4468, …))
    assert mce(rows(CORRUPTIONS)) == pytest.approx(55.62, abs=0.01)
    assert accuracies(rows(CORRUPTIONS)).loc["fog"].tolist() == [59, 58, 57, 56, 55]


@pytest.mark.parametrize(
    "incomplete",
    [
        rows(CORRUPTIONS[:14]),
        rows(CORRUPTIONS, severities=4),
        rows(CORRUPTIONS, data="digits"),
        rows(WITHOUT_PHOTOGRAPHS),
        rows(CORRUPTIONS).drop(index=7),
    ],
    ids=["a corruption", "a severity", "other images", "synthetic frost", "one part"],
)
def test_mce_is_undefined_without_any_of(incomplete: pd.DataFrame) -> None:
    assert mce(incomplete) is None
