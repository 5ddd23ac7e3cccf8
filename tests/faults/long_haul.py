"""A whole roadmap killed every few seconds until it is through, beside an undisturbed one: the same table.

    python tests/faults/long_haul.py                                    # 17 steps x 3 seeds; half an hour on one core
    python tests/faults/long_haul.py seeds=[0]        # any other `roadmap run`

`roadmap run` is entered again after each SIGKILL. What is written into run folders is noted as it happens (traced.py):
a run that was trained to its end twice would be seen, as would an epoch logged twice without a kill between.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))

from roadmap.comparison.command import main as compare  # noqa: E402
from roadmap.runs.run_folder import METRICS, timeless_metrics  # noqa: E402
from tests.faults.kill_a_sweep import EPOCHS, Story, events, faults, note_finished, start  # noqa: E402

ASKED = [f"epochs={EPOCHS}", "seeds=[0,1,2]", "checkpoint_minutes=0.002"]
# Between two kills: Python with torch is up and the path composed after 8 of them, a run takes 1. On a machine that
# has other work no run would ever be begun, so after a turn that logged nothing the next one gets half as long again.
SECONDS, MORE = (5.0, 14.0), 1.5
# Of a row of `roadmap compare --json`: not the result.
MACHINE = ("images_per_second", "peak_memory_gb", "train_seconds")


def disturbed(story: Story, asked: list[str], draw: random.Random, most_kills: int) -> int:
    """Enter the command again and again, each time killed after some seconds, until it ends by itself; the kills."""
    kills, longer = 0, 1.0
    while True:
        before, process = len(events(story)), start(story, asked, "run")
        try:
            status = process.wait(longer * draw.uniform(*SECONDS) if kills < most_kills else None)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            story.dead[process.pid] = time.time()
            note_finished(story)
            kills += 1
            longer = 1.0 if len(events(story)) > before else longer * MORE
            continue
        if status:
            raise RuntimeError(f"ended with {status}:\n{(story.runs_dir.parent / 'log').read_text()[-2000:]}")
        return kills


def table(runs_dir: Path) -> list[dict[str, Any]]:
    """What ``roadmap compare --json`` says of the runs, but for their speed and memory."""
    printed = StringIO()
    with redirect_stdout(printed):
        compare([str(runs_dir), "--json", "-"])
    return [{key: value for key, value in row.items() if key not in MACHINE} for row in json.loads(printed.getvalue())]


def haul(asked: list[str], seed: int, work: Path, most_kills: int = 1000) -> list[str]:
    """Both roadmaps, and what is wrong with the disturbed one."""
    calm, story, draw = Story(work / "calm" / "runs"), Story(work / "runs"), random.Random(seed)
    calm.runs_dir.mkdir(parents=True)
    if start(calm, asked, "run").wait():
        raise RuntimeError((calm.runs_dir.parent / "log").read_text())
    began = time.perf_counter()
    kills = disturbed(story, asked, draw, most_kills)
    runs = sorted(file.parent for file in calm.runs_dir.glob("*/summary.json"))
    found = faults(story, [run.name.rpartition("-")[2] for run in runs])
    for run in runs:
        if timeless_metrics(run / METRICS) != timeless_metrics(story.runs_dir / run.name / METRICS):
            found.append(f"{run.name} has other metrics than undisturbed")
    if table(calm.runs_dir) != table(story.runs_dir):
        found.append("the tables differ")
    told = Counter(event["event"] for event in events(story))
    print(
        f"{len(runs)} runs: {kills} kills in {(time.perf_counter() - began) / 60:.1f} minutes; {told['running']} "
        f"beginnings, {told['epoch']} epochs logged of {EPOCHS * len(runs)} wanted, {told['finished']} finishes: "
        f"{len(found)} faults",
        flush=True,
    )
    return found


def main(arguments: list[str]) -> int:
    work = Path(tempfile.mkdtemp())
    found = haul([*ASKED, *arguments], seed=0, work=work)
    print("\n".join(found) or "every run once to its end, nothing lost, the undisturbed table")
    shutil.rmtree(work)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
