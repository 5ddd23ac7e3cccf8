"""Tables and names on a terminal."""

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

# How a cell begins that a spreadsheet would take for a formula; numbers are none.
FORMULA = re.compile(r"[=@\t\r]|[+-](?!\d*\.?\d*(e[+-]?\d+)?$)")


def listed(names: Iterable[Any]) -> str:
    """'a', 'a or b', 'a, b or c'."""
    *head, last = [str(name) for name in names]
    return f"{', '.join(head)} or {last}" if head else last


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of text under a header: numbers flush right, words flush left."""
    header, *rows = [[printable(cell).replace("\n", "\\n") for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    to_right = [side == "right" for side in sides(header, rows)]

    def line(row: Sequence[str]) -> str:
        cells = zip(row, widths, to_right, strict=True)
        return "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width) for cell, width, to_right in cells
        ).rstrip()

    return "\n".join([line(header), "  ".join("-" * width for width in widths), *map(line, rows)])


def printable(text: str) -> str:
    """Text with names from records of others, without what would steer a terminal: such characters as their escapes."""
    if text.replace("\n", "").isprintable():
        return text
    return "".join(one if one.isprintable() or one == "\n" else one.encode("unicode_escape").decode() for one in text)


def csv(table: "pd.DataFrame") -> str:
    """A table as CSV. A word that a spreadsheet would take for a formula has an apostrophe before it, as they write it.

    No name of ours begins so, and programs read all others as they are.
    """
    written = table.copy()
    for name in written:
        cells = written[name]
        if any(isinstance(cell, str) and FORMULA.match(cell) for cell in cells):
            written[name] = [f"'{cell}" if isinstance(cell, str) and FORMULA.match(cell) else cell for cell in cells]
    text: str = written.to_csv(index=False)
    return text


def sides(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """``right`` for each column that holds numbers alone, as far as it holds anything, and ``left`` for the others."""
    return [
        "right" if all(not row[column] or row[column][0] in "-–+<>(0123456789" for row in rows) else "left"
        for column in range(len(header))
    ]


def four_digits(value: float) -> str:
    """A number to four digits, and whole numbers of more digits whole rather than with an exponent."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def duration(seconds: float) -> str:
    """In the unit that reads best: seconds, minutes, hours or days."""
    for unit, length, limit in (("s", 1, 90), ("min", 60, 5400), ("h", 3600, 172800)):
        if seconds < limit:
            return f"{seconds / length:.{1 if unit == 'h' else 0}f} {unit}"
    return f"{seconds / 86400:.1f} days"
