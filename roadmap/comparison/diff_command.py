"""``roadmap diff``: the differences between two runs."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from roadmap.cli.arguments import Parser
from roadmap.errors import RequestError
from roadmap.formatting import aligned, printable
from roadmap.runs.evaluations import PREDICTIONS
from roadmap.runs.records import is_file


def main(arguments: list[str]) -> int:
    parser = Parser(prog="roadmap diff", description="differences between two runs: config, code, environment, result")
    parser.add_argument("first", metavar="RUN", help="a run's folder")
    parser.add_argument("second", metavar="RUN")
    parser.add_argument("--json", action="store_true", help="a list of objects: kind, key, first, second")
    options = parser.parse_intermixed_args(arguments)
    from roadmap.comparison.run_diff import one_run, run_diff

    first, second = one_run(options.first), one_run(options.second)
    entries = run_diff(first, second)
    if options.json:
        print(json.dumps([asdict(entry) for entry in entries], indent=1, ensure_ascii=False))
        return 0
    names = [f"{run['variant']} seed {_text(run['seed'])}" for run in (first, second)]
    names = [run["run_id"] for run in (first, second)] if names[0] == names[1] else names
    rows = [[e.kind, e.key, _text(e.first), _text(e.second), _change(e.first, e.second)] for e in entries]
    print(aligned(["", "", *names, "change"], rows) if entries else "these runs do not differ")
    for sentence in _paired(first["path"], second["path"]):
        print(printable(sentence))
    return 0


def _paired(first: str, second: str) -> list[str]:
    """McNemar's test for each pair of saved predictions, or why there is none."""
    from roadmap.comparison.run_diff import compare_predictions
    from roadmap.evaluation.reading import paired_files

    own = (Path(first) / PREDICTIONS, Path(second) / PREDICTIONS)
    files = [("", *own)] if all(map(is_file, own)) else []
    files += [(f"{words}: ", one, other) for words, one, other in paired_files(first, second)]
    said: dict[str, str] = {}
    for words, one, other in files:
        try:
            said.setdefault(str(compare_predictions(one, other)), words)
        except RequestError as error:
            said.setdefault(str(error), words)
    return [words + text for text, words in said.items()]


def _text(value: Any) -> str:
    if value is None or value != value:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value)


def _change(first: Any, second: Any) -> str:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (first, second))
    return f"{second - first:+.4g}" if numbers and first == first and second == second else ""
