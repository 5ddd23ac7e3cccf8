"""``roadmap report``: what it writes and what it refuses; how the page behaves is in tests/browser."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from roadmap.__main__ import main
from roadmap.config.compose import compose
from roadmap.report.page import inert, page
from roadmap.report.records import curves
from roadmap.report.sections import comparable_parts, sections
from roadmap.runs.reading import load_history, load_runs
from roadmap.steps.path import compose_path
from roadmap.training.run_command import planned
from tests.records import EXAMPLES, make_run


def report(*words: str) -> dict[str, Any]:
    """The data of the page that a command writes, which is its last word."""
    assert main(["report", *words]) == 0
    return data(Path(words[-1]), "payload")


def data(file: Path, name: str) -> Any:
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', file.read_text(encoding="utf-8"))
    assert found
    return json.loads(found[1])


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    file = tmp_path_factory.mktemp("report") / "deep" / "nano.html"
    return file, report(str(EXAMPLES), "-o", str(file))


def test_the_bars_are_what_pandas_makes_of_the_runs(nano: tuple[Path, dict[str, Any]]) -> None:
    file, shown = nano
    assert file.stat().st_size < 300_000
    (section,) = shown["sections"]
    runs = load_runs(EXAMPLES)
    assert [bar["step"] for bar in section["bars"]][:3] == ["resnet50", "enhanced_recipe", "stage_ratio"]
    for bar in section["bars"]:
        mine = runs[runs["step"] == bar["step"]]
        assert bar["top1"] == pytest.approx(mine["top1"].mean())
        assert bar["top1_std"] == pytest.approx(mine["top1"].std())
        ids = [shown["runs"]["columns"]["run_id"][run] for run in bar["runs"]]
        assert set(ids) == set(mine["run_id"])
        assert bar["n"] == len(ids) == 3
    assert any("Spearman" in sentence for sentence in section["verdicts"])
    assert section["bars"][-1]["verdict"]
    # nothing of this machine
    assert str(EXAMPLES.parent) not in file.read_text()


def test_the_same_runs_give_the_same_bytes(nano: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    report(str(EXAMPLES), "-o", str(tmp_path / "again.html"))
    assert (tmp_path / "again.html").read_bytes() == nano[0].read_bytes()


@pytest.mark.slow
def test_the_commands_find_the_same_runs(nano: tuple[Path, dict[str, Any]]) -> None:
    _, shown = nano
    assert shown["sections"][0]["exact"]
    program, command, *words = shlex.split(shown["sections"][0]["command"])
    assert (program, command) == ("roadmap", "run")
    ids = {request.experiment().run_id for request in planned(compose_path(words))}
    assert ids == set(shown["runs"]["columns"]["run_id"])
    for run in (0, 50):
        program, command, *words = shlex.split(shown["runs"]["commands"][run])
        assert (program, command) == ("roadmap", "train")
        assert compose(words).experiment().run_id == shown["runs"]["columns"]["run_id"][run]


def test_a_path_of_ones_own_is_said_in_the_command(tmp_path: Path) -> None:
    conf = tmp_path / "my conf" / "path"
    conf.mkdir(parents=True)
    (conf / "short.yaml").write_text(
        "name: short\nsteps:\n  - step=layer_norm\n  - {change: norm=batch, label: back}\n"
    )
    overrides = ["path=short", "regime=nano", "data=digits", "epochs=2"]
    steps = compose_path(overrides, [str(conf.parent)])
    for number, step in enumerate(steps):
        composed = step.composed.with_seed(7)
        folder = tmp_path / "runs" / f"run-{number:010}"
        fields = {"design": composed.design.to_dict(), "variant": composed.variant}
        make_run(folder, "gelu", 7, epochs=2, **fields)
        (folder / ".hydra" / "overrides.yaml").write_text(json.dumps(composed.overrides))
    shown = report(
        str(tmp_path / "runs"), "path=short", "--config-dir", str(conf.parent), "-o", str(tmp_path / "r.html")
    )
    (section,) = shown["sections"]
    assert [bar["label"] for bar in section["bars"]] == ["layer_norm", "back"]
    assert section["command"] == (
        f"roadmap run path=short regime=nano data=digits epochs=2 'seeds=[7]' --config-dir '{conf.parent}'"
    )


def test_what_may_not_be_compared_is_in_charts_of_its_own(tmp_path: Path) -> None:
    kinds: list[dict[str, Any]] = [{}, {"epochs": 10}, {"image_size": 64}, {"data": "cifar10"}]
    for number, kind in enumerate(kinds):
        for step in ("kernel_7", "gelu"):
            make_run(tmp_path / "runs" / f"run-{step}-{number:010}", step, run_id=f"{step}-{number}", **kind)
    make_run(tmp_path / "runs" / "run-toggled", "gelu", run_id="toggled", variant="gelu width", design={"width": 5})
    shown = report(str(tmp_path / "runs"), "-o", str(tmp_path / "r.html"))
    sections = [(section["data"], section["kind"], section["conditions"]) for section in shown["sections"]]
    assert sections == [
        ("digits", "path", "epochs 30, image_size 32"),
        ("digits", "path", "epochs 10, image_size 32"),
        ("digits", "groups", "epochs 30, image_size 32"),
        ("digits", "path", "epochs 30, image_size 64"),
        ("cifar10", "path", ""),
    ]
    # the epochs of these runs were not in the overrides that their folders hold
    assert not shown["sections"][1]["exact"]
    for section in shown["sections"]:
        runs = {run for bar in section["bars"] for run in bar["runs"]}
        assert runs == set(section["runs"])
        assert len(runs) == (1 if section["kind"] == "groups" else 2)
    assert "accuracies of different charts do not compare" in " ".join(shown["caveats"])
    only = report(str(tmp_path / "runs"), "data=cifar10", "-o", str(tmp_path / "c.html"))
    assert [section["data"] for section in only["sections"]] == ["cifar10"]
    assert only["runs"]["count"] == 2


def test_a_rival_beside_a_road_of_two_recipes_is_set_apart_by_no_condition(tmp_path: Path) -> None:
    for seed in (0, 1):
        for step in ("resnet50", "enhanced_recipe", "gelu"):
            make_run(tmp_path / f"{step}-s{seed}", step, seed)
        rival = {"library": "timm", "name": "swin", "options": {}}
        make_run(tmp_path / f"swin-s{seed}", "gelu", seed, variant="model=nano_swin", design=rival)
    road, rest = sections(load_runs(tmp_path), [], [])
    assert [road.conditions, rest.conditions] == ["", ""]
    assert set(rest.runs["variant"]) == {"model=nano_swin"}


def test_parts_of_runs_share_the_recipe_that_was_run_in_one_way() -> None:
    def run(recipe: str, epochs: int) -> dict[str, Any]:
        definition = {"design": {}, "recipe": {"name": recipe}, "epochs": epochs, "seed": 0, "data": {}}
        return {"regime": "nano", "recipe": recipe, "definition": definition, "epochs": epochs}

    def parts(*kinds: tuple[str, int]) -> list[list[tuple[str, int]]]:
        found = comparable_parts(pd.DataFrame([run(*kind) for kind in kinds]))
        return [sorted(zip(part["recipe"], part["epochs"], strict=True)) for part in found]

    assert parts(("old", 90), ("new", 300)) == [[("new", 300), ("old", 90)]]
    assert parts(("old", 90), ("new", 300), ("new", 100)) == [[("new", 300), ("old", 90)], [("new", 100), ("old", 90)]]
    assert parts(("old", 100), ("new", 300), ("new", 100)) == [[("new", 100), ("old", 100)], [("new", 300)]]


def test_curves_keep_few_points_and_the_last_epoch() -> None:
    runs = pd.DataFrame({"run_id": ["a", "b", "c"], "epochs": [300.0, 300.0, None]})
    rows = [
        {"run_id": run, "epoch": epoch, "top1": epoch / 7, "val_loss": float("nan")}
        for run, last in (("a", 300), ("b", 131))
        for epoch in range(1, last + 1)
    ]
    # the line of an epoch that was run again
    found = curves(pd.DataFrame([*rows, {"run_id": "a", "epoch": 300, "top1": 99.0}]), runs)
    (grid, top1, val_loss, train_loss), (other, *_), missing = found["runs"]
    assert missing is None
    assert len(found["grids"][grid]) == len(top1) == 120
    assert found["grids"][grid][0] == 1
    assert found["grids"][grid][-1] == 300
    assert top1[-1] == 99.0
    assert set(val_loss) == {None}
    assert train_loss is None
    # the shorter one's points are the longer one's, and its own last
    assert found["grids"][other][-1] == 131
    assert set(found["grids"][other][:-1]) <= set(found["grids"][grid])
    assert found["thinned"] == 2


def test_a_thousand_runs_of_300_epochs_are_a_few_megabytes() -> None:
    history = load_history(EXAMPLES)
    history = history[history["run_id"] == history["run_id"].iloc[0]].drop(columns="run_id").iloc[[*range(30)] * 10]
    history = history.assign(epoch=range(1, 301))
    runs = pd.DataFrame({"run_id": [f"{number:010}" for number in range(1000)], "epochs": 300})
    assert len(inert(curves(history.merge(runs[["run_id"]], how="cross"), runs))) < 3_500_000


def test_a_page_cannot_be_left_from_within_its_data() -> None:
    value = {"title": "</title><script>", "note": "</script><!-- <script> & \u2028 \ud800 \u202e {{style}}"}
    text = inert(value)
    assert not set("<>&") & set(text)
    # half a character and a mark that turns the text's direction are all that is lost
    assert json.loads(text) == value | {"note": value["note"].replace("\ud800", "\ufffd").replace("\u202e", "\ufffd")}
    whole = page(value, {})
    assert whole.count("<script") == whole.count("</script>") == 3
    assert "&lt;/title&gt;&lt;script&gt;" in whole
    assert whole.encode("utf-8")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["-o", "r.html"], "no run folders; name them as in `roadmap report runs/ -o report.html`"),
        (["nowhere", "-o", "r.html"], "no folder nowhere"),
        ([".", "-o", "r.html"], "no run in ."),
        ([str(EXAMPLES), "-o", "r.pdf"], "cannot write a report as '.pdf'; choose .html"),
        ([str(EXAMPLES), "regime=tiny", "-o", "r.html"], "none of these runs is of regime tiny; they are of nano"),
        ([str(EXAMPLES), "path=nowhere", "-o", "r.html"], "unknown path 'nowhere' (choose paper)"),
        ([str(EXAMPLES)], "the following arguments are required: -o/--output; see `roadmap report --help`"),
    ],
)
def test_bad_requests_end_in_one_sentence(
    words: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", *words]) == 2
    assert capsys.readouterr().err == f"roadmap: {sentence}\n"
    assert not list(tmp_path.iterdir())


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path / "runs" / "run-1111111111")
    (tmp_path / "taken.html").mkdir()
    assert main(["report", str(tmp_path / "runs"), "-o", str(tmp_path / "taken.html")]) == 2
    assert capsys.readouterr().err == f"roadmap: cannot write {tmp_path / 'taken.html'}: Is a directory\n"
    assert main(["report", str(tmp_path / "runs"), "-o", str(tmp_path / "taken.html" / "r.html")]) == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["runs", "taken.html"]


def test_runs_that_say_little(tmp_path: Path) -> None:
    (tmp_path / "runs" / "old").mkdir(parents=True)
    (tmp_path / "runs" / "old" / "summary.json").write_text('{"run_id": "old", "status": "running"}')
    shown = report(str(tmp_path / "runs"), "-o", str(tmp_path / "r.html"))
    assert shown["lead"] == "One run of 1 design (unknown on unknown), 1 running."
    assert [bar["label"] for bar in shown["sections"][0]["bars"]] == ["old"]
    assert data(tmp_path / "r.html", "curves")["runs"] == [None]


def test_what_cannot_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path / "runs" / "run-1111111111")
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "summary.json").write_text('{"run_id": ')
    (tmp_path / "runs" / "run-1111111111" / ".hydra" / "overrides.yaml").write_text("{")
    shown = report(str(tmp_path / "runs"), "-o", str(tmp_path / "r.html"))
    assert "broken" in capsys.readouterr().err
    assert any("Could not be read and left out" in caveat and "broken" in caveat for caveat in shown["caveats"])
    assert shown["runs"]["commands"] == [None]
