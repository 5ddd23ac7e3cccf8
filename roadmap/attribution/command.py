"""``roadmap attribution``: what each change of a path is worth, given the others."""

import argparse
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roadmap.attribution.change_subsets import ChangeSubsets
from roadmap.cli.arguments import chosen_runs, folders_and_overrides, one_kind, override_parser, write_text
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

logger = logging.getLogger(__name__)

FORMATS = {"json": "everything as one object", "csv": "one line per change"}


def main(arguments: list[str]) -> int:
    options = _parser().parse_intermixed_args(arguments)
    _words_are_no_files(options)
    folders, overrides = folders_and_overrides(options.overrides)
    file = Path(options.output) if options.output else None
    if file is not None:
        from roadmap.plots.charts import check_suffix, save

        check_suffix(file)
    if options.where and not folders:
        raise RequestError("--where chooses among runs; name their folders")
    if file is not None and not folders:
        raise RequestError("no run folders to draw; name them as in `roadmap attribution runs/ -o attribution.png`")
    runs = chosen_runs(folders, options.where) if folders else None
    found, steps, hints = attributed(runs, folders, overrides, options.config_dir)
    if file is not None:
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
    changes, others = _chosen_changes(steps[0].composed.study)
    if changes is not None:
        words += f"; {len(changes)} of the path's changes, all others {'there' if others else 'absent'}"
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
    parser.add_argument("--where", metavar="EXPR", help="only runs that match EXPR, as in `roadmap compare`")
    parser.add_argument("-o", "--output", metavar="FILE", help="also draw the figure: png, svg or pdf")
    output = parser.add_mutually_exclusive_group()
    for name, what in FORMATS.items():
        output.add_argument(f"--{name}", nargs="?", const="-", metavar="FILE", help=f"{what} (stdout without FILE)")
    return parser


def _words_are_no_files(options: argparse.Namespace) -> None:
    """Take ``--json runs/`` and ``--json regime=tiny`` as a folder and an override, and print JSON."""
    for name in FORMATS:
        value = getattr(options, name)
        if value and (is_place(value) or "=" in value):
            options.overrides.append(value)
            setattr(options, name, "-")


def attributed(
    runs: "pd.DataFrame | None", folders: Sequence[str], overrides: list[str], config_dirs: list[str]
) -> tuple["Attribution", list[Step], list[str]]:
    """Return the attribution of runs, or of costs alone; the path's steps; and hints about sweeps that are not used.

    Without overrides the path has the regime and data of the runs. Raises RequestError if the runs have several.
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
    ours, hints = [], []
    for header in (sweep.header for folder in folders if "://" not in folder for sweep in read_sweeps(folder)):
        study, changes = header["study"], header["changes"]
        if [header.get(key) for key in ("regime", "data", "path")] != [
            first.regime.name,
            first.data_name,
            first.path_name,
        ]:
            continue
        if study["name"] != "orders" or (sorted(changes), study["keep_others"]) == (sorted(sets.names), others):
            ours.append(header)
            continue
        chosen = f"study=orders study.changes=[{','.join(changes)}]" + " study.keep_others=true" * study["keep_others"]
        hints.append(f"sweep {header['name']} is of the orders of other sets; add {chosen} for those")
    by_name = {step.name: step for step in steps}
    variants = {None: ""} | {step.name: step.composed.variant for step in steps}
    pairs = [(variants[name], variants[by_name[name].parent]) for name in sets.names]
    return attribute(runs, sets, ours, first.regime.name, pairs), steps, list(dict.fromkeys(hints))


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
