"""The Pareto front of finished runs: designs that no other design dominates in accuracy and cost."""

import itertools
import shlex
import string
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import altair as alt
import numpy as np
import pandas as pd

from roadmap.comparison.groups import summarise
from roadmap.comparison.step_table import data_words, held_out, mac_unit
from roadmap.comparison.tradeoff_plot import BEATEN, COSTS, FRONT, MAYBE, CostAxis, pareto, points_chart
from roadmap.errors import RequestError
from roadmap.formatting import aligned, listed, mean_and_std
from roadmap.runs.identity import check_comparable, group_keys
from roadmap.runs.records import exported_part, logged_overrides

AXES = ("gmacs", "params")  # of COSTS, those that depend on the design only
COLUMNS = ("point", "variant", "n", "top1", "top1_std", "low", "high", "gmacs", "params_m", "mark", "command")
FRESH_SEEDS = 3
NOT_OF_DESIGN = ("study", "seed", "seeds", "runs_dir", "resume")  # overrides of a run that do not define its design


@dataclass(frozen=True)
class Front:
    """``table`` has one row per design, the cheapest first, with ``COLUMNS``; accuracies are in percent.

    ``mark`` is FRONT, MAYBE or BEATEN. ``point`` is the letter of a design on the front, ``low`` to ``high`` its 95 %
    interval, and ``command`` trains it again with other seeds.
    """

    table: pd.DataFrame
    cost: CostAxis
    words: str  # the data and epochs
    images: float  # the number of images evaluated on; NaN if no record has it
    held_out: bool
    excluded: int  # runs that have not finished

    @property
    def members(self) -> pd.DataFrame:
        """The designs on the front."""
        return self.table[self.table["mark"] == FRONT]


def front(runs: pd.DataFrame, x: str = "gmacs") -> Front:
    """The Pareto front of finished ``runs`` by their means over seeds, in accuracy and one of ``AXES``.

    A design is dominated by one that is at least as accurate, costs no more, and is better in one of the two. It is
    dominated within noise if no design that costs no more has its interval above this one's. The interval is Student's
    over seeds; for one seed, or seeds without spread, it is Wilson's over the images, which is too narrow.

    Raises RequestError for runs that cannot be compared, including those of several recipes.
    """
    if x not in AXES:
        raise RequestError(f"unknown x '{x}' of a Pareto front (choose {listed(AXES)})")
    cost = COSTS[x]
    all_runs = len(runs)
    runs = runs[(runs["status"] == "finished") & runs["top1"].notna() & runs[cost.column].notna()]
    if not len(runs):
        raise RequestError("no finished run in these folders")
    check_comparable(runs, one_recipe=True)
    on_held_out = held_out(runs["definition"].iloc[0])
    images = runs["val_images"].iloc[0]
    table = summarise(runs)
    # means of the same accuracies in another order differ in the last bits
    table["top1"] = table["top1"].round(9)
    table = table.sort_values([cost.column, "top1"], ascending=[True, False], kind="stable").reset_index(drop=True)
    table["low"], table["high"] = _intervals(table, images)
    table["mark"] = _marks(table, cost)
    table["point"] = _letters(table["mark"] == FRONT)
    table["command"] = _commands(table, runs, on_held_out)
    epochs = int(runs["epochs"].iloc[0])
    words = f"{data_words(runs)}, {epochs} epoch{'s' * (epochs > 1)}"
    return Front(table, cost, words, images, on_held_out, all_runs - len(runs))


def _intervals(table: pd.DataFrame, images: float) -> tuple[np.ndarray, np.ndarray]:
    from statsmodels.stats.proportion import proportion_confint

    right = table["top1"].to_numpy() / 100 * images
    low, high = (100 * np.asarray(end) for end in proportion_confint(right, images, method="wilson"))
    known = table["top1_low"].notna()
    return np.where(known, table["top1_low"], low), np.where(known, table["top1_high"], high)


def _marks(table: pd.DataFrame, cost: CostAxis) -> list[str]:
    price, low, high = (table[name].to_numpy(float) for name in (cost.column, "low", "high"))
    on_front = pareto(price, table["top1"].to_numpy(), cost.better)
    clearly = [bool((low[price <= price[row]] > high[row]).any()) for row in range(len(table))]
    return [FRONT if front else BEATEN if lost else MAYBE for front, lost in zip(on_front, clearly, strict=True)]


def _letters(on_front: pd.Series) -> list[str]:
    letters = (
        "".join(word) for size in itertools.count(1) for word in itertools.product(string.ascii_uppercase, repeat=size)
    )
    return [next(letters) if front else "" for front in on_front]


