"""What logger=wandb costs a run, and what it costs when the server fails: nano networks on digits, in turns.

    python benchmarks/wandb_overhead.py [rounds]

Prints, as medians over the rounds: milliseconds that the run waited for its logger, in all its calls together; seconds
of processor time, of the program and of W&B's client; seconds of training; seconds from the result to the program's
end. The server stands in for W&B's: well, accepting and never answering (hole), answering 500 (ill), or gone after the
third epoch (leaves).
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.wandb_server import Server  # noqa: E402

RUN = ["step=separate_downsampling", "epochs=10"]
CASES = ("local", "offline", "well", "hole", "ill", "leaves")
COLUMNS = ("waited (ms)", "processor (s)", "training (s)", "end (s)")
# in a program of its own, as the command line runs it
PROGRAM = """
import json, sys, time
from roadmap.training import recorder
from roadmap.tracking import loggers
from roadmap.config.compose import compose
from roadmap.training.run import run_experiment
waited = 0.0
def timed(function):
    def call(*arguments):
        global waited
        began = time.perf_counter()
        try:
            return function(*arguments)
        finally:
            waited += time.perf_counter() - began
    return call
recorder.open_logger = timed(recorder.open_logger)
for logger in (loggers.NoLogger, loggers.AsyncLogger):
    logger.log, logger.close = timed(logger.log), timed(logger.close)
summary, _ = run_experiment(compose(sys.argv[1:]))
began = time.perf_counter()
loggers.background.end()
print(json.dumps([1000 * waited, summary["train_seconds"], time.perf_counter() - began]), flush=True)
"""


def measured(case: str) -> tuple[float, ...]:
    """The columns of one run."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(case if case in ("hole", "ill") else "well")
        logger = ["logger=local"] if case == "local" else ["logger=wandb"]
        logger += ["logger.mode=offline"] if case == "offline" else []
        environment = os.environ | {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "x" * 40, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", PROGRAM, *RUN, *logger, f"runs_dir={folder}"]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, cwd=folder, text=True
        ) as process:
            if case == "leaves":
                while not any(file.read_text().count("\n") >= 3 for file in Path(folder).glob("*/metrics.jsonl")):
                    time.sleep(0.05)
                server.leave()
            assert process.stdout is not None
            waited, training, end = json.loads(process.stdout.readline())
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        return waited, used.ru_utime + used.ru_stime, training, end


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    found: dict[str, list[tuple[float, ...]]] = {case: [] for case in CASES}
    for _ in range(rounds):
        for case in CASES:
            found[case].append(measured(case))
    print(f"{'':8}" + "".join(f"{name:>15}" for name in COLUMNS))
    for case, runs in found.items():
        columns = zip(*runs, strict=True)
        print(f"{case:8}" + "".join(f"{statistics.median(column):15.2f}" for column in columns))


if __name__ == "__main__":
    main()
