"""What a report page shows: its text, its sections with their charts and tables, and all runs."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import altair as alt
import pandas as pd

from roadmap.bench.reading import with_speeds
from roadmap.comparison.agreement import caption
from roadmap.comparison.compare import Comparison, compare
from roadmap.comparison.roadmap_plot import deltas_chart, paper_regime, roadmap_chart
from roadmap.comparison.step_table import mac_unit, step_table, title
from roadmap.comparison.text import Cells, accuracy_cells, notes, paper_cells
from roadmap.comparison.tradeoff_plot import COSTS, tradeoff_chart
from roadmap.comparison.tradeoff_plot import SPEED as TRADEOFF_SPEED
from roadmap.formatting import duration, sides
from roadmap.paper.published import SCALED_FROM
from roadmap.plots.charts import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION, AnyChart, theme
from roadmap.report.run_data import METRICS, curves, run_table, varying_fields
from roadmap.report.sections import Section, run_command, sections, train_command
from roadmap.runs.identity import cautions, group_keys
from roadmap.runs.records import logged_overrides
from roadmap.statistics.gaps import DEFAULT_TEST, GapTest
from roadmap.versions import __version__

SPEED = "bench_inference"  # the column of images per second that a bench measured
LINES = [BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, GREY]
WIDTH = 440  # pixels of a plot, without its labels and numbers
MAX_DESIGNS = 1000  # in a chart of accuracy against cost
FEW_SEEDS = 5


def page_context(
    runs: pd.DataFrame,
    history: pd.DataFrame,
    folders: Sequence[str],
    overrides: Sequence[str],
    config_dirs: Sequence[str],
    skipped: list[str],
    benches: pd.DataFrame | None = None,
    test: GapTest = DEFAULT_TEST,
) -> dict[str, Any]:
    """Return the content of the page of ``runs``, a table of ``load_runs`` with at least one run.

    Equal runs give equal pages. ``benches`` of ``load_bench`` add the measured throughput in inference of the runs'
    designs. Raises RequestError if no bench fits, or if they were measured on several machines or in several ways.
    """
    named = {name: runs[name].astype(object).fillna("unknown") for name in ("regime", "data", "recipe")}
    runs = runs.assign(**named).reset_index(drop=True)
    measured = None
    if benches is not None:
        runs, measured = with_speeds(runs, benches, "inference_images_per_second", SPEED)
    logged = [logged_overrides(path) for path in runs["path"]]
    found = sections(runs, overrides, config_dirs)
    whole = compare(runs, force=True, **asdict(test))
    times = [str(time) for name in ("ended", "started") for time in runs[name].dropna()]
    return {
        "title": title(found[0].steps) if len(found) == 1 and found[0].steps else "Logged runs, compared",
        "version": __version__,
        "newest": max(times, default="")[:16].replace("T", " "),
        "lead": lead(runs),
        "key_numbers": key_numbers(runs),
        "caveats": caveats(runs, len(found), skipped),
        "sections": [
            _section(section, whole, measured) | {"command": run_command(section, logged, config_dirs)}
            for section in found
        ],
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
    """Return a section's content; ``whole`` compares all runs, because a design's parent may be in another section.

    ``measured`` says how the column SPEED of the runs was measured, if it was.
    """
    runs = section.runs
    runs_of: dict[bytes, list[int]] = {}
    for index, key in zip(runs.index, group_keys(runs["definition"]), strict=True):
        runs_of.setdefault(key, []).append(index)
    if section.steps:
        comparison = compare(runs, section.path, force=True, **asdict(whole.test))
    else:
        here = whole.table[[key in runs_of for key in group_keys(whole.table["definition"])]]
        best_first = here.sort_values("top1", ascending=False, kind="stable")
        comparison = replace(whole, table=best_first, agreements=[])
    table, lines = comparison.table, notes(comparison.table, comparison.test)
    own = [runs_of[key] for key in group_keys(table["definition"])]
    if measured:
        table = table.assign(**{SPEED: runs.loc[[indices[0] for indices in own], SPEED].to_numpy()})
        lines.append(measured)
    # the runs of a row and of its parent, if that is in the table once
    variants = [*table["variant"]]
    parents = [own[variants.index(name)] if variants.count(name) == 1 else [] for name in table["parent"]]
    regime, data = runs["regime"].iloc[0], runs["data"].iloc[0]
    return {
        "title": f"{regime} on {data}: {'the roadmap' if section.steps else 'designs'}",
        "setting": setting(runs),
        "conditions": section.conditions,
        "notes": section.notes,
        "charts": [
            chart.to_dict() for chart in section_charts(section, table, whole.test, caption(comparison.agreements))
        ],
        "cells": _cells(accuracy_cells(table)) | {"steps": [*table["step"]]},
        "runs": [mine + theirs for mine, theirs in zip(own, parents, strict=True)],
        "explanations": lines,
        "agreement": [sentence for agreement in comparison.agreements for sentence in agreement.sentences()],
        "paper": _cells(paper_cells(table)) if (table["paper_delta"].notna() & table["delta"].notna()).any() else None,
    }


def _cells(cells: Cells) -> dict[str, Any]:
    header, rows = cells
    return {"header": header, "rows": rows, "sides": sides(header, rows)}


def section_charts(section: Section, table: pd.DataFrame, test: GapTest, agreement: str = "") -> Iterator[AnyChart]:
    """Yield the charts of a section; ``table`` has a row per design, ``agreement`` is a sentence on its gaps."""
    run = table[table["top1"].notna()].reset_index(drop=True)
    if section.steps and len(run):
        steps = step_table(section.runs, section.steps, test)
        # may be infinite, unlike JSON
        steps = steps.drop(columns=["more_seeds", "more_seeds_low", "more_seeds_high"])
        yield roadmap_chart(steps, title="Accuracy, one change at a time", subtitle="", width=WIDTH)
        if steps["delta"].notna().any():
            words = {"title": "What each step changed", "subtitle": "", "paper": paper_regime(section.steps)}
            yield deltas_chart(steps, width=WIDTH, test=test, agreement=agreement, **words)
    run = run.assign(label=run["variant"], **({TRADEOFF_SPEED: run[SPEED]} if SPEED in run else {}))
    for cost, about in ((COSTS["gmacs"], "FLOPs"), (COSTS["inference"], "measured inference throughput")):
        points = run[run[cost.column].notna()] if cost.column in run else run.iloc[:0]
        if 1 < len(points) <= MAX_DESIGNS:
            yield tradeoff_chart(points.reset_index(drop=True), cost, title=f"Accuracy against {about}", subtitle="")


def curves_chart() -> dict[str, Any]:
    """Return learning curves of the runs chosen on the page, which puts their points into the dataset ``curves``."""
    metric = alt.binding_radio(options=[*METRICS], labels=[*METRICS.values()], name=" ")
    first = alt.binding_range(min=1, max=2, step=1, name="from epoch ")
    chart = alt.Chart(alt.NamedData("curves"), width="container", height=280).mark_line(strokeWidth=1.5)
    chart = chart.transform_calculate(value="datum[metric]").add_params(
        alt.param("metric", value="top1", bind=metric), alt.param("first", value=1, bind=first)
    )
    chart = chart.transform_filter("datum.epoch >= first && isValid(datum.value)")
    encoded = chart.encode(
        x=alt.X("epoch:Q", scale=alt.Scale(zero=False, nice=False), axis=alt.Axis(tickMinStep=1)),
        y=alt.Y("value:Q", scale=alt.Scale(zero=False), title=None),
        color=alt.Color("group:N", sort=None, title=None, scale=alt.Scale(range=LINES)),
        detail="run:N",
        tooltip=[alt.Tooltip("run:N"), alt.Tooltip("epoch:Q"), alt.Tooltip("value:Q", format=".4~g")],
    )
    return dict(encoded.to_dict())


def lead(runs: pd.DataFrame) -> str:
    settings = ", ".join((runs["regime"] + " on " + runs["data"]).unique())
    designs = _plural(len(set(group_keys(runs["definition"]))), "design")
    return f"{_plural(len(runs), 'run')} of {designs} ({settings}): {_statuses(runs)}."


def key_numbers(runs: pd.DataFrame) -> dict[str, str]:
    finished = runs[runs["status"] == "finished"]
    factor, unit = mac_unit(runs)
    found = {
        "runs finished": f"{len(finished):,} of {len(runs):,}",
        "designs": f"{len(set(group_keys(runs['definition']))):,}",
        "seeds per design": _seeds(runs).partition(" seed")[0],
        "MACs per image": _range(runs["gmacs"] * factor, unit[0]),
        "parameters": _range(runs["params_m"], "M"),
        "training time in total": duration(float(finished["train_seconds"].sum())),
    }
    return {name: text for name, text in found.items() if text}


def caveats(runs: pd.DataFrame, charts: int, skipped: list[str]) -> list[str]:
    """Return what a reader must know before trusting the numbers."""
    finished, unfinished = runs[runs["status"] == "finished"], runs[runs["status"] != "finished"]
    counts = _seed_counts(finished)
    imagenet = runs["data"].astype(str).str.startswith("imagenet").all() and not runs["regime"].isin(SCALED_FROM).any()
    found = {
        "Every design has one seed, so no difference between designs can be told from chance.": counts.max() == 1,
        f"{_seeds(runs)} per design: ± is the standard deviation over seeds, uncertain with so few.": (
            counts.max() > 1 and counts.min() < FEW_SEEDS
        ),
        "Small networks or data other than ImageNet are a proxy: the paper's numbers are shown for orientation only.": (
            not imagenet
        ),
        **{as_sentence(caution): True for caution in cautions(finished)},
        f"Not finished and not in any mean: {_statuses(unfinished)}.": len(unfinished),
        "Each section has one regime, data set and training budget. Do not compare accuracies across sections.": (
            charts > 1
        ),
        f"Skipped because they could not be read: {'; '.join(skipped)}."[:1000]: skipped,
    }
    return [sentence for sentence, holds in found.items() if holds]


def setting(runs: pd.DataFrame) -> str:
    """Return what the runs of a section have in common."""
    place = f"data {runs['data'].iloc[0]}, regime {runs['regime'].iloc[0]}, {_values(runs['epochs'])} epochs"
    seeds = _seeds(runs)
    if not seeds:
        return f"{place}; no run has finished yet ({_statuses(runs)})"
    return f"{place}; {seeds} per design; accuracy after the last epoch"


def as_sentence(text: str) -> str:
    """Return a phrase of the analysis with a capital letter and a full stop."""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '!', '?')) else '.'}"


def _seed_counts(finished: pd.DataFrame) -> pd.Series:
    return pd.Series(group_keys(finished["definition"]), dtype=object).value_counts()


def _seeds(runs: pd.DataFrame) -> str:
    """Return the number of finished seeds per design, such as ``2 to 3 seeds``; empty if no run has finished."""
    counts = _seed_counts(runs[runs["status"] == "finished"])
    if not len(counts):
        return ""
    least = f"{counts.min():,} to " if counts.min() < counts.max() else ""
    return least + _plural(counts.max(), "seed")


def _statuses(runs: pd.DataFrame) -> str:
    """Return the number of runs of each status, such as ``2 running, 1 failed``."""
    return ", ".join(f"{count:,} {status}" for status, count in runs["status"].value_counts(sort=False).items())


def _values(values: Iterable[float]) -> str:
    texts = [f"{value:g}" for value in sorted(pd.Series(values).dropna().unique())]
    return " and ".join(texts) or "unknown" if len(texts) < 4 else f"{texts[0]} to {texts[-1]}"


def _range(values: pd.Series, unit: str) -> str:
    low, high = f"{values.min():.3g}", f"{values.max():.3g}"
    return "" if values.isna().all() else f"{low} {unit}" if low == high else f"{low} to {high} {unit}"


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
