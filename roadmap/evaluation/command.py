"""The command ``roadmap evaluate``."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from roadmap.cli.arguments import (
    Parser,
    checked_overrides,
    folders_and_overrides,
    override_parser,
    say_skipped,
    write_text,
)
from roadmap.errors import RequestError
from roadmap.formatting import printable
from roadmap.runs.records import exported_part, is_place
from roadmap.runs.run_folder import SUMMARY

if TYPE_CHECKING:
    from roadmap.evaluation.load_trained import TrainedModel
    from roadmap.evaluation.request import EvaluationRequest
    from roadmap.evaluation.task import EvaluationTask


def main(arguments: list[str]) -> int:
    options = _parser().parse_intermixed_args(arguments)
    if options.json and is_place(options.json):
        # `--json runs/` means: print JSON for runs/
        options.overrides, options.json = [*options.overrides, options.json], "-"
    places, overrides = folders_and_overrides(options.overrides)
    tasks, device_name = _run_tasks(places, overrides, options) if places else _weights_task(overrides, options)
    from roadmap.evaluation.evaluate import evaluate_tasks
    from roadmap.runtime.device import choose_device
    from roadmap.runtime.distributed import init_processes, local_device

    device = local_device(choose_device(device_name))
    world = init_processes(device)
    results = evaluate_tasks(tasks, device, world, options.force)
    if not world.is_main:
        return 0
    records = [record for record, _ in results]
    if options.json:
        write_text(options.json, json.dumps(records, indent=1, ensure_ascii=False) + "\n")
    else:
        from roadmap.evaluation.text import text

        print(printable(text(records)))
        if existing := sum(existed for _, existed in results):
            print(f"{existing} of {len(results)} evaluations already existed; --force evaluates again")
    return 0


def _parser() -> Parser:
    parser = override_parser(
        "evaluate",
        "Evaluate trained networks: accuracy, loss and calibration. Name run folders, folders of runs or checkpoint "
        "files; or weights: step=… pretrained=FILE, or model=torchvision name=… pretrained=library.",
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="file of the record, required for weights without a run")
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE", help="write the records as JSON (default: stdout)"
    )
    parser.add_argument("--force", action="store_true", help="evaluate again even if a record exists")
    return parser


def _run_tasks(
    places: list[str], overrides: list[str], options: argparse.Namespace
) -> "tuple[list[EvaluationTask], str]":
    """The tasks of runs and checkpoints, and the device."""
    from roadmap.evaluation.request import evaluation_request
    from roadmap.evaluation.task import evaluation_task

    request = evaluation_request(overrides, options.config_dir)
    models, skipped = _load_models(places, request)
    if not models:
        raise RequestError(skipped[0] if len(skipped) == 1 else f"{skipped[0]} (and {len(skipped) - 1} more)")
    say_skipped(skipped)
    if options.output and len(models) > 1:
        raise RequestError(f"-o takes one record, not {len(models)}; without -o, records go to their runs' folders")
    output = Path(options.output) if options.output else None
    return [evaluation_task(model, request, output) for model in models], request.device


def _load_models(places: list[str], request: "EvaluationRequest") -> "tuple[list[TrainedModel], list[str]]":
    """The networks of runs and checkpoints, without duplicates, and why others were skipped."""
    from roadmap.evaluation.load_trained import load_checkpoint, load_run

    models: dict[Path, TrainedModel] = {}
    skipped = []
    averaged = request.weights == "averaged"
    for path in dict.fromkeys(path.resolve() for path in _runs(places)):
        try:
            models[path] = (
                load_run(path, request.checkpoint, averaged) if path.is_dir() else load_checkpoint(path, averaged)
            )
        except RequestError as error:
            skipped.append(str(error))
    return list(models.values()), skipped


def _runs(places: list[str]) -> list[Path]:
    """Checkpoint files and run folders; a folder of runs stands for its finished runs."""
    runs = []
    for name in places:
        path = Path(name)
        if exported_part(name):
            raise RequestError(f"{name} contains records but no weights; name run folders or a checkpoint")
        if "://" in name or not path.exists():
            raise RequestError(f"no folder or checkpoint {name}")
        if path.is_dir() and not (path / SUMMARY).is_file():
            runs += _finished_runs(path)
        elif path.is_dir() or path.suffix == ".pt":
            runs.append(path)
        else:
            raise RequestError(f"{name} is not a run folder or a checkpoint (.pt); for weights use pretrained={name}")
    return runs


def _finished_runs(folder: Path) -> list[Path]:
    from roadmap.runs.reading import read_runs

    runs, skipped = read_runs(folder)
    say_skipped(skipped)
    finished = runs[runs["status"] == "finished"]
    if not len(finished):
        raise RequestError(f"no finished run in {folder}")
    # exported runs have no weights
    return [Path(path) for path in finished["path"] if not exported_part(path)]


def _weights_task(overrides: list[str], options: argparse.Namespace) -> "tuple[list[EvaluationTask], str]":
    """The task of weights without a run, and the device."""
    from roadmap.config.compose import compose
    from roadmap.config.overrides import key_of
    from roadmap.evaluation.load_trained import load_library_model, load_pretrained
    from roadmap.evaluation.request import evaluation_request, is_evaluation_only
    from roadmap.evaluation.task import evaluation_task

    words = checked_overrides(overrides)
    if chosen := [word for word in words if key_of(word) in ("checkpoint", "weights")]:
        raise RequestError(f"{chosen[0]} selects weights of a run; pretrained= names a weights file")
    composed = compose([word for word in words if not is_evaluation_only(word)], options.config_dir)
    if composed.settings.pretrained is None:
        raise RequestError(
            "name run folders or a checkpoint (roadmap evaluate runs/), or weights: step=… pretrained=FILE"
        )
    if options.output is None:
        raise RequestError("weights without a run require a file for the record: -o FILE.json")
    request = evaluation_request([word for word in words if is_evaluation_only(word)], options.config_dir)
    library = str(composed.settings.pretrained).split("/")[0] == "library"
    model = load_library_model(composed) if library else load_pretrained(composed)
    return [evaluation_task(model, request, Path(options.output))], composed.settings.device
