"""W&B's client as we need it everywhere: the package where it is installed, its server, and whether there is a key."""

import netrc
import os
import threading
from contextlib import suppress
from importlib.util import find_spec
from types import ModuleType
from typing import Any
from urllib.parse import urlparse

from roadmap.errors import RequestError

LEAVE_SECONDS = 5.0


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


def leave_client() -> None:
    """End the client's process, which writes out its files; what it cannot send stays there."""
    import wandb

    # internal: the public teardown waits without limit for the process, at the program's end too
    connection: Any = wandb.setup()._connection
    connection._cleanup()

    def leave() -> None:
        # it exits where its process ended badly
        with suppress(Exception, SystemExit):
            wandb.teardown()

    leaving = threading.Thread(target=leave, daemon=True)
    leaving.start()
    leaving.join(LEAVE_SECONDS)
    if leaving.is_alive():
        connection._proc._process.kill()
        leaving.join(LEAVE_SECONDS)
