"""What may stand in a config that Hydra has composed; the ways in and what would be run are in test_security.py."""

import re
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf, flag_override

import roadmap.config.compose  # noqa: F401 - what Hydra finds no file of is in its store after this
from roadmap.config import trust
from roadmap.config.conf_dir import config_dir
from roadmap.config.hydra_errors import hydra_errors
from roadmap.errors import RequestError

MADE = {"()": "io.open"}
TEXT = "${oc.create:'{_target_: io.open}'}"


@pytest.fixture(scope="module")
def whole() -> DictConfig:
    """A config with Hydra's own node, as its loader gives it; that it may pass is part of it."""
    with hydra_errors([]), initialize_config_dir(str(config_dir()), version_base="1.3"):
        return compose("config", ["hydra/job_logging=default"], return_hydra_config=True)


def handler(**values: str) -> dict[str, Any]:
    return {"hydra": {"job_logging": {"handlers": {"x": values}}}}


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"beside": {"deep": [{"_target_": "io.open"}]}}, "beside.deep.0._target_=io.open"),
        ({"hydra": {"launcher": {"_target_": "${beside}"}}, "beside": "io.open"}, "hydra.launcher._target_=${beside}"),
        ({"beside": {"_target_": ["io.open"]}}, "beside._target_=['io.open']"),
        ({"hydra": {"sweeper": {"_target_": "hydra_plugins.other.Sweeper"}}}, "hydra.sweeper._target_=hydra_plugins."),
        ({"hydra": {"callbacks": {"x": {"y": 1}}}}, "hydra.callbacks.x would have code called"),
        ({"beside": TEXT}, "beside=${oc.create:"),
        ({"beside": "${oc.decode:${text}}", "text": "{_target_: io.open}"}, "beside=${oc.decode:"),
        ({"beside": "${oc.${verb}:x}", "verb": "create"}, "beside=${oc.${verb}"),
        ({"beside": "${oc.select:nowhere,{_target_: io.open}}"}, "beside=${oc.select:"),
        (handler(**{"class": "logging.handlers.SMTPHandler"}), "hydra.job_logging.handlers.x.class=logging.handlers."),
        (handler(**{"class": "logging.FileHandler", "filename": "ran"}), "hydra.job_logging.handlers.x.filename=ran"),
        (handler(mode="w"), "hydra.job_logging.handlers.x.mode=w"),
        (handler(stream="ext://antigravity.fly"), "hydra.job_logging.handlers.x.stream=ext://antigravity.fly"),
        (handler(other="ext://antigravity.fly"), "hydra.job_logging.handlers.x.other=ext://antigravity.fly"),
        ({"hydra": {"hydra_logging": {"filters": {"x": MADE}}}}, "hydra.hydra_logging.filters.x.()=io.open"),
        ({"hydra": {"job": {"env_set": {"PATH": "/evil"}}}}, "hydra.job.env_set.PATH"),
        ({"beside": {}, "hydra": {"job": {"env_set": "${beside}"}}}, "hydra.job.env_set=${beside} is not supported"),
        ({"hydra": {"output_subdir": "../elsewhere"}}, "hydra.output_subdir=../elsewhere"),
        ({"hydra": {"verbose": 1}}, "hydra.verbose=1 is not supported"),
        ({"hydra": {"job": {"name": "../elsewhere"}}}, "hydra.job.name=../elsewhere"),
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
