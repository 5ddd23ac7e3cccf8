"""``roadmap figure``: charts of logged runs, and the paper's own roadmap."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from roadmap.cli.arguments import (
    Parser,
    chosen_runs,
    folders_and_overrides,
    one_kind,
    override_parser,
    say_skipped,
)
from roadmap.errors import RequestError
from roadmap.formatting import listed, printable
from roadmap.paper.published import SCALED_FROM, TABLES
from roadmap.steps.path import Step, compose_path

if TYPE_CHECKING:
    import altair as alt

KINDS = {
    "roadmap": "one bar per step; for two regimes in one figure, the larger one's bars are grey",
    "deltas": "the gap of each step with its 95 % interval, and the paper's",
    "tradeoff": "accuracy against --x, with the Pareto front",
    "pareto": "all designs, with the Pareto front of accuracy and --x",
    "curves": "--metric by epoch, one panel per variant",
    "robustness": "accuracy on corrupted images (`roadmap evaluate`) by step",
    "attribution": "the contribution of each change: paper, leave-one-out, add-one-in, Shapley value",
    "interactions": "interactions of pairs of changes; without runs, in GMACs only",
    "edf": "error distributions of design spaces, one line per folder, sweep or value of --by",
    "scatter": "error against each parameter of the design",
}
# columns of an empty table of runs
COLUMNS = ("regime", "status", "recipe", "design", "definition", "seed", "top1", "gmacs", "params_m", "activations_m")


def main(arguments: list[str]) -> int:
    options = _parser().parse_intermixed_args(arguments)
    _check_options(options)
    file = Path(options.output)
    from roadmap.plots.charts import check_suffix, save

    check_suffix(file)
    chart, text = _draw(options)
    if text:
        print(printable(text))
    save(chart, file)
    print(f"figure: {file}")
    return 0


def figure(*words: str | Path, kind: str = "roadmap", **options: str | list[str]) -> "alt.VConcatChart":
    """Return the chart that ``roadmap figure`` draws, by the same words and options.

    ``roadmap.figure("runs/", kind="tradeoff", x="params")`` is `roadmap figure runs/ --kind tradeoff --x params`.
    """
    from roadmap.plots.charts import themed

    arguments = [str(word) for word in words]
    for name, value in ({"kind": kind} | options).items():
        for each in value if isinstance(value, list) else [value]:
            arguments += [f"--{name.replace('_', '-')}", str(each)]
    parsed = _parser().parse_intermixed_args([*arguments, "--output", "-"])
    _check_options(parsed)
    return themed(_draw(parsed)[0])


def _draw(options: argparse.Namespace) -> tuple["alt.VConcatChart", str]:
    """Return the chart and the text to print."""
    folders, overrides = folders_and_overrides(options.overrides)
    if options.where and not folders:
        raise RequestError("--where selects runs; name their folders")
    if options.kind in ("edf", "scatter"):
        return _spaces(options, folders, overrides)
    runs = chosen_runs(folders, options.where) if folders else None
    if options.kind == "roadmap":
        return _roadmap(runs, overrides, options.config_dir), ""
    if options.kind == "deltas":
        return _deltas(runs, overrides, options.config_dir), ""
    if options.kind == "robustness":
        return _robustness(runs, overrides, options), ""
    if options.kind in ("attribution", "interactions"):
        return _attribution(runs, folders, overrides, options), ""
    return _any_runs(runs, overrides, options)


def _parser() -> Parser:
    parser = override_parser("figure", "charts of logged runs; kinds: " + "; ".join(map(": ".join, KINDS.items())))
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="png, svg or pdf")
    parser.add_argument("--kind", default="roadmap", metavar="|".join(KINDS))
    parser.add_argument(
        "--x", metavar="gmacs|params|throughput|memory|time", help="for tradeoff and pareto; default gmacs"
    )
    parser.add_argument(
        "--bench",
        metavar="FILE|DIR",
        action="append",
        help="for tradeoff: plot against measurements of `roadmap bench`, --x inference, training or latency",
    )
    parser.add_argument("--where", metavar="EXPR", help="only runs that match, as for `roadmap compare`")
    parser.add_argument("--by", metavar="FIELD", help="for edf: one space per value, such as --by kernel; or sweep")
    parser.add_argument("--normalise", metavar="gmacs|params", help="for edf: equal weights for designs of equal cost")
    parser.add_argument("--conditions", metavar="ID", help="for robustness: id of one of several evaluations")
    parser.add_argument("--metric", metavar="NAME", help="for curves: a number of metrics.jsonl; default top1")
    return parser


def _check_options(options: argparse.Namespace) -> None:
    if options.kind not in KINDS:
        raise RequestError(f"unknown kind '{options.kind}' (choose {listed(KINDS)})")
    owners = {
        "x": ("tradeoff", "pareto"),
        "bench": ("tradeoff",),
        "metric": ("curves",),
        "by": ("edf",),
        "normalise": ("edf",),
        "conditions": ("robustness",),
    }
    for option, kinds in owners.items():
        if getattr(options, option) is not None and options.kind not in kinds:
            raise RequestError(f"--{option} does not go with --kind {options.kind}, only with --kind {listed(kinds)}")


def _roadmap(runs: pd.DataFrame | None, overrides: list[str], config_dirs: list[str]) -> "alt.VConcatChart":
    from roadmap.comparison.regimes_plot import Regime, draw_roadmap
    from roadmap.comparison.step_table import step_table

    given = dict(override.split("=", 1) for override in overrides)
    regimes = list(dict.fromkeys(given.pop("regime").split(","))) if "regime" in given else []
    if runs is None and not regimes:
        raise RequestError(
            "no run folders; name them as in `roadmap figure runs/ -o roadmap.png`, "
            "or regime=tiny,base for the paper's own figure"
        )
    runs = pd.DataFrame(columns=COLUMNS) if runs is None else finished_only(runs)
    regimes = regimes or sorted(set(runs["regime"]))
    if len(regimes) > 2:
        names = ", ".join(regimes)
        raise RequestError(f"a roadmap figure shows at most two regimes (got {names}); choose with regime=a,b")
    runs = runs[runs["regime"].isin(regimes)]
    rest = [f"{key}={value}" for key, value in given.items()]
    drawn = []
    for regime in regimes:
        if (runs["regime"] == regime).any():
            own, steps = path_runs(runs, [f"regime={regime}", *rest], config_dirs)
        elif regime in TABLES:
            own, steps = runs.iloc[:0], compose_path([f"regime={regime}", *rest], config_dirs)
        else:
            compose_path([f"regime={regime}", *rest], config_dirs)
            raise RequestError(f"no finished run of regime {regime} in these folders, and the paper has none either")
        drawn.append(Regime(own, steps, step_table(own, steps)))
    return draw_roadmap(drawn)


def _deltas(runs: pd.DataFrame | None, overrides: list[str], config_dirs: list[str]) -> "alt.VConcatChart":
    from roadmap.comparison.deltas_plot import deltas_chart
    from roadmap.comparison.step_table import networks, step_table, subtitle

    runs, steps = path_runs(_needed(runs, "deltas"), overrides, config_dirs)
    regime = steps[0].composed.regime.name
    paper = f"regime {SCALED_FROM.get(regime, regime)} on ImageNet-1K, for orientation"
    title = f"What each change is worth, from {networks(steps, ' to ')}"
    return deltas_chart(step_table(runs, steps), title=title, subtitle=subtitle(runs, steps), paper=paper)


def _robustness(runs: pd.DataFrame | None, overrides: list[str], options: argparse.Namespace) -> "alt.VConcatChart":
    from roadmap.comparison.step_table import networks, runs_of_steps, subtitle
    from roadmap.robustness.corrupted_runs import corrupted_runs
    from roadmap.robustness.robustness_plot import robustness_chart
    from roadmap.robustness.table import robust_step_table

    runs, steps = path_runs(_needed(runs, "robustness"), overrides, options.config_dir)
    robust, skipped = corrupted_runs(runs, options.conditions)
    say_skipped(skipped)
    return robustness_chart(
        robust_step_table(robust, steps),
        robust.means(runs_of_steps(robust.runs, steps)),
        title=f"Which change buys robustness, from {networks(steps, ' to ')}",
        subtitle=subtitle(robust.runs, steps),
        words=robust.words,
    )


def _attribution(
    runs: pd.DataFrame | None, folders: list[str], overrides: list[str], options: argparse.Namespace
) -> "alt.VConcatChart":
    from roadmap.attribution.command import attributed, draw

    if options.kind == "attribution":
        runs = _needed(runs, "attribution")
    found, steps, _ = attributed(runs, folders, overrides, options.config_dir)
    return draw(found, steps, options.kind)


def _any_runs(
    runs: pd.DataFrame | None, overrides: list[str], options: argparse.Namespace
) -> tuple["alt.VConcatChart", str]:

    runs = _needed(runs, options.kind)
    given = dict(override.split("=", 1) for override in overrides)
    if other := [key for key in given if key not in ("regime", "data")]:
        raise RequestError(
            f"{other[0]}= does not go with --kind {options.kind}, which draws all runs; select some with "
            "regime= and data="
        )
    if options.kind == "tradeoff":
        from roadmap.comparison.tradeoff_plot import draw_tradeoff

        benches = None
        if options.bench:
            from roadmap.bench.reading import load_bench

            benches = load_bench(options.bench)
        x = options.x or ("gmacs" if benches is None else "inference")
        return draw_tradeoff(finished_only(_chosen(runs, given)), x, benches), ""
    if options.kind == "pareto":
        from roadmap.comparison.pareto import draw_pareto, front, text

        found = front(_chosen(runs, given), options.x or "gmacs")
        return draw_pareto(found), text(found)
    from roadmap.comparison.curves_plot import draw_curves
    from roadmap.runs.reading import read_history

    runs = _chosen(runs, given)
    history, lost = read_history(runs)
    say_skipped(lost)
    return draw_curves(runs, history, options.metric or "top1"), ""


def _spaces(options: argparse.Namespace, folders: list[str], overrides: list[str]) -> tuple["alt.VConcatChart", str]:
    from roadmap.design_spaces.command import draw

    if overrides:
        raise RequestError(f"{overrides[0]} does not go with --kind {options.kind}; select runs with --where")
    if not folders:
        _needed(None, options.kind)
    return draw(options, folders)


def _needed(runs: pd.DataFrame | None, kind: str) -> pd.DataFrame:
    """Return the runs; RequestError if no folders are named."""
    if runs is None:
        raise RequestError(f"no run folders; name them as in `roadmap figure runs/ --kind {kind} -o {kind}.png`")
    return runs


def finished_only(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the finished runs; RequestError if there are none."""
    if not len(runs) or not (runs["status"] == "finished").any():
        raise RequestError("no finished run in these folders")
    return runs[runs["status"] == "finished"]


def _chosen(runs: pd.DataFrame, given: dict[str, str]) -> pd.DataFrame:
    """Return the runs of the given regimes and data."""
    for key, value in given.items():
        names = sorted(set(runs[key]))
        runs = runs[runs[key].isin(value.split(","))]
        if not len(runs):
            raise RequestError(f"none of these runs is of {key} {value}; they are of {', '.join(names)}")
    return runs


def path_runs(runs: pd.DataFrame, overrides: list[str], config_dirs: list[str]) -> tuple[pd.DataFrame, list[Step]]:
    """Return the finished runs on a path, and its steps; regime and data default to the runs' own."""
    from roadmap.comparison.step_table import on_path

    runs, overrides = one_kind(finished_only(runs), overrides)
    steps = compose_path(overrides, config_dirs)
    runs = runs[on_path(runs, steps)]
    if not len(runs):
        raise RequestError(f"none of these runs is a step of path {steps[0].composed.path_name}")
    return runs, steps
