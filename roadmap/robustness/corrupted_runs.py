"""Runs with their accuracy on corrupted images: which of a path's changes buys robustness.

The corrupted accuracy is the mean over corruptions of the mean over severities, in percent, not normalised: 100 less it
is a mean corruption error, but no mCE, which divides by AlexNet's errors and is ImageNet-C's alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from roadmap.errors import RequestError
from roadmap.evaluation.reading import read_evaluations
from roadmap.formatting import listed
from roadmap.schema.corruptions import SYNTHETIC_FROST

# what evaluations may differ in beside corruptions and severities
WAYS = ("data", "image_size", "crop_ratio", "precision", "checkpoint", "weights")
WAY = ["conditions", "checkpoint", "weights"]


@dataclass(frozen=True)
class CorruptedRuns:
    """Runs that were evaluated on the same corrupted images.

    ``runs`` is a table of ``load_runs`` with ``clean_top1`` and ``corrupted_top1``; ``by_corruption`` has a row a run,
    with its index, and the mean accuracy over ``severities`` on each corruption. All in percent.
    """

    runs: pd.DataFrame
    by_corruption: pd.DataFrame
    severities: tuple[int, ...]
    data: str
    image_size: int

    @property
    def words(self) -> str:
        """Which corrupted images these are, as a caption says it."""
        count, severities = len(self.by_corruption.columns), ", ".join(map(str, self.severities))
        at = f"{count} corruption{'s' * (count != 1)} at severities {severities}"
        drawn = f" ({SYNTHETIC_FROST} is drawn, not the published photographs)"
        frost = drawn if SYNTHETIC_FROST in self.by_corruption else ""
        return f"data {self.data}, {self.image_size} pixels, {at}{frost}"

    def means(self, members: Mapping[str, Sequence[object]]) -> pd.DataFrame:
        """A row a step, over the runs that ``members`` has for it: the mean accuracy on each corruption, or NaN."""
        rows = {step: self.by_corruption[self.by_corruption.index.isin(own)].mean() for step, own in members.items()}
        return pd.DataFrame(rows).T.astype(float)


def corrupted_runs(runs: pd.DataFrame, conditions: str | None = None) -> tuple[CorruptedRuns, list[str]]:
    """The finished ``runs`` with their evaluations on corrupted images, and a sentence about each record skipped.

    ``conditions`` chooses among several ways in which they were evaluated, by the id in the records. Raises
    RequestError where no run was, and where they were in different ways: other corruptions, severities, data, image
    sizes, crops, precisions or weights.
    """
    finished = runs[runs["status"] == "finished"]
    evaluations, skipped = read_evaluations(list(finished["path"]))
    records = evaluations[evaluations["corruption"].notna()].drop_duplicates("path")
    rows = evaluations[evaluations["path"].isin(_of_one_way(records, conditions))]
    corrupted = rows[rows["corruption"].notna()]
    means = corrupted.groupby(["run_id", "corruption"], sort=False)["top1"].mean().unstack()
    means = means[list(dict.fromkeys(corrupted["corruption"]))]
    there = finished[finished["run_id"].isin(means.index)]
    by_corruption = means.loc[there["run_id"]].set_axis(there.index)
    whole = rows[rows["part"] == ""]
    # a published set of corrupted images has none that are not
    clean = there["run_id"].map(whole.set_index("run_id")["top1"]) if len(whole) else there["top1"]
    table = there.assign(clean_top1=clean.astype(float), corrupted_top1=by_corruption.mean(axis=1))
    severities = tuple(sorted({int(severity) for severity in corrupted["severity"]}))
    return CorruptedRuns(
        table, by_corruption, severities, rows["data"].iloc[0], int(rows["image_size"].iloc[0])
    ), skipped


def _of_one_way(records: pd.DataFrame, conditions: str | None) -> list[str]:
    """The files of the records of one way of evaluating."""
    if not len(records):
        raise RequestError(
            "none of these runs was evaluated on corrupted images; do so with `roadmap evaluate RUNS… corruptions=all`"
        )
    ids = list(dict.fromkeys(records["conditions"]))
    if conditions is not None:
        records = records[records["conditions"] == conditions]
        if not len(records):
            raise RequestError(f"--conditions {conditions}: no run was evaluated so (choose {listed(ids)})")
    ways = [way for _, way in records.groupby(WAY, sort=False)]
    if len(ways) > 1:
        values = {name: list(dict.fromkeys(way[name].iloc[0] for way in ways)) for name in WAYS}
        differing = [f"{name} ({' and '.join(map(str, those))})" for name, those in values.items() if len(those) > 1]
        sizes = records["conditions"].value_counts()
        counts = [f"{name} ({size} run{'s' if size > 1 else ''})" for name, size in sizes.items()]
        raise RequestError(
            f"these runs were evaluated in {len(ways)} ways, which differ in "
            f"{' and in '.join(differing) or 'corruptions or severities'} and make no comparison; "
            f"choose with --conditions {listed(counts)}"
        )
    (way,) = ways
    again = way[way["run_id"].duplicated(keep=False)]
    if len(again):
        raise RequestError(
            f"run {again['run_id'].iloc[0]} was evaluated so twice, in unlike ways; move one record away: "
            f"{listed(again.loc[again['run_id'] == again['run_id'].iloc[0], 'path'])}"
        )
    return list(way["path"])
