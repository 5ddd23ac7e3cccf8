"""``roadmap figure``: charts of logged runs, and the paper's own roadmap."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from roadmap.cli.arguments import (
    Parser,
    chosen_runs,
    folders_and_overrides,
    of_regime_and_data,
    one_kind,
    override_parser,
    say_skipped,
)
from roadmap.cli.gap_test import add_test_options, gap_test
from roadmap.errors import RequestError
from roadmap.formatting import listed, printable
from roadmap.paper.published import TABLES
from roadmap.statistics.gaps import DEFAULT_TEST
from roadmap.steps.path import Step, compose_path

if TYPE_CHECKING:
    import altair as alt

# columns of an empty table of runs
COLUMNS = ("regime", "status", "recipe", "design", "definition", "seed", "top1", "gmacs", "params_m", "activations_m")

TESTED = ("roadmap", "deltas", "robustness")  # kinds that show the outcomes of tests


@dataclass(frozen=True)
class Request:
    """The parsed options, with run folders and overrides apart."""

    options: argparse.Namespace
    folders: list[str]
    overrides: list[str]

    def runs(self) -> pd.DataFrame:
        """The runs in the folders."""
        self.check_folders()
        return chosen_runs(self.folders, self.options.where)

    def check_folders(self) -> None:
        if not self.folders:
            raise RequestError("no run folders; name them as in `roadmap figure runs/ -o roadmap.png`")

    def check_overrides(self, *allowed: str) -> None:
        if other := [word for word in self.overrides if word.split("=")[0] not in allowed]:
            raise RequestError(f"{other[0]} does not go with --kind {self.options.kind}; select runs with --where")

    def any_runs(self) -> pd.DataFrame:
        """All runs, or those of the regimes and data given; RequestError for other overrides."""
        self.check_overrides("regime", "data")
        return of_regime_and_data(self.runs(), self.overrides)

    def path_runs(self, runs: pd.DataFrame, overrides: list[str]) -> tuple[pd.DataFrame, list[Step]]:
        """Return the finished runs on a path, and its steps; regime and data default to the runs' own."""
        from roadmap.comparison.step_table import on_path

        runs, overrides = one_kind(finished_only(runs), overrides)
        steps = compose_path(overrides, self.options.config_dir)
        runs = runs[on_path(runs, steps)]
        if not len(runs):
            raise RequestError(f"none of these runs is a step of path {steps[0].composed.path_name}")
        return runs, steps


# the chart, and the text that is printed with it
Drawn = tuple["alt.VConcatChart", str]


def main(arguments: list[str]) -> int:
    options = _parse(arguments)
    file = Path(options.output)
    from roadmap.plots.charts import check_suffix, save

    check_suffix(file)
    chart, text = _draw(options)
    if text:
        print(printable(text))
    if options.style == "paper":
        from roadmap.plots.paper_style import save_for_paper

        print(f"caption: {printable(save_for_paper(chart, file))}")
    else:
        save(chart, file)
    print(f"figure: {file}")
    return 0


def figure(*words: str | Path, kind: str = "roadmap", **options: str | float | bool | list[str]) -> "alt.VConcatChart":
    """Return the chart that ``roadmap figure`` draws, by the same words and options.

    ``roadmap.figure("runs/", kind="tradeoff", x="params")`` is `roadmap figure runs/ --kind tradeoff --x params`.
    """
    from roadmap.plots.charts import themed

    arguments = [str(word) for word in words]
    for name, value in ({"kind": kind} | options).items():
        for each in value if isinstance(value, list) else [value]:
            # True is an option without a value, such as --paired
            arguments += [f"--{name.replace('_', '-')}", *([] if each is True else [str(each)])]
    parsed = _parse([*arguments, "--output", "-"])
    if parsed.style == "paper":
        raise RequestError("style='paper' is of files: roadmap figure … --style paper -o FILE")
    return themed(_draw(parsed)[0])


