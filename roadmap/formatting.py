"""Text for terminals and files: tables, lists of names, dotted keys, numbers and durations."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

# The start of a cell that a spreadsheet would take for a formula; numbers are safe.
FORMULA = re.compile(r"[=@\t\r]|[+-](?!\d*\.?\d*(e[+-]?\d+)?$)")


def listed(names: Iterable[Any]) -> str:
    """Return names as a phrase: 'a', 'a or b', 'a, b or c'."""
    *head, last = [str(name) for name in names]
    return f"{', '.join(head)} or {last}" if head else last


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a text table with a header; columns of numbers are right-aligned."""
    from tabulate import tabulate

    header, *rows = [[printable(cell).replace("\n", "\\n") for cell in row] for row in (header, *rows)]
    alignment = sides(header, rows)
    table = tabulate(
        rows, header, "simple", disable_numparse=True, preserve_whitespace=True, colalign=alignment if rows else None
    )
    return "\n".join(line.rstrip() for line in table.splitlines())


def printable(text: str) -> str:
    """Return text with control characters escaped, so that names from other people's files cannot steer a terminal."""
    if text.replace("\n", "").isprintable():
        return text
    return "".join(one if one.isprintable() or one == "\n" else one.encode("unicode_escape").decode() for one in text)


def csv(table: "pd.DataFrame") -> str:
    """Return a table as CSV, with an apostrophe before any text that a spreadsheet would take for a formula."""
    written = table.copy()
    for name in written:
        cells = written[name]
        if any(isinstance(cell, str) and FORMULA.match(cell) for cell in cells):
            written[name] = [f"'{cell}" if isinstance(cell, str) and FORMULA.match(cell) else cell for cell in cells]
    text: str = written.to_csv(index=False)
    return text


def sides(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the alignment of each column: ``right`` if all its nonempty cells are numbers, else ``left``."""
    return [
        "right" if all(not row[column] or row[column][0] in "-–+<>(0123456789" for row in rows) else "left"
        for column in range(len(header))
    ]


def number(value: float, form: str = ".2f") -> str:
    """The formatted number, or a dash for NaN and None."""
    return "-" if value is None or value != value else format(value, form)


def format_p(p: float) -> str:
    """A p-value with three decimals, or ``< 0.001``; "" for NaN."""
    return "" if p != p else "< 0.001" if p < 0.001 else f"{p:.3f}"


def decimals(uncertainty: float) -> int:
    """Decimals of a percentage: two, one where its uncertainty is 1 point or more, none from 10 on; two for NaN."""
    return 2 if not uncertainty >= 0.995 else 1 if uncertainty < 9.95 else 0


def mean_and_std(mean: float, std: float) -> str:
    """``95.36 ± 0.94`` or ``92.9 ± 2.2``, without the standard deviation if it is NaN."""
    digits = decimals(std)
    return number(mean, f".{digits}f") + ("" if std != std else f" ± {std:.{digits}f}")


def interval(low: float, high: float, sign: str = "") -> str:
    """``94.73 to 95.21``, rounded by half its width, with ``sign="+"`` also before positive numbers; "" for NaN."""
    if low != low:
        return ""
    form = f"{sign}.{decimals((high - low) / 2)}f"
    return f"{low:{form}} to {high:{form}}"


def four_digits(value: float) -> str:
    """Return a number with four significant digits, without an exponent for large numbers."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def duration(seconds: float) -> str:
    """Return a duration in seconds, minutes, hours or days."""
    for unit, length, limit in (("s", 1, 90), ("min", 60, 5400), ("h", 3600, 172800)):
        if seconds < limit:
            return f"{seconds / length:.{1 if unit == 'h' else 0}f} {unit}"
    return f"{seconds / 86400:.1f} days"


def flatten_dict(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the entries of nested mappings under dotted keys; lists and empty mappings are kept as values."""
    entries: dict[str, Any] = {}
    for key, value in nested.items():
        name = f"{prefix}{key}"
        entries |= flatten_dict(value, f"{name}.") if isinstance(value, Mapping) and value else {name: value}
    return entries
