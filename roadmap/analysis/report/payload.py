"""What the page shows, as plain values: one object that its script draws."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import pandas as pd

from roadmap.analysis.comparable import cautions
from roadmap.analysis.groups import summarise
from roadmap.analysis.report.commands import logged_overrides, run_command, train_command
from roadmap.analysis.report.records import definition_keys, plain, run_columns
from roadmap.analysis.report.sections import Section, group_labels, sections
from roadmap.analysis.table import mac_factor, members, road, subtitle, title
from roadmap.analysis.verdict import agreements, step_verdict, with_paper
from roadmap.path import Step
from roadmap.published import SCALED_FROM

IMAGENET = "imagenet"


def payload(
    runs: pd.DataFrame, folders: Sequence[str], overrides: Sequence[str], config_dirs: Sequence[str], skipped: list[str]
) -> dict[str, Any]:
    """The page of ``runs`` (of ``load_runs``, at least one), without their curves; the same runs give the same page."""
    runs = runs.reset_index(drop=True)
    logged = [logged_overrides(str(path)) for path in runs["path"]]
    charts = sections(runs, overrides, config_dirs)
    table = with_paper(summarise(runs))
    shown = [_section(chart, table, logged, config_dirs) for chart in charts]
    records = run_columns(runs, folders)
    commands = [None if words is None else train_command(words, config_dirs) for words in logged]
    return {
        "title": shown[0]["title"] if len(shown) == 1 else "Logged runs, compared",
        "version": version("roadmap"),
        "newest": _newest(runs),
        "lead": _lead(runs),
        "numbers": _numbers(runs),
        "caveats": _caveats(runs, charts, skipped),
        "sections": shown,
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
    words = [logged[index] for index in chart.runs.index]
    seeds = sorted({int(seed) for seed in chart.runs["seed"].dropna()})
    known = [run for run in words if run is not None]
    command = run_command(known, seeds, chart.steps, config_dirs) if known else None
    return shared | _road(chart.runs, chart.steps) | {"kind": "path", "command": command}


def _road(runs: pd.DataFrame, steps: Sequence[Step]) -> dict[str, Any]:
    table = road(runs, steps)
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
        "subtitle": subtitle(runs, steps) if finished else _no_result(runs),
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
        "subtitle": _setting(runs) if here["top1"].notna().any() else _no_result(runs),
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
    unfinished = _statuses(runs[runs["status"] != "finished"])
    return kept | told | {"runs": [int(index) for index in runs.index], "unfinished": unfinished}


def _statuses(runs: pd.DataFrame) -> str:
    """``2 running, 1 failed``; empty where there is none."""
    return ", ".join(f"{count} {status}" for status, count in runs["status"].value_counts(sort=False).items())


def _setting(runs: pd.DataFrame) -> str:
    finished = runs[runs["status"] == "finished"]
    seeds = finished["seed"].nunique()
    return (
        f"data {runs['data'].iloc[0]}, regime {runs['regime'].iloc[0]}, {_these(finished['epochs'])} epochs; "
        f"{'one seed' if seeds == 1 else f'up to {seeds} seeds'} a design; accuracy after the last epoch"
    )


def _no_result(runs: pd.DataFrame) -> str:
    place = f"data {runs['data'].iloc[0]}, regime {runs['regime'].iloc[0]}, {_these(runs['epochs'])} epochs"
    return f"{place}; no run has finished yet ({_statuses(runs)})"


def _these(values: pd.Series) -> str:
    return " and ".join(f"{value:g}" for value in sorted(pd.to_numeric(values, errors="coerce").dropna().unique()))


def _lead(runs: pd.DataFrame) -> str:
    """What was run, in a sentence."""
    finished = runs[runs["status"] == "finished"]
    designs = len(set(definition_keys(runs)))
    places = ", ".join(
        f"{regime} on {data}"
        for regime, data in dict.fromkeys(zip(runs["regime"].astype(str), runs["data"].astype(str), strict=True))
    )
    seeds = sorted({int(seed) for seed in runs["seed"].dropna()})
    seeded = f"{len(seeds)} seeds" if len(seeds) > 1 else "one seed"
    many = f"{len(runs):,} runs" if len(runs) > 1 else "One run"
    done = "all finished" if len(finished) == len(runs) and len(runs) > 1 else _statuses(runs)
    return f"{many} of {designs:,} {'designs' if designs > 1 else 'design'} ({places}; {seeded}), {done}."


def _numbers(runs: pd.DataFrame) -> list[dict[str, str]]:
    """The numbers at the top, each with its name."""
    finished = runs[runs["status"] == "finished"]
    found = [("runs finished", f"{len(finished):,} of {len(runs):,}")]
    found.append(("designs", f"{len(set(definition_keys(runs))):,}"))
    seeds = finished.groupby(definition_keys(finished))["seed"].nunique() if len(finished) else pd.Series(dtype=int)
    if len(seeds):
        few, many = seeds.min(), seeds.max()
        found.append(("seeds a design", f"{few}" if few == many else f"{few} to {many}"))
    for name, key, factor, unit in (("MACs of an image", "gmacs", 1, "G"), ("parameters", "params_m", 1, "M")):
        values = pd.to_numeric(runs[key], errors="coerce").dropna() if key in runs else pd.Series(dtype=float)
        if len(values):
            if key == "gmacs" and values.max() < 0.1:
                factor, unit = 1000, "M"
            low, high = f"{values.min() * factor:.2f}", f"{values.max() * factor:.2f}"
            found.append((name, f"{low} {unit}" if low == high else f"{low} to {high} {unit}"))
    if "train_seconds" in finished and finished["train_seconds"].notna().any():
        found.append(("training in all", _duration(float(finished["train_seconds"].sum()))))
    return [{"name": name, "value": value} for name, value in found]


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def _caveats(runs: pd.DataFrame, charts: Sequence[Section], skipped: list[str]) -> list[str]:
    """What a reader has to know before believing a number, in words."""
    finished = runs[runs["status"] == "finished"]
    counts = finished.groupby(definition_keys(finished))["seed"].nunique() if len(finished) else pd.Series(dtype=int)
    said = []
    if len(counts) and counts.max() == 1:
        said.append(
            "Every design has one seed: how far it would move with another is not known, so no difference "
            "here can be told from chance."
        )
    elif len(counts) and counts.min() < 5:
        some = f"{counts.min()} to {counts.max()}" if counts.min() != counts.max() else counts.min()
        said.append(
            f"{some} seeds a design: ± is the standard deviation over seeds, and with so few of them it is "
            "itself uncertain."
        )
    if runs["regime"].isin([*SCALED_FROM]).any():
        said.append(
            "Nano networks are a proxy: small, on small images, trained for minutes. The paper's numbers are "
            "of ResNet-50 and its successors on ImageNet and stand beside them for orientation only."
        )
    elif not runs["data"].astype(str).str.startswith(IMAGENET).all():
        said.append("Other data than ImageNet is a proxy: the paper's numbers stand beside these for orientation only.")
    said += [f"{caution[0].upper()}{caution[1:]}." for caution in cautions(finished)]
    left = runs[runs["status"] != "finished"]
    if len(left):
        said.append(f"Not finished and in no mean: {_statuses(left)}.")
    if len(charts) > 1:
        said.append(
            "Each chart has one regime, data set and training budget; accuracies of different charts are not "
            "comparable."
        )
    if skipped:
        said.append(
            f"Could not be read and left out: {'; '.join(skipped[:5])}"
            + (f"; and {len(skipped) - 5} more." if len(skipped) > 5 else ".")
        )
    return said
