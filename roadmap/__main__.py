"""The command line ``roadmap COMMAND …``. Exit status: 0 success, 1 the work failed, 2 invalid request."""

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
    "steps": "list the steps of a path: changes, GFLOPs (MACs), parameters, published numbers",
    "train": "train one design with one seed; supports Hydra's -m, --cfg job, launchers and sweepers",
    "run": "train every step of a path × seeds, skipping finished runs; print a table and draw the figure",
    "sweep": "train designs off the path × seeds: study=leave_one_out, add_one_in, orders, factorial, …",
    "evaluate": "evaluate trained networks: accuracy and calibration on a data set, corruptions or a robustness set",
    "compare": "compare logged runs: means over seeds, gaps with intervals and p-values, agreement with the paper",
    "status": "show the progress of sweeps: finished, running, interrupted, failed and missing runs, time left",
    "attribution": "estimate the effect of each change: leave-one-out, add-one-in, Shapley value",
    "export": "write runs into one file, which every command reads like a folder of runs",
    "diff": "show the differences between two runs: config, code, environment, result",
    "bench": "measure GFLOPs (MACs), parameters, images/s, latency and memory of steps and baseline models",
    "doctor": "check the environment and what this machine can do",
    "figure": "draw figures of logged runs: the roadmap, --kind deltas, tradeoff, curves, … (png, svg, pdf)",
    "report": "write a self-contained HTML page of logged runs: interactive roadmap, run table, differences",
}

LEVELS = {"-v": logging.DEBUG, "--verbose": logging.DEBUG, "-q": logging.ERROR, "--quiet": logging.ERROR}

# command -> module
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

Every command accepts -v (--verbose) to show debug messages and tracebacks, and -q (--quiet) to show only errors.
`roadmap COMMAND --help` describes a command. Groups and settings: `roadmap train --cfg job` prints the composed config.
Example: roadmap train regime=nano data=digits step=gelu kernel=k3"""


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit status; errors are printed as one line on stderr."""
    arguments = sys.argv[1:] if arguments is None else arguments
    # libgomp's idle threads spin indefinitely by default, which made a run on a busy machine 40 times slower
    os.environ.setdefault("GOMP_SPINCOUNT", "100000")
    # huge pages for large CPU tensors: batches are normalised in less than half the time
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    flags = [word for word in arguments if word in LEVELS]
    arguments = [word for word in arguments if word not in LEVELS]
    with console(LEVELS[flags[-1]] if flags else logging.INFO):
        if not arguments or arguments[0] in ("-h", "--help"):
            print(USAGE.format(commands="\n".join(f"  {name:13}{text}" for name, text in COMMANDS.items())))
            if arguments:
                return 0
            logger.error("no command; choose one of the above")
            return 2
        if arguments == ["--version"]:
            print(f"roadmap {roadmap.__version__}")
            return 0
        name, *rest = arguments
        try:
            return _run(name, rest)
        finally:
            # imported only by commands that train
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
        # the pipe was closed; keep Python from failing again when it flushes
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        # for example a name that is too long or a folder without write permission
        if error.filename is None:
            raise
        log_error(WorkError(f"{str(error.filename)[:200]}: {error.strerror}"))
        return WorkError.exit_status


def log_error(error: RoadmapError) -> None:
    """Log an error on one line; if all processes raise the same error, only the first one logs it."""
    if os.environ.get("RANK", "0") == "0" or not error.on_all_ranks:
        logger.error(" ".join(str(error).split()))
        logger.debug("traceback:", exc_info=error)
    else:
        # torchrun ends all processes when one ends: wait for the first to log the error
        time.sleep(2)


if __name__ == "__main__":
    sys.exit(main())
