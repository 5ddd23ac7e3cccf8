"""Train every step from ResNet-50 to ConvNeXt-T, and measure what each design change is worth."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from roadmap.bench.reading import load_bench as load_bench
    from roadmap.comparison.compare import compare as compare
    from roadmap.config.build import build as build
    from roadmap.evaluation.reading import load_evaluations as load_evaluations
    from roadmap.networks.flops import cost as cost
    from roadmap.networks.weights import load_weights as load_weights
    from roadmap.plots.command import figure as figure
    from roadmap.runs.export_command import export as export
    from roadmap.runs.list_command import list_runs as list_runs
    from roadmap.runs.reading import load_history as load_history
    from roadmap.runs.reading import load_runs as load_runs
    from roadmap.training.run_command import run as run
    from roadmap.versions import __version__ as __version__

# torch and pandas take seconds to import: each name brings its module only when it is used
_MODULES = {
    "build": "roadmap.config.build",
    "compare": "roadmap.comparison.compare",
    "cost": "roadmap.networks.flops",
    "export": "roadmap.runs.export_command",
    "figure": "roadmap.plots.command",
    "list_runs": "roadmap.runs.list_command",
    "load_bench": "roadmap.bench.reading",
    "load_evaluations": "roadmap.evaluation.reading",
    "load_history": "roadmap.runs.reading",
    "load_runs": "roadmap.runs.reading",
    "load_weights": "roadmap.networks.weights",
    "run": "roadmap.training.run_command",
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    modules = _MODULES | {"__version__": "roadmap.versions"}
    if name not in modules:
        raise AttributeError(f"module 'roadmap' has no attribute '{name}'")
    globals()[name] = value = getattr(import_module(modules[name]), name)
    return value
