"""Run random command lines over every command, and check how each ends and what it leaves behind.

    python tests/faults/fuzz_commands.py                      # 2,000 lines, about 40 minutes on one core
    python tests/faults/fuzz_commands.py --seed 7 --lines 500
    python tests/faults/fuzz_commands.py --seed 7 --only 123  # one line again, with its whole output

A line passes if its exit status is 0, 1 or 2 (a training is sent SIGTERM after some seconds and exits with 75, or is
killed by it), an error takes at most three lines on stderr and has no traceback, every run folder can be read, and
nothing is written outside ``runs_dir`` and the file of -o. Each line runs in a fork of one process that has imported
everything.
"""

import argparse
import importlib
import json
import os
import pkgutil
import random
import re
import resource
import shlex
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

import roadmap  # noqa: E402
from roadmap.__main__ import COMMANDS, main  # noqa: E402
from roadmap.runs.reading import read_runs  # noqa: E402
from tests.faults.random_lines import KERNELS, PATHS, REFUSED, draw_line  # noqa: E402
from tests.records import bench, evaluation, example, make_sweep, summary_of  # noqa: E402

# seconds until SIGTERM, and from then on until SIGKILL; only a command that hangs takes the last two
TRAINING_SECONDS, COMMAND_SECONDS, GRACE_SECONDS = 12.0, 240.0, 120.0
TRAINING = ("train", "run", "sweep")
MEMORY = 12 << 30  # bytes of writable memory; V8, which draws charts, reserves far more addresses
STOPPED = 75  # the exit status after SIGTERM
NO_ERROR = re.compile(r"skipped |batch_size \d|\[\d+/\d+\]|and \d+ more|\x1b|\S.*\d s(, |$)|.*\bepoch\b.*\d")
# values for a field of a summary
ODD_VALUES: list[Any] = [None, True, -1, 0, 1e308, float("nan"), "", "x", "../up", "\x1b[31m", [], [1], {}, {"a": None}]
DAMAGES = ("cut", "flipped", "emptied", "removed", "folder", "odd", "odd", "odd", "odd")
OUTPUTS = ("-o", "--output", "--json", "--csv", "--markdown", "--latex")


@dataclass(frozen=True)
class Outcome:
    """How a line ended; ``status`` is None if it had to be killed."""

    status: int | None
    stdout: str
    stderr: str
    stopped: bool
    seconds: float


def run_forked(words: list[str], place: Path, training_seconds: float) -> Outcome:
    """Run a line in ``place/line`` in a child of this process, with its streams in files of ``place``."""
    began, streams = time.monotonic(), [place / name for name in ("stdout", "stderr")]
    child = os.fork()
    if child == 0:
        _run_in_child(words, place, streams)
    limit = training_seconds if words and words[0] in TRAINING else COMMAND_SECONDS
    stopped, status = False, None
    while True:
        ended, code = os.waitpid(child, os.WNOHANG)
        spent = time.monotonic() - began
        if ended:
            status = os.waitstatus_to_exitcode(code)
            break
        if spent > limit and not stopped:
            stopped = True
            os.kill(child, signal.SIGTERM)
        if spent > limit + GRACE_SECONDS:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            break
        time.sleep(0.005)
    out, err = (file.read_text("utf-8", "replace") if file.exists() else "" for file in streams)
    return Outcome(status, out, err, stopped, spent)


def _run_in_child(words: list[str], place: Path, streams: list[Path]) -> None:
    status = 70
    try:
        os.setsid()
        os.chdir(place / "line")
        for name in ("home", "tmp"):
            (place / name).mkdir(exist_ok=True)
        os.environ |= {"HOME": str(place / "home"), "TMPDIR": str(place / "tmp"), "OMP_NUM_THREADS": "1"}
        os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "PYTHONUTF8": "1"}
        tempfile.tempdir = None
        for number, file in zip((1, 2), streams, strict=True):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.stdout = os.fdopen(os.dup(1), "w", errors="surrogateescape")
        sys.stderr = os.fdopen(os.dup(2), "w", errors="backslashreplace")
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        status = main(words)
    except SystemExit as exit:
        status = exit.code if isinstance(exit.code, int) else int(bool(exit.code))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def faults_of_end(outcome: Outcome) -> list[str]:
    """What is wrong with how a line ended."""
    found = []
    if outcome.status is None:
        found.append(f"did not end within {GRACE_SECONDS:g} s after SIGTERM")
    elif outcome.stopped and outcome.seconds > COMMAND_SECONDS and outcome.status not in (STOPPED, 0, 1, 2):
        found.append(f"took {COMMAND_SECONDS:g} s")
    # before and after training nothing handles SIGTERM
    elif outcome.status not in (0, 1, 2) and not (outcome.stopped and outcome.status in (STOPPED, -signal.SIGTERM)):
        found.append(f"exit status {outcome.status}")
    if "Traceback" in outcome.stdout + outcome.stderr:
        found.append("a traceback")
    errors = [line for line in outcome.stderr.splitlines() if line.strip() and not NO_ERROR.match(line)]
    if outcome.status in (1, 2) and not errors:
        found.append("failed without an error message")
    if outcome.status != 0 and len(errors) > 3:
        found.append(f"{len(errors)} lines on stderr")
    return found


