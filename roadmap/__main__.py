"""The command line: ``roadmap COMMAND …``; exit status 0 done, 1 the work failed, 2 the request was wrong."""

import logging
import os
import sys
import time
from importlib import import_module

import roadmap
from roadmap.console import console
from roadmap.errors import RequestError, RoadmapError, WorkError
from roadmap.formatting import listed

logger = logging.getLogger("roadmap")  # __name__ is __main__ under python -m

COMMANDS = {
    "steps": "every step of a path: what changes, GFLOPs (MACs), parameters, the published numbers beside them",
    "train": "train one design with one seed; Hydra's -m, --cfg job, launchers and sweepers work",
    "run": "train every step of a path × seeds, or what is missing of it; ends with the table and the figure",
    "sweep": "train designs off the path × seeds: study=leave_one_out, add_one_in, orders, factorial, …",
    "evaluate": "accuracy and calibration of trained networks on a data set, on its corruptions, on a robustness set",
    "compare": "a table of logged runs: means over seeds, gaps with intervals and p-values, the verdict on the paper",
    "status": "where sweeps stand: done, running, interrupted, failed, missing, and the time left",
    "attribution": "what each change is worth given the others: leave-one-out, add-one-in, Shapley value",
    "export": "runs in one file, which every command reads like a folder of runs",
    "diff": "what two runs differ in: config, code, environment, result",
    "bench": "GFLOPs (MACs), parameters, images/s, latency and memory of steps and baseline models, measured here",
    "doctor": "the environment and what this machine can do",
    "figure": "pictures of logged runs: the roadmap, --kind deltas, tradeoff, curves, … (png, svg, pdf)",
    "report": "one self-contained HTML page of logged runs: interactive roadmap, run table, differences",
}

LEVELS = {"-v": logging.DEBUG, "--verbose": logging.DEBUG, "-q": logging.ERROR, "--quiet": logging.ERROR}

# Command -> its module.
MODULES = {
    "steps": "steps.command",
    "train": "training.command",
    "run": "training.run_command",
    "sweep": "sweeps.command",
    "evaluate": "evaluation.command",
    "compare": "comparison.command",
    "status": "sweeps.status_command",
    "attribution": "attribution.command",
    "diff": "comparison.diff_command",
    "bench": "bench.command",
    "doctor": "doctor.command",
    "figure": "plots.command",
    "report": "report.command",
    "export": "runs.export_command",
}

USAGE = """usage: roadmap COMMAND [group=option | setting=value …] [--config-dir DIR] [-v | -q]
       roadmap --version

{commands}

Every command takes -v (--verbose), which adds debug messages and tracebacks, and -q (--quiet), which shows only errors.
Groups and settings are those of conf/: `roadmap train --cfg job` shows the composed config.
Example: roadmap train regime=nano data=digits step=gelu kernel=k3"""


def main(arguments: list[str] | None = None) -> int:
    """Run a command; its errors become one line on stderr and an exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    # libgomp's idle threads spin without end by default, which on a busy machine made a nano run 40 times slower
    os.environ.setdefault("GOMP_SPINCOUNT", "100000")
    # huge pages for large tensors on a CPU: a batch of images is normalised in less than half the time
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    flags = [word for word in arguments if word in LEVELS]
    arguments = [word for word in arguments if word not in LEVELS]
    with console(LEVELS[flags[-1]] if flags else logging.INFO):
        if not arguments or arguments[0] in ("-h", "--help"):
            print(USAGE.format(commands="\n".join(f"  {name:13}{text}" for name, text in COMMANDS.items())))
            if arguments:
                return 0
            logger.error("no command; choose one of these")
            return 2
        if arguments == ["--version"]:
            print(f"roadmap {roadmap.__version__}")
            return 0
        name, *rest = arguments
        try:
            return _run(name, rest)
        finally:
            # a command that did not train has not imported it
            if loggers := sys.modules.get("roadmap.tracking.loggers"):
                loggers.background.end()


def _run(name: str, rest: list[str]) -> int:
    try:
        if name not in COMMANDS:
            raise RequestError(f"unknown command '{name}' (choose {listed(COMMANDS)})")
        return import_module(f"roadmap.{MODULES[name]}").main(rest)
    except RoadmapError as error:
        log_error(error)
        return error.exit_status
    except KeyboardInterrupt:
        logger.error("interrupted; the same command continues where it stopped")
        return 1
    except BrokenPipeError:
        # the reader of a pipe has seen enough; keep Python from failing again when it flushes
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        # a name too long, a folder that may not be written in: what no command has better words for
        if error.filename is None:
            raise
        log_error(WorkError(f"{str(error.filename)[:200]}: {error.strerror}"))
        return WorkError.exit_status


def log_error(error: RoadmapError) -> None:
    """Log an error on one line; of several processes that met the same error only the first does."""
    if os.environ.get("RANK", "0") == "0" or not error.on_all_ranks:
        logger.error(" ".join(str(error).split()))
        logger.debug("where it was raised:", exc_info=error)
    else:
        # torchrun ends all processes as soon as one has ended: let the first log it
        time.sleep(2)


if __name__ == "__main__":
    sys.exit(main())
