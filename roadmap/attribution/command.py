"""``roadmap attribution``: what each change of a path is worth, given the others."""

import argparse
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roadmap.attribution.change_subsets import ChangeSubsets
from roadmap.cli.arguments import (
    chosen_runs,
    folders_and_overrides,
    one_kind,
    override_parser,
    write_text,
)
from roadmap.config.overrides import key_of
from roadmap.errors import RequestError
from roadmap.formatting import csv, printable
from roadmap.runs.records import is_place
from roadmap.runs.sweep_plan import read_sweeps
from roadmap.steps.path import Step, compose_path
from roadmap.sweeps.studies import Orders

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

    from roadmap.attribution.attribution import Attribution
    from roadmap.config.compose import Composed

logger = logging.getLogger(__name__)

FORMATS = {"json": "everything as one object", "csv": "one line a change"}


def main(arguments: list[str]) -> int:
    options = _parser().parse_intermixed_args(arguments)
    _words_are_no_files(options)
    folders, overrides = folders_and_overrides(options.overrides)
    file = Path(options.output) if options.output else None
    if file is not None:
        from roadmap.plots.charts import check_suffix

        check_suffix(file)
    if options.where and not folders:
        raise RequestError("--where chooses among runs; name their folders")
    if file is not None and not folders:
        raise RequestError("no run folders to draw; name them as in `roadmap attribution runs/ -o attribution.png`")
    runs = chosen_runs(folders, options.where) if folders else None
    found, steps, hints = attributed(runs, folders, overrides, options.config_dir)
    if file is not None:
        from roadmap.plots.charts import save

        save(draw(found, steps), file)
        logger.info(f"figure: {file}")
    _write(found, hints, options)
    return 0


def draw(found: "Attribution", steps: list[Step], kind: str = "attribution") -> "alt.VConcatChart":
    """Return the chart of an attribution on a path, or of its ``interactions``."""
    from roadmap.attribution.attribution_plot import attribution_chart
    from roadmap.attribution.interactions_plot import interactions_chart
    from roadmap.comparison.step_table import networks, subtitle, toggle_words

    names = networks(steps, " to ")
    words = subtitle(found.runs, steps) if len(found.runs) else f"counted, no runs{toggle_words(steps)}"
    words += _restriction(steps)
    if kind == "attribution":
        return attribution_chart(found, title=f"What each change is worth, from {names}", subtitle=words)
    return interactions_chart(found, title=f"How changes depend on each other, from {names}", subtitle=words)


def _parser() -> argparse.ArgumentParser:
    parser = override_parser(
        "attribution",
        "what each change of a path is worth given the others: leave-one-out, add-one-in and Shapley value, of GMACs "
        "and parameters exactly, and of accuracy from the runs in folders; some of the changes alone by study=orders "
        "study.changes=[gelu,layer_norm]",
    )
    parser.add_argument("--where", metavar="EXPR", help="only runs for which it holds, as of `roadmap compare`")
    parser.add_argument("-o", "--output", metavar="FILE", help="the figure too: png, svg or pdf")
    output = parser.add_mutually_exclusive_group()
    for name, what in FORMATS.items():
        output.add_argument(f"--{name}", nargs="?", const="-", metavar="FILE", help=f"{what}; - or none: stdout")
    return parser


def _words_are_no_files(options: argparse.Namespace) -> None:
    """``--json runs/`` and ``--json regime=tiny`` mean: print json, of runs/ or of the regime."""
    for name in FORMATS:
        value = getattr(options, name)
        if value and (is_place(value) or "=" in value):
            options.overrides.append(value)
            setattr(options, name, "-")


def attributed(
    runs: "pd.DataFrame | None", folders: Sequence[str], overrides: list[str], config_dirs: list[str]
) -> tuple["Attribution", list[Step], list[str]]:
    """The attribution of runs, or of costs alone; the path's steps; and what a user might have meant.

    The path's regime and data are the runs' own unless they are given. Raises RequestError where runs are of several.
    """
    if any(key_of(word) in ("step", "seed") for word in overrides):
        raise RequestError("step= and seed= do not go with an attribution, which is of sets of the path's changes")
    if runs is not None:
        runs, overrides = one_kind(runs, overrides)
    steps = compose_path(overrides, config_dirs)
    first = steps[0].composed
    names, others = _chosen_changes(first.study)
    subsets = ChangeSubsets.of(steps, names, others, config_dirs)
    from roadmap.attribution.attribution import attribute, count
    from roadmap.attribution.change_subsets import SubsetTable

    sets = SubsetTable.of(subsets)
    if runs is None:
        return count(sets), steps, []
    here = [header for header in _plans(folders) if _is_on(header, first)]
    ours = [header for header in here if not _of_other_sets(header, sets.names, others)]
    variants = {step.name: step.composed.variant for step in steps}
    parents = {step.name: variants[step.parent] if step.parent else "" for step in steps}
    pairs = [(variants[name], parents[name]) for name in sets.names]
    return attribute(runs, sets, ours, first.regime.name, pairs), steps, _hints(here, ours)


def _chosen_changes(study: Mapping[str, Any] | None) -> tuple[list[str] | None, bool]:
    """The changes asked for, None for all, and whether the path's others are in every set."""
    if study is None:
        return None, False
    if study.get("name") != "orders":
        raise RequestError(
            f"study={study.get('name')} does not go with an attribution; some of the changes are chosen by "
            "study=orders study.changes=[gelu,layer_norm]"
        )
    wanted = Orders.from_mapping(study)
    return None if wanted.changes is None else list(wanted.changes), wanted.keep_others


def _restriction(steps: list[Step]) -> str:
    """That only some of the path's changes were asked for, after a semicolon; nothing where all were."""
    names, others = _chosen_changes(steps[0].composed.study)
    return (
        "" if names is None else f"; {len(names)} of the path's changes, all others {'there' if others else 'absent'}"
    )


def _plans(folders: Sequence[str]) -> list[dict[str, Any]]:
    """What the sweeps in folders of runs planned."""
    return [sweep.header for folder in folders if "://" not in folder for sweep in read_sweeps(folder)]


def _is_on(header: Mapping[str, Any], composed: "Composed") -> bool:
    """Whether a sweep is on the regime, data and path of a config."""
    planned = tuple(header.get(key) for key in ("regime", "data", "path"))
    return planned == (composed.regime.name, composed.data_name, composed.path_name)


def _of_other_sets(header: Mapping[str, Any], names: Sequence[str], others: bool) -> bool:
    """Whether a sweep's orders are of other sets than those of the changes ``names`` with or without all others."""
    study = header["study"]
    return study["name"] == "orders" and (sorted(header["changes"]) != sorted(names) or study["keep_others"] != others)


def _hints(here: Sequence[Mapping[str, Any]], ours: Sequence[Mapping[str, Any]]) -> list[str]:
    words = []
    for header in here:
        if header not in ours:
            others = " study.keep_others=true" if header["study"]["keep_others"] else ""
            chosen = f"study=orders study.changes=[{','.join(header['changes'])}]{others}"
            words.append(f"sweep {header['name']} is of the orders of other sets; add {chosen} for those")
    return list(dict.fromkeys(words))


def _write(found: "Attribution", hints: list[str], options: argparse.Namespace) -> None:
    from roadmap.attribution.text import record, text

    if options.json:
        written = record(found)
        written["notes"] += hints
        write_text(options.json, json.dumps(written, indent=1, ensure_ascii=False) + "\n")
    elif options.csv:
        write_text(options.csv, csv(found.table))
    else:
        print(printable("\n".join([text(found), *hints])))
