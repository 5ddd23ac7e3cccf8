"""Nothing imports upward, and what should be fast to import stays so."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "roadmap"
# Lower ranks are imported by higher ones, never the other way; within a rank in one direction only.
RANKS = [
    ["errors", "checked", "seeds", "textual", "digest", "confdir", "garbage", "nested", "background"],
    ["wandb_client", "wandb_fields", "wandb_files"],
    ["design", "recipe", "rival", "rows", "layout", "corruptions"],
    ["experiment"],
    ["counting", "matching", "spaces"],
    [
        "runfolder",
        "overrides",
        "hydra_errors",
        "config",
        "published",
        "published_rows",
        "predictions",
        "claims",
        "calibration",
    ],
    ["evaluation_record", "evaluation_request"],
    ["plan"],
    ["search"],
    ["searchspace"],
    ["path"],
    ["bench", "bench.settings", "bench.summaries", "bench.contenders"],
    ["lattice"],
    ["studies"],
    [
        "network",
        "rvt",
        "models",
        "costs",
        "augment",
        "optim",
        "checkpoint",
        "device",
        "progress",
        "weights",
        "loggers",
        "wandb_logger",
    ],
    ["pretrained"],
    ["distributed", "stopping", "scheduled", "launching", "losses"],
    [*(f"data.{name}" for name in ("order", "corrupt", "pixels", "image", "samples", "memory", "encoded"))],
    ["data.distort"],
    ["data.weather"],
    ["data.folder", "data.parquet", "data.shards"],
    ["data.robustness"],
    ["data.files", "data.loaders", "data"],
    ["data.parts"],
    ["evaluation"],
    ["trainer"],
    ["assembly", "summary", "builder", "spending", "measure", "answers", "library_weights"],
    [*(f"bench.{name}" for name in ("memory", "machine", "turns", "record"))],
    ["planning"],
    ["execute", "trained", "exam", "examination"],
    ["worker"],
    [
        "doctor",
        *(f"doctor.{name}" for name in ("photos", "findings", "checks", "machine", "surroundings")),
        *(f"doctor.{name}" for name in ("proof", "runs", "speed")),
    ],
    [
        "analysis",
        *(
            f"analysis.{name}"
            for name in (
                "wandb_runs",
                "wandb_import",
                "histories",
                "runs",
                "evaluations",
                "select",
                "statistics",
                "shapley",
                "shapley_estimate",
                "sets",
                "interactions",
                "parents",
                "paired",
                "underway",
                "estimate",
                "robustness",
            )
        ),
    ],
    ["analysis.robust", "analysis.evaluation_text"],
    ["analysis.benches", "analysis.bench_text"],
    ["analysis.comparable", "analysis.groups", "analysis.rundiff", "analysis.standing"],
    ["analysis.table", "analysis.verdict", "analysis.standing_text", "analysis.attribution"],
    ["analysis.populations", "analysis.edf", "analysis.edf_text"],
    ["analysis.comparison"],
    ["analysis.listing", "analysis.attribution_text"],
    ["analysis.robust_table"],
    ["analysis.style", "analysis.page", "analysis.labels", "analysis.charts"],
    [*(f"analysis.{name}" for name in ("figure", "deltas", "tradeoff", "curves"))],
    ["analysis.robust_figure"],
    ["analysis.attribution_figure", "analysis.interactions_figure"],
    ["analysis.edf_figure", "analysis.scatter"],
    ["analysis.regimes"],
    [
        "analysis.report",
        *(f"analysis.report.{name}" for name in ("records", "commands", "sections", "words", "payload", "page")),
    ],
    ["analysis.pareto"],
    ["trials", "pruning"],
    [
        "commands",
        "commands.arguments",
        "commands.watching",
        *(f"commands.{name}" for name in ("steps", "figure", "compare", "diff", "train", "run", "doctor", "report")),
        "commands.evaluate",
        "commands.bench",
        "commands.import_wandb",
        "commands.search",
        "commands.status",
        "commands.sweep",
        "commands.dry_run",
        "commands.swept",
        "commands.attribution",
        "commands.spaces",
    ],
    ["__init__", "__main__"],
]
RANK = {name: rank for rank, names in enumerate(RANKS) for name in names}
LIGHT = RANKS[: RANK["network"]]
WITHOUT_TORCH = [name for names in LIGHT for name in names] + [name for name in RANK if name.startswith("analysis")]


def modules() -> dict[str, Path]:
    names = {
        path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", "."): path for path in PACKAGE.rglob("*.py")
    }
    return {name.removesuffix(".__init__") if name != "__init__" else name: path for name, path in names.items()}


def imported(path: Path) -> set[str]:
    """The package's modules that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "roadmap":
            base = node.module.removeprefix("roadmap").lstrip(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}".lstrip(".")
                found.add(inner if inner in RANK else base)
    return found


def test_every_module_has_its_rank() -> None:
    assert set(modules()) == set(RANK)


@pytest.mark.parametrize("name", [name for name in RANK if name not in ("__init__", "__main__")])
def test_no_module_imports_upward(name: str) -> None:
    above = [other for other in imported(modules()[name]) if RANK[other] > RANK[name]]
    assert not above


def test_facts_and_analysis_do_not_import_torch() -> None:
    """All in one process: the first that brings torch is named."""
    code = (
        "import sys\nfrom importlib import import_module\n"
        f"for name in {WITHOUT_TORCH}:\n"
        "    import_module(f'roadmap.{name}')\n"
        "    if 'torch' in sys.modules: sys.exit(name)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stderr == ""


@pytest.mark.parametrize("code", ["import roadmap", "from roadmap.__main__ import main; main(['--help'])"])
def test_the_first_second_is_free_of_heavy_packages(code: str) -> None:
    heavy = "('torch', 'pandas', 'matplotlib', 'wandb', 'sklearn', 'hydra')"
    code = f"{code}; import sys; sys.exit(', '.join(name for name in {heavy} if name in sys.modules) or 0)"
    assert subprocess.run([sys.executable, "-c", code], check=False, stdout=subprocess.DEVNULL).returncode == 0


def test_public_names_stay_functions_whatever_is_imported() -> None:
    """A module of the same name would take a function's place as soon as it is imported."""
    import importlib

    import roadmap

    for name in modules():
        if name not in ("__init__", "__main__"):
            importlib.import_module(f"roadmap.{name}")
    assert all(callable(getattr(roadmap, name)) for name in roadmap.__all__)
