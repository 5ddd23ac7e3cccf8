"""The report page: one HTML file with its libraries, data and text in it."""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from roadmap.report.build import as_sentence

FOLDER = Path(__file__).parent
# JSON's spelling of the characters of HTML; marks that turn the direction of text, and halves of a character.
ESCAPED = {ord(mark): f"\\u{ord(mark):04x}" for mark in "<>&"}
UNSAFE = dict.fromkeys([*range(0xD800, 0xE000), *range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\ufffd")


def render(context: dict[str, Any]) -> str:
    """The HTML of a page. Values of ``context`` enter it as escaped text or as inert JSON.

    The Content-Security-Policy allows no network and no script but those of this file.
    """
    scripts = [*libraries(), (FOLDER / "page.js").read_text(encoding="utf-8")]
    hashes = " ".join(f"'sha256-{_sha256(script)}'" for script in scripts)
    policy = f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"
    styles = [(_tables() / "dt_bundle.css").read_text(encoding="utf-8"), (FOLDER / "page.css").read_text("utf-8")]
    environment = Environment(loader=FileSystemLoader(FOLDER), autoescape=True, finalize=_safe, trim_blocks=True)
    environment.filters |= {"json": inert, "sentence": as_sentence}
    return environment.get_template("page.html").render(
        context,
        policy=policy + "; form-action 'none'",
        styles=[Markup(style) for style in styles],
        scripts=[Markup(script) for script in scripts],
    )


def inert(value: Any) -> Markup:
    """JSON that cannot end the element that it is in."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.translate(ESCAPED | UNSAFE))


def _safe(value: Any) -> Any:
    """A value of the template without the marks of UNSAFE."""
    return value.translate(UNSAFE) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def libraries() -> Sequence[str]:
    """Vega-Embed with Vega-Lite, and DataTables, as the scripts of modules that set globals of the page."""
    import vl_convert

    vega = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    tables = (_tables() / "dt_bundle.js").read_text(encoding="utf-8")
    tables, exports = re.subn(r"export\{.*?\b(\w+) as default\b.*?\};?", r"window.DataTable=\1;", tables)
    assert exports == 1, "the bundle of itables has another form"
    # a script element that contains "<!--" and "<script" would not end at its end tag
    return tuple(script.replace("<!--", "\\x3C!--") for script in (vega, tables))


def _tables() -> Path:
    """The folder of the DataTables bundle that the package itables carries."""
    return Path(str(files("itables"))) / "html"


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