def _draw(options: argparse.Namespace) -> Drawn:
    folders, overrides = folders_and_overrides(options.overrides)
    if options.where and not folders:
        raise RequestError("--where selects runs; name their folders")
    return KINDS[options.kind][1](Request(options, folders, overrides))


def _parse(arguments: list[str]) -> argparse.Namespace:
    options = _parser().parse_intermixed_args(arguments)
    for option, (kinds, *_) in OPTIONS.items():
        if getattr(options, option) is not None and options.kind not in kinds:
            raise RequestError(f"--{option} does not go with --kind {options.kind}, only with --kind {listed(kinds)}")
    options.test = gap_test(options)
    if options.kind not in TESTED and options.test != DEFAULT_TEST:
        raise RequestError(
            f"--paired, --equivalence and --correction do not go with --kind {options.kind}, "
            f"only with --kind {listed(TESTED)}"
        )
    return options


def _parser() -> Parser:
    kinds = "; ".join(f"{name}: {words}" for name, (words, _) in KINDS.items())
    parser = override_parser("figure", f"charts of logged runs; kinds: {kinds}")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="png, svg or pdf")
    parser.add_argument("--kind", default="roadmap", choices=KINDS)
    style = "paper: a column or a page wide, in a serif font, with the title and caption printed instead"
    parser.add_argument("--style", choices=("screen", "paper"), default="screen", help=style)
    parser.add_argument("--where", metavar="EXPR", help="only runs that match, as for `roadmap compare`")
    add_test_options(parser)
    for name, (of, metavar, words) in OPTIONS.items():
        action = "append" if name == "bench" else "store"
        parser.add_argument(f"--{name}", metavar=metavar, action=action, help=f"for {listed(of)}: {words}")
    return parser


def _roadmap(request: Request) -> Drawn:
    from roadmap.comparison.roadmap_plot import RegimeRuns, draw_roadmap

    given = dict(override.split("=", 1) for override in request.overrides)
    regimes = list(dict.fromkeys(given.pop("regime").split(","))) if "regime" in given else []
    runs = pd.DataFrame(columns=COLUMNS)
    if request.folders or not regimes:
        runs = finished_only(request.runs())
    regimes = regimes or sorted(set(runs["regime"]))
    if len(regimes) > 2:
        names = ", ".join(regimes)
        raise RequestError(f"a roadmap figure shows at most two regimes (got {names}); choose with regime=a,b")
    runs = runs[runs["regime"].isin(regimes)]
    drawn = []
    for regime in regimes:
        overrides = [f"regime={regime}", *(f"{key}={value}" for key, value in given.items())]
        if (runs["regime"] == regime).any():
            own, steps = request.path_runs(runs, overrides)
        else:
            own, steps = runs.iloc[:0], compose_path(overrides, request.options.config_dir)
            if regime not in TABLES:
                raise RequestError(f"no finished run of regime {regime} here, and the paper has none either")
        drawn.append(RegimeRuns(own, steps, request.options.test))
    return draw_roadmap(drawn), ""


def _deltas(request: Request) -> Drawn:
    from roadmap.comparison.agreement import caption
    from roadmap.comparison.compare import compare
    from roadmap.comparison.groups import OwnPath
    from roadmap.comparison.roadmap_plot import deltas_chart, paper_regime
    from roadmap.comparison.step_table import networks, step_table, subtitle

    runs, steps = request.path_runs(request.runs(), request.overrides)
    title = f"What each change is worth, from {networks(steps, ' to ')}"
    test = request.options.test
    table, words = step_table(runs, steps, test), subtitle(runs, steps)
    verdict = caption(compare(runs, OwnPath.of(steps)).agreements)
    chart = deltas_chart(table, title=title, subtitle=words, paper=paper_regime(steps), agreement=verdict, test=test)
    return chart, ""


