"""What the commands' argument parsers share."""

import argparse
from typing import NoReturn

from roadmap.errors import RequestError


class Parser(argparse.ArgumentParser):
    """argparse whose errors are RequestErrors: one sentence."""

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


def checked_overrides(words: list[str]) -> list[str]:
    """The words, or RequestError for one that is not an override."""
    for word in words:
        if "=" not in word and not word.startswith("~"):
            raise RequestError(f"cannot read '{word}'; write group=option or setting=value")
    return words
