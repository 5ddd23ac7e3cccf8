"""W&B's client as we need it everywhere: the package where it is installed, its server, and whether there is a key."""

import netrc
import os
from importlib.util import find_spec
from types import ModuleType
from urllib.parse import urlparse

from roadmap.errors import RequestError


def check_installed(wanted_by: str) -> None:
    """Raises RequestError where the package is missing; does not import it."""
    if find_spec("wandb") is None:
        raise RequestError(f"{wanted_by} needs the package wandb; pip install 'roadmap[wandb]'")


def client(wanted_by: str) -> ModuleType:
    """The package, imported. Raises RequestError where it is missing."""
    check_installed(wanted_by)
    import wandb

    return wandb


def wandb_host() -> str:
    """The server that W&B's client talks to."""
    return urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""


def has_wandb_key() -> bool:
    """Whether there is a key where W&B's client looks for one: the environment, and what `wandb login` wrote."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(wandb_host()) is not None
    except (OSError, netrc.NetrcParseError):
        return False
