"""``roadmap report``: what it writes and what it refuses."""

import html
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from roadmap.__main__ import main
from roadmap.config.compose import compose
from roadmap.report.page import inert, render
from roadmap.report.run_data import curves
from roadmap.report.sections import comparable_parts, sections
from roadmap.runs.reading import load_runs
from roadmap.steps.path import compose_path
from roadmap.training.run_command import unique_runs
from tests.records import EXAMPLES, make_run


class Page:
    """A written page: its HTML, the data of its runs and the text of its sections."""

    def __init__(self, *words: str) -> None:
        assert main(["report", *words]) == 0
        self.html = Path(words[-1]).read_text(encoding="utf-8")
        found = re.search(r'<script type="application/json" id="data">(.*?)</script>', self.html)
        assert found
        self.data: dict[str, Any] = json.loads(found[1])
        body = re.sub(r"<script.*?</script>|<style>.*?</style>", "", self.html, flags=re.DOTALL)
        parts = [html.unescape(re.sub(r"<[^>]*>", "\n", part)) for part in body.split('<section class="comparison">')]
        self.header, self.sections = parts[0], parts[1:]
        self.commands = [html.unescape(line) for line in re.findall(r'<pre class="command">(.*?)</pre>', body)]

    def cells(self, key: str) -> list[str]:
        """A column of the table of all runs."""
        return [row[self.data["table"]["keys"].index(key)] for row in self.data["table"]["rows"]]


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Page]:
    file = tmp_path_factory.mktemp("report") / "deep" / "nano.html"
    return file, Page(str(EXAMPLES), "-o", str(file))


def test_the_numbers_are_what_pandas_makes_of_the_runs(nano: tuple[Path, Page]) -> None:
    file, page = nano
    assert file.stat().st_size < 2_000_000
    (section,) = page.sections
    runs = load_runs(EXAMPLES)
    for _, mine in runs.groupby("step"):
        digits = 1 if mine["top1"].std() >= 1 else 2  # 1.35 is printed as 1.4
        assert f"{mine['top1'].mean():.{digits}f} ± {mine['top1'].std():.{digits}f}" in section
    assert "no evidence of agreement with the paper" in section
    assert page.cells("run_id") == [*runs["run_id"]]
    assert page.cells("top1") == [f"{top1:.2f}" for top1 in runs["top1"]]
    assert str(EXAMPLES.parent) not in page.html
    Page(str(EXAMPLES), "-o", str(file.parent / "again.html"))
    assert (file.parent / "again.html").read_bytes() == file.read_bytes()


def test_the_report_shows_outcomes_of_the_test_chosen(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    assert main(["report", str(EXAMPLES), "--equivalence", "1.5", "-o", str(file)]) == 0
    text = file.read_text()
    assert "Equal: within ± 1.5 percentage points, by two one-sided tests." in text
    chosen = re.findall(r'"kind": ?"(better|worse|equal|undecided)"', text)
    # three and thirteen gaps, in the layers of intervals and of points
    assert (chosen.count("equal"), chosen.count("undecided")) == (6, 26)


def test_the_page_asks_for_nothing(nano: tuple[Path, Page]) -> None:
    page = html.unescape(nano[1].html)
    assert "default-src 'none'" in page
    assert "unsafe-eval" not in page
    body = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)
    assert not re.search(r"<(link|img|iframe)|\bsrc=|https?://", body)


@pytest.mark.slow
def test_the_commands_make_the_same_runs(nano: tuple[Path, Page]) -> None:
    page = nano[1]
    program, command, *words = shlex.split(page.commands[0])
    assert (program, command) == ("roadmap", "run")

    def conditions(definition: dict[str, Any]) -> str:
        """Without the recipe, which has more settings today than when the example runs were recorded."""
        return json.dumps({key: value for key, value in definition.items() if key != "recipe"}, sort_keys=True)

    summaries = [json.loads(file.read_text()) for file in EXAMPLES.glob("*/summary.json")]
    recorded = {summary["run_id"]: conditions(summary["definition"]) for summary in summaries}
    assert set(recorded) == set(page.cells("run_id"))
    composed = {conditions(request.experiment().definition) for request in unique_runs(compose_path(words))}
    assert composed == set(recorded.values())
    for run in (0, 50):
        program, command, *words = shlex.split(page.data["commands"][run])
        assert (program, command) == ("roadmap", "train")
        assert conditions(compose(words).experiment().definition) == recorded[page.cells("run_id")[run]]


def test_the_command_names_a_path_of_ones_own(tmp_path: Path) -> None:
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
    page = Page(str(tmp_path / "runs"), "path=short", "--config-dir", str(conf.parent), "-o", str(tmp_path / "r.html"))
    assert page.commands == [
        f"roadmap run regime=nano data=digits path=short epochs=2 'seeds=[7]' --config-dir '{conf.parent}'"
    ]
    assert '"back"' in page.html


