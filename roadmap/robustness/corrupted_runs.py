"""Runs with their accuracy on corrupted images, from the records of ``roadmap evaluate``.

The corrupted accuracy is the mean over corruptions of the mean over severities, in percent. It is not normalised: 100
minus it is a mean error, but not the mCE of ImageNet-C, which divides by AlexNet's errors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from roadmap.errors import RequestError
from roadmap.evaluation.reading import read_evaluations
from roadmap.formatting import listed
from roadmap.schema.corruptions import SYNTHETIC_FROST

# settings in which evaluations can differ, apart from corruptions and severities
SETTINGS = ("data", "image_size", "crop_ratio", "precision", "checkpoint", "weights")
EVALUATION = ["conditions", "checkpoint", "weights"]


@dataclass(frozen=True)
class CorruptedRuns:
    """Runs evaluated on the same corrupted images.

    ``runs`` is a table of ``load_runs`` with the columns ``clean_top1`` and ``corrupted_top1``. ``by_corruption`` has
    the same index and the mean accuracy over ``severities`` for each corruption. Accuracies are in percent.
    """

    runs: pd.DataFrame
    by_corruption: pd.DataFrame
    severities: tuple[int, ...]
    data: str
    image_size: int

    @property
    def words(self) -> str:
        """The data, corruptions and severities, for captions."""
        count, severities = len(self.by_corruption.columns), ", ".join(map(str, self.severities))
        at = f"{count} corruption{'s' * (count != 1)} at severities {severities}"
        drawn = f" ({SYNTHETIC_FROST} is drawn, not the published photographs)"
        frost = drawn if SYNTHETIC_FROST in self.by_corruption else ""
        return f"data {self.data}, {self.image_size} pixels, {at}{frost}"

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
    records = evaluations[evaluations["corruption"].notna()].drop_duplicates("path")
    rows = evaluations[evaluations["path"].isin(_of_one_evaluation(records, conditions))]
    corrupted = rows[rows["corruption"].notna()]
    means = corrupted.groupby(["run_id", "corruption"], sort=False)["top1"].mean().unstack()
    means = means[list(dict.fromkeys(corrupted["corruption"]))]
    there = finished[finished["run_id"].isin(means.index)]
    by_corruption = means.loc[there["run_id"]].set_axis(there.index)
    whole = rows[rows["part"] == ""]
    # published sets of corrupted images have no clean ones
    clean = there["run_id"].map(whole.set_index("run_id")["top1"]) if len(whole) else there["top1"]
    table = there.assign(clean_top1=clean.astype(float), corrupted_top1=by_corruption.mean(axis=1))
    severities = tuple(sorted({int(severity) for severity in corrupted["severity"]}))
    return CorruptedRuns(
        table, by_corruption, severities, rows["data"].iloc[0], int(rows["image_size"].iloc[0])
    ), skipped


def _of_one_evaluation(records: pd.DataFrame, conditions: str | None) -> list[str]:
    """The files of the records that were evaluated with the same settings."""
    if not len(records):
        raise RequestError(
            "none of these runs was evaluated on corrupted images; run `roadmap evaluate RUNS… corruptions=all`"
        )
    ids = list(dict.fromkeys(records["conditions"]))
    if conditions is not None:
        records = records[records["conditions"] == conditions]
        if not len(records):
            raise RequestError(f"no evaluation has conditions {conditions} (choose {listed(ids)})")
    found = [group for _, group in records.groupby(EVALUATION, sort=False)]
    if len(found) > 1:
        values = {name: list(dict.fromkeys(group[name].iloc[0] for group in found)) for name in SETTINGS}
        differing = [f"{name} ({' and '.join(map(str, those))})" for name, those in values.items() if len(those) > 1]
        sizes = records["conditions"].value_counts()
        counts = [f"{name} ({size} run{'s' if size > 1 else ''})" for name, size in sizes.items()]
        raise RequestError(
            f"these runs were evaluated with {len(found)} different settings, which cannot be compared: they differ in "
            f"{' and in '.join(differing) or 'corruptions or severities'}; choose with --conditions {listed(counts)}"
        )
    (group,) = found
    again = group[group["run_id"].duplicated(keep=False)]
    if len(again):
        raise RequestError(
            f"run {again['run_id'].iloc[0]} has two records of this evaluation; move one of them away: "
            f"{listed(again.loc[again['run_id'] == again['run_id'].iloc[0], 'path'])}"
        )
    return list(group["path"])
