"""Argument parsing and output shared by the commands."""

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
    """An ArgumentParser that raises RequestError instead of exiting."""

    def __init__(self, **settings: Any):
        super().__init__(epilog="also: -v (--verbose), -q (--quiet); see `roadmap --help`", **settings)

    def error(self, message: str) -> NoReturn:
        raise RequestError(f"{message}; see `{self.prog} --help`")


def override_parser(command: str, description: str) -> Parser:
    """A parser for a command that accepts overrides of the config."""
    parser = Parser(prog=f"roadmap {command}", description=description)
    parser.add_argument("overrides", nargs="*", metavar="group=option|setting=value", help="overrides of the config")
    parser.add_argument(
        "--config-dir",
        action="append",
        default=[],
        metavar="DIR",
        help="folder with config files of your own",
    )
    return parser


def overrides_first(arguments: list[str]) -> list[str]:
    """Reorder arguments for Hydra's parser: overrides before options. Raises RequestError for invalid options."""
    from hydra._internal.utils import get_args_parser

    # Hydra would read -- as an override
    rest = [word for word in arguments if word != "--"]
    options = Parser(prog="roadmap train", parents=[get_args_parser()], add_help=False).parse_intermixed_args(rest)
    if options.config_path or options.config_name:
        raise RequestError("--config-path and --config-name are not supported; name config folders by --config-dir")
    for word in options.overrides:
        rest.remove(word)
    return [*options.overrides, *rest]


def checked_overrides(words: list[str]) -> list[str]:
    """Return the words. Raises RequestError for one that is not an override."""
    for word in words:
        if "=" not in word:
            raise RequestError(f"invalid override '{word}' (must be group=option or setting=value)")
    return words


def folders_and_overrides(words: list[str]) -> tuple[list[str], list[str]]:
    """Split words into folders of runs and overrides; a folder's name may contain =."""

    def is_override(word: str) -> bool:
        return "=" in word and "://" not in word and not os.path.exists(word) and not exported_part(word)

    return [word for word in words if not is_override(word)], [word for word in words if is_override(word)]


def chosen_runs(folders: list[str], expression: str | None = None) -> "pd.DataFrame":
    """The runs in folders that match an expression (``--where``), with warnings about unreadable ones.

    Raises RequestError if there is none.
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


def of_regime_and_data(runs: "pd.DataFrame", overrides: list[str]) -> "pd.DataFrame":
    """Return the runs of the regimes and data that overrides name; RequestError if there are none."""
    for key, value in (override.split("=", 1) for override in overrides):
        if key in ("regime", "data"):
            names = sorted(set(runs[key].astype(str)))
            runs = runs[runs[key].isin(value.split(","))]
            if not len(runs):
                raise RequestError(f"none of these runs is of {key} {value}; they are of {', '.join(names)}")
    return runs


def one_kind(runs: "pd.DataFrame", overrides: list[str]) -> tuple["pd.DataFrame", list[str]]:
    """The runs of one regime and data set, and overrides that select both; by default, those of the runs.

    Raises RequestError if the runs have several, or none has the given one.
    """
    runs = of_regime_and_data(runs, overrides)
    given = dict(override.split("=", 1) for override in overrides)
    for key in ("regime", "data"):
        names = sorted(set(runs[key]))
        if len(names) > 1:
            raise RequestError(f"the runs have several values of {key} ({', '.join(names)}); choose one with {key}=…")
        given[key] = names[0]
    return runs, [f"{key}={value}" for key, value in given.items()]


def say_choices(requests: "Iterable[Composed]") -> None:
    """Log how ``match_gmacs`` changed each design, once per message."""
    for choice in dict.fromkeys(choice for request in requests if (choice := request.choice)):
        logger.info(choice)


def say_skipped(skipped: list[str], shown: int = 5) -> None:
    for sentence in skipped[:shown]:
        logger.warning(f"skipped {sentence}")
    if len(skipped) > shown:
        logger.warning(f"skipped {len(skipped) - shown} more; name fewer folders to list them")


def write_text(file: str, text: str) -> None:
    """Write text to a file, or to stdout for ``-``. Raises RequestError if the file cannot be written."""
    if file == "-":
        sys.stdout.write(text)
        return
    try:
        Path(file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise RequestError(f"cannot write {file}: {error.strerror}") from error


def check_writable(folder: Path, mend: str) -> None:
    """Create a folder and check that it is writable. Raises RequestError with the advice ``mend``."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RequestError(f"cannot write to {folder}: {error.strerror}; {mend}") from error
