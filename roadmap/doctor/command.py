"""``roadmap doctor``: the environment and what this machine can do, for the run that overrides define."""

import dataclasses
import json
import os

from roadmap.cli.arguments import checked_overrides, override_parser
from roadmap.config.compose import compose
from roadmap.errors import RequestError, WorkError
from roadmap.formatting import aligned


def main(arguments: list[str]) -> int:
    """Print the findings. Raises WorkError if something that the config needs is missing."""
    parser = override_parser("doctor", "Show the environment and what this machine can do.")
    parser.add_argument("--json", action="store_true", help="print a list of objects instead of the table")
    options = parser.parse_intermixed_args(arguments)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise RequestError("roadmap doctor runs in one process; start it without torchrun")
    from roadmap.doctor.environment import environment

    findings = environment(compose(checked_overrides(options.overrides), options.config_dir))
    if options.json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=1, ensure_ascii=False))
    else:
        marks = {True: "yes", False: "NO", None: "-"}
        print(aligned(["what", "ok", "found"], [[one.name, marks[one.ok], one.found] for one in findings]))
        print("\n".join(["", *(f"{one.name}: {one.fix}" for one in findings if one.fix)]))
    missing = [finding.name for finding in findings if finding.ok is False]
    if missing:
        raise WorkError(f"missing on this machine: {', '.join(missing)}")
    return 0
