"""Who takes part in a bench: the steps of a path, the rows of a file, or the one network that overrides name."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from roadmap.bench.settings import BenchSettings
from roadmap.config.compose import Composed, Options, compose, options_of
from roadmap.config.overrides import key_of
from roadmap.errors import RequestError
from roadmap.formatting import listed
from roadmap.gc_paused import gc_paused
from roadmap.paper.published import EXCEPTIONS, TABLE_NAMES, published_steps
from roadmap.paper.published_rows import PublishedRow, network_rows, printed
from roadmap.steps.path import compose_path

# Overrides that name one network, which a path or a file of rows would otherwise do.
ONE = ("step", "model")
# Of the paper's tables beside accuracy: counts, and images a second on two GPUs.
CELLS = ("gflops", "params_m", "v100", "a100")


@dataclass(frozen=True)
class BenchEntry:
    """A network by its name in the table, with what the paper prints of it: ``tables``, ``CELLS`` and ``top1``.

    ``why`` says where a printed count is not what the network computes. ``against`` is the one whose ratio to it is
    told apart, as of ours to a library's of the same architecture.
    """

    name: str
    composed: Composed
    published: dict[str, str] = field(default_factory=dict)
    why: str | None = None
    against: str | None = None


@dataclass(frozen=True)
class Bench:
    """Everything that is asked for: ``name`` is the path's, the rows' or the network's."""

    name: str
    contenders: tuple[BenchEntry, ...]
    settings: BenchSettings

    @property
    def reference(self) -> str:
        """The name that relative speeds are to."""
        return self.settings.reference or self.contenders[0].name


def compose_bench(overrides: Sequence[str], config_dirs: Sequence[str] = ()) -> Bench:
    """The bench that overrides ask for, all of it composed.

    All networks get one batch size: ``batch_size=`` if given, not their recipes' but ``bench.batch_size``. Raises
    RequestError, naming the row, where one does not compose, and for names that no row has.
    """
    given = {key_of(override) for override in overrides}
    if "batch_size" not in given:
        overrides = ["batch_size=${bench.batch_size}", *overrides]
    asked = options_of(overrides, config_dirs)
    settings = BenchSettings.from_mapping(asked.values["bench"])
    with gc_paused():
        name, contenders = _contenders(overrides, config_dirs, asked, settings.only)
    if settings.reference:
        _chosen([contender.name for contender in contenders], (settings.reference,), name)
    return Bench(name, tuple(contenders), settings)


def _contenders(
    overrides: Sequence[str], config_dirs: Sequence[str], asked: Options, only: tuple[str, ...] | None
) -> tuple[str, list[BenchEntry]]:
    single = [override for override in overrides if key_of(override) in ONE]
    if rows := asked.values.get("rows"):
        single += [override for override in overrides if key_of(override) in ("size", "path")]
        if single:
            raise RequestError(f"{single[0]} does not go with rows=, which names its networks; leave one of them out")
        return f"rows {rows['name']}", _of_rows(rows, overrides, config_dirs, only)
    if single:
        composed = compose(overrides, config_dirs)
        (name,) = _chosen([composed.variant], only, "this bench of one network")
        return name, [_of_step(name, composed)]
    steps = {step.name: step for step in compose_path(overrides, config_dirs)}
    name = f"path {asked.path_name}"
    return name, [_of_step(step, steps[step].composed) for step in _chosen(list(steps), only, name)]


def _chosen(names: Sequence[str], only: tuple[str, ...] | None, place: str) -> list[str]:
    """Those of ``names`` that ``only`` has, in their order; RequestError for one that is none of them."""
    if strange := [name for name in only or () if name not in names]:
        raise RequestError(f"no '{strange[0]}' in {place} (choose {listed(names)})")
    return [name for name in names if only is None or name in only]


def _of_step(name: str, composed: Composed) -> BenchEntry:
    """A step with its row of Table 10 or 11, unless it is toggled and no longer the published one."""
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


def _of_rows(
    node: dict[str, Any], overrides: Sequence[str], config_dirs: Sequence[str], only: tuple[str, ...] | None
) -> list[BenchEntry]:
    """The rows of a file, each composed with the user's overrides on top."""
    against = node.get("against", {})
    found = []
    rows = network_rows({key: value for key, value in node.items() if key != "against"})
    chosen = {key_of(override): override for override in overrides if key_of(override) != "rows"}
    named = [row.title for row, _ in rows]
    _chosen(named, tuple(title for pair in against.items() for title in pair), f"rows {node['name']}, whose against")
    kept = _chosen(named, only, f"rows {node['name']}")
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
    """Cells of the printed rows of a network; accuracies say where they are of pre-training on ImageNet-22K."""
    if not rows:
        return {}
    cells = {name: cell for name in CELLS if (cell := printed(rows, name)) is not None}
    tops = [(row.top1, row.pretraining == "22k") for row in rows] + [(row.top1_22k, True) for row in rows]
    words = [f"{top1}{' (22K)' if more else ''}" for top1, more in tops if top1 is not None]
    tables = ", ".join(str(table) for table in sorted({row.table for row in rows}))
    return {"tables": tables, "rows": str(len(rows)), **cells, "top1": ", ".join(dict.fromkeys(words))}
