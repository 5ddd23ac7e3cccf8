"""Reads runs of a Weights & Biases project, ours and others', with the columns of our run folders."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from roadmap.errors import RequestError, RoadmapError, WorkError, first_line
from roadmap.formatting import flatten_dict
from roadmap.schema.summary import Summary
from roadmap.tracking.wandb_logger import client, has_wandb_key, wandb_host
from roadmap.untrusted_io import parse_json
from roadmap.validation import converted

TIMEOUT = 30  # seconds per request
PAGE = 100  # runs per request
# by W&B's state; any other state ("crashed", "killed", …) is "interrupted"
STATUS = {"finished": "finished", "failed": "failed", "running": "running", "pending": "running"}
# the columns of a run of another project
COLUMNS = (*Summary.__struct_fields__, "pretrained")
KEYS = {"top1", "unit", "epoch"}

Answer = TypeVar("Answer")


class Address(NamedTuple):
    """``wandb://ENTITY/PROJECT`` or ``wandb://ENTITY/PROJECT/RUN``.

    ``keys`` are those after its ``?``, for runs of other projects: ``top1``, their key of the accuracy; ``unit``,
    percent or fraction; and ``epoch``, their key of the epoch, by default ``epoch`` if a row has it, else W&B's step.
    """

    url: str
    names: list[str]
    query: str
    keys: dict[str, str]

    @classmethod
    def parse(cls, url: str) -> "Address":
        """Parse an address. Raises RequestError if it is not one."""
        parts = urlsplit(url)
        names = [unquote(name) for name in (parts.netloc + parts.path).strip("/").split("/")]
        if not 2 <= len(names) <= 3 or not all(names):
            raise RequestError(f"{url} is not the address of a W&B project; write wandb://ENTITY/PROJECT")
        keys = dict(parse_qsl(parts.query, keep_blank_values=True))
        if not keys.keys() <= KEYS or keys.get("unit", "percent") not in ("percent", "fraction"):
            raise RequestError(f"invalid ?{parts.query} (choose top1=KEY, epoch=KEY and unit=percent or fraction)")
        return cls(url, names, f"?{parts.query}" if parts.query else "", keys)

    def percent(self, row: Mapping[str, Any]) -> float | None:
        """Return the accuracy of another project's row in percent, None if it has none."""
        value = row.get(self.keys.get("top1", ""))
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return 100.0 * value if self.keys.get("unit") == "fraction" else float(value)


def wandb_summaries(url: str) -> Iterator[dict[str, Any]]:
    """Yield one dict per run: the fields of summary.json that W&B has, and the run's address as ``path``.

    ``url``: ``wandb://entity/project`` or ``wandb://entity/project/run``. A run of another project has its W&B id,
    status, creation time, flat config as ``definition``, the columns it has keys for, and None in the others. Its
    accuracy needs ``?top1=KEY`` (``&unit=fraction`` if it is between 0 and 1). Raises RequestError if the package or
    the key is missing or there is no such project, WorkError if the server does not answer.
    """
    address = Address.parse(url)
    for run in _runs(address):
        yield _summary(run, address) | {"path": f"wandb://{'/'.join([*address.names[:2], run.id])}{address.query}"}


def wandb_history(url: str) -> list[dict[str, Any]]:
    """Return the rows of a run as lines of metrics.jsonl, one per epoch in order.

    All rows are read, not a sample; values of rows with the same epoch replace earlier ones. Raises like
    ``wandb_summaries``.
    """
    address = Address.parse(url)
    epochs: dict[int, dict[str, Any]] = {}
    for run in _runs(address):
        ours = _is_ours(run.config)
        for row in _asked(lambda one=run: list(one.scan_history()), url):  # type: ignore[misc]
            name = "epoch" if ours else address.keys.get("epoch") or ("epoch" if "epoch" in row else "_step")
            epoch = row.get(name)
            if isinstance(epoch, int | float) and epoch == epoch // 1:
                values = {key: value for key, value in row.items() if key[:1] != "_"} | {"epoch": int(epoch)}
                if not ours and (top1 := address.percent(row)) is not None:
                    values["top1"] = top1
                epochs[int(epoch)] = epochs.get(int(epoch), {}) | values
    return [epochs[epoch] for epoch in sorted(epochs)]


def _summary(run: Any, address: Address) -> dict[str, Any]:
    config, logged = _asked(lambda: (dict(run.config), dict(run.summary_metrics)), address.url)
    status = STATUS.get(run.state, "interrupted")
    if _is_ours(config):
        with suppress(ValueError):
            return _our_summary(run.id, status, config, logged)
    known: dict[str, Any] = dict.fromkeys(COLUMNS)
    for key, kind in (("seed", int), ("epochs", int), ("batch_size", int), ("image_size", int), ("precision", str)):
        known[key] = config[key] if type(config.get(key)) is kind else None
    definition = flatten_dict({key: value for key, value in config.items() if not key.startswith("_")})
    if known["seed"] is None:
        definition["run_id"] = run.id  # counts as no other run's repeat
    known |= {"run_id": run.id, "status": status, "design": {}, "definition": definition, "variant": run.name}
    known |= {"started": run.created_at, "ended": getattr(run, "heartbeat_at", None)}
    return known | {"top1": address.percent(logged) if status == "finished" else None}


def _is_ours(config: Mapping[str, Any]) -> bool:
    """Return whether ``config_of`` made this config."""
    return {"regime", "step", "variant", "recipe.name", "data.name", "definition"} <= set(config)


def _our_summary(run_id: str, status: str, config: Mapping[str, Any], logged: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of ``summary.json`` of a run that we logged. Raises ValueError if a field is broken."""
    definition = parse_json(config["definition"])
    if not isinstance(definition, dict):
        raise ValueError("its definition is not a mapping")
    known: dict[str, Any] = dict.fromkeys(COLUMNS) | {"schema": 1}
    known |= {key: value for key, value in definition.items() if key in COLUMNS and not isinstance(value, dict)}
    known |= {key: value for key, value in logged.items() if not key.startswith("_")}
    known |= {name: config[name] for name in ("regime", "step", "variant")}
    known |= {"recipe": config["recipe.name"], "data": config["data.name"], "design": definition.get("design")}
    # a run that died never logged its final status
    if known["status"] in (None, "running"):
        known["status"] = status
    known |= {"run_id": run_id, "definition": definition}
    converted(known, Summary)
    return known


def _runs(address: Address) -> Iterator[Any]:
    """Yield the runs of an address, with config and summary."""
    wandb, url, names = client(f"reading {address.url}"), address.url, "/".join(address.names)
    if not has_wandb_key():
        raise RequestError(f"reading {url} needs a W&B key; run `wandb login` or set WANDB_API_KEY")
    api = _asked(lambda: wandb.Api(timeout=TIMEOUT), url)
    if len(address.names) == 3:
        yield _asked(lambda: api.run(names), url)
        return
    runs = iter(_asked(lambda: api.runs(names, lazy=False, per_page=PAGE), url))
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
