"""The options of commands that test gaps."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from roadmap.statistics.gaps import GapTest


def add_test_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--paired``, ``--equivalence`` and ``--correction``."""
    parser.add_argument("--paired", action="store_true", help="test gaps by the paired t-test over shared seeds")
    parser.add_argument(
        "--equivalence", type=float, metavar="POINTS", help="also test whether gaps lie within ± POINTS: 0.2"
    )
    parser.add_argument(
        "--correction", default="holm", metavar="holm|bh", help="for several tests; bh (Benjamini-Hochberg) to explore"
    )


def gap_test(options: argparse.Namespace) -> "GapTest":
    """Return how gaps are tested. Raises RequestError for a value that is not accepted."""
    from roadmap.statistics.gaps import GapTest

    return GapTest(options.paired, options.equivalence, options.correction)
