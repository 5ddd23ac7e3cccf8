"""Export runs from folders, exported files and W&B projects into one file."""

import base64
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from roadmap.errors import RequestError
from roadmap.runs.exported import SUFFIX, TEXTS, Line, write_exported
from roadmap.runs.predictions import PREDICTIONS
from roadmap.runs.reading import Folders, read_history, read_summaries, runs_table
from roadmap.runs.records import files_below, is_file, is_place, read_bytes, read_json, read_text
from roadmap.runs.select import where as chosen_where
from roadmap.runs.sweep_plan import read_sweeps
from roadmap.untrusted_io import reason

Names = Mapping[str, str]  # each run's path → its name in the file


def export(runs: Folders, path: str | os.PathLike[str], where: str | None = None, *, force: bool = False) -> list[str]:
    """Write runs into one file, and return a sentence on each skipped record.

    ``runs`` are as for ``load_runs``; ``where`` selects some, as in ``regime == 'tiny' and seed < 3``. The file holds
    the summary, config, overrides, metrics, evaluations and predictions of each run, the plans of their sweeps, and
    benches. Equal runs give equal bytes. Raises RequestError if there is no such run, if the file's name does not end
    in ``.runs.jsonl.gz``, or if the file exists, unless ``force``.
    """
    file = Path(path)
    if not file.name.endswith(SUFFIX):
        raise RequestError(f"cannot export to {file}: the file's name must end in {SUFFIX}")
    if file.exists() and not force:
        raise RequestError(f"{file} exists; choose another name or overwrite it with --force")
    places = [os.fspath(place) for place in ([runs] if isinstance(runs, str | os.PathLike) else runs)]
    summaries, skipped = read_summaries(places)
    if not summaries:
        raise RequestError(f"no run in {', '.join(places)}")
    if where:
        chosen = set(chosen_where(runs_table(summaries), where)["run_id"])
        summaries = [summary for summary in summaries if summary["run_id"] in chosen]
        if not summaries:
            raise RequestError(f'none of these runs match --where "{where}"')
    names = _names(summaries)
    history, lost = read_history(runs_table(summaries))
    skipped += lost
    records = [*_runs(summaries, names, skipped), *_sweeps(places, summaries), *_benches(places, skipped)]
    write_exported(file, [records, _settings(names), _metrics(history, summaries, names), _predictions(names)])
    return skipped


def _names(summaries: list[dict[str, Any]]) -> dict[str, str]:
    """The name of each run's folder, with the run_id if an earlier run has the same name."""
    names: dict[str, str] = {}
    for summary in summaries:
        name = os.path.basename(os.path.abspath(summary["path"]))
        names[summary["path"]] = f"{name}-{summary['run_id']}" if name in names.values() else name
    return names


def _runs(summaries: list[dict[str, Any]], names: Names, skipped: list[str]) -> Iterator[Line]:
    for summary in summaries:
        path = summary["path"]
        line = {"run": names[path], "summary": {key: value for key, value in summary.items() if key != "path"}}
        evaluations = {}
        for file in files_below(Path(path), "evaluations/*.json", skipped) if is_place(path) else []:
            try:
                evaluations[file.stem] = read_json(file)
            except (OSError, ValueError) as error:
                skipped.append(f"{file}: {reason(error)}")
        yield line | ({"evaluations": evaluations} if evaluations else {})


def _settings(names: Names) -> Iterator[Line]:
    """The config and overrides of each run that has them; runs from W&B do not."""
    for path, name in names.items():
        texts = {}
        for key, place in TEXTS.items():
            with suppress(OSError, ValueError):
                texts[key] = read_text(Path(path, place))
        if texts:
            yield {"run": name} | texts


def _sweeps(places: list[str], summaries: list[dict[str, Any]]) -> list[Line]:
    """The plans of the runs' sweeps."""
    ids = {summary["run_id"] for summary in summaries}
    sweeps = {sweep.name: sweep for place in places if is_place(place) for sweep in read_sweeps(place)}
    return [
        {"sweep": name, "header": sweep.header, "plan": sweep.runs}
        for name, sweep in sweeps.items()
        if any(run["run_id"] in ids for run in sweep.runs)
    ]


def _benches(places: list[str], skipped: list[str]) -> list[Line]:
    found: dict[str, Any] = {}
    for place in places:
        for file in files_below(Path(place), "bench/*.json", skipped) if is_place(place) else []:
            try:
                found.setdefault(file.stem, read_json(file))
            except (OSError, ValueError) as error:
                skipped.append(f"{file}: {reason(error)}")
    return [{"bench": name, "record": record} for name, record in found.items()]


def _metrics(history: pd.DataFrame, summaries: list[dict[str, Any]], names: Names) -> Iterator[Line]:
    """The columns of each run with metrics; numbers that are not finite become null."""
    path_of = {summary["run_id"]: summary["path"] for summary in summaries}
    for run_id, rows in history.groupby("run_id", sort=False) if len(history) else ():
        columns = rows.drop(columns=["run_id", "variant", "step", "seed"]).dropna(axis="columns", how="all")
        yield {"run": names[path_of[run_id]], "columns": {str(name): columns[name].tolist() for name in columns}}


def _predictions(names: Names) -> Iterator[Line]:
    """The files of predictions of each run that has any, without those of single corruptions."""
    for path, name in names.items():
        found = [PREDICTIONS] if is_file(Path(path, PREDICTIONS)) else []
        if is_place(path):
            files = [file.with_suffix(".npz") for file in files_below(Path(path), "evaluations/*.json", [])]
            found += [f"evaluations/{file.name}" for file in files if is_file(file)]
        if found:
            texts = {place: base64.b64encode(read_bytes(Path(path, place))).decode() for place in found}
            yield {"run": name, "files": texts}
