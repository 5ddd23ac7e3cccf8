"""The roadmap as rows: a trunk of adopted changes with branches that were tried, not adopted."""

from collections.abc import Sequence
from dataclasses import dataclass

from roadmap.config.compose import Composed, compose, options_of
from roadmap.config.overrides import TOGGLES, is_baseline_model, is_network, key_of
from roadmap.errors import RequestError
from roadmap.schema.design import AXES, BaselineModel, Design
from roadmap.steps.path_file import PathFile, PathRow, with_parents

BASELINES = "baselines"  # the section of the baseline models after the last adopted step


@dataclass(frozen=True)
class Step:
    """A row composed: ``changes`` is what differs from ``parent``, the last adopted row above it."""

    name: str
    label: str
    section: str
    adopted: bool
    parent: str | None
    changes: dict[str, str]  # config group -> option
    change: tuple[str, ...]  # the row's own overrides
    composed: Composed


def compose_path(overrides: Sequence[str], config_dirs: Sequence[str] = ()) -> list[Step]:
    """Return every step of the chosen path in order; ``overrides`` win over each row's.

    Raises RequestError, naming the row, if one is invalid.
    """
    path = PathFile.of(options_of(overrides, config_dirs).values["path"])
    rows = [
        *path.steps,
        *(PathRow(change=(f"model={name}",), section=BASELINES, adopted=False) for name in path.baselines or ()),
    ]
    if not rows:
        raise RequestError(f"path {path.name} has no steps")
    chosen = _by_key(overrides)
    trunks: dict[PathRow | None, dict[str, str]] = {None: {}}
    steps: dict[str, Step] = {}
    for row, parent in with_parents(rows):
        if row.title in steps:
            raise RequestError(f"path {path.name} has two steps named '{row.title}'; give one a name of its own")
        trunks[row] = _on_top(trunks[parent], _by_key(row.change))
        before = steps[parent.title] if parent else None
        steps[row.title] = _compose_row(row, [*(trunks[row] | chosen).values()], before, config_dirs)
    return list(steps.values())


def _compose_row(row: PathRow, overrides: list[str], parent: Step | None, config_dirs: Sequence[str]) -> Step:
    try:
        composed = compose(overrides, config_dirs)
        changes = {} if parent is None else differences(parent.composed, composed)
    except RequestError as error:
        raise RequestError(f"step {row.title}: {error}") from error
    name = parent.name if parent else None
    label = row.label or (composed.regime.result if isinstance(composed.design, BaselineModel) else row.title)
    return Step(row.title, label, row.section, row.adopted, name, changes, row.change, composed)


def _on_top(trunk: dict[str, str], change: dict[str, str]) -> dict[str, str]:
    """Return the trunk's overrides with a row's; a baseline model replaces our network, and a step a baseline model."""
    if "model" in change:
        trunk = {key: word for key, word in trunk.items() if not is_network(key)}
    elif "step" in change:
        trunk = {key: word for key, word in trunk.items() if not is_baseline_model(key)}
    return trunk | change


def differences(before: Composed, after: Composed) -> dict[str, str]:
    """Return group -> option for each group in which the designs or recipes of two configs differ.

    Changes of width or depth by ``match_gmacs`` do not count. To or from a baseline model, the whole network differs.
    """
    if isinstance(before.design, BaselineModel) or isinstance(after.design, BaselineModel):
        recipe = {"recipe": after.choices["recipe"]} if before.recipe != after.recipe else {}
        network = {"step": after.step} if isinstance(after.design, Design) else {"model": after.choices["model"]}
        return network | recipe
    return {
        group: after.choices[group]
        for group in TOGGLES
        if before.choices[group] != after.choices[group]
        and _value(before, group, before.asked) != _value(after, group, after.asked)
        and _value(before, group, before.design) != _value(after, group, after.design)
    }


def _value(composed: Composed, group: str, design: Design | BaselineModel) -> object:
    assert isinstance(design, Design)
    if group == "size":
        return design.depths, design.width, design.hierarchy
    return getattr(design, AXES[group]) if group in AXES else composed.recipe


def _by_key(overrides: Sequence[str]) -> dict[str, str]:
    """Overrides by what they set, so that a later one takes an earlier one's place."""
    return {key_of(override): override for override in overrides}
