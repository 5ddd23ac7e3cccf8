"""``roadmap evaluate``: trained networks on a data set, on its corruptions, on a robustness set."""

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
    from roadmap.evaluation.load_trained import Trained
    from roadmap.evaluation.request import EvaluationRequest
    from roadmap.evaluation.task import EvaluationTask


def main(arguments: list[str]) -> int:
    options = _parser().parse_intermixed_args(arguments)
    if options.json and is_place(options.json):
        # `--json runs/` means: print json, of runs/
        options.overrides, options.json = [*options.overrides, options.json], "-"
    places, overrides = folders_and_overrides(options.overrides)
    exams, device_name = _of_runs(places, overrides, options) if places else _of_weights(overrides, options)
    from roadmap.evaluation.evaluate import examine
    from roadmap.runtime.device import choose_device
    from roadmap.runtime.distributed import join, local_device

    device = local_device(choose_device(device_name))
    world = join(device)
    results = examine(exams, device, world, options.force)
    if not world.first:
        return 0
    if options.json:
        write_text(options.json, json.dumps([record for record, _ in results], indent=1, ensure_ascii=False) + "\n")
    else:
        from roadmap.evaluation.text import text

        kept = sum(kept for _, kept in results)
        print(printable(text([record for record, _ in results])))
        if kept:
            print(f"{kept} of {len(results)} evaluations were there already; --force makes them anew")
    return 0


def _parser() -> Parser:
    parser = override_parser(
        "evaluate",
        "accuracy, loss and calibration of trained networks: of runs (folders of them, a checkpoint's file), or of "
        "weights: step=… pretrained=FILE, model=torchvision name=… pretrained=library",
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="where the record goes, of weights that have no run")
    parser.add_argument("--json", nargs="?", const="-", metavar="FILE", help="the records; - or none: stdout")
    parser.add_argument("--force", action="store_true", help="evaluate again what has been evaluated")
    return parser


def _of_runs(
    places: list[str], overrides: list[str], options: argparse.Namespace
) -> "tuple[list[EvaluationTask], str]":
    from roadmap.evaluation.request import evaluation_request
    from roadmap.evaluation.task import exam

    request = evaluation_request(overrides, options.config_dir)
    found, skipped = _trained(places, request)
    if not found:
        raise RequestError(skipped[0] if len(skipped) == 1 else f"{skipped[0]} (and {len(skipped) - 1} more)")
    say_skipped(skipped)
    if options.output and len(found) > 1:
        raise RequestError(f"-o is for one record, and these are {len(found)} networks; their records go to their runs")
    output = Path(options.output) if options.output else None
    return [exam(one, request, output) for one in found], request.device


def _trained(places: list[str], request: "EvaluationRequest") -> "tuple[list[Trained], list[str]]":
    """The networks of runs and checkpoints, each once, and a sentence about each that cannot be had."""
    from roadmap.evaluation.load_trained import trained_checkpoint, trained_run

    found: dict[Path, Trained] = {}
    skipped = []
    averaged = request.weights == "averaged"
    for place in _runs(places):
        try:
            # a folder that is asked for twice is one run
            if place.resolve() not in found:
                one = trained_run(place, request.checkpoint, averaged) if place.is_dir() else None
                found[place.resolve()] = one or trained_checkpoint(place, averaged)
        except RequestError as error:
            skipped.append(str(error))
    return list(found.values()), skipped


def _runs(places: list[str]) -> list[Path]:
    """Checkpoints' files and runs' folders; of a folder of runs each finished run in it."""
    runs = []
    for name in places:
        place = Path(name)
        if exported_part(name):
            raise RequestError(f"{name} holds records of runs and not their weights; name run folders or a checkpoint")
        if "://" in name or not place.exists():
            raise RequestError(f"no folder or checkpoint {name}")
        if place.is_dir() and not (place / SUMMARY).is_file():
            runs += _finished_below(place)
        elif place.is_dir() or place.suffix == ".pt":
            runs.append(place)
        else:
            raise RequestError(
                f"{name} is neither a run's folder nor a checkpoint (.pt); weights are pretrained={name}"
            )
    return runs


def _finished_below(folder: Path) -> list[Path]:
    from roadmap.runs.reading import read_runs

    runs, skipped = read_runs(folder)
    say_skipped(skipped)
    finished = runs[runs["status"] == "finished"]
    if not len(finished):
        raise RequestError(f"no finished run in {folder}")
    # exported runs have no weights
    return [Path(path) for path in finished["path"] if not exported_part(path)]


def _of_weights(overrides: list[str], options: argparse.Namespace) -> "tuple[list[EvaluationTask], str]":
    """The exam of weights that have no run."""
    from roadmap.config.compose import compose
    from roadmap.config.overrides import key_of
    from roadmap.evaluation.load_trained import trained_file, trained_library
    from roadmap.evaluation.request import evaluation_request, of_evaluation
    from roadmap.evaluation.task import exam

    words = checked_overrides(overrides)
    if chosen := [word for word in words if key_of(word) in ("checkpoint", "weights")]:
        raise RequestError(f"{chosen[0]} chooses among a run's weights; pretrained= names a file of them")
    composed = compose([word for word in words if not of_evaluation(word)], options.config_dir)
    if composed.values["pretrained"] is None:
        raise RequestError(
            "name runs' folders or a checkpoint, as in `roadmap evaluate runs/`, or weights: step=… pretrained=FILE"
        )
    if options.output is None:
        raise RequestError("these weights have no run's folder to keep the record in; name a file for it: -o FILE.json")
    request = evaluation_request([word for word in words if of_evaluation(word)], options.config_dir)
    library = str(composed.values["pretrained"]).split("/")[0] == "library"
    trained = trained_library(composed) if library else trained_file(composed)
    return [exam(trained, request, Path(options.output))], str(composed.values["device"])
