"""Tables on a terminal."""

from collections.abc import Sequence


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of text under a header: numbers flush right, words flush left."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    to_right = [side == "right" for side in sides(header, rows)]

    def line(row: Sequence[str]) -> str:
        cells = zip(row, widths, to_right, strict=True)
        return "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width) for cell, width, to_right in cells
        ).rstrip()

    return "\n".join([line(header), "  ".join("-" * width for width in widths), *map(line, rows)])


def sides(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """``right`` for each column that holds numbers alone, as far as it holds anything, and ``left`` for the others."""
    return [
        "right" if all(not row[column] or row[column][0] in "-–+<>(0123456789" for row in rows) else "left"
        for column in range(len(header))
    ]
