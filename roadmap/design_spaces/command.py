"""``roadmap figure --kind edf`` and ``--kind scatter``: charts of sampled designs, and their numbers."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from roadmap.cli.arguments import chosen_runs
from roadmap.errors import RequestError
from roadmap.runs.identity import check_comparable
from roadmap.runs.records import is_file
from roadmap.runs.sweep_plan import HEADER, read_sweep

if TYPE_CHECKING:
    import altair as alt


def draw(options: argparse.Namespace, folders: list[str]) -> tuple["alt.VConcatChart", str]:
    """Return the chart of sampled designs, and the numbers of EDFs as text. RequestError if the runs do not fit."""
    from roadmap.design_spaces.edf import cautions, conditions, design_sample, edf_text, sample_sentences, split
    from roadmap.design_spaces.plots import draw_edf, draw_scatter

    names = [Path(folder).resolve().name for folder in folders]
    names = folders if len(set(names)) < len(names) else names
    spaces = {name: _runs(Path(folder), options.where) for name, folder in zip(names, folders, strict=True)}
    runs = pd.concat([*spaces.values()]).drop_duplicates("run_id", ignore_index=True)
    # as one regime, so that the settings of a recipe must be equal in all regimes
    check_comparable(runs[runs["status"] == "finished"].assign(regime=""), one_recipe=True)
    if options.kind == "scatter":
        sample = design_sample("these runs", runs)
        return draw_scatter(sample, conditions(runs)), "\n".join([*sample_sentences([sample]), *cautions([sample])])
    samples = [design_sample(*space) for space in (split(runs, options.by) if options.by else spaces).items()]
    return draw_edf(samples, conditions(runs)), edf_text(samples)


def _runs(folder: Path, expression: str | None) -> pd.DataFrame:
    """Return the runs in a folder, or of a sweep if the folder holds its plan."""
    if not is_file(folder / HEADER):
        return chosen_runs([str(folder)], expression)
    sweep = read_sweep(folder)
    runs = chosen_runs([str(sweep.runs_dir)], expression)
    runs = runs[runs["run_id"].isin([run["run_id"] for run in sweep.runs])]
    if not len(runs):
        raise RequestError(f"no run of {folder} has started yet")
    return runs.reset_index(drop=True)
