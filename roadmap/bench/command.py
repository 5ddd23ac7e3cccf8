"""``roadmap bench``: counted and measured costs of steps and baseline models, with the paper's numbers."""

import argparse
import gc
import json
import logging
import os
import sys

from roadmap.bench.models import Bench, compose_bench
from roadmap.bench.record import Record, bench_folder, counted, measured, write_record
from roadmap.cli.arguments import check_writable, checked_overrides, override_parser, say_choices
from roadmap.errors import RequestError, WorkError
from roadmap.formatting import csv, printable

logger = logging.getLogger(__name__)


def main(arguments: list[str]) -> int:
    parser = override_parser(
        "bench", "GFLOPs (MACs), parameters, images/s, latency and memory of steps and baseline models"
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print the record as JSON")
    output.add_argument("--csv", action="store_true", help="print one CSV line per network")
    options = parser.parse_intermixed_args(arguments)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise RequestError("roadmap bench runs in one process; start it without torchrun")
    overrides = checked_overrides(options.overrides)
    bench = compose_bench(overrides, options.config_dir)
    say_choices(entry.composed for entry in bench.entries)
    settings = bench.entries[0].composed.settings
    if settings.device == "meta":
        show(counted(bench), options)
        return 0
    record = run_bench(bench, overrides, settings.device, settings.runs_dir)
    show(record, options)
    failed = sum(any("error" in row[mode] for mode in bench.settings.measure) for row in record["rows"])
    if failed:
        raise WorkError(f"{failed} of {len(record['rows'])} networks could not be measured; see the notes")
    return 0


def run_bench(bench: Bench, overrides: list[str], device_name: str, runs_dir: str) -> Record:
    """Measure all networks and write the record into ``runs_dir``."""
    from roadmap.runtime.device import choose_device

    device = choose_device(device_name)
    for entry in bench.entries:
        entry.composed.experiment()  # fail on invalid settings before measuring
    check_writable(bench_folder(runs_dir), "choose another runs_dir")
    # garbage collections between networks need not visit imported modules
    gc.freeze()
    try:
        record = measured(bench, overrides, device, logger.info)
    except KeyboardInterrupt as error:
        raise WorkError("interrupted; an incomplete bench is not saved") from error
    logger.info(f"record: {write_record(record, runs_dir)}")
    return record


def show(record: Record, options: argparse.Namespace) -> None:
    """Print the record as a table, JSON or CSV."""
    if options.json:
        print(json.dumps(record, indent=1, ensure_ascii=False))
    elif options.csv:
        from roadmap.bench.reading import bench_table

        sys.stdout.write(csv(bench_table([dict(record)])))
    else:
        from roadmap.bench.text import text

        print(printable(text(record)))