def contents(place: Path) -> dict[str, bytes]:
    """Every file below a folder by its name, and every empty folder by its name and a slash."""
    found = {}
    for path in place.rglob("*"):
        name = str(path.relative_to(place))
        if name in ("stdout", "stderr", "home", "tmp"):
            continue
        if path.is_file() and not path.is_symlink():
            found[name] = path.read_bytes()
        elif path.is_dir() and not any(path.iterdir()):
            found[f"{name}/"] = b""
    return found


def faults_of_files(words: list[str], place: Path, before: dict[str, bytes], status: int | None) -> list[str]:
    """Files that a line wrote outside its places, removed, left half-written, or wrote though its request was wrong."""
    after = contents(place)
    new = [name for name in sorted(after) if before.get(name) != after[name] and f"{name}/" not in before]
    # W&B's package makes these when it is imported, as timm does, and its client writes a log of its own
    new = [name for name in new if not re.match(r"tmp/tmp\w+wandb-\w+/|home/.cache/wandb/", name)]
    gone = [name for name in before if name not in after and not any(other.startswith(name) for other in after)]
    allowed = tuple(_allowed(words))
    found = [f"{name!a} was written" for name in new if "" not in allowed and not name.startswith(allowed)]
    found += [f"{name!a} was removed" for name in gone if "trained/" not in name]
    partial = [name for name in new if Path(name).name.startswith(".") and not name.endswith("/")]
    found += [f"{name!a} is half-written" for name in partial if f"line/{Path(name).name}" != name]
    runs = {Path(name).parent for name in new if Path(name).name in ("metrics.jsonl", "summary.json")}
    runs |= {Path(name).parent.parent for name in new if ".hydra/" in name or "checkpoints/" in name}
    for run in runs - {Path(name).parent for name in before}:
        found += [f"{skipped} (left by the line)" for skipped in read_runs([str(place / run)])[1][:1]]
    # Hydra notes what a multirun was asked for before its first job starts
    rest = [name for name in new if not name.startswith("line/trained") and "/.multirun/" not in name]
    if status == 2 and rest:
        found.append(f"the request was wrong, and {rest[0]!a} was written")
    return found


def _allowed(words: list[str]) -> Iterator[str]:
    """Where a line may write, as beginnings of names; an empty one means anywhere."""

    def below(name: str) -> str:
        parts = Path(name).parts
        return "" if name.startswith("..") else f"line/{parts[0]}" if parts else "line/"

    yield "line/runs/"
    for word, following in zip(words, [*words[1:], ""], strict=False):
        key, _, value = word.lstrip("+").partition("=")
        if key in ("runs_dir", "hydra.sweep.dir"):
            yield "" if set(value) & set("$'\"\\{~") else below(value.strip())
        if word in OUTPUTS:
            # an evaluation's predictions lie beside its record
            yield below(following).removesuffix(Path(following).suffix if words[0] == "evaluate" else "")
        elif word.startswith(("-o", "--output=", "--json=", "--csv=")):
            yield ""
        if words[0] == "evaluate" and not word.startswith("-"):
            yield below(word)  # its records go to the runs


