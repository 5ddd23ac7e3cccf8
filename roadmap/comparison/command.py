"""``roadmap compare``: a table of logged runs."""

import argparse
import gc
import logging
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from roadmap.cli.arguments import Parser, chosen_runs, folders_and_overrides, say_skipped, write_text
from roadmap.cli.gap_test import add_test_options, gap_test
from roadmap.errors import RequestError
from roadmap.formatting import aligned, csv, printable
from roadmap.runs.records import is_place

if TYPE_CHECKING:
    import pandas as pd

    from roadmap.comparison.text import Cells
    from roadmap.runs.identity import Difference, Parents

logger = logging.getLogger(__name__)

FORMATS = {
    "json": "one object per row",
    "csv": "one line per row",
    "markdown": "a Markdown table",
    "latex": "a LaTeX table (booktabs)",
}


def main(arguments: list[str]) -> int:
    options = _parser().parse_intermixed_args(arguments)
    # in `--json runs/` the folder is one of the runs, not the option's value
    for name, default in {**dict.fromkeys(FORMATS, "-"), "robustness": ""}.items():
        value = getattr(options, name)
        if value and is_place(value):
            options.runs.append(value)
            setattr(options, name, default)
    folders, options.overrides = folders_and_overrides(options.runs)
    if not folders:
        raise RequestError("no run folders; name them as in `roadmap compare runs/`")
    if options.robustness is not None and options.by:
        raise RequestError("--robustness cannot be combined with --by; leave one of them out")
    runs = chosen_runs(folders, options.where)
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
        "--robustness",
        nargs="?",
        const="",
        metavar="CONDITIONS",
        help="accuracy on corrupted images, from `roadmap evaluate`; the id chooses one of several evaluations",
    )
    parser.add_argument("--sort", metavar="COLUMN", help="ascending by a column of --csv; --sort=-top1: descending")
    parser.add_argument("--baseline", metavar="VARIANT", help="compare with this variant instead of the step before")
    add_test_options(parser)
    parser.add_argument("--force", action="store_true", help="compare runs that are not comparable, with a warning")
    parser.add_argument("--config-dir", action="append", default=[], metavar="DIR", help="folder of your own path=…")
    output = parser.add_mutually_exclusive_group()
    for name, what in FORMATS.items():
        output.add_argument(f"--{name}", nargs="?", const="-", metavar="FILE", help=f"{what}; - or no FILE: stdout")
    return parser


def _output(runs: "pd.DataFrame", options: argparse.Namespace) -> "tuple[pd.DataFrame, Cells, str]":
    """The table for other programs, its cells for documents, and the text for a terminal."""
    from roadmap.comparison.compare import check_equal, compare
    from roadmap.comparison.text import accuracy_cells, grouped_cells
    from roadmap.runs.select import grouped, ordered
    from roadmap.statistics.gaps import DEFAULT_TEST

    def in_order(table: "pd.DataFrame") -> "pd.DataFrame":
        return ordered(table, options.sort) if options.sort else table

    path, test = _path(options), gap_test(options)
    if options.by:
        if test != DEFAULT_TEST:
            raise RequestError("--by tests no gaps; leave out --paired, --equivalence and --correction")
        _warn(check_equal(runs, path, force=options.force))
        table = in_order(grouped(runs, options.by))
        cells = grouped_cells(table)
        return table, cells, aligned(*cells)
    if options.robustness is None:
        comparison = compare(runs, path, **asdict(test), force=options.force)
        _warn(comparison.unequal)
        table = in_order(comparison.table)
        terminal = str(replace(comparison, table=table))
        return table.drop(columns=["design", "definition"]), accuracy_cells(table), terminal
    from roadmap.robustness import table as robustness

    robust, skipped = robustness.corrupted_runs(runs, options.robustness or None)
    say_skipped(skipped)
    comparison = robustness.robust_comparison(robust, path, test, force=options.force)
    _warn(comparison.unequal)
    table = in_order(comparison.table)
    cells = robustness.robust_cells(table)
    terminal = "\n".join([aligned(*cells), *robustness.robust_notes(robust, comparison)])
    return robustness.corrupted_columns(table).drop(columns=["design", "definition"]), cells, terminal


def _warn(unequal: "list[Difference]") -> None:
    if unequal:
        what = " and in ".join(map(str, unequal))
        logger.warning(f"these runs differ in {what}: their accuracies are not comparable")


def _path(options: argparse.Namespace) -> "Parents":
    """The baseline of each variant: --baseline, the step before on path=…, or the step before on the paper's path."""
    from roadmap.comparison.groups import Baseline, OwnPath, PaperPath

    if options.baseline:
        return Baseline(options.baseline)
    if not options.overrides:
        return PaperPath()
    from roadmap.steps.path import compose_path

    return OwnPath.of(compose_path(options.overrides, options.config_dir))
