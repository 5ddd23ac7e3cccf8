"""The Pareto front of finished runs: designs that are not dominated in accuracy and cost, as a table and a chart."""

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
from roadmap.comparison.tradeoff_plot import BEATEN, COSTS, FRONT, MAYBE, Cost, pareto, points_chart
from roadmap.errors import RequestError
from roadmap.formatting import aligned, listed
from roadmap.runs.identity import check_comparable, group_keys
from roadmap.runs.records import exported_part, logged_overrides

AXES = ("gmacs", "params")  # of COSTS, those that are a design's own
COLUMNS = ("point", "variant", "n", "top1", "top1_std", "low", "high", "gmacs", "params_m", "mark", "command")
FRESH_SEEDS = 3
# of a run's overrides, those that belong to the search and not to its design
OWN_TO_A_SEARCH = ("study", "seed", "seeds", "runs_dir", "resume")


@dataclass(frozen=True)
class Front:
    """``table`` has a row a design, the cheapest first: ``COLUMNS``, accuracies in percent.

    ``mark`` is one of FRONT, MAYBE and BEATEN, ``point`` the letter of one on the front, ``low`` to ``high`` a 95 %
    interval, ``command`` what trains one on the front again with other seeds.
    """

    table: pd.DataFrame
    cost: Cost
    words: str  # on what images the accuracies are
    images: float  # that they are on; NaN where no record says it
    held_out: bool
    left_out: int  # runs that have not finished

    @property
    def members(self) -> pd.DataFrame:
        """The designs on the front."""
        return self.table[self.table["mark"] == FRONT]


def front(runs: pd.DataFrame, x: str = "gmacs") -> Front:
    """The Pareto front of finished ``runs`` by their means over seeds, in accuracy and one of ``AXES``.

    A design is dominated by one that is at least as accurate, costs no more, and is better in one of the two: of
    equally accurate ones the cheapest stays, two that are equal in both stay both. Dominated within noise: the interval
    of no design that costs no more lies above this one's. The interval is Student's over seeds; of one seed, or of
    seeds without spread, Wilson's of the images alone, so that it is too narrow.

    Raises RequestError for runs whose accuracies are no comparison, those of several recipes among them.
    """
    if x not in AXES:
        raise RequestError(f"unknown x '{x}' of a Pareto front (choose {listed(AXES)})")
    cost = COSTS[x]
    all_runs = len(runs)
    runs = runs[(runs["status"] == "finished") & runs["top1"].notna() & runs[cost.column].notna()]
    if not len(runs):
        raise RequestError("no finished run in these folders")
    check_comparable(runs, one_recipe=True)
    apart = held_out(runs["definition"].iloc[0])
    images = runs["val_images"].iloc[0]
    table = summarise(runs)
    # means over the same accuracies in another order differ in the last bits
    table["top1"] = table["top1"].round(9)
    table = table.sort_values([cost.column, "top1"], ascending=[True, False], kind="stable").reset_index(drop=True)
    table["low"], table["high"] = _intervals(table, images)
    table["mark"] = _marks(table, cost)
    table["point"] = _letters(table["mark"] == FRONT)
    table["command"] = _commands(table, runs, apart)
    words = f"{data_words(runs)}, {_epochs(runs)}"
    return Front(table, cost, words, images, apart, all_runs - len(runs))


def _epochs(runs: pd.DataFrame) -> str:
    epochs = int(runs["epochs"].iloc[0])
    return f"{epochs} epoch{'s' * (epochs > 1)}"


def _intervals(table: pd.DataFrame, images: float) -> tuple[np.ndarray, np.ndarray]:
    from statsmodels.stats.proportion import proportion_confint

    right = table["top1"].to_numpy() / 100 * images
    low, high = (100 * np.asarray(end) for end in proportion_confint(right, images, method="wilson"))
    known = table["top1_low"].notna()
    return np.where(known, table["top1_low"], low), np.where(known, table["top1_high"], high)


def _marks(table: pd.DataFrame, cost: Cost) -> list[str]:
    price, low, high = (table[name].to_numpy(float) for name in (cost.column, "low", "high"))
    on_front = pareto(price, table["top1"].to_numpy(), cost.better)
    clearly = [bool((low[price <= price[row]] > high[row]).any()) for row in range(len(table))]
    return [FRONT if front else BEATEN if lost else MAYBE for front, lost in zip(on_front, clearly, strict=True)]


