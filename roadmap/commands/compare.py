"""``roadmap compare``: a table of logged runs."""

import argparse
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from roadmap.commands.arguments import Parser
from roadmap.errors import RequestError
from roadmap.textual import aligned

# What two runs must share to be seeds of one thing.
GROUP = ["regime", "variant", "recipe", "data", "epochs", "batch_size", "image_size", "precision"]


def main(arguments: list[str]) -> int:
    parser = Parser(prog="roadmap compare", description="a table of logged runs, seeds taken together")
    parser.add_argument("runs", nargs="*", metavar="RUNS", help="folders, searched recursively")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", nargs="?", const="-", metavar="FILE", help="one object a group; - or none: stdout")
    output.add_argument("--csv", nargs="?", const="-", metavar="FILE", help="one line a group; - or none: stdout")
    options = _folders_are_runs(parser.parse_args(arguments))
    if not options.runs:
        raise RequestError("no run folders; name them as in `roadmap compare runs/`")
    from roadmap.analysis.runs import load_runs

    runs = load_runs(options.runs)
    if not len(runs):
        raise RequestError(f"no run in {', '.join(options.runs)}")
    table = summarise(runs)
    if options.json:
        _write(options.json, table.to_json(orient="records", indent=1, force_ascii=False) + "\n")
    elif options.csv:
        _write(options.csv, table.to_csv(index=False))
    else:
        print(render(table))
    return 0


def _folders_are_runs(options: argparse.Namespace) -> argparse.Namespace:
    """``--json runs/`` means: print json, of runs/."""
    for name in ("json", "csv"):
        value = getattr(options, name)
        if value and Path(value).is_dir():
            options.runs.append(value)
            setattr(options, name, "-")
    return options


def summarise(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a group of runs that differ in nothing but the seed: finished ones' mean and std (n - 1), best last."""
    identity = runs["definition"].map(lambda d: repr(sorted((k, repr(v)) for k, v in d.items() if k != "seed")))
    rows = []
    for _, group in runs.groupby(identity, sort=False):
        finished = group[group["status"] == "finished"]
        first = group.iloc[0]
        rows.append(
            {name: first.get(name) for name in GROUP}
            | {
                "n": len(finished),
                "unfinished": len(group) - len(finished),
                "top1": finished["top1"].astype(float).mean(),
                "top1_std": finished["top1"].astype(float).std(),
                "top5": finished["top5"].astype(float).mean(),
                "gmacs": first["gmacs"],
                "params_m": first["params_m"],
                "images_per_second": finished["images_per_second"].astype(float).mean(),
                "train_seconds": finished["train_seconds"].astype(float).sum(),
            }
        )
    return pd.DataFrame(rows).sort_values("top1", kind="stable", na_position="first", ignore_index=True)


def render(table: pd.DataFrame) -> str:
    """The table as text: what all groups share above it, what differs in its columns."""
    shared = [name for name in GROUP if name != "variant" and table[name].nunique(dropna=False) == 1]
    shown = [name for name in GROUP if name not in shared]
    header = [*shown, "n", "top-1 (%)", "top-5 (%)", "GMACs", "params (M)", "images/s"]
    lines = [[*(str(row[name]) for name in shown), *_numbers(row)] for row in table.to_dict("records")]
    notes = [", ".join(f"{name} {table[name].iloc[0]}" for name in shared)] if shared else []
    mixed = [name for name in shown if name in ("data", "epochs", "image_size", "batch_size", "precision")]
    if mixed:
        notes.append(f"note: these runs differ in {', '.join(mixed)}; their accuracies are no fair comparison")
    unfinished = int(table["unfinished"].sum())
    notes += [f"note: {unfinished} unfinished runs are left out of the means"] if unfinished else []
    return "\n".join([*notes, aligned(header, lines, left=len(shown))])


def _numbers(row: dict[Any, Any]) -> list[str]:
    spread = "" if pd.isna(row["top1_std"]) else f" ± {row['top1_std']:.2f}"
    top1, top5, speed = (
        "-" if pd.isna(row[key]) else format(row[key], form)
        for key, form in (("top1", ".2f"), ("top5", ".2f"), ("images_per_second", ".0f"))
    )
    return [str(row["n"]), top1 + spread, top5, f"{row['gmacs']:.4g}", f"{row['params_m']:.2f}", speed]


def _write(file: str, text: str) -> None:
    if file == "-":
        sys.stdout.write(text)
        return
    try:
        Path(file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise RequestError(f"cannot write {file}: {error.strerror}") from error
