"""What the commands' argument parsers share."""

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from roadmap.errors import RequestError
from roadmap.runs.records import exported_part

if TYPE_CHECKING:
    import pandas as pd

    from roadmap.config.compose import Composed

logger = logging.getLogger(__name__)


class Parser(argparse.ArgumentParser):
    """argparse whose errors are RequestErrors: one sentence."""

    def __init__(self, **settings: Any):
        super().__init__(epilog="-v and -q, as in `roadmap --help`, work here too", **settings)

    def error(self, message: str) -> NoReturn:
        raise RequestError(f"{message}; see `{self.prog} --help`")


def override_parser(command: str, description: str) -> Parser:
    """A parser for commands that take overrides of the config."""
    parser = Parser(prog=f"roadmap {command}", description=description)
    parser.add_argument("overrides", nargs="*", metavar="group=option|setting=value")
    parser.add_argument(
        "--config-dir", action="append", default=[], metavar="DIR", help="a folder with config files of your own"
    )
    return parser


def overrides_first(arguments: list[str]) -> list[str]:
    """What Hydra's parser takes: all overrides before its options. Raises RequestError where it would take neither."""
    from hydra._internal.utils import get_args_parser

    # between options and words, as of a shell's commands; Hydra takes it for a word
    arguments = [word for word in arguments if word != "--"]
    parser = Parser(prog="roadmap train", parents=[get_args_parser()], add_help=False)
    options = parser.parse_intermixed_args(arguments)
    for name in ("config_path", "config_name", "experimental_rerun"):
        if getattr(options, name):
            flag = f"--{name.replace('_', '-')}"
            raise RequestError(f"{flag} has no place here; files of your own are in a folder: --config-dir DIR")
    if options.resolve and not options.cfg:
        parser.error("--resolve goes with --cfg")
    asked = [name for name in ("run", "multirun", "cfg", "info", "shell_completion") if getattr(options, name)]
    if len(asked) > 1:
        parser.error(f"--{asked[0]} does not go with --{asked[1]}")
    overrides = options.overrides
    rest = list(arguments)
    for word in overrides:
        rest.remove(word)
    return [*overrides, *rest]


def checked_overrides(words: list[str]) -> list[str]:
    """The words, or RequestError for one that is not an override."""
    for word in words:
        if "=" not in word:
            raise RequestError(f"cannot read '{word}'; write group=option or setting=value")
    return words


def folders_and_overrides(words: list[str]) -> tuple[list[str], list[str]]:
    """Words that name folders of runs, and overrides of the config; a folder's name may hold = too."""

    def is_override(word: str) -> bool:
        return "=" in word and "://" not in word and not os.path.exists(word) and not exported_part(word)

    return [word for word in words if not is_override(word)], [word for word in words if is_override(word)]


def chosen_runs(folders: list[str], expression: str | None = None) -> "pd.DataFrame":
    """The runs in folders for which an expression (``--where``) holds; warns of what cannot be read.

    Raises RequestError where there is none.
    """
    from roadmap.runs.reading import read_runs
    from roadmap.runs.select import where

    runs, skipped = read_runs(folders)
    say_skipped(skipped)
    if not len(runs):
        raise RequestError(f"no run in {', '.join(folders)}")
    chosen = where(runs, expression) if expression else runs
    if not len(chosen):
        raise RequestError(f'none of these {len(runs)} runs match --where "{expression}"')
    return chosen


def one_kind(runs: "pd.DataFrame", overrides: list[str]) -> tuple["pd.DataFrame", list[str]]:
    """The runs of one regime on one kind of data, and overrides that say which: the runs' own unless they are given.

    Raises RequestError where runs are of several, or none is of what is given.
    """
    given = dict(override.split("=", 1) for override in overrides)
    for key in ("regime", "data"):
        if key in given:
            runs = runs[runs[key] == given[key]]
        names = sorted(set(runs[key]))
        if len(names) != 1:
            choice = f"they are of {key} {', '.join(names)}; add {key}=…" if names else f"none is of {key} {given[key]}"
            raise RequestError(f"these runs make no single roadmap: {choice}")
        given[key] = names[0]
    return runs, [f"{key}={value}" for key, value in given.items()]


def say_choices(requests: "Iterable[Composed]", shown: int = 20) -> None:
    """Log what ``match_gmacs`` made of each design, once."""
    choices = list(dict.fromkeys(choice for request in requests if (choice := request.choice)))
    for choice in choices[:shown]:
        logger.info(choice)
    if len(choices) > shown:
        logger.info(f"and {len(choices) - shown} more, as their runs' designs say")


def say_skipped(skipped: list[str], shown: int = 5) -> None:
    """Warn of what could not be read."""
    for sentence in skipped[:shown]:
        logger.warning(f"skipped {sentence}")
    if len(skipped) > shown:
        logger.warning(f"skipped {len(skipped) - shown} more; name fewer folders to see which")


def write_text(file: str, text: str) -> None:
    """Write an output that may be asked for on stdout, as ``-``; RequestError where the file cannot be written."""
    if file == "-":
        sys.stdout.write(text)
        return
    try:
        Path(file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise RequestError(f"cannot write {file}: {error.strerror}") from error


def check_writable(folder: Path, mend: str) -> None:
    """Make the folder of a file to be; RequestError, before minutes of work, where nothing can be written in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RequestError(f"cannot write to {folder}: {error.strerror}; {mend}") from error
