"""Config files that are read once: what Hydra composes from them is what it composes from its own source."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import roadmap.config.compose  # noqa: F401 - registers what conf/config.yaml stands on
from roadmap.config.cached_files import FilesOnce, initialized
from roadmap.config.conf_dir import config_dir

REQUESTS = [
    [],
    ["step=separate_downsampling", "regime=tiny", "size=b"],
    ["step=gelu", "kernel=k3", "recipe=enhanced_ema", "data=cifar10"],
    ["model=swin_t", "experiment=imagenet_tiny", "data.root=/imagenet"],
    ["study=orders", "engine=eight_gpus"],
    [],
]


def config_of(overrides: Sequence[str], name: str = "config") -> str:
    """All that is composed, Hydra's own part too, but for the names of the places it comes from."""
    config = compose(name, list(overrides), return_hydra_config=True)
    config.hydra.runtime.config_sources = []
    return OmegaConf.to_yaml(config)


def test_compositions_are_those_of_hydras_own_source() -> None:
    once = []
    for overrides in REQUESTS:
        with initialized():
            once.append(config_of(overrides))
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        assert once == [config_of(overrides) for overrides in REQUESTS]
        evaluation = config_of([], "evaluate")
    with initialized():
        assert config_of([], "evaluate") == evaluation


def test_a_file_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    file = tmp_path / "kernel" / "k13.yaml"
    file.parent.mkdir()
    file.write_text("# @package design\ndefaults: [_self_]\nkernel_size: 13\n")
    source = FilesOnce("main", f"once://{tmp_path}")
    first = source.load_config("kernel/k13")
    assert first.header["package"] == "design"
    assert first.config == {"defaults": ["_self_"], "kernel_size": 13}
    del first.config["defaults"]  # as Hydra does
    assert source.load_config("kernel/k13").config == {"defaults": ["_self_"], "kernel_size": 13}
    file.write_text("kernel_size: 15\n")
    assert source.load_config("kernel/k13").config == {"kernel_size": 15}
    with pytest.raises(OSError, match="k17"):
        source.load_config("kernel/k17")
