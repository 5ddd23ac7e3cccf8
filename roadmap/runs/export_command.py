"""``roadmap export``: runs from folders, exported files and W&B projects in one file."""

import base64
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roadmap.cli.arguments import Parser, say_skipped
from roadmap.errors import RequestError
from roadmap.runs.exported import SUFFIX, TEXTS, write_exported
from roadmap.runs.records import files_below, is_file, read_file, read_json, read_text
from roadmap.untrusted_io import reason

if TYPE_CHECKING:
    import pandas as pd

    from roadmap.runs.reading import Folders

Lines = Iterator[dict[str, Any]]
Names = Mapping[str, str]  # each run's path → its name in the file


def main(arguments: list[str]) -> int:
    parser = Parser(prog="roadmap export", description="runs in one file, which every command reads like a folder")
    parser.add_argument("runs", nargs="+", metavar="RUNS", help="folders, searched recursively; wandb://ENTITY/PROJECT")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="NAME.runs.jsonl.gz")
    parser.add_argument("--where", metavar="EXPR", help="only runs for which it holds, as of `roadmap compare`")
    parser.add_argument("--force", action="store_true", help="overwrite FILE")
    options = parser.parse_intermixed_args(arguments)
    say_skipped(export(options.runs, options.output, options.where, force=options.force))
    print(f"exported: {options.output}")
    return 0


def export(
    runs: "Folders", path: str | os.PathLike[str], where: str | None = None, *, force: bool = False
) -> list[str]:
    """Write runs into one file, and return a sentence on each skipped record.

    ``runs`` are as for ``load_runs``; ``where`` selects some, as in ``regime == 'tiny' and seed < 3``. The file holds
    the summary, config, overrides, metrics, evaluations and predictions of each run, the plans of their sweeps, and
    benches. Equal runs give equal bytes. Raises RequestError if there is no such run, if the file's name does not end
    in ``.runs.jsonl.gz``, or if the file exists, unless ``force``.
    """
    from roadmap.runs.reading import read_history, read_summaries, runs_table
    from roadmap.runs.select import where as chosen_where

    file = Path(path)
    if not file.name.endswith(SUFFIX):
        raise RequestError(f"cannot export to {file}: the file's name must end in {SUFFIX}")
    if file.exists() and not force:
        raise RequestError(f"{file} exists; choose another name or overwrite it with --force")
    places = [os.fspath(place) for place in ([runs] if isinstance(runs, str | os.PathLike) else runs)]
    summaries, skipped = read_summaries(places)
    table = runs_table(summaries)
    if where:
        table = chosen_where(table, where)
    if not len(table):
        raise RequestError(f"no run in {', '.join(places)}" + (f' matches --where "{where}"' if where else ""))
    names = _names(table)
    chosen = {names[summary["path"]]: summary for summary in summaries if summary["path"] in names}
    history, lost = read_history(table)
    skipped += lost
    benches = _read((file for place in places for file in files_below(Path(place), "bench/*.json", skipped)), skipped)
    records = [
        *_runs(chosen, skipped),
        *_sweeps(places, set(table["run_id"])),
        *({"bench": name, "record": record} for name, record in benches.items()),
    ]
    write_exported(file, [records, _settings(names), _metrics(history, table, names), _predictions(names)])
    return skipped


def _names(runs: "pd.DataFrame") -> dict[str, str]:
    """The name of each run's folder, with the run_id if an earlier run has the same name."""
    names: dict[str, str] = {}
    for path, run_id in zip(runs["path"], runs["run_id"], strict=True):
        name = os.path.basename(os.path.abspath(path))
        names[path] = f"{name}-{run_id}" if name in names.values() else name
    return names


def _runs(summaries: Mapping[str, dict[str, Any]], skipped: list[str]) -> Lines:
    for name, summary in summaries.items():
        line = {"run": name, "summary": {key: value for key, value in summary.items() if key != "path"}}
        evaluations = _read(files_below(Path(summary["path"]), "evaluations/*.json", skipped), skipped)
        yield line | ({"evaluations": evaluations} if evaluations else {})


def _read(files: Iterable[Path], skipped: list[str]) -> dict[str, Any]:
    """The content of each file by its name, the first of each name."""
    found: dict[str, Any] = {}
    for file in files:
        try:
            found.setdefault(file.stem, read_json(file))
        except (OSError, ValueError) as error:
            skipped.append(f"{file}: {reason(error)}")
    return found


def _sweeps(places: Iterable[str], run_ids: set[str]) -> Lines:
    from roadmap.runs.sweep_plan import read_sweeps

    sweeps = {sweep.name: sweep for place in places for sweep in read_sweeps(place)}
    for name, sweep in sweeps.items():
        if any(run["run_id"] in run_ids for run in sweep.runs):
            yield {"sweep": name, "header": sweep.header, "plan": sweep.runs}


def _settings(names: Names) -> Lines:
    """The config and overrides of each run that has them; runs from W&B do not."""
    for path, name in names.items():
        texts = {}
        for key, place in TEXTS.items():
            with suppress(OSError, ValueError):
                texts[key] = read_text(Path(path, place))
        if texts:
            yield {"run": name} | texts


def _metrics(history: "pd.DataFrame", runs: "pd.DataFrame", names: Names) -> Lines:
    """The columns of each run with metrics; numbers that are not finite become null."""
    path_of = dict(zip(runs["run_id"], runs["path"], strict=True))
    for run_id, rows in history.groupby("run_id", sort=False) if len(history) else ():
        columns = rows.drop(columns=["run_id", "variant", "step", "seed"]).dropna(axis="columns", how="all")
        yield {"run": names[path_of[run_id]], "columns": {str(name): columns[name].tolist() for name in columns}}


def _predictions(names: Names) -> Lines:
    """The files of predictions of each run that has any, without those of single corruptions."""
    for path, name in names.items():
        evaluations = files_below(Path(path), "evaluations/*.json", [])
        places = ["predictions.npz", *(f"evaluations/{file.stem}.npz" for file in evaluations)]
        files = {place: Path(path, place) for place in places if is_file(Path(path, place))}
        if files:
            yield {
                "run": name,
                "files": {place: base64.b64encode(read_file(file, bytes)).decode() for place, file in files.items()},
            }
