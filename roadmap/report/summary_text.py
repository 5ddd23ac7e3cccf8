"""The text of a report: what was run, the key numbers and the caveats."""

from collections.abc import Iterable

import pandas as pd

from roadmap.comparison.step_table import mac_unit
from roadmap.formatting import duration
from roadmap.paper.published import SCALED_FROM
from roadmap.runs.identity import cautions, group_keys

FEW = 5  # seeds


def lead(runs: pd.DataFrame) -> str:
    """One sentence on what was run."""
    pairs = dict.fromkeys(zip(runs["regime"].astype(str), runs["data"].astype(str), strict=True))
    details = [", ".join(f"{regime} on {data}" for regime, data in pairs)]
    details += [f"{_values(runs['epochs'])} epochs"] if runs["epochs"].notna().any() else []
    details += [f"{_seeds(runs)} per design"] if seed_counts(runs)[1] else []
    designs = _plural(_designs(runs), "design")
    return f"{_plural(len(runs), 'run')} of {designs} ({'; '.join(details)}): {statuses(runs)}."


def key_numbers(runs: pd.DataFrame) -> dict[str, str]:
    """The key numbers by name."""
    finished = runs[runs["status"] == "finished"]
    factor, unit = mac_unit(runs)
    found = {
        "runs finished": f"{len(finished):,} of {len(runs):,}",
        "designs": f"{_designs(runs):,}",
        "seeds per design": _seeds(runs).partition(" seed")[0] if len(finished) else "",
        "MACs per image": _range(runs["gmacs"] * factor, unit[0]),
        "parameters": _range(runs["params_m"], "M"),
        "training time in total": duration(float(finished["train_seconds"].sum())),
    }
    return {name: text for name, text in found.items() if text}


def caveats(runs: pd.DataFrame, charts: int, skipped: list[str]) -> list[str]:
    """What a reader must know before trusting the numbers."""
    least, most = seed_counts(runs)
    proxy = runs["regime"].isin([*SCALED_FROM]).any()
    unfinished = runs[runs["status"] != "finished"]
    more = f"; and {len(skipped) - 5} more" if len(skipped) > 5 else ""
    found = {
        "Every design has one seed, so no difference between designs can be told from chance.": most == 1,
        f"{_seeds(runs)} per design: ± is the standard deviation over seeds, uncertain with so few.": (
            most > 1 and least < FEW
        ),
        "Nano networks on small images are a proxy. The paper's numbers are for ResNet-50 and its successors on "
        "ImageNet and are shown for orientation only.": proxy,
        "Data other than ImageNet is a proxy: the paper's numbers are shown for orientation only.": (
            not proxy and not runs["data"].astype(str).str.startswith("imagenet").all()
        ),
        **{as_sentence(caution): True for caution in cautions(runs[runs["status"] == "finished"])},
        f"Not finished and not in any mean: {statuses(unfinished)}.": len(unfinished),
        "Each section has one regime, data set and training budget. Do not compare accuracies across sections.": (
            charts > 1
        ),
        f"Skipped because they could not be read: {'; '.join(skipped[:5])}{more}.": skipped,
    }
    return [sentence for sentence, holds in found.items() if holds]


def seed_counts(runs: pd.DataFrame) -> tuple[int, int]:
    """The lowest and highest number of finished seeds of a design that has any; zeros if none has."""
    finished = runs[runs["status"] == "finished"]
    counts = pd.Series(group_keys(finished["definition"]), dtype=object).value_counts()
    return (int(counts.min()), int(counts.max())) if len(counts) else (0, 0)


def statuses(runs: pd.DataFrame) -> str:
    """The number of runs of each status, such as ``2 running, 1 failed``."""
    return ", ".join(f"{count:,} {status}" for status, count in runs["status"].value_counts(sort=False).items())


def setting(runs: pd.DataFrame) -> str:
    """What the runs of a section have in common."""
    place = f"data {runs['data'].iloc[0]}, regime {runs['regime'].iloc[0]}, {_values(runs['epochs'])} epochs"
    if not seed_counts(runs)[1]:
        return f"{place}; no run has finished yet ({statuses(runs)})"
    return f"{place}; {_seeds(runs)} per design; accuracy after the last epoch"


def as_sentence(text: str) -> str:
    """A phrase of the analysis with a capital letter and a full stop."""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '!', '?')) else '.'}"


def _designs(runs: pd.DataFrame) -> int:
    return len(set(group_keys(runs["definition"])))


def _values(values: Iterable[float]) -> str:
    texts = [f"{value:g}" for value in sorted(pd.Series(values).dropna().unique())]
    return " and ".join(texts) or "unknown" if len(texts) < 4 else f"{texts[0]} to {texts[-1]}"


def _range(values: pd.Series, unit: str) -> str:
    low, high = f"{values.min():.3g}", f"{values.max():.3g}"
    return "" if values.isna().all() else f"{low} {unit}" if low == high else f"{low} to {high} {unit}"


def _seeds(runs: pd.DataFrame) -> str:
    least, most = seed_counts(runs)
    return _plural(most, "seed") if least == most else f"{least} to {_plural(most, 'seed')}"


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
