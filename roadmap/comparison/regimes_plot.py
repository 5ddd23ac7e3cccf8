"""One regime or two as the roadmap figure draws them: runs next to the paper's values, or the paper's values alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import altair as alt
import numpy as np
import pandas as pd

from roadmap.comparison.roadmap_plot import roadmap_chart
from roadmap.comparison.step_table import data_words, held_out, networks, regime_words, title, toggle_words
from roadmap.errors import RequestError
from roadmap.paper.published import REFERENCE, TABLE_NAMES, published_steps
from roadmap.runs.identity import check_comparable
from roadmap.steps.path import Step

IMAGENET = ("imagenet", "imagenet_parquet", "imagenet_webdataset")
PAPER_COLUMNS = ["paper_top1", "paper_top1_std", "paper_gflops"]


@dataclass(frozen=True)
class RegimeRuns:
    """The steps of a regime's path, their finished runs and their ``step_table``; without runs, the paper's values."""

    runs: pd.DataFrame
    steps: Sequence[Step]
    table: pd.DataFrame

    @property
    def name(self) -> str:
        return self.steps[0].composed.regime.name

    @property
    def published(self) -> bool:
        """Whether it is drawn from the paper's table alone."""
        return not len(self.runs)

    @property
    def on_imagenet(self) -> bool:
        """Whether its accuracies are of what the paper's are: ImageNet-1K's validation images at the regime's size."""
        if self.published:
            return True
        definition = self.runs.iloc[0]["definition"]
        data, size = definition.get("data"), self.steps[0].composed.regime.image_size
        # older records have but its name
        whole = isinstance(data, Mapping) and "classes" not in data and not held_out(definition)
        return whole and data.get("name") in IMAGENET and definition.get("image_size") == size


def draw_roadmap(regimes: Sequence[RegimeRuns]) -> alt.VConcatChart:
    """Return the roadmap of one regime, or of two with the larger one's bars below.

    Raises RequestError for two regimes on different data, and if the paper has no values for the path.
    """
    _check_same_data(regimes)
    pairs = sorted(((_table(regime), regime) for regime in regimes), key=lambda pair: pair[0]["gmacs"].max())
    regimes = [regime for _, regime in pairs]
    tables = [table for table, _ in pairs]
    if all(table["paper_top1"].notna().any() or "source" in table for table in tables):
        tables = [_with_reference(table, regime.name) for table, regime in zip(tables, regimes, strict=True)]
    title, subtitle = _title(regimes), _subtitle(regimes)
    if len(tables) == 1:
        return roadmap_chart(tables[0], title=title, subtitle=subtitle)
    front = tables[0].assign(label=_joined_labels(tables[0]["label"], tables[1]["label"], regimes))
    names = [networks(regime.steps) for regime in regimes]
    return roadmap_chart(front, title=title, subtitle=subtitle, behind=tables[1], names=names)


def _check_same_data(regimes: Sequence[RegimeRuns]) -> None:
    run = [regime for regime in regimes if not regime.published]
    if len(run) < len(regimes) and not all(regime.on_imagenet for regime in run):
        missing = next(regime.name for regime in regimes if regime.published)
        data = run[0].runs.iloc[0]
        raise RequestError(
            f"regime {missing} has no runs here and would be drawn from the paper, whose accuracies are of ImageNet-1K "
            f"at 224 pixels and not of {data['data']} at {data['image_size']}; leave regime {missing} out"
        )
    if run:
        check_comparable(pd.concat([regime.runs for regime in run]))


def _table(regime: RegimeRuns) -> pd.DataFrame:
    """The step table with the paper's columns only if they are of the same data, or the paper's values in its place."""
    table = regime.table
    if not regime.on_imagenet:
        return table.assign(**dict.fromkeys(PAPER_COLUMNS, np.nan))
    if not regime.published:
        return table
    if table["paper_top1"].isna().all():
        raise RequestError(
            f"no finished run of regime {regime.name} in these folders, and the paper has no values for this path; "
            "name folders with runs of it"
        )
    return table.assign(
        top1=table["paper_top1"],
        top1_std=table["paper_top1_std"],
        gmacs=table["paper_gflops"],
        n=np.where(table["paper_top1_std"].notna(), 3, 1),
        source=f"the paper's {TABLE_NAMES[regime.name]}",
        **dict.fromkeys(PAPER_COLUMNS, np.nan),
    )


def _with_reference(table: pd.DataFrame, regime: str) -> pd.DataFrame:
    """The table with the paper's Transformer as its last row."""
    swin = published_steps(regime)[REFERENCE]
    own = ("top1", "gmacs") if "source" in table else ("paper_top1", "paper_gflops")
    row = {"step": REFERENCE, "label": swin.label, "name": swin.label, "section": "Transformer", "reference": True}
    row |= {"adopted": True, "n": 0} | dict(zip(own, (swin.top1, float(swin.gflops)), strict=True))
    return pd.concat([table.assign(reference=False), pd.DataFrame([row])], ignore_index=True)


def _joined_labels(front: pd.Series, behind: pd.Series, regimes: Sequence[RegimeRuns]) -> list[str]:
    """One label for two rows: if labels differ only in their regimes' networks, it names both networks."""
    ends = [(one.baseline, one.result) for one in (regime.steps[0].composed.regime for regime in regimes)]
    labels = []
    for one, other in zip(front, behind, strict=True):
        joined = one if one == other else f"{one} / {other}"
        for mine, theirs in zip(*ends, strict=True):
            if one != other and one.replace(mine, theirs) == other:
                joined = one.replace(mine, f"{mine} / {theirs}")
        labels.append(joined)
    return labels


def _title(regimes: Sequence[RegimeRuns]) -> str:
    if len(regimes) == 1:
        return title(regimes[0].steps)
    first, second = (networks(regime.steps, " to ") for regime in regimes)
    return f"From {first} and from {second}, one change at a time"


def _subtitle(regimes: Sequence[RegimeRuns]) -> str:
    run = [regime for regime in regimes if not regime.published]
    sources = " and ".join(TABLE_NAMES[regime.name] for regime in regimes if regime.published)
    paper = f"the paper's {sources} (arXiv:2201.03545), no runs"
    if not run:
        return f"data ImageNet-1K: 1,281,167 images to train on, 50,000 to evaluate, 224 pixels; {paper}"
    words = [data_words(run[0].runs), *(regime_words(regime.runs) for regime in run), "accuracy after the last epoch"]
    words += [f"regime {regime.name}: {paper}" for regime in regimes if regime.published]
    return "; ".join(words) + toggle_words(run[0].steps)
