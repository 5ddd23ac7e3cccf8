"""The command ``roadmap evaluate``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from roadmap.cli.arguments import (
    checked_overrides,
    folders_and_overrides,
    override_parser,
    say_skipped,
    write_text,
)
from roadmap.errors import RequestError
from roadmap.formatting import printable
from roadmap.runs.records import exported_part
from roadmap.runs.run_folder import SUMMARY

if TYPE_CHECKING:
    from roadmap.evaluation.load_trained import TrainedModel
    from roadmap.evaluation.task import EvaluationRequest


def main(arguments: list[str]) -> int:
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
    options = parser.parse_intermixed_args(arguments)
    places, overrides = folders_and_overrides(options.overrides)
    from roadmap.evaluation.evaluate import evaluate_tasks
    from roadmap.evaluation.task import evaluation_request, evaluation_task
    from roadmap.runtime.device import choose_device
    from roadmap.runtime.distributed import init_processes, local_device

    if places:
        request = evaluation_request(overrides, options.config_dir)
        models = _trained_models(places, request)
    else:
        request, model = _weights_without_run(overrides, options.config_dir)
        models = [model]
        if options.output is None:
            raise RequestError("weights without a run require a file for the record: -o FILE.json")
    if options.output and len(models) > 1:
        raise RequestError(f"-o takes one record, not {len(models)}; without -o, records go to their runs' folders")
    output = Path(options.output) if options.output else None
    device = local_device(choose_device(request.device))
    world = init_processes(device)
    tasks = [evaluation_task(model, request, output) for model in models]
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


def _trained_models(places: list[str], request: "EvaluationRequest") -> "list[TrainedModel]":
    """Return the networks of runs and checkpoints, without duplicates; warn about those that cannot be read."""
    from roadmap.evaluation.load_trained import load_checkpoint, load_run

    models, skipped = [], []
    averaged = request.weights == "averaged"
    for path in dict.fromkeys(path.resolve() for path in _runs(places)):
        try:
            models.append(
                load_run(path, request.checkpoint, averaged) if path.is_dir() else load_checkpoint(path, averaged)
            )
        except RequestError as error:
            skipped.append(str(error))
    if not models:
        raise RequestError(skipped[0] if len(skipped) == 1 else f"{skipped[0]} (and {len(skipped) - 1} more)")
    say_skipped(skipped)
    return models


def _runs(places: list[str]) -> list[Path]:
    """Return checkpoint files and run folders; a folder of runs stands for its finished runs."""
    from roadmap.runs.reading import read_runs

    found = []
    for path in map(Path, places):
        if path.is_dir() and not (path / SUMMARY).is_file():
            runs, skipped = read_runs(path)
            say_skipped(skipped)
            finished = runs[runs["status"] == "finished"]["path"]
            if not len(finished):
                raise RequestError(f"no finished run in {path}")
            # exported runs have no weights
            found += [Path(run) for run in finished if not exported_part(run)]
        elif path.is_dir() or path.suffix == ".pt":
            found.append(path)
        else:
            raise RequestError(f"{path} is not a run folder or a checkpoint (.pt); for weights use pretrained={path}")
    return found


def _weights_without_run(overrides: list[str], config_dirs: list[str]) -> "tuple[EvaluationRequest, TrainedModel]":
    from roadmap.config.compose import compose
    from roadmap.config.overrides import key_of
    from roadmap.evaluation.load_trained import load_pretrained
    from roadmap.evaluation.task import EVALUATION_ONLY, SETTINGS, evaluation_request

    words = checked_overrides(overrides)
    composed = compose([word for word in words if key_of(word) not in EVALUATION_ONLY], config_dirs)
    if composed.settings.pretrained is None:
        raise RequestError(
            "name run folders or a checkpoint (roadmap evaluate runs/), or weights: step=… pretrained=FILE"
        )
    return evaluation_request([word for word in words if key_of(word) in SETTINGS]), load_pretrained(composed)
