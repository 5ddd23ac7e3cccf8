"""Distribution, Makefile and CI."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import roadmap
from roadmap.__main__ import main
from roadmap.versions import DISTRIBUTION, package_versions

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
