"""How long ``roadmap compare`` and ``load_history`` take at 100, 1,000 and 10,000 runs of 300 epochs, and their memory.

    python benchmarks/comparing.py [--runs 100 1000 10000] [--folder DIR]

Run folders are made up from the example runs' records: variants × seeds, with histories of noise. Each measurement is a
process of its own; times are wall-clock from the command to its end, memory is the process's peak.
"""

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

EXAMPLES = Path(__file__).parent.parent / "runs" / "examples" / "nano-digits.runs.jsonl.gz"
EPOCHS = 300
HISTORY = "import roadmap, sys; print(len(roadmap.load_history(sys.argv[1])))"


def make(folder: Path, runs: int) -> None:
    """``runs`` folders of finished runs, each of the examples' variants with many seeds."""
    lines = map(json.loads, gzip.decompress(EXAMPLES.read_bytes()).splitlines())
    summaries = [line["summary"] for line in lines if "summary" in line]
    examples = [summary for summary in summaries if summary["seed"] == 0]
    rng = np.random.default_rng(0)
    for number in range(runs):
        seed, which = divmod(number, len(examples))
        summary = json.loads(json.dumps(examples[which]))
        summary["run_id"], summary["seed"] = f"{number:010x}", seed
        summary["definition"]["seed"] = seed
        top1 = summary["top1"] + rng.normal(0, 0.5, EPOCHS)
        summary["top1"], summary["best_top1"] = top1[-1], top1.max()
        path = folder / f"nano-digits-{summary['variant']}-s{seed}-{summary['run_id']}"
        (path / ".hydra").mkdir(parents=True)
        (path / "checkpoints").mkdir()
        (path / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
        noise = rng.random((EPOCHS, 7))
        with open(path / "metrics.jsonl", "w", encoding="utf-8") as file:
            for epoch in range(EPOCHS):
                loss, lr, top5, val_loss, speed, wait, seconds = noise[epoch].tolist()
                row = {"epoch": epoch + 1, "train_loss": loss, "lr": lr, "top1": top1[epoch], "top5": 90 + top5}
                row |= {"val_loss": val_loss, "images_per_second": 1000 * speed, "data_wait": wait}
                file.write(json.dumps(row | {"train_seconds": seconds, "seconds": seconds}) + "\n")


def measure(command: list[str]) -> tuple[float, float]:
    """Seconds and peak GiB of a command that succeeds."""
    script = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
    script += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", script, *command], check=True, stdout=subprocess.PIPE, text=True)
    return time.perf_counter() - started, int(done.stdout) / 1024**2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[100, 1000, 10000])
    parser.add_argument("--folder", type=Path, help="where to make the run folders, and leave them")
    parser.add_argument("--repeats", type=int, default=3, help="the fastest counts")
    options = parser.parse_args()
    commands = {
        "compare": [sys.executable, "-m", "roadmap", "compare"],
        "load_history": [sys.executable, "-c", HISTORY],
        "nothing but import pandas": [sys.executable, "-c", "import pandas, sys"],
    }
    print(f"{'runs':>6}  {'what':26}  {'seconds':>7}  {'GiB':>5}")
    with tempfile.TemporaryDirectory() as scratch:
        for runs in options.runs:
            folder = (options.folder or Path(scratch)) / str(runs)
            if not folder.exists():
                make(folder, runs)
            for name, command in commands.items():
                results = [measure([*command, str(folder)]) for _ in range(options.repeats)]
                seconds, memory = min(seconds for seconds, _ in results), max(memory for _, memory in results)
                print(f"{runs:6}  {name:26}  {seconds:7.2f}  {memory:5.2f}", flush=True)


if __name__ == "__main__":
    main()