def _letters(on_front: pd.Series) -> list[str]:
    letters = (
        "".join(word) for size in itertools.count(1) for word in itertools.product(string.ascii_uppercase, repeat=size)
    )
    return [next(letters) if front else "" for front in on_front]


def _commands(table: pd.DataFrame, runs: pd.DataFrame, apart: bool) -> list[str | None]:
    """For each design on the front, what trains it with seeds that it has not been chosen by, on the test images."""
    of_design = dict(zip(group_keys(runs["definition"]), runs["path"], strict=True))
    seeds = range(int(runs["seed"].max()) + 1, int(runs["seed"].max()) + 1 + FRESH_SEEDS)
    keys = group_keys(table["definition"])
    return [
        train_again(of_design[key], row["step"], seeds, apart) if row["mark"] == FRONT else None
        for key, (_, row) in zip(keys, table.iterrows(), strict=True)
    ]


def train_again(folder: str, step: str, seeds: range, apart: bool) -> str | None:
    """``roadmap train …`` of a run's design with other seeds and no holdout; None where its overrides are lost."""
    logged = logged_overrides(folder)
    if logged is None:
        return None
    kept = [word for word in logged if word.partition("=")[0].split(".")[0] not in OWN_TO_A_SEARCH]
    kept = [word for word in kept if word.partition("=")[0] not in ("data.holdout", "step")]
    part = exported_part(folder)
    place = Path(part[0] if part else folder).parent
    # apart from the search's, which are evaluated on other images
    place = place.with_name(f"{place.name}-front") if apart else place
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
    """The designs on the front by their letters, and how far to trust it."""
    factor, unit = mac_unit(found.table)
    for row in found.members.to_dict("records"):
        spread = "" if pd.isna(row["top1_std"]) else f" ± {row['top1_std']:.2f}"
        price = f"{row['gmacs'] * factor:.3g} {unit}, {row['params_m']:.2f} M parameters"
        yield f"{row['point']}: {row['top1']:.2f}{spread} %, {price}: {row['variant']}"
    yield from notes(found)


def notes(found: Front) -> list[str]:
    """How to read a front, a sentence or two a line."""
    table, many = found.table, len(found.table)
    lines = [
        f"front: {len(found.members)} of {many} designs; by the means alone no other is as accurate at less cost; of "
        "equally accurate ones the cheapest"
    ]
    maybe, beaten = (int((table["mark"] == mark).sum()) for mark in (MAYBE, BEATEN))
    if maybe:
        lines.append(
            f"{maybe} of the {maybe + beaten} others are dominated within noise: no design of at most their cost has "
            "its 95 % interval above theirs, so they may belong to the front as well"
        )
    lone = table["top1_low"].isna()
    over = [] if lone.all() else ["over seeds (Student)"]
    over += [f"for one seed of the {found.images:,.0f} images alone (Wilson), without the noise of seeds"] * bool(
        lone.any()
    )
    lines.append(f"95 %: {'; '.join(over)}")
    where = "" if found.held_out else "; and they are on the test images, by which nothing should be chosen"
    if many > 1:
        lines.append(f"caution: as the best of {many} noisy ones the front's accuracies are too high on average{where}")
    if found.left_out:
        lines.append(
            f"left out: {found.left_out} run{'s' * (found.left_out > 1)} without a result, pruned, failed or under way"
        )
    return lines


def text(found: Front) -> str:
    """The front's table for a terminal, how to read it, and what trains its designs again."""
    commands = [command for command in found.members["command"] if command]
    again = [
        "to train the front's designs with seeds that did not choose them, and evaluate on the test images:",
        *commands,
    ]
    parts = [_subtitle(found), aligned(*cells(found.members)), *notes(found), *(again if commands else [])]
    return "\n".join(parts)


def cells(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """The table as text."""
    factor, unit = mac_unit(table)
    header = ["", "top-1 (%)", "95 %", "n", unit, "params (M)", "variant"]
    rows = [
        [
            row["point"],
            f"{row['top1']:.2f}" + ("" if pd.isna(row["top1_std"]) else f" ± {row['top1_std']:.2f}"),
            "" if pd.isna(row["low"]) else f"{row['low']:.2f} to {row['high']:.2f}",
            str(row["n"]),
            f"{row['gmacs'] * factor:.2f}",
            f"{row['params_m']:.2f}",
            row["variant"],
        ]
        for row in table.to_dict("records")
    ]
    return header, rows
