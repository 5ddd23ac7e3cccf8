"""The command line as it is, with what it writes into run folders noted as it happens.

    python -m tests.faults.traced TRACE COMMAND …

An audit hook of Python's sees every line appended to a metrics.jsonl and every summary.json put in its place, and
appends a line about it to TRACE: time, process, run folder and ``epoch``, or the status that the summary has.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from roadmap.runs.run_folder import METRICS, SUMMARY


def watch(trace: Path) -> None:
    """Note from now on what this process writes; lines of less than a page are appended whole, whoever else does."""
    file = os.open(trace, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(path: Path, event: str) -> None:
        line = {"time": time.time(), "process": os.getpid(), "run": path.parent.name, "event": event}
        os.write(file, (json.dumps(line) + "\n").encode())

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and arguments[1] == "a" and Path(arguments[0]).name == METRICS:
            note(Path(arguments[0]), "epoch")
        elif event == "os.rename" and Path(arguments[1]).name == SUMMARY:
            note(Path(arguments[1]), json.loads(Path(arguments[0]).read_text())["status"])

    sys.addaudithook(hook)


def read(trace: Path) -> list[dict[str, Any]]:
    """What was noted, in the order of writing."""
    return [json.loads(line) for line in trace.read_text().splitlines()]


if __name__ == "__main__":
    watch(Path(sys.argv[1]))
    from roadmap.__main__ import main

    sys.exit(main(sys.argv[2:]))
