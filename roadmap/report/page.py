"""The page itself: a template with its style and scripts from this folder, and the data as JSON, in one file."""

import base64
import hashlib
import html
import json
import re
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
SCRIPTS = ("format.js", "bars.js", "curves.js", "speed.js", "section.js", "table.js", "selection.js", "page.js")
# HTML's own characters, in JSON's spelling; halves of a character, and marks that turn the direction of what follows.
INERT: dict[int, str] = {ord(mark): f"\\u{ord(mark):04x}" for mark in "<>&"}
INERT |= dict.fromkeys([*range(0xD800, 0xE000), *range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\ufffd")


def page(payload: dict[str, Any], curves: dict[str, Any]) -> str:
    """The HTML of a page. Nothing of ``payload`` is ever read as HTML: it is JSON, which the script puts in as text.

    A browser runs no script and takes no style but these two, and asks no network for anything: the page's own
    Content-Security-Policy says so.
    """
    script = "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS)
    script = f'"use strict";\n{script}'
    style = (FOLDER / "page.css").read_text(encoding="utf-8")
    parts = {
        "policy": f"default-src 'none'; style-src {_source(style)}; script-src {_source(script)}; base-uri 'none'; "
        "form-action 'none'",
        "title": html.escape(str(payload["title"])),
        "style": style,
        "payload": inert(payload),
        "curves": inert(curves),
        "script": script,
    }
    template = (FOLDER / "page.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda mark: parts[mark[1]], template)


def inert(value: Any) -> str:
    """JSON that cannot end the element that it stands in, nor turn the direction of the text around it."""
    return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":")).translate(INERT)


def _source(text: str) -> str:
    """A Content-Security-Policy's name of an inline element with just this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