def _commands(table: pd.DataFrame, runs: pd.DataFrame, on_held_out: bool) -> list[str | None]:
    """For each design on the front, the command that trains it with new seeds and evaluates on the test images."""
    path_of = dict(zip(group_keys(runs["definition"]), runs["path"], strict=True))
    first = int(runs["seed"].max()) + 1
    seeds = range(first, first + FRESH_SEEDS)
    designs = zip(group_keys(table["definition"]), table["step"], table["mark"], strict=True)
    return [
        train_again(path_of[key], step, seeds, on_held_out) if mark == FRONT else None for key, step, mark in designs
    ]


def train_again(folder: str, step: str, seeds: range, on_held_out: bool) -> str | None:
    """``roadmap train …`` for a run's design with other seeds and no holdout; None if its overrides are not logged."""
    logged = logged_overrides(folder)
    if logged is None:
        return None
    keys = [word.partition("=")[0] for word in logged]
    kept = [
        word
        for word, key in zip(logged, keys, strict=True)
        if key.split(".")[0] not in NOT_OF_DESIGN and key not in ("data.holdout", "step")
    ]
    part = exported_part(folder)
    place = Path(part[0] if part else folder).parent
    # not in the folder of the search, whose runs are evaluated on other images
    place = place.with_name(f"{place.name}-front") if on_held_out else place
    new = [f"runs_dir={place}", "data.holdout=0", f"seed={','.join(map(str, seeds))}"]
    return shlex.join(["roadmap", "train", "-m", f"step={step}", *kept, *new])


def draw_pareto(found: Front) -> alt.VConcatChart:
    """Return the front among all designs, with letters that the caption explains."""
    table = found.table.assign(label=found.table["point"], name=found.table["variant"])
    dominated = table["mark"] != FRONT
    table.loc[dominated, ["low", "high"]] = np.nan
    title = f"Accuracy against {found.cost.title}: the Pareto front"
    return points_chart(table, found.cost, title=title, subtitle=_subtitle(found), caption="\n".join(_key(found)))


def _subtitle(found: Front) -> str:
    return f"{found.words}; accuracy after the last epoch, {_seeds(found)}"


def _seeds(found: Front) -> str:
    low, high = int(found.table["n"].min()), int(found.table["n"].max())
    return f"{low} seed{'s' * (low > 1)} a design" if low == high else f"{low} to {high} seeds a design"


def _key(found: Front) -> Iterator[str]:
    """A line per design on the front with its letter, then the notes."""
    factor, unit = mac_unit(found.table)
    for row in found.members.to_dict("records"):
        price = f"{row['gmacs'] * factor:.3g} {unit}, {row['params_m']:.2f} M parameters"
        yield f"{row['point']}: {mean_and_std(row['top1'], row['top1_std'])} %, {price}: {row['variant']}"
    yield from notes(found)


def notes(found: Front) -> list[str]:
    """How to read a front, and the cautions."""
    table, many = found.table, len(found.table)
    lines = [
        f"front: {len(found.members)} of {many} designs, by means alone: no other design is as accurate at lower cost; "
        "of equally accurate designs the cheapest"
    ]
    maybe, beaten = (int((table["mark"] == mark).sum()) for mark in (MAYBE, BEATEN))
    if maybe:
        lines.append(
            f"{maybe} of the {maybe + beaten} others are dominated within noise: no design that costs no more has its "
            "95 % interval above theirs, so they may be on the front too"
        )
    one_seed = table["top1_low"].isna()
    intervals = [] if one_seed.all() else ["over seeds (Student)"]
    if one_seed.any():
        intervals.append(f"for one seed over the {found.images:,.0f} images only (Wilson), without the noise of seeds")
    lines.append(f"95 %: {'; '.join(intervals)}")
    where = "" if found.held_out else "; they are on the test images, which must not be used to choose a design"
    if many > 1:
        lines.append(f"caution: as the best of {many} noisy ones, the front's accuracies are biased upward{where}")
    if found.excluded:
        lines.append(f"not included: {found.excluded} run{'s' * (found.excluded > 1)} pruned, failed or in progress")
    return lines


def text(found: Front) -> str:
    """The front's table for a terminal, the notes, and the commands that train its designs again."""
    commands = [command for command in found.members["command"] if command]
    if commands:
        commands.insert(0, "to train the front's designs with new seeds and evaluate them on the test images:")
    return "\n".join([_subtitle(found), aligned(*cells(found.members)), *notes(found), *commands])


def cells(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """The front's table as text."""
    factor, unit = mac_unit(table)
    header = ["", "top-1 (%)", "95 %", "n", unit, "params (M)", "variant"]
    rows = [
        [
            row["point"],
            mean_and_std(row["top1"], row["top1_std"]),
            "" if pd.isna(row["low"]) else f"{row['low']:.2f} to {row['high']:.2f}",
            str(row["n"]),
            f"{row['gmacs'] * factor:.2f}",
            f"{row['params_m']:.2f}",
            row["variant"],
        ]
        for row in table.to_dict("records")
    ]
    return header, rows
