"""``roadmap steps``: each step of a path with its costs and the published numbers."""

import json
from typing import Any

from roadmap.cli.arguments import checked_overrides, override_parser, say_choices
from roadmap.config.build import network_cost
from roadmap.formatting import aligned
from roadmap.paper.published import EXCEPTIONS, published_steps
from roadmap.steps.path import compose_path


def main(arguments: list[str]) -> int:
    parser = override_parser("steps", "every step of a path and what it costs")
    parser.add_argument("--json", action="store_true", help="a list of objects instead of the table")
    options = parser.parse_intermixed_args(arguments)
    rows, regime = describe(checked_overrides(options.overrides), options.config_dir)
    if options.json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
    else:
        print(render(rows, regime))
    return 0


def describe(overrides: list[str], config_dirs: list[str]) -> tuple[list[dict[str, Any]], str]:
    """Each step as it is printed by ``--json``, and the regime's name. GMACs of one image, parameters in millions."""
    steps = compose_path(overrides, config_dirs)
    say_choices(step.composed for step in steps)
    regime = steps[0].composed.regime.name
    rows = []
    for step in steps:
        count = network_cost(step.composed)
        # by variant: a toggled step is no longer the published one
        published = published_steps(regime).get(step.composed.variant)
        rows.append(
            {
                "name": step.name,
                "label": step.label,
                "section": step.section,
                "parent": step.parent,
                "adopted": step.adopted,
                "changes": step.changes,
                "gmacs": count.gmacs,
                "params_m": count.params_m,
                "activations_m": count.activations / 1e6,
                "paper_gflops": float(published.gflops) if published else None,
                "paper_top1": published.top1 if published else None,
                "design": step.composed.design.to_dict(),
            }
        )
    return rows, regime


def render(rows: list[dict[str, Any]], regime: str) -> str:
    """The table; ``*`` marks a published cell that the step's definition does not compute, explained below it."""
    # nano's networks are a thousand times smaller
    digits = 2 if max(row["gmacs"] for row in rows) >= 0.1 else 5
    published = any(row["paper_gflops"] is not None for row in rows)
    header = ["step", "change", "outcome", "GFLOPs (MACs)", "params (M)"]
    header += ["paper GFLOPs", "paper top-1"] if published else []
    lines, notes = [], []
    for row in rows:
        line = [
            row["name"],
            " ".join(f"{group}={option}" for group, option in row["changes"].items()) or "-",
            "adopted" if row["adopted"] else "rejected",
            f"{row['gmacs']:.{digits}f}",
            f"{row['params_m']:.2f}",
        ]
        if published:
            printed = "-" if row["paper_gflops"] is None else f"{row['paper_gflops']:.2f}"
            differs = row["paper_gflops"] is not None and (regime, row["name"]) in EXCEPTIONS and printed != line[3]
            notes += [f"* {row['name']}: {EXCEPTIONS[regime, row['name']]}"] if differs else []
            top1 = "-" if row["paper_top1"] is None else f"{row['paper_top1']:.2f}"
            line += [printed + ("*" if differs else " "), top1]
        lines.append(line)
    return "\n".join([aligned(header, lines), *notes])
