"""Train every step from ResNet-50 to ConvNeXt-T, and measure what each design change is worth."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from roadmap.bench.reading import load_bench
    from roadmap.comparison.compare import compare
    from roadmap.config.build import build
    from roadmap.evaluation.reading import load_evaluations
    from roadmap.networks.flops import cost
    from roadmap.networks.weights import load_weights
    from roadmap.plots.command import figure
    from roadmap.runs.export import export
    from roadmap.runs.reading import load_history, load_runs
    from roadmap.versions import __version__ as __version__

__all__ = [
    "build",
    "compare",
    "cost",
    "export",
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
    "build": "roadmap.config.build",
    "cost": "roadmap.networks.flops",
    "load_weights": "roadmap.networks.weights",
    "compare": "roadmap.comparison.compare",
    "export": "roadmap.runs.export",
    "figure": "roadmap.plots.command",
    "load_evaluations": "roadmap.evaluation.reading",
    "load_bench": "roadmap.bench.reading",
    "load_runs": "roadmap.runs.reading",
    "load_history": "roadmap.runs.reading",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'roadmap' has no attribute '{name}'")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
