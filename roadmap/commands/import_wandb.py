"""``roadmap import-wandb``: offline W&B run files as run folders."""

import json
import os
import shutil
import tempfile
from pathlib import Path

from roadmap.commands.arguments import Parser
from roadmap.errors import RequestError, WorkError
from roadmap.folders.runfolder import METRICS, SUMMARY, one_name
from roadmap.foreign import parse_json
from roadmap.tracking.background import say
from roadmap.tracking.wandb_fields import Keys


def main(arguments: list[str]) -> int:
    parser = Parser(prog="roadmap import-wandb", description="offline W&B run files, ours or others', as run folders")
    parser.add_argument("folder", metavar="DIR", help="searched recursively for run-*.wandb")
    parser.add_argument("-o", "--output", default="runs", metavar="RUNS_DIR", help="where run folders go (runs)")
    parser.add_argument("--top1", metavar="KEY", help="in runs of others: their key of the accuracy, as in val/acc")
    parser.add_argument("--share", action="store_true", help="that accuracy is a share of 1, not percent")
    parser.add_argument("--epoch", metavar="KEY", help="in runs of others: their key of the epoch (epoch, or the step)")
    options = parser.parse_args(arguments)
    if options.share and not options.top1:
        raise RequestError("--share says what --top1 is in; add --top1 KEY")
    made = import_folder(Path(options.folder), Path(options.output), Keys(options.top1, options.share, options.epoch))
    print(f"{len(made)} run{'' if len(made) == 1 else 's'} imported into {options.output}")
    return 0


def import_folder(source: Path, output: Path, keys: Keys) -> list[Path]:
    """Make a run folder of each run under ``source`` that ``output`` has not; says on stderr what it leaves out.

    Raises RequestError where there is nothing to import, WorkError where none of it can be read or written.
    """
    # the package is W&B's own, and slow to import
    from roadmap.analysis.reading.wandb_import import imported, joined

    runs = joined(_segments(source))
    if not runs:
        raise WorkError(f"no run can be read from the W&B files under {source}")
    there, made = _run_ids(output), []
    for segments in runs:
        run_id = segments[0].run_id
        if run_id in there:
            say(f"run {run_id} is in {there[run_id]} already; skipped")
            continue
        run = imported(segments, keys)
        there[run_id] = _write(output, one_name(*run.name), run.summary, run.rows)
        made.append(there[run_id])
    return made


def _segments(source: Path) -> list:
    from roadmap.tracking.wandb_files import read_segment, segment_files

    if not source.is_dir():
        raise RequestError(f"no folder {source}")
    files = segment_files(source)
    if not files:
        raise RequestError(f"no W&B run files (run-*.wandb) under {source}")
    segments = []
    for file in files:
        try:
            segment = read_segment(file)
        except WorkError as error:
            say(f"skipped: {error}")
            continue
        if not segment.whole:
            say(f"{file} is cut short or damaged; what is whole of it is read")
        if not segment.run_id:
            say(f"skipped: {file} names no run")
        segments.append(segment)
    return segments


def _run_ids(output: Path) -> dict[str, Path]:
    """The runs that a folder has, wherever under it."""
    found = {}
    for file in output.rglob(SUMMARY):
        try:
            found[parse_json(file.read_text(encoding="utf-8"))["run_id"]] = file.parent
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def _write(output: Path, name: str, summary: dict, rows: list[dict]) -> Path:
    """A run's folder, there whole or not at all; one that is there stays as it is."""
    folder = output / name
    try:
        output.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".import-", dir=output))
        try:
            (partial / METRICS).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
            text = json.dumps(summary, indent=1, ensure_ascii=False) + "\n"
            (partial / SUMMARY).write_text(text, encoding="utf-8")
            partial.chmod(0o777 & ~_umask())
            if folder.exists():
                raise WorkError(f"{folder} is there already and is another run's; move it away")
            os.rename(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise WorkError(f"cannot write {folder}: {error.strerror}") from error
    return folder


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