def test_runs_that_cannot_be_compared_are_in_sections_of_their_own(tmp_path: Path) -> None:
    kinds: list[dict[str, Any]] = [{}, {"epochs": 10}, {"image_size": 64}, {"data": "cifar10"}]
    for number, kind in enumerate(kinds):
        for step in ("kernel_7", "gelu"):
            make_run(tmp_path / "runs" / f"run-{step}-{number:010}", step, run_id=f"{step}-{number}", **kind)
    make_run(tmp_path / "runs" / "run-toggled", "gelu", run_id="toggled", variant="gelu width", design={"width": 5})
    found = sections(load_runs(tmp_path / "runs"), [], [])
    assert [(section.runs["data"].iloc[0], bool(section.steps), section.conditions) for section in found] == [
        ("digits", True, "epochs 30, image_size 32"),
        ("digits", True, "epochs 10, image_size 32"),
        ("digits", False, "epochs 30, image_size 32"),
        ("digits", True, "epochs 30, image_size 64"),
        ("cifar10", True, ""),
    ]
    assert [len(section.runs) for section in found] == [2, 2, 1, 2, 2]
    page = Page(str(tmp_path / "runs"), "-o", str(tmp_path / "r.html"))
    assert len(page.sections) == 5
    assert "Do not compare accuracies across sections" in page.header


def test_parts_share_a_recipe_that_was_run_in_one_way() -> None:
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
    # a row of an epoch that was run again
    a, b, missing = curves(pd.DataFrame([*rows, {"run_id": "a", "epoch": 300, "top1": 99.0}]), runs)
    assert missing is None
    assert 60 < len(a["epoch"]) == len(a["top1"]) <= 121
    assert [a["epoch"][0], a["epoch"][-1], a["top1"][-1]] == [1, 300, 99.0]
    assert set(a["val_loss"]) == {None}
    # the points of the shorter run are those of the longer one, and its own last epoch
    assert b["epoch"][-1] == 131
    assert set(b["epoch"][:-1]) <= set(a["epoch"])


def test_curves_have_the_evaluated_epochs() -> None:
    runs = pd.DataFrame({"run_id": ["a"], "epochs": [600.0]})
    rows = [{"run_id": "a", "epoch": e, "top1": e / 7 if e % 5 == 0 else None} for e in range(1, 601)]
    (curve,) = curves(pd.DataFrame(rows), runs)
    assert curve is not None
    assert curve["epoch"] == [*range(5, 601, 5)]
    assert None not in curve["top1"]


def test_data_cannot_end_its_element() -> None:
    value = {"title": "</title><script>", "note": "</script><!-- <script> & \u2028 \ud800 \u202e {{style}}"}
    text = inert(value)
    assert not set("<>&") & set(text)
    # half a character and a mark that turns the text's direction are all that is lost
    assert json.loads(text) == value | {"note": value["note"].replace("\ud800", "\ufffd").replace("\u202e", "\ufffd")}
    whole = render({**value, "lead": value["note"], "key_numbers": {}, "data": {"table": {"titles": []}}})
    assert "<title>&lt;/title&gt;&lt;script&gt;</title>" in whole
    assert "&lt;/script&gt;&lt;!-- &lt;script&gt;" in whole
    assert whole.encode("utf-8")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["-o", "r.html"], "no run folders; name them as in `roadmap report runs/ -o report.html`"),
        (["nowhere", "-o", "r.html"], "no folder nowhere"),
        ([str(EXAMPLES), "-o", "r.pdf"], "cannot write a report as '.pdf'; choose .html"),
        ([str(EXAMPLES), "regime=tiny", "-o", "r.html"], "none of these runs is of regime tiny; they are of nano"),
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


def test_a_page_that_cannot_be_written_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path / "runs" / "run-1111111111")
    (tmp_path / "taken.html").mkdir()
    assert main(["report", str(tmp_path / "runs"), "-o", str(tmp_path / "taken.html")]) == 2
    assert capsys.readouterr().err == f"roadmap: cannot write {tmp_path / 'taken.html'}: Is a directory\n"


def test_runs_with_sparse_records(tmp_path: Path) -> None:
    (tmp_path / "runs" / "old").mkdir(parents=True)
    (tmp_path / "runs" / "old" / "summary.json").write_text('{"run_id": "old", "status": "running"}')
    page = Page(str(tmp_path / "runs"), "-o", str(tmp_path / "r.html"))
    assert "1 run of 1 design (unknown on unknown): 1 running." in page.header
    assert page.cells("variant") == ["old"]
    assert page.data["curves"] == [None]


def test_unreadable_records_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path / "runs" / "run-1111111111")
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "summary.json").write_text('{"run_id": ')
    (tmp_path / "runs" / "run-1111111111" / ".hydra" / "overrides.yaml").write_text("{")
    page = Page(str(tmp_path / "runs"), "-o", str(tmp_path / "r.html"))
    assert "broken" in capsys.readouterr().err
    assert re.search("Skipped because they could not be read: .*broken", page.header)
    assert page.data["commands"] == [None]
    assert "Every design has one seed" in page.header
