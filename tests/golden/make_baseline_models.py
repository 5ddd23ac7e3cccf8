"""Write tests/golden/baseline_models.json: exact costs of the networks of Tables 1, 2, 8 and 12.

python tests/golden/make_baseline_models.py
"""

import json
from pathlib import Path
from typing import Any

from roadmap.config.build import network_cost
from roadmap.config.compose import compose, options_of
from roadmap.config.conf_dir import config_dir
from roadmap.paper.published_rows import network_rows, printed

FILE = Path(__file__).parent / "baseline_models.json"
BASES = ("timm", "torchvision", "roadmap")  # of conf/model/: any network of a library, so none to count


def cost_of(overrides: tuple[str, ...]) -> dict[str, int]:
    cost = network_cost(compose(overrides))
    return {"macs": cost.macs, "params": cost.params, "activations": cost.activations}


def rows() -> dict[str, dict[str, Any]]:
    """Every row by its title, with what is printed of it."""
    return {
        row.title: {
            **cost_of(row.overrides),
            "published_gflops": printed(published, "gflops"),
            "published_params_m": printed(published, "params_m"),
        }
        for row, published in network_rows(options_of(["rows=paper"]).values["rows"])
    }


def other_models() -> dict[str, dict[str, int]]:
    """The ready files of conf/model/ that no row uses, each at its own image size."""
    used = {word for row, _ in network_rows(options_of(["rows=paper"]).values["rows"]) for word in row.change}
    names = sorted(file.stem for file in (config_dir() / "model").glob("*.yaml"))
    return {name: cost_of((f"model={name}",)) for name in names if name not in BASES and f"model={name}" not in used}


if __name__ == "__main__":
    FILE.write_text(json.dumps({"rows": rows(), "other_models": other_models()}, indent=1, ensure_ascii=False) + "\n")
