"""Reads runs of a Weights & Biases project, ours and others', with the columns of our run folders."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from roadmap.errors import RequestError, RoadmapError, WorkError, first_line
from roadmap.tracking.wandb_client import client, has_wandb_key, wandb_host
from roadmap.tracking.wandb_fields import Keys, is_ours, merged_rows, our_summary, their_summary

PREFIX = "wandb://"
TIMEOUT = 30  # seconds per request
PAGE = 100  # runs per request

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Address:
    """``wandb://ENTITY/PROJECT`` or ``wandb://ENTITY/PROJECT/RUN``, with ``?`` and the keys of other projects' runs."""

    entity: str
    project: str
    run: str | None
    keys: Keys

    @classmethod
    def parse(cls, url: str) -> "Address":
        """Parse an address. Raises RequestError if it is not one."""
        parts = urlsplit(url)
        names = [unquote(name) for name in (parts.netloc + parts.path).strip("/").split("/")]
        if not url.startswith(PREFIX) or not 2 <= len(names) <= 3 or not all(names):
            raise RequestError(f"{url} is not the address of a W&B project; write wandb://ENTITY/PROJECT")
        return cls(names[0], names[1], names[2] if len(names) > 2 else None, Keys.from_query(parts.query))

    def of(self, run_id: str) -> str:
        """Return the address of one run."""
        return f"{PREFIX}{self.entity}/{self.project}/{run_id}"


def wandb_summaries(url: str) -> Iterator[dict[str, Any]]:
    """Yield one dict per run: the fields of summary.json that W&B has, and the run's address as ``path``.

    ``url``: ``wandb://entity/project`` or ``wandb://entity/project/run``. A run of another project has its W&B id,
    status, creation time, flat config as ``definition``, the columns it has keys for, and None in the others. Its
    accuracy needs ``?top1=KEY`` (``&unit=fraction`` if it is between 0 and 1). Raises RequestError if the package or
    the key is missing or there is no such project, WorkError if the server does not answer.
    """
    address = Address.parse(url)
    for run in _runs(address, url):
        yield _summary(run, address, url)


def wandb_histories(url: str) -> Iterator[dict[str, Any]]:
    """Yield one dict per run and epoch: a line of metrics.jsonl and the run's ``run_id, variant, step, seed``.

    All rows are read, not a sample; of rows with the same epoch the later wins. Raises like ``wandb_summaries``.
    """
    address = Address.parse(url)
    for run in _runs(address, url):
        summary = _summary(run, address, url)
        mark = {key: summary.get(key) for key in ("run_id", "variant", "step", "seed")}
        keys = Keys() if is_ours(run.config) else address.keys
        for row in merged_rows(_history(run, url), keys):
            yield mark | row


def _history(run: Any, url: str) -> list[dict[str, Any]]:
    return _asked(lambda: list(run.scan_history()), url)


def _summary(run: Any, address: Address, url: str) -> dict[str, Any]:
    config, logged = _asked(lambda: (dict(run.config), dict(run.summary_metrics)), url)
    path = {"path": address.of(run.id)}
    if is_ours(config):
        with suppress(ValueError):
            return our_summary(run.id, run.state, config, logged) | path
    summary = their_summary(run.id, run.state, config)
    summary |= {"variant": run.name, "started": run.created_at, "ended": getattr(run, "heartbeat_at", None)}
    if address.keys.top1 and summary["status"] == "finished":
        summary["top1"] = address.keys.percent(logged.get(address.keys.top1))
    return summary | path


def _runs(address: Address, url: str) -> Iterator[Any]:
    """Yield the runs of an address, with config and summary."""
    wandb = client(f"reading {url}")
    if not has_wandb_key():
        raise RequestError(f"reading {url} needs a W&B key; run `wandb login` or set WANDB_API_KEY")
    wandb.setup(wandb.Settings(silent=True))
    api = _asked(lambda: wandb.Api(timeout=TIMEOUT), url)
    if address.run is not None:
        yield _asked(lambda: api.run(f"{address.entity}/{address.project}/{address.run}"), url)
        return
    runs = iter(_asked(lambda: api.runs(f"{address.entity}/{address.project}", lazy=False, per_page=PAGE), url))
    while (run := _asked(lambda: next(runs, None), url)) is not None:
        yield run


def _asked(question: Callable[[], Answer], url: str) -> Answer:
    """Return the answer of W&B's client; every error of it becomes one sentence."""
    try:
        return question()
    except RoadmapError:
        raise
    # for an unexpected answer of the server the client raises its own errors, ValueError or TypeError
    except Exception as error:
        reason = first_line(error)[:200]
        if "not find" in reason or "not found" in reason.lower():
            raise RequestError(f"{url} does not exist at {wandb_host()}, or this key may not read it") from error
        raise WorkError(f"cannot read {url} from {wandb_host()}: {reason}") from error