def furnish(folder: Path) -> None:
    """Make the runs, sweeps and configs that every line finds; ``damage`` changes them from line to line."""
    for place, step, seed in (("a", "gelu", 0), ("b", "gelu", 1), ("c", "kernel_7", 0)):
        shutil.copytree(example(step, seed), folder / "whole" / place)
        (folder / "whole" / place / "evaluations").mkdir()
        shutil.copy(evaluation(step, seed), folder / "whole" / place / "evaluations")
    (folder / "whole" / "bench").mkdir()
    (folder / "whole" / "bench" / "gelu.json").write_text(json.dumps(bench("gelu")))
    make_sweep(folder / "whole", "made-nano-digits-1", [dict(summary_of("gelu")), dict(summary_of("kernel_7"))])
    shutil.copytree(folder / "whole", folder / "damaged")
    for name in ("empty", "files"):
        (folder / name).mkdir()
    (folder / "file.txt").write_text("not a folder\n")
    (folder / "files" / "bench.json").write_text('{"bench_id": "x", "rows": [{"name": "gelu", "gmacs": null}]}')
    (folder / "files" / "weights.pt").write_bytes(b"PK\x03\x04" + bytes(range(200)))
    # every file of a config folder is checked, so those that are refused have a folder of their own
    for place, group, files in (("conf", "path", PATHS), ("conf", "kernel", KERNELS), ("odd", "path", REFUSED)):
        (folder / place / group).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / place / group / f"{name}.yaml").write_text(text)


def damage(draw: random.Random, folder: Path) -> None:
    """Damage some of the files in ``damaged`` and ``trained``, each in one of several ways."""
    files = sorted(file for place in ("damaged", "trained") for file in (folder / place).rglob("*") if file.is_file())
    for file in draw.sample(files, min(len(files), draw.choice([1, 2, 4]))):
        way, content = draw.choice(DAMAGES), bytearray(file.read_bytes())
        if file.name.startswith("."):
            continue
        if way == "cut":
            file.write_bytes(content[: draw.randrange(len(content) + 1)])
        elif way == "flipped":
            for _ in range(draw.choice([1, 1, 8, 64]) if content else 0):
                content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
            file.write_bytes(content)
        elif way == "emptied":
            file.write_bytes(b"")
        elif way in ("removed", "folder"):
            file.unlink()
            if way == "folder":
                file.mkdir()
        elif file.suffix in (".json", ".jsonl"):
            lines = content.decode(errors="replace").splitlines() if file.suffix == ".jsonl" else [content.decode()]
            changed = draw.randrange(len(lines)) if lines else 0
            file.write_text("\n".join(_odd(draw, line) if at == changed else line for at, line in enumerate(lines)))


def _odd(draw: random.Random, text: str) -> str:
    """Return a record in which one value has another type or is missing."""
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


def fuzz(numbers: list[int], seed: int, training_seconds: float) -> Iterator[tuple[int, list[str], Outcome, list[str]]]:
    """Run lines by their numbers; yield each with its words, its outcome and what is wrong with it."""
    torch.set_num_threads(1)
    for module in pkgutil.walk_packages(roadmap.__path__, "roadmap."):
        if module.name != "roadmap.__main__":
            importlib.import_module(module.name)
    with tempfile.TemporaryDirectory() as name:
        template, place = Path(name) / "template", Path(name) / "place"
        furnish(template / "line")
        trained = run_forked(["train", "step=gelu", "epochs=1", "runs_dir=trained"], template, COMMAND_SECONDS)
        if trained.status != 0:
            raise RuntimeError(trained.stderr)
        for number in numbers:
            words = draw_line(random.Random(f"{seed}/{number}"))
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(template / "line", place / "line")
            damage(random.Random(f"damage {seed}/{number}"), place / "line")
            before = contents(place)
            outcome = run_forked(words, place, training_seconds)
            found = faults_of_end(outcome) + faults_of_files(words, place, before, outcome.status)
            yield number, words, outcome, found


def main_fuzz() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, action="append", help="the number of a line; print its whole output")
    parser.add_argument("--training-seconds", type=float, default=TRAINING_SECONDS, help="until SIGTERM")
    options = parser.parse_args()
    numbers = options.only or list(range(options.lines))
    counts: Counter[tuple[str, str]] = Counter()
    faulty = 0
    for number, words, outcome, found in fuzz(numbers, options.seed, options.training_seconds):
        counts[words[0] if words and words[0] in COMMANDS else "none", str(outcome.status)] += 1
        faulty += bool(found)
        if found or options.only:
            print(f"--seed {options.seed} --only {number}: roadmap {shlex.join(words)!a}")
            print(f"  {'; '.join(found) or 'passed'}; status {outcome.status}, {outcome.seconds:.1f} s")
            lines = outcome.stderr.strip().splitlines()
            print("".join(f"  {line[:300]}\n" for line in (lines if options.only else lines[-7:])), flush=True)
        if options.only:
            print(outcome.stdout)
    for (command, status), count in sorted(counts.items()):
        print(f"{command:14}exit status {status}: {count}")
    print(f"{len(numbers)} lines, {faulty} with faults")
    return int(bool(faulty))


if __name__ == "__main__":
    sys.exit(main_fuzz())
