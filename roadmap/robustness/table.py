"""Tables of accuracy on corrupted images, by variant and by step, from the records of ``roadmap evaluate``.

The corrupted accuracy is the mean over corruptions of the mean over severities, in percent. It is not normalised: 100
minus it is a mean error, but not the mCE of ImageNet-C, which divides by AlexNet's errors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd

from roadmap.comparison.compare import Comparison, compare
from roadmap.comparison.groups import summarise
from roadmap.comparison.step_table import step_table
from roadmap.comparison.text import Cells, accuracy_cells, notes
from roadmap.errors import RequestError
from roadmap.evaluation.reading import read_evaluations
from roadmap.formatting import listed, number
from roadmap.runs.identity import Parents, group_keys
from roadmap.schema.corruptions import SYNTHETIC_FROST
from roadmap.statistics.gaps import DEFAULT_TEST, GapTest
from roadmap.steps.path import Step


@dataclass(frozen=True)
class CorruptedRuns:
    """Runs evaluated on the same corrupted images, which ``words`` describes.

    ``runs`` is a table of ``load_runs`` with the columns ``clean_top1`` and ``corrupted_top1``. ``by_corruption`` has
    the same index and the mean accuracy over severities for each corruption. Accuracies are in percent.
    """

    runs: pd.DataFrame
    by_corruption: pd.DataFrame
    words: str

    def means(self, step_runs: Mapping[str, Sequence[object]]) -> pd.DataFrame:
        """One row per step: the mean accuracy on each corruption over the step's runs; NaN if it has none."""
        rows = {step: self.by_corruption[self.by_corruption.index.isin(own)].mean() for step, own in step_runs.items()}
        return pd.DataFrame(rows).T.astype(float)


def corrupted_runs(runs: pd.DataFrame, conditions: str | None = None) -> tuple[CorruptedRuns, list[str]]:
    """The finished ``runs`` with their evaluations on corrupted images, and a sentence on each skipped record.

    ``conditions`` selects one of several evaluations by the id in the records. Raises RequestError if no run was
    evaluated, or if evaluations differ in corruptions, severities, data, image size, crop, precision or weights.
    """
    finished = runs[runs["status"] == "finished"]
    evaluations, skipped = read_evaluations(list(finished["path"]))
    rows = _of_one_evaluation(evaluations, conditions)
    corrupted = rows[rows["corruption"].notna()]
    means = corrupted.groupby(["run_id", "corruption"], sort=False)["top1"].mean().unstack()
    means = means[list(dict.fromkeys(corrupted["corruption"]))]
    there = finished[finished["run_id"].isin(means.index)]
    by_corruption = means.loc[there["run_id"]].set_axis(there.index)
    whole = rows[rows["part"] == ""]
    # published sets of corrupted images have no clean ones
    clean = there["run_id"].map(whole.set_index("run_id")["top1"]) if len(whole) else there["top1"]
    table = there.assign(clean_top1=clean.astype(float), corrupted_top1=by_corruption.mean(axis=1))
    severities = ", ".join(str(int(severity)) for severity in sorted(corrupted["severity"].unique()))
    words = (
        f"data {rows['data'].iloc[0]}, {int(rows['image_size'].iloc[0])} pixels, "
        f"{means.shape[1]} corruptions at severities {severities}"
    )
    if SYNTHETIC_FROST in means:
        words += f" ({SYNTHETIC_FROST} is drawn, not the published photographs)"
    return CorruptedRuns(table, by_corruption, words), skipped


