"""Run records for tests: those of the example runs, changed where a test needs it, and written as run folders."""

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parent.parent / "runs" / "examples" / "nano-digits"


@cache
def _example(variant: str) -> dict[str, Any]:
    (folder,) = EXAMPLES.glob(f"*-{variant}-s0-*")
    return dict(json.loads((folder / "summary.json").read_text()))


def record(variant: str, seed: int, top1: float, **definition: Any) -> dict[str, Any]:
    """A finished run's record of made-up accuracy; ``definition`` changes its conditions, as ``epochs=5``."""
    made: dict[str, Any] = copy.deepcopy(_example(variant))
    made |= {"seed": seed, "top1": top1, "best_top1": top1 + 1}
    made["definition"] |= {"seed": seed} | definition
    made |= {key: value for key, value in definition.items() if key in made and key not in ("data", "recipe")}
    made["run_id"] = f"{abs(hash(json.dumps(made['definition'], sort_keys=True))):x}"[:10]
    return made


def write(folder: Path, *records: dict[str, Any]) -> Path:
    """Each record in a run folder of its own under ``folder``."""
    for made in records:
        path = folder / f"{made['variant']}-s{made['seed']}-{made['run_id']}"
        path.mkdir(parents=True)
        (path / "summary.json").write_text(json.dumps(made))
    return folder
