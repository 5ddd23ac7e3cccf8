"""``roadmap figure``: the roadmap figure of logged runs."""

from pathlib import Path

import pandas as pd

from roadmap.commands.arguments import override_parser
from roadmap.errors import RequestError
from roadmap.path import Step, compose_path


def main(arguments: list[str]) -> int:
    parser = override_parser("figure", "the roadmap figure of logged runs")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="png, svg or pdf")
    options = parser.parse_args(arguments)
    from roadmap.analysis.runs import load_runs

    folders = [word for word in options.overrides if "=" not in word]
    if not folders:
        raise RequestError("no run folders; name them as in `roadmap figure runs/ -o roadmap.png`")
    runs = load_runs(folders)
    overrides = [word for word in options.overrides if "=" in word]
    runs, steps = on_path(runs, overrides, options.config_dir)
    draw_road(runs, steps, [Path(options.output)])
    return 0


def on_path(runs: pd.DataFrame, overrides: list[str], config_dirs: list[str]) -> tuple[pd.DataFrame, list[Step]]:
    """The finished runs that lie on a path, and its steps; regime and data are the runs' own unless they are given."""
    from roadmap.analysis.table import belongs

    if not len(runs) or not (runs["status"] == "finished").any():
        raise RequestError("no finished run in these folders")
    runs = runs[runs["status"] == "finished"]
    given = dict(override.split("=", 1) for override in overrides)
    for key in ("regime", "data"):
        if key in given:
            runs = runs[runs[key] == given[key]]
        names = sorted(set(runs[key]))
        if len(names) != 1:
            choice = f"they are of {key} {', '.join(names)}; add {key}=…" if names else f"none is of {key} {given[key]}"
            raise RequestError(f"these runs make no single roadmap: {choice}")
        given[key] = names[0]
    steps = compose_path([f"{key}={value}" for key, value in given.items()], config_dirs)
    runs = runs[belongs(runs, steps)]
    if not len(runs):
        raise RequestError(f"none of these runs is a step of path {steps[0].composed.values['path']['name']}")
    return runs, steps


def draw_road(runs: pd.DataFrame, steps: list[Step], files: list[Path]) -> pd.DataFrame:
    """Draw the figure into each of ``files`` and return its table."""
    from roadmap.analysis.figure import draw
    from roadmap.analysis.table import road, subtitle, title

    table = road(runs, steps)
    for file in files:
        draw(table, file, title=title(steps), subtitle=subtitle(runs, steps))
        print(f"figure: {file}")
    return table
