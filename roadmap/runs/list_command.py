"""``roadmap list``: all logged runs, one line each."""

import os

import pandas as pd

from roadmap.cli.arguments import Parser, chosen_runs, write_text
from roadmap.formatting import aligned, csv, duration, number, printable
from roadmap.runs.reading import Folders
from roadmap.runs.records import exported_part
from roadmap.runs.run_folder import RunLock
from roadmap.runs.select import ordered

COLUMNS = (
    *("regime", "data", "variant", "recipe", "seed", "epochs", "status", "top1", "best_top1", "gmacs", "params_m"),
    *("train_seconds", "ended", "error", "run_id", "path"),
)


def main(arguments: list[str]) -> int:
    parser = Parser(prog="roadmap list", description="list logged runs, one line each")
    parser.add_argument("runs", nargs="*", default=["runs"], metavar="RUNS", help="folders of runs (default: runs)")
    parser.add_argument("--where", metavar="EXPR", help="only runs that match: \"status == 'failed' and seed < 3\"")
    parser.add_argument("--sort", metavar="COLUMN", help="ascending by a column of --csv; --sort=-top1: descending")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", nargs="?", const="-", metavar="FILE", help="one object per run; no FILE: stdout")
    output.add_argument("--csv", nargs="?", const="-", metavar="FILE", help="one line per run; no FILE: stdout")
    options = parser.parse_intermixed_args(arguments)
    runs = list_runs(options.runs, where=options.where, sort=options.sort)
    if options.json:
        write_text(options.json, runs.to_json(orient="records", indent=1, force_ascii=False) + "\n")
    elif options.csv:
        write_text(options.csv, csv(runs))
    else:
        print(printable(text(runs)))
    return 0


def list_runs(runs: Folders = "runs", *, where: str | None = None, sort: str | None = None) -> pd.DataFrame:
    """Return one row per run, with the columns of ``roadmap list --csv``; ``load_runs`` has all fields.

    ``where`` selects runs by an expression over their fields (``seed < 3``), ``sort`` names a column (``-top1``:
    descending). Accuracies are in percent, MACs ×10⁹, parameters ×10⁶ and times in seconds. The status of a run that
    was killed is ``interrupted``. Raises RequestError if there is no such run or field.
    """
    folders = [os.fspath(runs)] if isinstance(runs, str | os.PathLike) else [os.fspath(folder) for folder in runs]
    table = chosen_runs(folders, where)
    table = table.assign(
        status=[
            "interrupted" if status == "running" and _is_dead(path, run_id) else status
            for status, path, run_id in zip(table["status"], table["path"], table["run_id"], strict=True)
        ]
    )
    table = ordered(table, sort) if sort else table.reset_index(drop=True)
    return table[[*COLUMNS]]


def _is_dead(path: str, run_id: str) -> bool:
    """Whether no process is training a run that is recorded as running."""
    if exported_part(path) or "://" in path:
        return True
    return RunLock(os.path.dirname(path), run_id).holder() is None


def text(runs: pd.DataFrame) -> str:
    """The table for a terminal, and the number of runs in each status; what all runs share is in the first line."""
    names = ["regime", "data", "recipe", "epochs"]
    same = [name for name in names if runs[name].nunique(dropna=False) == 1]
    columns = {name: [number(value, "") for value in runs[name]] for name in names if name not in same}
    columns["variant"] = [*map(str, runs["variant"])]
    columns["seed"] = [number(seed, ".0f") for seed in runs["seed"]]
    columns["status"] = [*map(str, runs["status"])]
    columns["top-1 (%)"] = [number(top1) for top1 in runs["top1"]]
    columns["GMACs"] = [number(gmacs, ".4g") for gmacs in runs["gmacs"]]
    columns["time"] = ["-" if pd.isna(seconds) else duration(seconds) for seconds in runs["train_seconds"]]
    columns["run_id"] = [*map(str, runs["run_id"])]
    counts = ", ".join(f"{count} {status}" for status, count in runs["status"].value_counts().items())
    head = ", ".join(f"{name} {number(runs[name].iloc[0], '')}" for name in same)
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    return "\n".join(part for part in (head, aligned([*columns], rows), f"{len(runs)} runs: {counts}") if part)
