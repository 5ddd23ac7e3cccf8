"""W&B's client: whether it is installed, which server it talks to, whether there is a key, and its end."""

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


def check_installed(feature: str) -> None:
    """Raise RequestError if the wandb package is missing; does not import it."""
    if find_spec("wandb") is None:
        raise RequestError(f"{feature} needs the package wandb; pip install 'convnext-roadmap[wandb]'")


def client(feature: str) -> ModuleType:
    """Return the wandb package. Raises RequestError if it is missing."""
    check_installed(feature)
    import wandb

    return wandb


def wandb_host() -> str:
    """Return the host that W&B's client talks to."""
    return urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""


def has_wandb_key() -> bool:
    """Return whether W&B's client finds a key: in the environment or in the netrc that `wandb login` writes."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(wandb_host()) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def leave_client() -> None:
    """End the client's process, which completes its files; kill it if it does not end in time."""
    import wandb

    # internal: the public teardown, which the client also registers at exit, waits for its process without a limit
    connection: Any = wandb.setup()._connection
    connection._cleanup()

    def leave() -> None:
        # raises SystemExit if its process ended badly
        with suppress(Exception, SystemExit):
            wandb.teardown()

    leaving = threading.Thread(target=leave, daemon=True)
    leaving.start()
    leaving.join(LEAVE_SECONDS)
    if leaving.is_alive():
        connection._proc._process.kill()
        leaving.join(LEAVE_SECONDS)
