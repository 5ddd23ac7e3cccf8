"""``roadmap attribution``: what each change of a path is worth, given the others."""

import argparse
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roadmap.attribution.change_subsets import ChangeSubsets, SubsetTable
from roadmap.cli.arguments import chosen_runs, folders_and_overrides, one_kind, override_parser
from roadmap.config.overrides import key_of
from roadmap.errors import RequestError
from roadmap.formatting import csv, printable
from roadmap.runs.sweep_plan import read_sweeps
from roadmap.steps.path import Step, compose_path
from roadmap.sweeps.studies import Orders

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

    from roadmap.attribution.attribution import Attribution

logger = logging.getLogger(__name__)


def main(arguments: list[str]) -> int:
    options = _parser().parse_intermixed_args(arguments)
    folders, overrides = folders_and_overrides(options.overrides)
    if (options.where or options.output) and not folders:
        raise RequestError("--where and --output need runs; name their folders, as in `roadmap attribution runs/`")
    if options.output:
        from roadmap.plots.charts import check_suffix, save

        check_suffix(Path(options.output))
    runs = chosen_runs(folders, options.where) if folders else None
    if "study=screening" in overrides:
        return _screening(options, runs, overrides)
    found, steps = attributed(runs, folders, overrides, options.config_dir, options.control_variate)
    if options.output:
        save(draw(found, steps), Path(options.output))
        logger.info(f"figure: {options.output}")
    from roadmap.attribution.text import record, text

    if options.json:
        print(json.dumps(record(found), indent=1, ensure_ascii=False))
    elif options.csv:
        sys.stdout.write(csv(found.table))
    else:
        print(printable(text(found)))
    return 0


def _screening(options: argparse.Namespace, runs: "pd.DataFrame | None", overrides: list[str]) -> int:
    """Print the main effects of a screening design, and draw them if asked to."""
    from roadmap.screening import command, text

    if runs is None:
        raise RequestError("study=screening needs runs; `roadmap sweep study=screening --dry-run` shows the design")
    found, study = command.screened(runs, overrides, options.config_dir)
    if options.output:
        from roadmap.plots.charts import save

        save(command.draw(found, study), Path(options.output))
        logger.info(f"figure: {options.output}")
    if options.json:
        print(json.dumps(text.record(found), indent=1, ensure_ascii=False))
    elif options.csv:
        sys.stdout.write(csv(found.table))
    else:
        print(printable(text.effects_text(found)))
    return 0


def draw(found: "Attribution", steps: list[Step], kind: str = "attribution") -> "alt.VConcatChart":
    """Return the chart of an attribution on a path, or of its ``interactions``."""
    from roadmap.attribution.plots import attribution_chart, interactions_chart
    from roadmap.comparison.step_table import networks, subtitle, toggle_words

    words = subtitle(found.runs, steps) if len(found.runs) else f"counted, no runs{toggle_words(steps)}"
    changes, others = _chosen_changes(steps[0].composed.study)
    if changes is not None:
        words += f"; {len(changes)} of the path's changes, all others {'present' if others else 'absent'}"
    names = networks(steps, " to ")
    if kind == "attribution":
        return attribution_chart(found, title=f"What each change is worth, from {names}", subtitle=words)
    return interactions_chart(found, title=f"How changes depend on each other, from {names}", subtitle=words)


def _parser() -> argparse.ArgumentParser:
    parser = override_parser(
        "attribution",
        "what each change of a path is worth given the others: leave-one-out, add-one-in and Shapley value, of GMACs "
        "and parameters exactly, and of accuracy from the runs in folders; some of the changes alone by study=orders "
        "study.changes=[gelu,layer_norm], the main effects of a screening design by study=screening study.n=N",
    )
    parser.add_argument("--where", metavar="EXPR", help="only runs that match EXPR, as in `roadmap compare`")
    parser.add_argument("-o", "--output", metavar="FILE", help="also draw the figure: png, svg or pdf")
    parser.add_argument(
        "--control-variate",
        action="store_true",
        help="Shapley values with a ridge model of the other orders subtracted",
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print everything as one object")
    output.add_argument("--csv", action="store_true", help="print one line per change")
    return parser


def attributed(
    runs: "pd.DataFrame | None",
    folders: Sequence[str],
    overrides: list[str],
    config_dirs: list[str],
    control_variate: bool = False,
) -> tuple["Attribution", list[Step]]:
    """Return the attribution of runs, or of costs alone, and the path's steps.

    Without overrides the path has the regime and data of the runs. Raises RequestError if the runs have several.
    """
    from roadmap.attribution.attribution import attribute, count

    if any(key_of(word) in ("step", "seed") for word in overrides):
        raise RequestError("step= and seed= do not go with an attribution, which is of sets of the path's changes")
    if runs is not None:
        runs, overrides = one_kind(runs, overrides)
    steps = compose_path(overrides, config_dirs)
    first = steps[0].composed
    names, others = _chosen_changes(first.study)
    sets = SubsetTable.of(ChangeSubsets.of(steps, names, others, config_dirs))
    if runs is None:
        return count(sets), steps
    place = {"regime": first.regime.name, "data": first.data_name, "path": first.path_name}
    sweeps = [sweep.header for folder in folders if "://" not in folder for sweep in read_sweeps(folder)]
    headers = [
        header
        for header in sweeps
        if header["study"]["name"] == "orders"
        and (sorted(header["changes"]), header["study"]["keep_others"]) == (sorted(sets.names), others)
        and place.items() <= header.items()
    ]
    variants = {step.name: step.composed.variant for step in steps}
    pairs = [(variants[step.name], variants[step.parent]) for step in sets.subsets.changes if step.parent]
    return attribute(runs, sets, headers, first.regime.name, pairs, control_variate), steps


def _chosen_changes(study: Mapping[str, Any] | None) -> tuple[list[str] | None, bool]:
    """Return the chosen changes, None for all, and whether the path's others are in every set."""
    if study is None:
        return None, False
    if study.get("name") != "orders":
        raise RequestError(
            f"study={study.get('name')} does not go with an attribution; some of the changes are chosen by "
            "study=orders study.changes=[gelu,layer_norm]"
        )
    wanted = Orders.from_mapping(study)
    return None if wanted.changes is None else list(wanted.changes), wanted.keep_others
