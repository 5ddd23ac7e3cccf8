"""What the page shows, as plain values: one object that its script draws."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from roadmap.bench.reading import with_speeds
from roadmap.comparison.groups import summarise
from roadmap.comparison.paper_agreement import agreements, step_verdict, with_paper
from roadmap.comparison.run_diff import CODE, ENVIRONMENT, RESULT
from roadmap.comparison.step_table import mac_factor, members, step_table, subtitle, title
from roadmap.paper.published import SCALED_FROM
from roadmap.report.records import plain, run_columns
from roadmap.report.sections import Section, group_labels, sections
from roadmap.report.summary_text import caveats, lead, no_result, numbers, setting, statuses
from roadmap.runs.reading import definition_keys
from roadmap.steps.path import Step
from roadmap.steps.rerun_commands import logged_overrides, makes, run_command, shared_overrides, train_command
from roadmap.versions import __version__

BENCH = "bench"  # the column of what a bench measured


def payload(
    runs: pd.DataFrame,
    folders: Sequence[str],
    overrides: Sequence[str],
    config_dirs: Sequence[str],
    skipped: list[str],
    benches: pd.DataFrame | None = None,
) -> dict[str, Any]:
    """The page of ``runs`` (of ``load_runs``, at least one), without their curves; the same runs give the same page.

    ``benches`` of ``load_bench`` bring the throughput in inference that was measured of the runs' designs. Raises
    RequestError where none fits, or where they were measured on several machines or in several ways.
    """
    # records of older versions may not say
    named = {name: runs[name].astype(object).fillna("unknown") for name in ("regime", "data", "recipe")}
    runs = runs.assign(**named).reset_index(drop=True)
    measured = None
    if benches is not None:
        runs, measured = with_speeds(runs, benches, "inference_images_per_second", BENCH)
    logged = [logged_overrides(str(path)) for path in runs["path"]]
    charts = sections(runs, overrides, config_dirs)
    table = with_paper(summarise(runs))
    shown = [_section(chart, table, logged, config_dirs) for chart in charts]
    records = run_columns(runs, folders)
    commands = [None if words is None else train_command(words, config_dirs) for words in logged]
    return {
        "title": shown[0]["title"] if len(shown) == 1 and charts[0].steps else "Logged runs, compared",
        "version": __version__,
        "newest": _newest(runs),
        "lead": lead(runs),
        "numbers": numbers(runs),
        "bench": measured,
        "caveats": caveats(runs, len(charts), skipped),
        "sections": shown,
        "fields": {"Code version": CODE, "Environment": ENVIRONMENT, "Result": RESULT},
        "runs": records | {"commands": commands},
    }


def _place(runs: pd.DataFrame) -> tuple[str, str]:
    return str(runs["regime"].iloc[0]), str(runs["data"].iloc[0])


def _newest(runs: pd.DataFrame) -> str | None:
    """The last time in the runs' summaries, ISO 8601; not the clock's, so that a page is a function of its runs."""
    times = [str(time) for key in ("ended", "started") if key in runs for time in runs[key].dropna()]
    return max(times, default=None)


def _section(
    chart: Section, table: pd.DataFrame, logged: Sequence[tuple[str, ...] | None], config_dirs: Sequence[str]
) -> dict[str, Any]:
    regime, data = _place(chart.runs)
    shared = {
        "regime": regime,
        "data": data,
        "conditions": chart.conditions,
        "notes": chart.notes,
        "runs": [int(index) for index in chart.runs.index],
    }
    if chart.steps is None:
        return shared | _groups(chart, table) | {"kind": "groups", "command": None}
    known = [words for words in (logged[index] for index in chart.runs.index) if words is not None]
    command = _command(known, chart.runs, chart.steps, config_dirs) if known else {"command": None}
    return shared | _road(chart.runs, chart.steps) | {"kind": "path"} | command


def _command(
    logged: Sequence[tuple[str, ...]], runs: pd.DataFrame, steps: Sequence[Step], config_dirs: Sequence[str]
) -> dict[str, Any]:
    """The line that makes a chart's runs, and whether it does."""
    seeds = sorted({int(seed) for seed in runs["seed"].dropna()})
    words = shared_overrides(logged, seeds, steps)
    exact = makes(words, config_dirs, seeds, set(runs["run_id"]))
    return {"command": run_command(words, config_dirs), "exact": exact}


def _road(runs: pd.DataFrame, steps: Sequence[Step]) -> dict[str, Any]:
    table = step_table(runs, steps)
    places = {step.name: place for place, step in enumerate(steps)}
    bars, runs_of = [], members(runs, steps)
    for row, step in zip(table.to_dict("records"), steps, strict=True):
        before = places[step.parent] if step.parent else None
        bars.append(
            _bar(row, runs.loc[runs_of[step.name]])
            | {"changes": step.changes, "before": before, "verdict": step_verdict(row)}
        )
    regime = steps[0].composed.values["regime"]["name"]
    finished = (runs["status"] == "finished").any()
    said = agreements(runs, with_paper(summarise(runs))) if finished else []
    return {
        "title": title(steps),
        "subtitle": subtitle(runs, steps) if finished else no_result(runs),
        "bars": bars,
        "mac_factor": mac_factor(table),
        "paper": SCALED_FROM.get(regime, regime) if table["paper_delta"].notna().any() else None,
        "scaled": regime in SCALED_FROM,
        "verdicts": [sentence for agreement in said for sentence in agreement.sentences()],
    }


def _groups(chart: Section, table: pd.DataFrame) -> dict[str, Any]:
    """``table``: of ``with_paper(summarise(…))`` for all runs of the page, since a parent may be on a path of it."""
    runs = chart.runs
    of_group: dict[bytes, list[Any]] = {}
    for index, key in zip(runs.index, definition_keys(runs), strict=True):
        of_group.setdefault(key, []).append(index)
    labels = group_labels(runs)
    here = table[[key in of_group for key in definition_keys(table)]]
    here = here.sort_values("top1", ascending=False, kind="stable")
    variants = [*here["variant"]]
    bars = []
    for key, row in zip(definition_keys(here), here.to_dict("records"), strict=True):
        before = variants.index(row["parent"]) if variants.count(row["parent"]) == 1 else None
        own = {"label": labels[key], "section": "", "adopted": True, "before": before}
        bars.append(_bar(row, runs.loc[of_group[key]]) | own | {"paper_top1": None, "paper_delta": None})
    return {
        "title": "Designs, best first",
        "subtitle": setting(runs) if here["top1"].notna().any() else no_result(runs),
        "bars": bars,
        "mac_factor": mac_factor(here),
        "paper": None,
        "scaled": False,
        "verdicts": [],
    }


def _bar(row: dict[Any, Any], runs: pd.DataFrame) -> dict[str, Any]:
    """A row of a table of designs, with its runs."""
    seeds = row.get("more_seeds")
    told = {"more_seeds": "more than 1,000" if seeds == float("inf") else plain(seeds) or None}
    kept = {str(key): plain(value) for key, value in row.items() if key not in ("definition", "design", "seeds")}
    unfinished = statuses(runs[runs["status"] != "finished"])
    speed = {"bench": plain(runs[BENCH].iloc[0]) if BENCH in runs and len(runs) else None}
    return kept | told | speed | {"runs": [int(index) for index in runs.index], "unfinished": unfinished}
