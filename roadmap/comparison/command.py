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

    # for other programs, for documents, and for a terminal
    Output = tuple[pd.DataFrame, Cells, str]

logger = logging.getLogger(__name__)

FORMATS = {
    "json": "one object per row",
    "csv": "one line per row",
    "markdown": "a Markdown table",
    "latex": "a LaTeX table (booktabs)",
}


def main(arguments: list[str]) -> int:
    options = _take_folders_from_options(_parser().parse_intermixed_args(arguments))
    options.runs, options.overrides = folders_and_overrides(options.runs)
    if not options.runs:
        raise RequestError("no run folders; name them as in `roadmap compare runs/`")
    if options.robustness is not None and (options.by or options.pareto or options.watch is not None):
        raise RequestError("--robustness cannot be combined with --by, --pareto or --watch; leave one of them out")
    if options.bench and (options.by or options.pareto or options.watch is not None):
        raise RequestError("--bench cannot be combined with --by, --pareto or --watch; leave one of them out")
    if options.watch is not None:
        return watch(options)
    runs = chosen_runs(options.runs, options.where)
    # statsmodels starts a full garbage collection, which with 10,000 records takes longer than everything else
    gc.freeze()
    table, cells, terminal = _output(runs, options)
    if options.json:
        write_text(options.json, table.to_json(orient="records", indent=1, force_ascii=False) + "\n")
    elif options.csv:
        write_text(options.csv, csv(table))
    elif options.markdown or options.latex:
        from roadmap.comparison.text import markup

        kind = "github" if options.markdown else "latex_booktabs"
        write_text(options.markdown or options.latex, markup(*cells, kind))
    else:
        print(printable(terminal))
    return 0


def _parser() -> Parser:
    parser = Parser(prog="roadmap compare", description="a table of logged runs, averaged over seeds")
    parser.add_argument("runs", nargs="*", metavar="RUNS", help="folders, searched recursively; wandb://ENTITY/PROJECT")
    parser.add_argument(
        "--where", metavar="EXPR", help="only runs that match, for example \"regime == 'tiny' and seed < 3\""
    )
    parser.add_argument("--by", metavar="FIELDS", help="one row per combination of fields instead: --by norm,kernel")
    parser.add_argument(
        "--pareto",
        nargs="?",
        const="gmacs",
        metavar="gmacs|params",
        help="only the Pareto front of accuracy and cost",
    )
    parser.add_argument(
        "--robustness",
        nargs="?",
        const="",
        metavar="CONDITIONS",
        help="accuracy on corrupted images, from `roadmap evaluate`; the id chooses one of several evaluations",
    )
    parser.add_argument("--sort", metavar="COLUMN", help="ascending by a column of --csv; --sort=-top1: descending")
    parser.add_argument("--baseline", metavar="VARIANT", help="compare with this variant instead of the step before")
    parser.add_argument(
        "--bench",
        metavar="FILE|DIR",
        action="append",
        help="add the throughput of the same designs, measured by `roadmap bench`",
    )
    parser.add_argument("--force", action="store_true", help="compare runs that are not comparable, with a warning")
    parser.add_argument("--watch", nargs="?", const=5.0, type=float, metavar="SECONDS", help="keep updating the table")
    parser.add_argument("--config-dir", action="append", default=[], metavar="DIR", help="folder of your own path=…")
    output = parser.add_mutually_exclusive_group()
    for name, what in FORMATS.items():
        output.add_argument(f"--{name}", nargs="?", const="-", metavar="FILE", help=f"{what}; - or no FILE: stdout")
    return parser


def _take_folders_from_options(options: argparse.Namespace) -> argparse.Namespace:
    """In ``--json runs/`` the folder is one of the runs, not the option's value."""
    for name, default in {**dict.fromkeys(FORMATS, "-"), "robustness": "", "pareto": "gmacs"}.items():
        value = getattr(options, name)
        if value and is_place(value):
            options.runs.append(value)
            setattr(options, name, default)
    return options