def _robustness(request: Request) -> Drawn:
    from roadmap.comparison.step_table import networks, runs_of_steps, subtitle
    from roadmap.robustness.robustness_plot import robustness_chart
    from roadmap.robustness.table import corrupted_runs, robust_step_table

    runs, steps = request.path_runs(request.runs(), request.overrides)
    robust, skipped = corrupted_runs(runs, request.options.conditions)
    say_skipped(skipped)
    test = request.options.test
    table, by_corruption = robust_step_table(robust, steps, test), robust.means(runs_of_steps(robust.runs, steps))
    title = f"Which change buys robustness, from {networks(steps, ' to ')}"
    words = {"title": title, "subtitle": subtitle(robust.runs, steps), "words": robust.words}
    return robustness_chart(table, by_corruption, **words, test=test), ""


def _attribution(request: Request) -> Drawn:
    from roadmap.attribution.command import attributed, draw

    kind = request.options.kind
    runs = request.runs() if request.folders or kind == "attribution" else None
    found, steps = attributed(runs, request.folders, request.overrides, request.options.config_dir)
    return draw(found, steps, kind), ""


def _effects(request: Request) -> Drawn:
    from roadmap.screening.command import draw, screened

    found, study = screened(request.runs(), request.overrides, request.options.config_dir)
    return draw(found, study), ""


def _tradeoff(request: Request) -> Drawn:
    from roadmap.bench.reading import load_bench
    from roadmap.comparison.tradeoff_plot import draw_tradeoff

    options, runs = request.options, finished_only(request.any_runs())
    benches = load_bench(options.bench) if options.bench else None
    return draw_tradeoff(runs, options.x or ("gmacs" if benches is None else "inference"), benches), ""


def _pareto(request: Request) -> Drawn:
    from roadmap.comparison.tradeoff_plot import draw_pareto, front, text

    found = front(request.any_runs(), request.options.x or "gmacs")
    return draw_pareto(found), text(found)


def _curves(request: Request) -> Drawn:
    from roadmap.comparison.curves_plot import draw_curves
    from roadmap.runs.reading import read_history

    runs = request.any_runs()
    history, lost = read_history(runs)
    say_skipped(lost)
    return draw_curves(runs, history, request.options.metric or "top1"), ""


def _spaces(request: Request) -> Drawn:
    from roadmap.design_spaces.command import draw

    request.check_overrides()
    request.check_folders()
    return draw(request.options, request.folders)


KINDS = {
    "roadmap": ("one bar per step; for two regimes in one figure, the larger one's bars are grey", _roadmap),
    "deltas": ("the gap of each step with its 95 % interval, and the paper's", _deltas),
    "tradeoff": ("accuracy against --x, with the Pareto front", _tradeoff),
    "pareto": ("all designs, with the Pareto front of accuracy and --x", _pareto),
    "curves": ("--metric by epoch, one panel per variant", _curves),
    "robustness": ("accuracy on corrupted images (`roadmap evaluate`) by step", _robustness),
    "attribution": ("the contribution of each change: paper, leave-one-out, add-one-in, Shapley value", _attribution),
    "interactions": ("interactions of pairs of changes; without runs, in GMACs only", _attribution),
    "effects": ("the main effects of a screening design: study=screening study.n=N", _effects),
    "edf": ("error distributions of design spaces, one line per folder or value of --by", _spaces),
    "scatter": ("error against each parameter of the design", _spaces),
}
# option -> the kinds it goes with, its values and its help
OPTIONS = {
    "x": (("tradeoff", "pareto"), "gmacs|params|throughput|memory|time", "the cost; default gmacs"),
    "bench": (("tradeoff",), "FILE|DIR", "measurements of `roadmap bench`, with --x inference, training or latency"),
    "by": (("edf",), "FIELD", "one space per value, such as --by kernel"),
    "conditions": (("robustness",), "ID", "id of one of several evaluations"),
    "metric": (("curves",), "NAME", "a number of metrics.jsonl; default top1"),
}


def finished_only(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the finished runs; RequestError if there are none."""
    if not len(runs) or not (runs["status"] == "finished").any():
        raise RequestError("no finished run in these folders")
    return runs[runs["status"] == "finished"]
