"""Writes tests/golden/steps.json: exact costs of every step in every regime. Run it only when they are meant to change.

python tests/golden/make.py
"""

import json
from pathlib import Path

from roadmap.config.build import measured_cost
from roadmap.steps.path import compose_path

FILE = Path(__file__).parent / "steps.json"


def count(regime: str) -> dict[str, dict[str, int]]:
    costs = {step.name: measured_cost(step.composed) for step in compose_path([f"regime={regime}"])}
    return {
        name: {"macs": cost.macs, "params": cost.params, "activations": cost.activations}
        for name, cost in costs.items()
    }


if __name__ == "__main__":
    regimes = ("tiny", "base", "nano", "nano_base")
    FILE.write_text(json.dumps({regime: count(regime) for regime in regimes}, indent=1) + "\n")
