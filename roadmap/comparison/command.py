"""``roadmap compare``: a table of logged runs."""

import argparse
import gc
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from roadmap.cli.arguments import Parser, chosen_runs, folders_and_overrides, say_skipped, write_text
from roadmap.cli.watch import follow
from roadmap.errors import RequestError
from roadmap.formatting import aligned, csv, printable
from roadmap.runs.records import is_place

if TYPE_CHECKING:
    import pandas as pd

    from roadmap.comparison.compare import Comparison
    from roadmap.comparison.text import Cells
    from roadmap.runs.identity import Difference, Parents

logger = logging.getLogger(__name__)

FORMATS = {
    "json": "one object a group",
    "csv": "one line a group",
    "markdown": "a Markdown table",
    "latex": "a LaTeX table (booktabs)",
}


def main(arguments: list[str]) -> int:
    options = _folders_are_runs(_parser().parse_intermixed_args(arguments))
    options.runs, options.overrides = folders_and_overrides(options.runs)
    if not options.runs:
        raise RequestError("no run folders; name them as in `roadmap compare runs/`")
    if options.robustness is not None and (options.by or options.pareto or options.watch is not None):
        raise RequestError("--robustness goes with neither --by, --pareto nor --watch; leave one of them out")
    if options.bench and (options.by or options.pareto or options.watch is not None):
        raise RequestError("--bench stands beside single designs; leave out --by, --pareto and --watch")
    if options.watch is not None:
        return watch(options)
    runs = chosen_runs(options.runs, options.where)
    # statsmodels calls for a search of all garbage, which among 10,000 records takes longer than its work
    gc.freeze()
    from roadmap.comparison import text

    if options.pareto:
        from roadmap.comparison import pareto

        front = pareto.front(runs, options.pareto)
        table = front.table[[*pareto.COLUMNS]]
        cells = pareto.cells(front.members)
        terminal = pareto.text(front)
    elif options.robustness is not None:
        table, cells, terminal = _robust(runs, options)
    elif options.by:
        table = _pooled(runs, options)
        cells = text.grouped_cells(table)
        terminal = aligned(*cells)
    else:
        comparison = _compared(runs, options)
        comparison, measured = _benched(comparison, options.bench)
        table = comparison.table.drop(columns=["design", "definition"])
        cells = text.accuracy_cells(comparison.table)
        terminal = "\n".join([text.text(comparison), *measured])
    if options.json:
        write_text(options.json, table.to_json(orient="records", indent=1, force_ascii=False) + "\n")
    elif options.csv:
        write_text(options.csv, csv(table))
    elif options.markdown:
        write_text(options.markdown, text.markup(*cells, "github"))
    elif options.latex:
        write_text(options.latex, text.markup(*cells, "latex_booktabs"))
    else:
        print(printable(terminal))
    return 0


def _parser() -> Parser:
    parser = Parser(prog="roadmap compare", description="a table of logged runs, seeds taken together")
    parser.add_argument("runs", nargs="*", metavar="RUNS", help="folders, searched recursively; wandb://ENTITY/PROJECT")
    parser.add_argument(
        "--where", metavar="EXPR", help="only runs for which it holds: \"regime == 'tiny' and seed < 3\""
    )
    parser.add_argument("--by", metavar="FIELDS", help="means over all runs of each value instead: --by norm,kernel")
    parser.add_argument(
        "--pareto",
        nargs="?",
        const="gmacs",
        metavar="gmacs|params",
        help="only designs that no other beats in accuracy and cost",
    )
    parser.add_argument(
        "--robustness",
        nargs="?",
        const="",
        metavar="CONDITIONS",
        help="accuracy on corrupted images, from records of `roadmap evaluate`; of several ways to evaluate one's id",
    )
    parser.add_argument("--sort", metavar="COLUMN", help="by a column of --csv, upward; --sort=-top1: downward")
    parser.add_argument("--baseline", metavar="VARIANT", help="gaps to this variant, not to the step before")
    parser.add_argument(
        "--bench",
        metavar="FILE|DIR",
        action="append",
        help="beside them what `roadmap bench` measured of their designs",
    )
    parser.add_argument("--force", action="store_true", help="compare what is not equal, with a warning")
    parser.add_argument("--watch", nargs="?", const=5.0, type=float, metavar="SECONDS", help="go on showing it")
    parser.add_argument("--config-dir", action="append", default=[], metavar="DIR", help="where path=… of your own is")
    output = parser.add_mutually_exclusive_group()
    for name, what in FORMATS.items():
        output.add_argument(f"--{name}", nargs="?", const="-", metavar="FILE", help=f"{what}; - or none: stdout")
    return parser


