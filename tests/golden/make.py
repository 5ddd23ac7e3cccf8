"""Write tests/golden/*.json: exact costs of every step, and of the networks of Tables 1, 2, 8 and 12.

python tests/golden/make.py

Run it only when they are meant to change.
"""

import json
from pathlib import Path

from roadmap.config.build import measured_cost, network_cost
from roadmap.config.compose import compose, options_of
from roadmap.config.groups import options_in
from roadmap.paper.published import network_rows
from roadmap.steps.path import compose_path

FOLDER = Path(__file__).parent
REGIMES = ("tiny", "base", "nano", "nano_base", "cifar")
Costs = dict[str, dict[str, int]]


def steps(regime: str) -> Costs:
    return {step.name: measured_cost(step.composed)._asdict() for step in compose_path([f"regime={regime}"])}


def baseline_models() -> dict[str, Costs]:
    """Each row of conf/rows/paper.yaml by its title, and the other models at their own image size."""
    rows = [row for row, _ in network_rows(options_of(["rows=paper"]).values["rows"])]
    used = {word for row in rows for word in row.overrides}
    others = [name for name in sorted(options_in("networks.yaml")["model"]) if f"model={name}" not in used]
    return {
        "rows": {row.title: cost_of(*row.overrides) for row in rows},
        "other_models": {name: cost_of(f"model={name}") for name in others},
    }


def cost_of(*overrides: str) -> dict[str, int]:
    return network_cost(compose(overrides))._asdict()


if __name__ == "__main__":
    golden = {"steps": {regime: steps(regime) for regime in REGIMES}, "baseline_models": baseline_models()}
    for name, costs in golden.items():
        (FOLDER / f"{name}.json").write_text(json.dumps(costs, indent=1, ensure_ascii=False) + "\n")
