"""The command line ``roadmap COMMAND …``. Exit status: 0 success, 1 the work failed, 2 invalid request."""

import gc
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

# command -> module, description
COMMANDS = {
    "steps": ("steps.command", "list the steps of a path: changes, GFLOPs (MACs), parameters, published numbers"),
    "train": ("training.command", "train one design with one seed; supports Hydra's -m, --cfg job and launchers"),
    "run": ("training.run_command", "train the missing steps of a path × seeds; print a table and draw the figure"),
    "sweep": ("sweeps.command", "train designs off the path × seeds: study=leave_one_out, add_one_in, orders, …"),
    "evaluate": ("evaluation.command", "evaluate trained networks on a data set, corruptions or a robustness set"),
    "list": ("runs.list_command", "list logged runs, one line each"),
    "compare": ("comparison.command", "compare logged runs: means over seeds, gaps with intervals and p-values"),
    "status": ("sweeps.status_command", "show the progress of sweeps: finished, running, failed and missing runs"),
    "attribution": ("attribution.command", "estimate the effect of each change: leave-one-out, add-one-in, Shapley"),
    "export": ("runs.export_command", "write runs into one file, which every command reads like a folder of runs"),
    "diff": ("comparison.diff_command", "show the differences between two runs: config, code, environment, result"),
    "bench": ("bench.command", "measure GFLOPs (MACs), parameters, images/s, latency and memory of networks"),
    "doctor": ("doctor.command", "check the environment and what this machine can do"),
    "figure": ("plots.command", "draw figures of logged runs: the roadmap, --kind deltas, tradeoff, curves, …"),
    "report": ("report.command", "write a self-contained, interactive HTML page of logged runs"),
}
LEVELS = {"-v": logging.DEBUG, "--verbose": logging.DEBUG, "-q": logging.ERROR, "--quiet": logging.ERROR}
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
    # 10,000 records are many objects in no cycle: collecting less often saves a quarter of reading them
    gc.set_threshold(50_000, 20, 100)
    flags = [word for word in arguments if word in LEVELS]
    words = [word for word in arguments if word not in LEVELS]
    with console(LEVELS[flags[-1]] if flags else logging.INFO):
        try:
            return _run(words)
        except RoadmapError as error:
            return _log_error(error)
        except KeyboardInterrupt:
            resumes = words[0] in ("train", "run", "sweep")
            logger.error("interrupted" + "; rerun the command to continue where it stopped" * resumes)
            return 1
        except BrokenPipeError:
            # the pipe was closed; keep Python from failing again when it flushes
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except OSError as error:
            # for example a name that is too long or a folder without write permission
            if error.filename is None:
                raise
            return _log_error(WorkError(f"{str(error.filename)[:200]}: {error.strerror}"))
        finally:
            # imported only by commands that train
            if loggers := sys.modules.get("roadmap.tracking.loggers"):
                loggers.background.end()


def _run(words: list[str]) -> int:
    if words == ["--version"]:
        print(f"roadmap {roadmap.__version__}")
        return 0
    if not words or words[0] in ("-h", "--help"):
        print(USAGE.format(commands="\n".join(f"  {name:13}{text}" for name, (_, text) in COMMANDS.items())))
        if words:
            return 0
        raise RequestError("no command; choose one of the above")
    if words[0] not in COMMANDS:
        raise RequestError(f"unknown command '{words[0]}' (choose {listed(COMMANDS)})")
    status: int = import_module(f"roadmap.{COMMANDS[words[0]][0]}").main(words[1:])
    return status


def _log_error(error: RoadmapError) -> int:
    """Log an error on one line and return its exit status; of an error of all processes, only the first logs it."""
    if os.environ.get("RANK", "0") == "0" or not error.on_all_ranks:
        logger.error(" ".join(str(error).split()))
        logger.debug("traceback:", exc_info=error)
    else:
        # torchrun ends all processes when one ends: wait for the first to log the error
        time.sleep(2)
    return error.exit_status


if __name__ == "__main__":
    sys.exit(main())
