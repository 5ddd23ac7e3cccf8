"""torchvision's sets for classification: what opens their two parts, and how they are normalised."""

from typing import Any, NamedTuple

from roadmap.errors import RequestError

Channels = tuple[float, float, float]


class TorchvisionSet(NamedTuple):
    """A class of torchvision.datasets.

    ``train`` and ``val`` are the arguments that select its parts; without ``val`` a fixed, stratified fifth of all
    images is evaluated on. ``mean`` and ``std`` are the values in common use, or ImageNet's. Mirrored digits, letters
    and signs would be others: ``horizontal_flip`` is 0.
    """

    num_classes: int
    train: dict[str, Any]
    val: dict[str, Any] | None
    mean: Channels = (0.485, 0.456, 0.406)
    std: Channels = (0.229, 0.224, 0.225)
    horizontal_flip: float = 0.5


def _grey(mean: float, std: float) -> tuple[Channels, Channels]:
    return (mean, mean, mean), (std, std, std)


_train, _test = {"train": True}, {"train": False}


def _splits(train: str = "train", val: str = "test", **more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return {"split": train, **more}, {"split": val, **more}


TORCHVISION_SETS = {
    "CIFAR10": TorchvisionSet(10, _train, _test, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "CIFAR100": TorchvisionSet(100, _train, _test, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "CLEVRClassification": TorchvisionSet(8, *_splits(val="val")),
    "Country211": TorchvisionSet(211, *_splits()),
    "DTD": TorchvisionSet(47, *_splits()),
    "EMNIST": TorchvisionSet(
        47, {"split": "balanced", **_train}, {"split": "balanced", **_test}, *_grey(0.1751, 0.3332), 0.0
    ),
    "EuroSAT": TorchvisionSet(10, {}, None, (0.3444, 0.3803, 0.4078), (0.2037, 0.1366, 0.1148)),
    "FGVCAircraft": TorchvisionSet(100, *_splits("trainval")),
    "FashionMNIST": TorchvisionSet(10, _train, _test, *_grey(0.2860, 0.3530)),
    "Flowers102": TorchvisionSet(102, *_splits()),
    "Food101": TorchvisionSet(101, *_splits()),
    "GTSRB": TorchvisionSet(43, *_splits(), (0.3403, 0.3121, 0.3214), (0.2724, 0.2608, 0.2669), 0.0),
    "Imagenette": TorchvisionSet(10, *_splits(val="val")),
    "KMNIST": TorchvisionSet(10, _train, _test, *_grey(0.1918, 0.3483), 0.0),
    "MNIST": TorchvisionSet(10, _train, _test, *_grey(0.1307, 0.3081), 0.0),
    "OxfordIIITPet": TorchvisionSet(37, *_splits("trainval")),
    "Places365": TorchvisionSet(365, *_splits("train-standard", "val", small=True)),
    "QMNIST": TorchvisionSet(10, {"what": "train"}, {"what": "test"}, *_grey(0.1307, 0.3081), 0.0),
    "RenderedSST2": TorchvisionSet(2, *_splits(), horizontal_flip=0.0),
    "STL10": TorchvisionSet(10, *_splits(), (0.4467, 0.4398, 0.4066), (0.2603, 0.2566, 0.2713)),
    "SVHN": TorchvisionSet(10, *_splits(), (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970), 0.0),
    "StanfordCars": TorchvisionSet(196, *_splits()),
    "USPS": TorchvisionSet(10, _train, _test, *_grey(0.2469, 0.2989), 0.0),
}


def torchvision_set(name: str) -> TorchvisionSet:
    """Return the set of a name. Raises RequestError if torchvision has none of that name and two parts."""
    if name not in TORCHVISION_SETS:
        raise RequestError(f"unknown data.name '{name}' of data=torchvision (choose {', '.join(TORCHVISION_SETS)})")
    return TORCHVISION_SETS[name]
