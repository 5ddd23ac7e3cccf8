"""``roadmap figure --kind edf`` and ``--kind scatter``: charts of sampled designs, and their numbers."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from roadmap.cli.arguments import chosen_runs
from roadmap.errors import RequestError
from roadmap.runs.records import is_file
from roadmap.runs.sweep_plan import HEADER, read_sweep, read_sweeps

if TYPE_CHECKING:
    import altair as alt


def draw(options: argparse.Namespace, folders: list[str]) -> tuple["alt.VConcatChart", str]:
    """Return the chart of sampled designs, and the numbers of EDFs as text. RequestError if the runs do not fit."""
    from roadmap.design_spaces.design_samples import check_same_training, design_sample, normalised
    from roadmap.design_spaces.edf_plot import draw_edf
    from roadmap.design_spaces.scatter_plot import draw_scatter
    from roadmap.design_spaces.text import words

    spaces = _spaces(folders, options.where, options.by)
    runs = pd.concat([*spaces.values()]).drop_duplicates("run_id", ignore_index=True)
    check_same_training(runs)
    if options.kind == "scatter":
        return draw_scatter(design_sample("these runs", runs), conditions(runs)), ""
    samples = [design_sample(name, own) for name, own in spaces.items()]
    if options.normalise:
        samples = normalised(samples, options.normalise)
    return draw_edf(samples, options.normalise, conditions(runs)), words(samples, options.normalise)


def _spaces(folders: list[str], expression: str | None, by: str | None) -> dict[str, pd.DataFrame]:
    """The runs of each space by its name: one per folder, sweep or value of ``by``."""
    if by == "sweep":
        sweeps = [sweep for folder in folders for sweep in read_sweeps(folder)]
        if not sweeps:
            raise RequestError(f"no sweep in {', '.join(folders)}")
        return _named([str(sweep.path) for sweep in sweeps], expression)
    spaces = _named(folders, expression)
    if by is None:
        return spaces
    from roadmap.design_spaces.design_samples import split

    return split(pd.concat([*spaces.values()]).drop_duplicates("run_id", ignore_index=True), by)


def _named(folders: list[str], expression: str | None) -> dict[str, pd.DataFrame]:
    names = [Path(folder).resolve().name for folder in folders]
    names = folders if len(set(names)) < len(names) else names
    return {name: _runs(Path(folder), expression) for name, folder in zip(names, folders, strict=True)}


def _runs(folder: Path, expression: str | None) -> pd.DataFrame:
    """The runs in a folder, or of a sweep if the folder holds its plan."""
    if not is_file(folder / HEADER):
        return chosen_runs([str(folder)], expression)
    sweep = read_sweep(folder)
    runs = chosen_runs([str(sweep.runs_dir)], expression)
    runs = runs[runs["run_id"].isin([run["run_id"] for run in sweep.runs])]
    if not len(runs):
        raise RequestError(f"no run of {folder} has started yet")
    return runs.reset_index(drop=True)


def conditions(runs: pd.DataFrame) -> str:
    """Data, recipe and epochs, which all runs share."""
    from roadmap.comparison.step_table import data_words

    first = runs.iloc[0]
    return f"{data_words(runs)}; recipe {first['recipe']}, {first['epochs']} epochs"
