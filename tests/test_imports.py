"""Nothing imports upward, and what should be fast to import stays so."""

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import roadmap
from roadmap.__main__ import main
from roadmap.versions import DISTRIBUTION, package_versions

PACKAGE = Path(__file__).parent.parent / "roadmap"
# The house from the ground up: a package imports from those before it, never from those after.
# The modules that lie in no package (errors, validation, …) are the ground.
PACKAGES = [
    "roadmap",
    "schema",
    "paper",
    "statistics",
    "networks",
    "tracking",
    "runs",
    "config",
    "steps",
    "runtime",
    "cli",
    "data",
    "training",
    "evaluation",
    "bench",
    "plots",
    "comparison",
    "attribution",
    "screening",
    "design_spaces",
    "robustness",
    "sweeps",
    "report",
    "doctor",
    "commands",
]
COMMAND_PARTS = ("cli.import_wandb",)  # parts of commands, and as high
TOPS = ("__init__", "__main__")  # above all others
WITHOUT_TORCH = (
    *(
        "roadmap",
        "schema",
        "paper",
        "statistics",
        "tracking",
        "runs",
        "steps",
        "cli",
        "plots",
        "comparison",
        "attribution",
    ),
    *("screening", "design_spaces", "robustness", "report"),
)


@cache
def modules() -> dict[str, Path]:
    """Name within the package -> file."""
    names = {
        path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", "."): path for path in PACKAGE.rglob("*.py")
    }
    return {name.removesuffix(".__init__"): path for name, path in names.items()}


def package(name: str) -> str:
    """The package that a module lies in, or is."""
    if name.endswith("command") or name in COMMAND_PARTS:
        return "commands"
    return name.split(".")[0] if "." in name or name in PACKAGES else "roadmap"


@cache
def imported(name: str) -> set[str]:
    """The package's modules that a module imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(modules()[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "roadmap":
            base = node.module.removeprefix("roadmap").lstrip(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}".lstrip(".")
                found.add(inner if inner in modules() else base)
    return found - {"", name}


def test_every_package_has_its_place() -> None:
    assert {package(name) for name in modules()} == set(PACKAGES)


@pytest.mark.parametrize("name", [name for name in modules() if name not in TOPS])
def test_no_module_imports_upward(name: str) -> None:
    place = PACKAGES.index(package(name))
    assert not [other for other in imported(name) if PACKAGES.index(package(other)) > place]


def test_no_modules_import_each_other() -> None:
    list(TopologicalSorter({name: imported(name) for name in modules()}).static_order())


def test_analysis_does_not_import_torch() -> None:
    """All in one process: the first that brings torch is named."""
    names = [name for name in modules() if package(name).split(".")[0] in WITHOUT_TORCH and name not in TOPS]
    code = (
        "import sys\nfrom importlib import import_module\n"
        f"for name in {names}:\n"
        "    import_module(f'roadmap.{name}')\n"
        "    if 'torch' in sys.modules: sys.exit(name)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stderr == ""


MAIN = "from roadmap.__main__ import main; main"


@pytest.mark.parametrize(
    "code", ["import roadmap", f"{MAIN}(['--help'])", MAIN + "(['steps', 'path.steps=[step=gelu]'])"]
)
def test_start_up_imports_no_heavy_package(code: str) -> None:
    heavy = "('torch', 'numpy', 'pandas', 'altair', 'wandb', 'sklearn')"
    code = f"{code}; import sys; sys.exit(', '.join(name for name in {heavy} if name in sys.modules) or 0)"
    assert subprocess.run([sys.executable, "-c", code], check=False, stdout=subprocess.DEVNULL).returncode == 0


def test_public_names_stay_functions_whatever_is_imported() -> None:
    """A module of the same name would take a function's place as soon as it is imported."""
    import importlib

    import roadmap

    for name in modules():
        if name not in TOPS:
            importlib.import_module(f"roadmap.{name}")
    assert all(callable(getattr(roadmap, name)) for name in roadmap.__all__)


ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert PROJECT["name"] == DISTRIBUTION
    assert roadmap.__version__ == package_versions()["roadmap"] == PROJECT["version"]
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"roadmap {PROJECT['version']}\n"


def test_importing_the_package_does_not_look_up_its_version() -> None:
    code = "import sys, roadmap; sys.exit('importlib.metadata' in sys.modules)"
    assert subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, check=False).returncode == 0


def test_every_dependency_is_pinned_for_ci() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {Requirement(line).name.lower() for line in lines if not line.startswith("#")}
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    wanted = {Requirement(one).name.lower() for group in groups for one in group}
    assert wanted <= pins


def test_make_help_lists_every_target() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    told = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (phony,) = re.findall(r"^\.PHONY: (.+)$", text, flags=re.MULTILINE)
    assert re.findall(r"^make (\S+)", told, flags=re.MULTILINE) == phony.split()
