"""Which design change is worth what: from ResNet-50 to ConvNeXt-T one change at a time, and any design beside."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from roadmap.analysis.comparison import compare
    from roadmap.analysis.reading.benches import load_bench
    from roadmap.analysis.reading.evaluations import load_evaluations
    from roadmap.analysis.reading.runs import load_history, load_runs
    from roadmap.commands.figure import figure
    from roadmap.networks.builder import build
    from roadmap.networks.costs import cost
    from roadmap.networks.weights import load_weights
    from roadmap.versions import __version__ as __version__

__all__ = [
    "build",
    "compare",
    "cost",
    "figure",
    "load_bench",
    "load_evaluations",
    "load_history",
    "load_runs",
    "load_weights",
]

# torch and pandas take seconds to import: each name brings its module only when it is used
_HOMES = {
    "__version__": "roadmap.versions",
    "build": "roadmap.networks.builder",
    "cost": "roadmap.networks.costs",
    "load_weights": "roadmap.networks.weights",
    "compare": "roadmap.analysis.comparison",
    "figure": "roadmap.commands.figure",
    "load_evaluations": "roadmap.analysis.reading.evaluations",
    "load_bench": "roadmap.analysis.reading.benches",
    "load_runs": "roadmap.analysis.reading.runs",
    "load_history": "roadmap.analysis.reading.runs",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'roadmap' has no attribute '{name}'")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
