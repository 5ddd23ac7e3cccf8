"""The folder that a random command line finds: runs, sweeps and configs, whole and damaged."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

from tests.records import bench, evaluation, example, make_sweep, summary_of

PATHS = {
    "two": "name: two\nsteps:\n  - {change: step=gelu, label: g}\n  - kernel=k3\n",
    "nameless": "steps:\n  - step=gelu\n",
    "stepless": "name: x\n",
    "empty": "",
    "text": "just words\n",
    "list": "- step=gelu\n",
    "none": "name: x\nsteps: null\n",
    "numbers": "name: 1\nsteps: [1, 2]\n",
    "nested": "name: x\nsteps: [[step=gelu]]\n",
    "unknown_key": "name: x\nsteps: [{chnge: step=gelu}]\n",
    "no_change": "name: x\nsteps: [{label: a}]\n",
    "bad_change": "name: x\nsteps: [{change: [1, null]}]\n",
    "twice": "name: x\nsteps: [step=gelu, step=gelu]\n",
    "adopted": "name: x\nsteps: [{change: step=gelu, adopted: perhaps}]\n",
    "unclosed": "name: [x\n",
    "tab": "name: x\nsteps:\n\t- step=gelu\n",
    "outside": "name: ../../out\nsteps: [step=gelu]\n",
    "label": "name: x\nsteps: [{change: step=gelu, label: [a, b]}, {change: kernel=k5, label: {a: b}}]\n",
    "baselines": "name: x\nsteps: [step=gelu]\nbaselines: nano_swin\n",
    "baselines_number": "name: x\nsteps: [step=gelu]\nbaselines: 7\n",
    "mapping": "name: {a: b}\nsteps: {a: step=gelu}\n",
    "binary": "\x00\x01",
    "wants": "name: x\nsteps: [step=gelu, 'kernel=${nope}', 'epochs=2']\n",
    "words": "name: x\nsteps: ['', '=', 'step', '~kernel', '+x=1']\n",
    "keys": "1: 2\nnull: 3\nname: x\nsteps: [step=gelu]\n",
}
REFUSED = {
    "anchor": "name: &a [*a]\nsteps: [step=gelu]\n",
    "laughs": "a: &a [x, x]\nb: &b [*a, *a]\nname: x\nsteps: [*b]\n",
}
KERNELS = {
    "k13": "# @package design\nkernel: 13\n",
    "bare": "kernel: 13\n",
    "wrong": "# @package design\nkernel: [x\n",
    "elsewhere": "# @package a.b\nkernel: 13\n",
    "word": "# @package design\nkernel: thirteen\n",
}
# of a summary's fields
ODD_VALUES: list[Any] = [None, True, -1, 0, 1e308, float("nan"), "", "x", "../up", "\x1b[31m", [], [1], {}, {"a": None}]
DAMAGES = ("cut", "flipped", "emptied", "taken", "folder", "odd", "odd", "odd", "odd")


def furnish(folder: Path) -> Path:
    """What every line finds; ``damage`` changes it from line to line."""
    for place, step, seed in (("a", "gelu", 0), ("b", "gelu", 1), ("c", "kernel_7", 0)):
        shutil.copytree(example(step, seed), folder / "whole" / place)
        (folder / "whole" / place / "evaluations").mkdir()
        shutil.copy(evaluation(step, seed), folder / "whole" / place / "evaluations")
    (folder / "whole" / "bench").mkdir()
    (folder / "whole" / "bench" / "gelu.json").write_text(json.dumps(bench("gelu")))
    shutil.copytree(folder / "whole", folder / "damaged")
    make_sweep(folder / "whole", "made-nano-digits-1", [dict(summary_of("gelu")), dict(summary_of("kernel_7"))])
    shutil.copytree(folder / "whole" / "sweeps", folder / "damaged" / "sweeps")
    (folder / "empty").mkdir()
    (folder / "file.txt").write_text("not a folder\n")
    (folder / "files").mkdir()
    (folder / "files" / "bench.json").write_text('{"bench_id": "x", "rows": [{"name": "gelu", "gmacs": null}]}')
    (folder / "files" / "weights.pt").write_bytes(b"PK\x03\x04" + bytes(range(200)))
    # of a folder every file is looked at, so that one which cannot be taken is refused with all others
    odd = [("conf", "path", PATHS), ("conf", "kernel", KERNELS), ("odd", "path", REFUSED)]
    for place, group, files in odd:
        for name, text in files.items():
            file = folder / place / group / f"{name}.yaml"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    return folder


def damage(draw: random.Random, folder: Path) -> None:
    """Damage some of the files in ``damaged`` and in ``trained``, each in one of several ways."""
    places = [place for place in ("damaged", "trained") if (folder / place).is_dir()]
    files = sorted(file for place in places for file in (folder / place).rglob("*") if file.is_file())
    for file in draw.sample(files, min(len(files), draw.choice([1, 2, 4]))):
        if file.name.startswith(".") or not file.exists():
            continue
        _damage(draw, file, draw.choice(DAMAGES))


def _damage(draw: random.Random, file: Path, way: str) -> None:
    content = bytearray(file.read_bytes())
    if way == "cut":
        file.write_bytes(content[: draw.randrange(len(content) + 1)])
    elif way == "flipped":
        for _ in range(draw.choice([1, 1, 8, 64]) if content else 0):
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        file.write_bytes(content)
    elif way == "emptied":
        file.write_bytes(b"")
    elif way in ("taken", "folder"):
        file.unlink()
        if way == "folder":
            file.mkdir()
    elif file.suffix in (".json", ".jsonl"):
        lines = bytes(content).decode(errors="replace").splitlines() if file.suffix == ".jsonl" else [content]
        chosen = draw.randrange(len(lines)) if lines else 0
        file.write_text("\n".join(_odd(draw, line) if at == chosen else str(line) for at, line in enumerate(lines)))


def _odd(draw: random.Random, text: str | bytearray) -> str:
    """A record with a value, somewhere in it, that is of another kind or gone."""
    try:
        record = json.loads(text)
    except ValueError:
        return "[1, 2]"
    node = record
    while isinstance(node, dict) and node:
        key = draw.choice(sorted(node))
        if isinstance(node[key], dict) and node[key] and draw.random() < 0.7:
            node = node[key]
            continue
        if draw.random() < 0.3:
            del node[key]
        else:
            node[key] = draw.choice(ODD_VALUES)
        break
    return json.dumps(record)
