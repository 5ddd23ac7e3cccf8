"""What may stand in a config that Hydra has composed; the ways in and what would be run are in test_security.py."""

import re
from typing import Any

import pytest
from hydra import compose
from omegaconf import DictConfig, OmegaConf, flag_override

from roadmap.config import trust
from roadmap.config.hydra_errors import hydra_errors, initialized
from roadmap.errors import RequestError

CALL = {"_target_": "io.open"}


@pytest.fixture(scope="module")
def whole() -> DictConfig:
    """A config with Hydra's own node, as its loader gives it."""
    with hydra_errors([]), initialized():
        return compose("config", return_hydra_config=True)


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"extra": {"deep": [CALL]}}, "extra.deep.0._target_=io.open"),
        ({"hydra": {"launcher": {"_target_": "${extra}"}}, "extra": "io.open"}, "hydra.launcher._target_=${extra}"),
        ({"hydra": {"sweeper": {"_target_": "hydra_plugins.other.Sweeper"}}}, "hydra.sweeper._target_=hydra_plugins."),
        ({"hydra": {"callbacks": {"x": CALL}}}, "hydra.callbacks.x._target_=io.open"),
        ({"extra": "${oc.create:'{_target_: io.open}'}"}, "extra=${oc.create:"),
        ({"extra": "${oc.decode:${text}}", "text": "{_target_: io.open}"}, "extra=${oc.decode:"),
        ({"extra": "${oc.${verb}:x}", "verb": "create"}, "extra=${oc.${verb}"),
        ({"extra": "${oc.select:nowhere,{_target_: io.open}}"}, "extra=${oc.select:"),
        ({"hydra": {"job_logging": {"filters": {"x": {"()": "io.open"}}}}}, "hydra.job_logging cannot be changed"),
        ({"hydra": {"hydra_logging": "${extra}"}, "extra": {}}, "hydra.hydra_logging cannot be changed"),
        ({"hydra": {"job": {"env_set": {"PATH": "/evil"}}}}, "hydra.job.env_set cannot be changed"),
        ({"hydra": {"output_subdir": "../elsewhere"}}, "hydra.output_subdir cannot be changed"),
        ({"hydra": {"run": {"dir": "elsewhere"}}}, "hydra.run.dir cannot be changed"),
    ],
)
def test_of_a_composed_config_nothing_is_called(values: dict[str, Any], place: str, whole: DictConfig) -> None:
    changed = whole.copy()
    with flag_override(changed, ["struct", "readonly"], False):
        for key, value in values.items():
            OmegaConf.update(changed, key, value, merge=True, force_add=True)
    trust.check_trusted(whole)
    with pytest.raises(RequestError, match=f"^{re.escape(place)}"):
        trust.check_trusted(changed)
