"""What the page says of its runs in words: what was run, the numbers at the top, what to know before believing them."""

import pandas as pd

from roadmap.paper.published import SCALED_FROM
from roadmap.runs.identity import cautions
from roadmap.runs.reading import definition_keys

FEW = 5  # seeds


def lead(runs: pd.DataFrame) -> str:
    """What was run, in a sentence."""
    finished = runs[runs["status"] == "finished"]
    places = dict.fromkeys(zip(runs["regime"].astype(str), runs["data"].astype(str), strict=True))
    what = [", ".join(f"{regime} on {data}" for regime, data in places)]
    what += [f"{_these(runs['epochs'])} epochs"] if runs["epochs"].notna().any() else []
    what += [f"{_range(*seed_counts(runs))} a design"] if len(finished) else []
    many = f"{len(runs):,} runs" if len(runs) > 1 else "One run"
    done = "all finished" if len(finished) == len(runs) > 1 else statuses(runs)
    return f"{many} of {_many(len(set(definition_keys(runs))), 'design')} ({'; '.join(what)}), {done}."


def numbers(runs: pd.DataFrame) -> list[dict[str, str]]:
    """The numbers at the top, each with its name."""
    finished = runs[runs["status"] == "finished"]
    found = {
        "runs finished": f"{len(finished):,} of {len(runs):,}",
        "designs": f"{len(set(definition_keys(runs))):,}",
    }
    if len(finished):
        found["seeds a design"] = _range(*seed_counts(runs)).partition(" seed")[0]
    mega = runs["gmacs"].max() < 0.1
    for name, values, unit in (
        ("MACs of an image", runs["gmacs"] * (1000 if mega else 1), "M" if mega else "G"),
        ("parameters", runs["params_m"], "M"),
    ):
        if values.notna().any():
            low, high = f"{values.min():.2f}", f"{values.max():.2f}"
            found[name] = f"{low} {unit}" if low == high else f"{low} to {high} {unit}"
    if finished["train_seconds"].notna().any():
        found["training in all"] = _duration(float(finished["train_seconds"].sum()))
    return [{"name": name, "value": value} for name, value in found.items()]


def caveats(runs: pd.DataFrame, charts: int, skipped: list[str]) -> list[str]:
    """What a reader has to know before believing a number, a sentence or two each."""
    finished = runs[runs["status"] == "finished"]
    said = [*_of_seeds(runs)]
    if runs["regime"].isin([*SCALED_FROM]).any():
        said.append(
            "Nano networks are a proxy: small, and on small images. The paper's numbers are of ResNet-50 and its "
            "successors on ImageNet and stand beside them for orientation only."
        )
    elif not runs["data"].astype(str).str.startswith("imagenet").all():
        said.append("Other data than ImageNet is a proxy: the paper's numbers stand beside these for orientation only.")
    said += [f"{caution[0].upper()}{caution[1:]}." for caution in cautions(finished)]
    if len(finished) < len(runs):
        said.append(f"Not finished and in no mean: {statuses(runs[runs['status'] != 'finished'])}.")
    if charts > 1:
        said.append(
            "Each chart has one regime, data set and training budget; accuracies of different charts do not compare."
        )
    if skipped:
        more = f"; and {len(skipped) - 5} more" if len(skipped) > 5 else ""
        said.append(f"Could not be read and left out: {'; '.join(skipped[:5])}{more}.")
    return said


def _of_seeds(runs: pd.DataFrame) -> list[str]:
    few, many = seed_counts(runs)
    if many == 1:
        return [
            "Every design has one seed: how far it would move with another is not known, so no difference here can be "
            "told from chance."
        ]
    if many and few < FEW:
        return [
            f"{_range(few, many)} a design: ± is the standard deviation over seeds, and with so few of them it is "
            "itself uncertain."
        ]
    return []


def seed_counts(runs: pd.DataFrame) -> tuple[int, int]:
    """The least and the most finished seeds of a design that has any; zeros without."""
    finished = runs[runs["status"] == "finished"]
    counts = pd.Series(definition_keys(finished), dtype=object).value_counts()
    return (int(counts.min()), int(counts.max())) if len(counts) else (0, 0)


def statuses(runs: pd.DataFrame) -> str:
    """``2 running, 1 failed``; empty where there is none."""
    return ", ".join(f"{count} {status}" for status, count in runs["status"].value_counts(sort=False).items())


def setting(runs: pd.DataFrame) -> str:
    """What the designs of a chart were run with."""
    few, many = seed_counts(runs)
    return f"{_place(runs)}; {_range(few, many)} a design; accuracy after the last epoch"


def no_result(runs: pd.DataFrame) -> str:
    """The same of runs none of which has finished."""
    return f"{_place(runs)}; no run has finished yet ({statuses(runs)})"


def _place(runs: pd.DataFrame) -> str:
    return f"data {runs['data'].iloc[0]}, regime {runs['regime'].iloc[0]}, {_these(runs['epochs'])} epochs"


def _these(values: pd.Series) -> str:
    texts = [f"{value:g}" for value in sorted(values.dropna().unique())]
    return " and ".join(texts) or "unknown" if len(texts) < 4 else f"{texts[0]} to {texts[-1]}"


def _range(few: int, many: int) -> str:
    return _many(many, "seed") if few == many else f"{few} to {_many(many, 'seed')}"


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"
