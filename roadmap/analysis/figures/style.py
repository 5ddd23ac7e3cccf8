"""What all pictures share: the style file, the colours, texts measured in inches, and how a file is written."""

import textwrap
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.style
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from roadmap.errors import RequestError

STYLE = Path(__file__).with_name("roadmap.mplstyle")
_SET = matplotlib.rc_params_from_file(STYLE, use_default_template=False)
DPI: float = _SET["figure.dpi"]
TITLE, TEXT, SMALL = _SET["figure.titlesize"], _SET["font.size"], _SET["legend.fontsize"]  # points
METADATA: dict[str, dict[str, Any]] = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}

# Okabe and Ito's palette, which the colour-blind can tell apart; no two things differ by colour alone.
BLUE, SKY, VERMILLION, YELLOW = "#0072B2", "#56B4E9", "#D55E00", "#F0E442"
GREEN, PURPLE, ORANGE = "#009E73", "#CC79A7", "#E69F00"
PALE = "#D6EAF7"  # the blues' hatched bars
INK, GREY, BAND = "#1A1A1A", "#595959", "#F2F2F2"
GRID, BACKGROUND, PALE_GREY, EDGE = "#D0D0D0", "#BDBDBD", "#E3E3E3", "#6E6E6E"


def styled() -> AbstractContextManager[None]:
    """Our style alone, whatever the user's matplotlibrc says."""
    return matplotlib.style.context(STYLE, after_reset=True)


def width(texts: Iterable[str], size: float, weight: str = "normal") -> float:
    """Inches that the longest of ``texts`` takes."""
    renderer, font = RendererAgg(1, 1, DPI), FontProperties(size=size, weight=weight)
    return max((renderer.get_text_width_height_descent(text, font, False)[0] for text in texts), default=0) / DPI


def wrapped(text: str, size: float, inches: float, weight: str = "normal") -> list[str]:
    """``text`` in lines of at most so many inches."""
    for letters in range(max(len(text), 1), 0, -1):
        lines = textwrap.wrap(text, letters, break_on_hyphens=False)
        if width(lines, size, weight) <= inches:
            break
    return lines


def check_suffix(file: Path) -> str:
    """The format that a file's name asks for; RequestError for one that is not drawn."""
    kind = file.suffix.removeprefix(".").lower()
    if kind not in METADATA:
        raise RequestError(f"cannot draw a figure as '{file.suffix or file.name}'; choose .png, .svg or .pdf")
    return kind


def save(drawn: Callable[[], Figure], file: Path) -> None:
    """Write the figure that ``drawn`` makes into ``file``, a png, svg or pdf; equal figures give equal bytes.

    Raises RequestError for another suffix, before anything is drawn, and for a file that cannot be written.
    """
    kind = check_suffix(file)
    with styled():
        figure = drawn()
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(file, format=kind, metadata=METADATA[kind])
        except OSError as error:
            raise RequestError(f"cannot write {file}: {error.strerror}") from error
