"""What the survey of a machine says, line by line."""

from collections.abc import Sequence
from dataclasses import dataclass

from roadmap.textual import aligned


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for.

    ``ok`` is False where what was asked for needs it and it is not there, None where nothing asked for needs it.
    ``mend`` is the sentence that mends what is missing, empty where nothing is.
    """

    name: str
    ok: bool | None
    found: str
    mend: str = ""


def render(findings: Sequence[Finding]) -> str:
    """The table, then a line for each thing that is missing."""
    marks = {True: "yes", False: "NO", None: "-"}
    lines = [[finding.name, marks[finding.ok], finding.found] for finding in findings]
    notes = [f"{finding.name}: {finding.mend}" for finding in findings if finding.mend]
    return "\n".join([aligned(["what", "ok", "found"], lines), *([""] if notes else []), *notes])
