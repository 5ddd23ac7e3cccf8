"""The networks of a bench: the steps of a path, the rows of a file, or one network named by overrides."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from roadmap.config.compose import Composed, compose, options_of
from roadmap.config.overrides import key_of
from roadmap.errors import RequestError
from roadmap.formatting import listed
from roadmap.paper.published import EXCEPTIONS, NetworkRow, PublishedRow, network_rows, printed, published_steps
from roadmap.steps.path import compose_path
from roadmap.validation import NonNegativeFloat, PositiveInt, Record

# overrides that select a single network
ONE = ("step", "model")
# columns of the paper's tables: counts, and images per second on two GPUs
CELLS = ("gflops", "params_m", "v100", "a100")


class BenchSettings(Record):
    """The node ``bench`` of the config; the defaults are in ``conf/config.yaml``."""

    place: ClassVar[str] = "bench"

    measure: Annotated[tuple[Literal["inference", "training", "latency"], ...], Meta(min_length=1)]
    batch_size: PositiveInt
    warmup: PositiveInt  # untimed steps of each network
    repeats: Annotated[int, Meta(ge=2)]  # rounds; each times every network once
    seconds: NonNegativeFloat  # minimum duration of one timing, which may be several steps
    only: tuple[str, ...] | None  # names of steps or rows; None: all
    reference: str | None  # the network that relative speeds refer to; None: the first


@dataclass(frozen=True)
class BenchEntry:
    """A network, its name in the table and its ``published`` cells: ``CELLS`` and ``top1``.

    ``why`` explains a published count that differs from the network's.
    """

    name: str
    composed: Composed
    published: dict[str, str] = field(default_factory=dict)
    why: str | None = None


@dataclass(frozen=True)
class Bench:
    """The networks and settings of a bench, named by the path, the rows or the network."""

    name: str
    entries: list[BenchEntry]
    reference: str
    settings: BenchSettings


def compose_bench(overrides: Sequence[str], config_dirs: Sequence[str] = ()) -> Bench:
    """Return the bench that overrides define.

    All networks have the same batch size: ``batch_size=``, or ``bench.batch_size`` by default. Raises RequestError if
    a row is invalid, naming it, or does not exist.
    """
    given = [key_of(override) for override in overrides]
    if "batch_size" not in given:
        overrides = ["batch_size=${bench.batch_size}", *overrides]
    asked = options_of(overrides, config_dirs)
    settings, rows = BenchSettings.from_mapping(asked.values["bench"]), asked.values.get("rows")
    for override in overrides:
        if rows and key_of(override) in (*ONE, "size", "path"):
            raise RequestError(f"{override} conflicts with rows=, which defines the networks; leave out one of them")
    if rows:
        name, networks = f"rows {rows['name']}", {row.title: (row, cells) for row, cells in network_rows(rows)}
        chosen = _chosen(list(networks), settings, name)
        entries = [_entry_of_row(*networks[title], overrides, config_dirs) for title in chosen]
    elif any(key in ONE for key in given):
        composed = compose(overrides, config_dirs)
        name, entries = composed.variant, [_entry_of_step(composed.variant, composed)]
        _chosen([name], settings, "this bench of one network")
    else:
        steps = {step.name: step.composed for step in compose_path(overrides, config_dirs)}
        name = f"path {asked.path_name}"
        entries = [_entry_of_step(step, steps[step]) for step in _chosen(list(steps), settings, name)]
    return Bench(name, entries, settings.reference or entries[0].name, settings)


def _chosen(names: list[str], settings: BenchSettings, place: str) -> list[str]:
    """Return the names in ``bench.only``, in order. Raises RequestError for an unknown name."""
    only = names if settings.only is None else settings.only
    for name in only:
        if name not in names:
            raise RequestError(f"no '{name}' in {place} (choose {listed(names)})")
    if settings.reference and settings.reference not in only:
        raise RequestError(f"no '{settings.reference}' in {place} (choose {listed(only)})")
    return [name for name in names if name in only]


def _entry_of_step(name: str, composed: Composed) -> BenchEntry:
    """Return a step with its row of Table 10 or 11, if it is an unmodified published one."""
    regime = composed.regime.name
    row = published_steps(regime).get(composed.variant)
    cells = {} if row is None else {"gflops": row.gflops, "top1": f"{row.top1:.2f}"}
    return BenchEntry(name, composed, cells, EXCEPTIONS.get((regime, name)) if row else None)


def _entry_of_row(
    row: NetworkRow, published: Sequence[PublishedRow], overrides: Sequence[str], config_dirs: Sequence[str]
) -> BenchEntry:
    """Return a row of a file, composed with the user's overrides."""
    words = {key_of(word): word for word in (*row.overrides, *overrides) if key_of(word) != "rows"}
    try:
        composed = compose([*words.values()], config_dirs)
    except RequestError as error:
        raise RequestError(f"row {row.title}: {error}") from error
    return BenchEntry(row.title, composed, _published(published), row.why)


def _published(rows: Sequence[PublishedRow]) -> dict[str, str]:
    """Return the published cells of a network; accuracies after pre-training on ImageNet-22K are marked."""
    cells = {name: cell for name in CELLS if (cell := printed(rows, name)) is not None}
    tops = [(row.top1, row.pretraining == "22k") for row in rows] + [(row.top1_22k, True) for row in rows]
    words = dict.fromkeys(f"{top1}{' (22K)' if more else ''}" for top1, more in tops if top1 is not None)
    return cells | ({"top1": ", ".join(words)} if words else {})