def _folders_are_runs(options: argparse.Namespace) -> argparse.Namespace:
    """``--json runs/`` means: print json, of runs/."""
    for name in FORMATS:
        value = getattr(options, name)
        if value and is_place(value):
            options.runs.append(value)
            setattr(options, name, "-")
    if options.robustness and is_place(options.robustness):
        options.runs.append(options.robustness)
        options.robustness = ""
    if options.pareto and is_place(options.pareto):
        options.runs.append(options.pareto)
        options.pareto = "gmacs"
    return options


def _robust(runs: "pd.DataFrame", options: argparse.Namespace) -> "tuple[pd.DataFrame, Cells, str]":
    """The table of --robustness: of corrupted images in the place of the clean ones."""
    from roadmap.robustness.corrupted_runs import corrupted_runs
    from roadmap.robustness.table import corrupted_columns, robust_cells, robust_comparison, robust_notes
    from roadmap.runs.select import ordered

    robust, skipped = corrupted_runs(runs, options.robustness or None)
    say_skipped(skipped)
    comparison = robust_comparison(robust, _path(options), force=options.force)
    _warn(comparison.unequal)
    table = ordered(comparison.table, options.sort) if options.sort else comparison.table
    cells = robust_cells(table)
    terminal = "\n".join([aligned(*cells), *robust_notes(robust, comparison)])
    return corrupted_columns(table).drop(columns=["design", "definition"]), cells, terminal


def _pooled(runs: "pd.DataFrame", options: argparse.Namespace) -> "pd.DataFrame":
    """The table of --by."""
    from roadmap.comparison.compare import check_equal
    from roadmap.runs.select import grouped, ordered

    _warn(check_equal(runs, _path(options), force=options.force))
    table = grouped(runs, options.by)
    return ordered(table, options.sort) if options.sort else table


def _compared(runs: "pd.DataFrame", options: argparse.Namespace) -> "Comparison":
    from roadmap.comparison.compare import compare
    from roadmap.runs.select import ordered

    comparison = compare(runs, _path(options), force=options.force)
    _warn(comparison.unequal)
    return replace(comparison, table=ordered(comparison.table, options.sort)) if options.sort else comparison


def _benched(comparison: "Comparison", places: list[str] | None) -> "tuple[Comparison, list[str]]":
    """The comparison with a column a mode that benches measured, and a line on what each was measured on."""
    if not places:
        return comparison, []
    from roadmap.bench.reading import load_bench, with_speeds

    benches, table, lines = load_bench(places), comparison.table, []
    for mode in ("inference", "training"):
        if (column := f"{mode}_images_per_second") in benches:
            table, words = with_speeds(table, benches, column, f"bench_{mode}")
            lines.append(f"bench: {words}")
    if not lines:
        raise RequestError("these benches measured no throughput; add bench.measure=[inference] to theirs")
    return replace(comparison, table=table), lines


def _warn(unequal: "list[Difference]") -> None:
    if unequal:
        what = " and in ".join(map(str, unequal))
        logger.warning(f"these runs differ in {what}: their accuracies are not comparable")


def _path(options: argparse.Namespace) -> "Parents":
    """What each variant is compared with: --baseline, the steps of path=…, or those of the paper's path."""
    from roadmap.comparison.baseline_step import Baseline, OwnPath, PaperPath

    if options.baseline:
        return Baseline(options.baseline)
    if not options.overrides:
        return PaperPath()
    from roadmap.steps.path import compose_path

    return OwnPath.of(compose_path(options.overrides, options.config_dir))


def watch(options: argparse.Namespace) -> int:
    """Show the table again whenever something has changed, until nothing has run for a minute or Ctrl-C."""
    if online := [place for place in options.runs if "://" in place]:
        raise RequestError(f"--watch follows run folders, and {online[0]} is none; leave one of them out")
    return follow(lambda: _screen(options), options.watch)


def _screen(options: argparse.Namespace) -> tuple[str, bool]:
    """What --watch shows now, and whether anything is running."""
    from roadmap.comparison.text import text
    from roadmap.runs.reading import read_runs
    from roadmap.runs.run_progress import running_lines
    from roadmap.runs.select import where

    there = [folder for folder in options.runs if is_place(folder)]
    runs, _ = read_runs(there)
    runs = where(runs, options.where) if options.where and len(runs) else runs
    if not len(runs):
        return f"no run yet in {', '.join(options.runs)}", False
    lines = running_lines(runs)
    return "\n".join([text(_compared(runs, options)), *lines]), bool(lines)
