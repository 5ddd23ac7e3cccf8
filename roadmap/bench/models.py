"""The networks of a bench: the steps of a path, the rows of a file, or one network named by overrides."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from roadmap.bench.settings import BenchSettings
from roadmap.config.compose import Composed, compose, options_of
from roadmap.config.overrides import key_of
from roadmap.errors import RequestError
from roadmap.formatting import listed
from roadmap.gc_paused import gc_paused
from roadmap.paper.published import EXCEPTIONS, TABLE_NAMES, published_steps
from roadmap.paper.published_rows import PublishedRow, network_rows, printed
from roadmap.steps.path import compose_path

# overrides that select a single network
ONE = ("step", "model")
# columns of the paper's tables: counts, and images per second on two GPUs
CELLS = ("gflops", "params_m", "v100", "a100")


@dataclass(frozen=True)
class BenchEntry:
    """A network, its name in the table and its ``published`` cells: ``tables``, ``CELLS`` and ``top1``.

    ``why`` explains a published count that differs from the network's. ``against`` names another network to compare
    with, such as ours with a library's version of the same architecture.
    """

    name: str
    composed: Composed
    published: dict[str, str] = field(default_factory=dict)
    why: str | None = None
    against: str | None = None


@dataclass(frozen=True)
class Bench:
    """The networks and settings of a bench; ``name`` is that of the path, the rows or the network."""

    name: str
    entries: tuple[BenchEntry, ...]
    settings: BenchSettings

    @property
    def reference(self) -> str:
        """The name of the network that relative speeds refer to."""
        return self.settings.reference or self.entries[0].name


def compose_bench(overrides: Sequence[str], config_dirs: Sequence[str] = ()) -> Bench:
    """The bench that overrides define.

    All networks have the same batch size: ``batch_size=``, or ``bench.batch_size`` by default. Raises RequestError if
    a row is invalid, naming it, or does not exist.
    """
    given = {key_of(override) for override in overrides}
    if "batch_size" not in given:
        overrides = ["batch_size=${bench.batch_size}", *overrides]
    asked = options_of(overrides, config_dirs)
    settings = BenchSettings.from_mapping(asked.values["bench"])
    with gc_paused():
        name, entries = _entries(overrides, config_dirs, asked, settings.only)
    if settings.reference:
        _select([entry.name for entry in entries], (settings.reference,), name)
    return Bench(name, tuple(entries), settings)


def _entries(
    overrides: Sequence[str], config_dirs: Sequence[str], asked: Composed, only: tuple[str, ...] | None
) -> tuple[str, list[BenchEntry]]:
    single = [override for override in overrides if key_of(override) in ONE]
    if rows := asked.values.get("rows"):
        single += [override for override in overrides if key_of(override) in ("size", "path")]
        if single:
            raise RequestError(f"{single[0]} conflicts with rows=, which defines the networks; leave out one of them")
        return f"rows {rows['name']}", _entries_of_rows(rows, overrides, config_dirs, only)
    if single:
        composed = compose(overrides, config_dirs)
        (name,) = _select([composed.variant], only, "this bench of one network")
        return name, [_entry_of_step(name, composed)]
    steps = {step.name: step for step in compose_path(overrides, config_dirs)}
    name = f"path {asked.path_name}"
    return name, [_entry_of_step(step, steps[step].composed) for step in _select(list(steps), only, name)]


def _select(names: Sequence[str], only: tuple[str, ...] | None, place: str) -> list[str]:
    """The ``names`` in ``only``, in order. Raises RequestError if ``only`` has another name."""
    if unknown := [name for name in only or () if name not in names]:
        raise RequestError(f"no '{unknown[0]}' in {place} (choose {listed(names)})")
    return [name for name in names if only is None or name in only]


def _entry_of_step(name: str, composed: Composed) -> BenchEntry:
    """A step with its row of Table 10 or 11, if it is an unmodified published one."""
    regime = composed.regime.name
    row = published_steps(regime).get(composed.variant)
    if row is None:
        return BenchEntry(name, composed)
    cells = {
        "tables": TABLE_NAMES[regime].removeprefix("Table "),
        "rows": "1",
        "gflops": row.gflops,
        "top1": f"{row.top1:.2f}",
    }
    return BenchEntry(name, composed, cells, EXCEPTIONS.get((regime, name)))


def _entries_of_rows(
    node: dict[str, Any], overrides: Sequence[str], config_dirs: Sequence[str], only: tuple[str, ...] | None
) -> list[BenchEntry]:
    """The rows of a file, each composed with the user's overrides."""
    against = node.get("against", {})
    found = []
    rows = network_rows({key: value for key, value in node.items() if key != "against"})
    chosen = {key_of(override): override for override in overrides if key_of(override) != "rows"}
    named = [row.title for row, _ in rows]
    _select(named, tuple(title for pair in against.items() for title in pair), f"rows {node['name']}, whose against")
    kept = _select(named, only, f"rows {node['name']}")
    for row, cells in rows:
        if row.title not in kept:
            continue
        both = {key_of(override): override for override in row.overrides} | chosen
        try:
            composed = compose([*both.values()], config_dirs)
        except RequestError as error:
            raise RequestError(f"row {row.title}: {error}") from error
        found.append(BenchEntry(row.title, composed, _published(cells), row.why, against.get(row.title)))
    return found


def _published(rows: Sequence[PublishedRow]) -> dict[str, str]:
    """Published cells of a network; accuracies after pre-training on ImageNet-22K are marked."""
    if not rows:
        return {}
    cells = {name: cell for name in CELLS if (cell := printed(rows, name)) is not None}
    tops = [(row.top1, row.pretraining == "22k") for row in rows] + [(row.top1_22k, True) for row in rows]
    words = [f"{top1}{' (22K)' if more else ''}" for top1, more in tops if top1 is not None]
    tables = ", ".join(str(table) for table in sorted({row.table for row in rows}))
    return {"tables": tables, "rows": str(len(rows)), **cells, "top1": ", ".join(dict.fromkeys(words))}
