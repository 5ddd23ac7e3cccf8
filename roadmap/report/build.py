"""What a report page shows: its text, its sections with their charts and tables, and all runs."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from roadmap.bench.reading import with_speeds
from roadmap.comparison.compare import Comparison, compare
from roadmap.comparison.groups import PaperPath
from roadmap.comparison.step_table import subtitle, title
from roadmap.comparison.text import Cells, accuracy_cells, notes, paper_cells
from roadmap.formatting import sides
from roadmap.plots.charts import theme
from roadmap.report.charts import SPEED, curves_chart, section_charts
from roadmap.report.run_data import curves, run_table, varying_fields
from roadmap.report.sections import Section, run_command, sections, train_command
from roadmap.report.summary_text import caveats, key_numbers, lead, setting
from roadmap.runs.identity import group_keys
from roadmap.runs.records import logged_overrides
from roadmap.versions import __version__


def page_context(
    runs: pd.DataFrame,
    history: pd.DataFrame,
    folders: Sequence[str],
    overrides: Sequence[str],
    config_dirs: Sequence[str],
    skipped: list[str],
    benches: pd.DataFrame | None = None,
) -> dict[str, Any]:
    """The content of the page of ``runs``, a table of ``load_runs`` with at least one; equal runs give equal pages.

    ``benches`` of ``load_bench`` add the measured throughput in inference of the runs' designs. Raises RequestError
    if no bench fits, or if they were measured on several machines or in several ways.
    """
    named = {name: runs[name].astype(object).fillna("unknown") for name in ("regime", "data", "recipe")}
    runs = runs.assign(**named).reset_index(drop=True)
    measured = None
    if benches is not None:
        runs, measured = with_speeds(runs, benches, "inference_images_per_second", SPEED)
    logged = [logged_overrides(path) for path in runs["path"]]
    found = sections(runs, overrides, config_dirs)
    whole = compare(runs, PaperPath(), force=True)
    shown = [_section(section, whole, measured) | _command(section, logged, config_dirs) for section in found]
    times = [str(time) for name in ("ended", "started") for time in runs[name].dropna()]
    return {
        "title": title(found[0].steps) if len(found) == 1 and found[0].steps else "Logged runs, compared",
        "version": __version__,
        "newest": max(times, default="")[:16].replace("T", " "),
        "lead": lead(runs),
        "key_numbers": key_numbers(runs),
        "caveats": caveats(runs, len(found), skipped),
        "sections": shown,
        "data": {
            "table": run_table(runs, folders),
            "fields": varying_fields(runs),
            "curves": curves(history, runs),
            "commands": [None if words is None else train_command(words, config_dirs) for words in logged],
            "chart": curves_chart(),
            "themes": {"light": theme("light"), "dark": theme("dark")},
        },
    }


def _section(section: Section, whole: Comparison, measured: str | None) -> dict[str, Any]:
    """A section's content; ``whole`` compares all runs, because a design's parent may be in another section.

    ``measured`` says how the column SPEED of the runs was measured, if it was.
    """
    runs = section.runs
    runs_of: dict[bytes, list[int]] = {}
    for index, key in zip(runs.index, group_keys(runs["definition"]), strict=True):
        runs_of.setdefault(key, []).append(index)
    comparison = compare(runs, section.path, force=True) if section.steps else _part(whole, runs_of)
    table, lines = comparison.table, notes(replace(comparison, cautions=[]))
    if measured:
        firsts = [runs_of[key][0] for key in group_keys(table["definition"])]
        table = table.assign(**{SPEED: runs.loc[firsts, SPEED].to_numpy()})
        lines.append(measured)
    regime, data = runs["regime"].iloc[0], runs["data"].iloc[0]
    finished = (runs["status"] == "finished").any()
    return {
        "title": f"{regime} on {data}: {'the roadmap' if section.steps else 'designs'}",
        "setting": subtitle(runs, section.steps) if section.steps and finished else setting(runs),
        "conditions": section.conditions,
        "notes": section.notes,
        "charts": [chart.to_dict() for chart in section_charts(section, table)],
        "cells": _cells(accuracy_cells(table)) | {"steps": [*table["step"]], "runs": _own_and_parents(table, runs_of)},
        "explanations": lines,
        "agreement": [sentence for agreement in comparison.agreements for sentence in agreement.sentences()],
        "paper": _cells(paper_cells(table)) if (table["paper_delta"].notna() & table["delta"].notna()).any() else None,
    }


def _part(whole: Comparison, runs_of: dict[bytes, list[int]]) -> Comparison:
    """The rows of these groups, best first."""
    here = whole.table[[key in runs_of for key in group_keys(whole.table["definition"])]]
    return replace(whole, table=here.sort_values("top1", ascending=False, kind="stable"), agreements=[])


def _own_and_parents(table: pd.DataFrame, runs_of: dict[bytes, list[int]]) -> list[list[int]]:
    """For each row the indices of its runs and of its parent's, if that is in the table once."""
    own = [runs_of[key] for key in group_keys(table["definition"])]
    variants = [*table["variant"]]
    parents = [own[variants.index(parent)] if variants.count(parent) == 1 else [] for parent in table["parent"]]
    return [mine + theirs for mine, theirs in zip(own, parents, strict=True)]


def _cells(cells: Cells) -> dict[str, Any]:
    header, rows = cells
    return {"header": header, "rows": rows, "sides": sides(header, rows)}


def _command(section: Section, logged: Sequence[tuple[str, ...] | None], config_dirs: Sequence[str]) -> dict[str, Any]:
    """The command that makes a roadmap's runs, and whether it makes exactly these."""
    known = [words for words in (logged[index] for index in section.runs.index) if words is not None]
    if not known or section.steps is None:
        return {"command": None}
    seeds = sorted({int(seed) for seed in section.runs["seed"].dropna()})
    command, exact = run_command(known, seeds, section.steps, set(section.runs["run_id"]), config_dirs)
    return {"command": command, "exact": exact}