def _of_one_evaluation(evaluations: pd.DataFrame, conditions: str | None) -> pd.DataFrame:
    """The evaluations on corrupted images with the same settings, of the same checkpoint and weights."""
    records = evaluations[evaluations["corruption"].notna()].drop_duplicates("path")
    if not len(records):
        raise RequestError(
            "none of these runs was evaluated on corrupted images; run `roadmap evaluate RUNS… corruptions=all`"
        )
    sizes = records["conditions"].value_counts()
    if conditions is not None:
        records = records[records["conditions"] == conditions]
    found = records.drop_duplicates(["conditions", "checkpoint", "weights"])
    if len(found) != 1:
        counts = [f"{name} ({size} run{'s' if size > 1 else ''})" for name, size in sizes.items()]
        raise RequestError(
            f"these runs have {len(found)} evaluations on corrupted images that differ in data, size, crop, precision, "
            f"corruptions, checkpoint or weights; choose one with --conditions {listed(counts)}"
        )
    again = records[records["run_id"].duplicated(keep=False)]
    if len(again):
        raise RequestError(
            f"run {again['run_id'].iloc[0]} has several records of this evaluation; move all but one away: "
            f"{listed(again['path'])}"
        )
    return evaluations[evaluations["path"].isin(records["path"])]


def robust_comparison(
    robust: CorruptedRuns, path: Parents | None = None, test: GapTest = DEFAULT_TEST, *, force: bool = False
) -> Comparison:
    """The comparison of ``compare`` with ``top1`` and ``delta`` on corrupted images.

    The table also has ``clean_top1`` and ``clean_delta``, and ``drop``, their accuracy lost to corruption.
    The paper has no such values by step, so its columns are empty.
    """
    comparison = compare(robust.runs.assign(top1=robust.runs["corrupted_top1"]), path, **asdict(test), force=force)
    clean = summarise(robust.runs.assign(top1=robust.runs["clean_top1"]), path)
    clean = clean.set_index(pd.Index(group_keys(clean["definition"])))
    clean = clean.loc[group_keys(comparison.table["definition"])].reset_index(drop=True)
    return replace(comparison, table=_with_clean(comparison.table, clean), agreements=[])


def robust_step_table(robust: CorruptedRuns, steps: Sequence[Step], test: GapTest = DEFAULT_TEST) -> pd.DataFrame:
    """``step_table`` with ``top1`` and ``delta`` on corrupted images, and the columns of ``robust_comparison``."""
    corrupted = step_table(robust.runs.assign(top1=robust.runs["corrupted_top1"]), steps, test)
    return _with_clean(corrupted, step_table(robust.runs.assign(top1=robust.runs["clean_top1"]), steps))


def _with_clean(table: pd.DataFrame, clean: pd.DataFrame) -> pd.DataFrame:
    table = table.assign(clean_top1=clean["top1"], clean_delta=clean["delta"], drop=clean["top1"] - table["top1"])
    return table.assign(**{str(name): np.nan for name in table if str(name).startswith("paper_")})


def corrupted_columns(table: pd.DataFrame) -> pd.DataFrame:
    """The table for other programs: ``corrupted_top1`` instead of ``top1``, without top-5 and the paper's columns."""
    own = table.rename(columns={name: f"corrupted_{name}" for name in table if str(name).startswith("top1")})
    return own.drop(columns=["top5", *(name for name in own if str(name).startswith("paper_") or name == "verdict")])


def robust_cells(table: pd.DataFrame) -> Cells:
    header, rows = accuracy_cells(table)
    place = header.index("top-1 (%)")
    clean = {"clean (%)": ("clean_top1", ".2f")} | ({"clean Δ": ("clean_delta", "+.2f")} if "Δ" in header else {})
    header[place : place + 1] = [*clean, "corrupted (%)"]
    for row, values in zip(rows, table.to_dict("records"), strict=True):
        row[place:place] = [number(values[column], form) for column, form in clean.values()]
    return header, rows


def robust_notes(robust: CorruptedRuns, comparison: Comparison) -> list[str]:
    """How to read the table, and the cautions."""
    seeds = "mean over n seeds ± standard deviation, with the mean's 95 % interval"
    if (comparison.table["n"] <= 1).all():
        seeds = "one seed each, so there is no interval and no test: gaps may be noise"
    first = f"corrupted: top-1 on {robust.words}, mean over these, not normalised (no mCE); {seeds}"
    return [first, *notes(comparison.table, comparison.test, comparison.cautions)[1:]]
