"""docs/your_own_change.md: its files are written, its diffs applied to a copy, and its commands run."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "your_own_change.md").read_text(encoding="utf-8")
FENCES = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
FAST = {"roadmap train": "epochs=1", "roadmap run": "epochs=1 seeds=[0]"}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the package and its configs with every file and diff of the page."""
    folder = tmp_path_factory.mktemp("copy")
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("roadmap", "conf"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for kind, text in FENCES:
        if kind == "yaml":
            (name,) = re.findall(r"^# ((?:my_)?conf/\S+)$", text, flags=re.MULTILINE)
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        if kind == "diff":
            command = ["patch", "-p1", "--fuzz=0", "--no-backup-if-mismatch"]
            subprocess.run(command, cwd=folder, input=text, text=True, check=True, capture_output=True)
    return folder


def python(copy: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)


def commands() -> list[str]:
    blocks = [text for kind, text in FENCES if kind == "console"]
    return [line.removeprefix("$ ") for text in blocks for line in text.splitlines() if line.startswith("$ ")]


def test_a_change_touches_three_files() -> None:
    third = PAGE[PAGE.index("## A fourteenth change") : PAGE.index("### A second one")]
    touched = re.findall(r"^(?:\+\+\+ b/|# )((?:roadmap|conf|my_conf)/\S+)$", third, flags=re.MULTILINE)
    assert touched == ["roadmap/schema/design.py", "roadmap/networks/rows.py", "my_conf/path/excited.yaml"]


# one process runs all commands: starting Python would take most of the time
EACH = """
import contextlib, io, json, sys
from roadmap.__main__ import main
results = []
for words in json.loads(sys.argv[1]):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = main(words)
    results.append((status, said.getvalue()))
print(json.dumps(results))
"""
UNKNOWN = "roadmap train squeeze_excitation=r5"


def test_the_commands_of_the_page_work_and_an_unknown_option_is_one_sentence(copy: Path) -> None:
    asked = [*commands(), UNKNOWN]
    fast = [next((words for start, words in FAST.items() if command.startswith(start)), "") for command in asked]
    words = [shlex.split(f"{command} {more}")[1:] for command, more in zip(asked, fast, strict=True)]
    done = python(copy, "-c", EACH, json.dumps(words))
    assert done.returncode == 0, done.stderr
    *results, unknown = json.loads(done.stdout)
    for command, (status, said) in zip(commands(), results, strict=True):
        assert status == 0, f"{command}: {said}"
    assert unknown == [2, "roadmap: unknown squeeze_excitation 'r5' (choose none or r4)\n"]


CHECKS = """
import itertools, json, sys, torch, roadmap
from roadmap.config.compose import compose
from roadmap.networks.flops import count_flops
counts = {}
steps = ["resnet50", "inverted_bottleneck", "separate_downsampling"]
for step, axis in itertools.product(steps, json.loads(sys.argv[1])):
    words = [f"step={step}", axis]
    plain, asked = compose(words[:1]).experiment(), compose(words)
    network = roadmap.build(*words)
    counted = roadmap.cost(network, 32)
    scaled = asked.recipe.network.layer_scale is not None
    assert counted == count_flops(asked.design, 32, network.num_classes, scaled), (words, counted)
    network(torch.randn(4, 3, 32, 32)).square().mean().backward()
    assert all(p.grad is not None for p in network.parameters()), words
    assert asked.experiment().run_id != plain.run_id, words
    assert compose([*words, axis.split("=")[0] + "=none"]).experiment().run_id == plain.run_id, words
    more = counted.params - roadmap.cost(roadmap.build(*words[:1]), 32).params
    counts[" ".join(words)] = more
print(json.dumps(counts))
"""


def test_new_axes_build_count_train_and_keep_run_ids(copy: Path) -> None:
    axes = ["squeeze_excitation=r4", "response_norm=global"]
    done = python(copy, "-c", CHECKS, json.dumps(axes))
    assert done.returncode == 0, done.stderr
    more = json.loads(done.stdout)
    # by hand: ConvNeXt's blocks of nano are 1, 1, 3 and 1 of 24, 48, 96 and 192 channels
    blocks = [(1, 24), (1, 48), (3, 96), (1, 192)]
    excited = sum(n * (2 * c * (c // 4) + c + c // 4) for n, c in blocks)
    assert more["step=separate_downsampling squeeze_excitation=r4"] == excited
    assert more["step=separate_downsampling response_norm=global"] == sum(n * 2 * 4 * c for n, c in blocks)
