"""``roadmap report``: logged runs as one HTML page."""

from pathlib import Path

from roadmap.cli.arguments import (
    check_writable,
    folders_and_overrides,
    of_regime_and_data,
    override_parser,
    say_skipped,
    write_text,
)
from roadmap.cli.gap_test import add_test_options, gap_test
from roadmap.errors import RequestError


def main(arguments: list[str]) -> int:
    parser = override_parser("report", "logged runs as one HTML page: path=, regime= and data= choose what it shows")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="one self-contained .html file")
    parser.add_argument(
        "--bench", metavar="FILE|DIR", action="append", help="also accuracy against what `roadmap bench` measured"
    )
    add_test_options(parser)
    options = parser.parse_intermixed_args(arguments)
    test = gap_test(options)
    folders, overrides = folders_and_overrides(options.overrides)
    if not folders:
        raise RequestError("no run folders; name them as in `roadmap report runs/ -o report.html`")
    file = Path(options.output)
    if file.suffix.lower() not in (".html", ".htm"):
        raise RequestError(f"cannot write a report as '{file.suffix}'; choose .html")
    from roadmap.bench.reading import load_bench
    from roadmap.report.build import page_context
    from roadmap.report.page import render
    from roadmap.runs.reading import read_history, read_runs

    runs, skipped = read_runs(folders)
    if not len(runs):
        raise RequestError(f"no run in {', '.join(folders)}")
    runs = of_regime_and_data(runs, overrides)
    history, lost = read_history(runs)
    skipped += lost
    say_skipped(skipped)
    benches = load_bench(options.bench) if options.bench else None
    text = render(page_context(runs, history, folders, overrides, options.config_dir, skipped, benches, test))
    check_writable(file.parent, "choose another folder for -o")
    write_text(str(file), text)
    print(f"report of {len(runs):,} run{'s' if len(runs) > 1 else ''}: {file}")
    return 0