def _output(runs: "pd.DataFrame", options: argparse.Namespace) -> "Output":
    from roadmap.comparison import text

    if options.pareto:
        from roadmap.comparison import pareto

        front = pareto.front(runs, options.pareto)
        return front.table[[*pareto.COLUMNS]], pareto.cells(front.members), pareto.text(front)
    if options.robustness is not None:
        return _corrupted(runs, options)
    if options.by:
        table = _pooled(runs, options)
        cells = text.grouped_cells(table)
        return table, cells, aligned(*cells)
    comparison, measured = _with_benches(_compared(runs, options), options.bench)
    table = comparison.table.drop(columns=["design", "definition"])
    return table, text.accuracy_cells(comparison.table), "\n".join([text.text(comparison), *measured])


def _corrupted(runs: "pd.DataFrame", options: argparse.Namespace) -> "Output":
    """The output of --robustness."""
    from roadmap.robustness import table as robustness

    robust, skipped = robustness.corrupted_runs(runs, options.robustness or None)
    say_skipped(skipped)
    comparison = robustness.robust_comparison(robust, _path(options), force=options.force)
    _warn(comparison.unequal)
    table = _sorted(comparison.table, options)
    cells = robustness.robust_cells(table)
    terminal = "\n".join([aligned(*cells), *robustness.robust_notes(robust, comparison)])
    return robustness.corrupted_columns(table).drop(columns=["design", "definition"]), cells, terminal


def _pooled(runs: "pd.DataFrame", options: argparse.Namespace) -> "pd.DataFrame":
    """The table of --by."""
    from roadmap.comparison.compare import check_equal
    from roadmap.runs.select import grouped

    _warn(check_equal(runs, _path(options), force=options.force))
    return _sorted(grouped(runs, options.by), options)


def _compared(runs: "pd.DataFrame", options: argparse.Namespace) -> "Comparison":
    from roadmap.comparison.compare import compare

    comparison = compare(runs, _path(options), force=options.force)
    _warn(comparison.unequal)
    return replace(comparison, table=_sorted(comparison.table, options))


def _sorted(table: "pd.DataFrame", options: argparse.Namespace) -> "pd.DataFrame":
    from roadmap.runs.select import ordered

    return ordered(table, options.sort) if options.sort else table


def _with_benches(comparison: "Comparison", places: list[str] | None) -> "tuple[Comparison, list[str]]":
    """The comparison with a column per measured mode, and a line on how each was measured."""
    if not places:
        return comparison, []
    from roadmap.bench.reading import load_bench, with_speeds

    benches, table, lines = load_bench(places), comparison.table, []
    for mode in ("inference", "training"):
        if (column := f"{mode}_images_per_second") in benches:
            table, words = with_speeds(table, benches, column, f"bench_{mode}")
            lines.append(f"bench: {words}")
    if not lines:
        raise RequestError("these benches measured no throughput; run `roadmap bench bench.measure=[inference]`")
    return replace(comparison, table=table), lines


def _warn(unequal: "list[Difference]") -> None:
    if unequal:
        what = " and in ".join(map(str, unequal))
        logger.warning(f"these runs differ in {what}: their accuracies are not comparable")


def _path(options: argparse.Namespace) -> "Parents":
    """The baseline of each variant: --baseline, the step before on path=…, or the step before on the paper's path."""
    from roadmap.comparison.baseline_step import Baseline, OwnPath, PaperPath

    if options.baseline:
        return Baseline(options.baseline)
    if not options.overrides:
        return PaperPath()
    from roadmap.steps.path import compose_path

    return OwnPath.of(compose_path(options.overrides, options.config_dir))


def watch(options: argparse.Namespace) -> int:
    """Print the table again after every change, until nothing has run for a minute or Ctrl-C."""
    if online := [place for place in options.runs if "://" in place]:
        raise RequestError(f"--watch follows run folders only; leave {online[0]} out")
    return follow(lambda: _screen(options), options.watch)


def _screen(options: argparse.Namespace) -> tuple[str, bool]:
    """The text that --watch prints now, and whether any run is in progress."""
    from roadmap.comparison.text import text
    from roadmap.runs.reading import read_runs, running_lines
    from roadmap.runs.select import where

    runs, _ = read_runs([folder for folder in options.runs if is_place(folder)])
    runs = where(runs, options.where) if options.where and len(runs) else runs
    if not len(runs):
        return f"no run yet in {', '.join(options.runs)}", False
    lines = running_lines(runs)
    return "\n".join([text(_compared(runs, options)), *lines]), bool(lines)
