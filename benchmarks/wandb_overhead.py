"""What logger=wandb costs a run, and what it costs when the server fails: nano networks on digits, in turns.

    python benchmarks/wandb_overhead.py [rounds]

Prints, as medians over the rounds, seconds of the median epoch, of all epochs, until the result is printed, and until
the process has ended. The server stands in for W&B's: well, accepting and never answering, answering 500, or leaving in
the middle of the run.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from roadmap.runfolder import METRICS, read_metrics  # noqa: E402
from tests.wandb_server import Server  # noqa: E402

RUN = ["step=separate_downsampling", "epochs=10"]
CASES = ("local", "offline", "well", "hole", "ill", "leaves")
LEAVES_AFTER = 6.0  # seconds


def measured(case: str) -> tuple[float, float, float, float]:
    """Seconds of the median epoch, of training, until the result, until the end."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(case if case in ("hole", "ill") else "well")
        logger = ["logger=local"] if case == "local" else ["logger=wandb"]
        environment = os.environ | {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "x" * 40, "PYTHONPATH": str(ROOT)}
        logger += ["logger.mode=offline"] if case == "offline" else []
        if case == "leaves":
            threading.Timer(LEAVES_AFTER, server.leave).start()
        began = time.perf_counter()
        command = [sys.executable, "-m", "roadmap", "train", *RUN, *logger, f"runs_dir={folder}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as process:
            assert process.stdout is not None
            process.stdout.readline()
            result = time.perf_counter() - began
        (metrics,) = Path(folder).glob(f"*/{METRICS}")
        rows = read_metrics(metrics)
        assert process.returncode == 0
        assert len(rows) == 10
        epochs = [row["seconds"] for row in rows]
        return statistics.median(epochs), sum(epochs), result, time.perf_counter() - began


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    seconds: dict[str, list[tuple[float, ...]]] = {case: [] for case in CASES}
    for _ in range(rounds):
        for case in CASES:
            seconds[case].append(measured(case))
    print(f"{'':8}{'epoch':>10}{'training':>10}{'result':>10}{'end':>10}")
    for case, times in seconds.items():
        print(f"{case:8}" + "".join(f"{statistics.median(column):10.2f}" for column in zip(*times, strict=True)))


if __name__ == "__main__":
    main()
