"""The published numbers of the roadmap's steps in both regimes (arXiv:2201.03545, Tables 10 and 11)."""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PAPER = Path(__file__).parent
# Scaled-down regimes, and the paper's regime that they are compared with.
SCALED_FROM = {"nano": "tiny", "nano_base": "base"}
TABLES = {"tiny": "table10_resnet50_regime.csv", "base": "table11_resnet200_regime.csv"}
TABLE_NAMES = {"tiny": "Table 10", "base": "Table 11"}
REFERENCE = "swin"  # a row of the tables that is not a step

# The two of 34 published FLOPs that differ from the step's definition, and why.
EXCEPTIONS = {
    ("tiny", "layer_norm"): (
        "Table 10 prints 4.46 for BN → LN, but LN changes no convolution: Figure 2 of the same paper prints 4.2, and "
        "Table 11 leaves the FLOPs of this step unchanged; the network computes 4.15."
    ),
    ("tiny", "separate_downsampling"): (
        "Table 10 prints 4.49 for ConvNeXt-T, but every public count of it is 4.456, printed as 4.5 in Figure 2; "
        "the network computes 4.46."
    ),
}


@dataclass(frozen=True)
class Published:
    """One row of Table 10 or 11: top-1 in percent (mean, and std over 3 seeds where given), FLOPs in GMACs."""

    top1: float
    top1_std: float | None
    gflops: str  # as printed
    label: str


@cache
def published_steps(regime: str) -> dict[str, Published]:
    """Return the published rows of a regime by step name; empty for a regime that is not in the paper."""
    if regime not in TABLES:
        return {}
    with open(PAPER / TABLES[regime], newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    # the first step is called resnet50 in every regime
    return {
        "resnet50" if row["step"] == "resnet200" else row["step"]: Published(
            float(row["top1"]), float(row["top1_std"]) if row["top1_std"] else None, row["gflops"], row["label"]
        )
        for row in rows
    }
