"""Projects read by W&B's own client from a server that stands in for theirs: our runs, and others'."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import roadmap
from roadmap.__main__ import main
from roadmap.config.compose import compose
from roadmap.errors import RequestError, WorkError
from roadmap.tracking import loggers, wandb_runs
from roadmap.tracking.wandb_logger import WandbRun, leave_client
from roadmap.tracking.wandb_runs import wandb_history, wandb_summaries
from roadmap.training.run import run_experiment
from tests.wandb_server import Server


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    served = Server()
    monkeypatch.setenv("NETRC", os.devnull)
    monkeypatch.setenv("WANDB_BASE_URL", served.url)
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    leave_client()
    WandbRun.offline = False
    yield served
    # bounded, where the client's own waits for a silent server
    leave_client()
    served.leave()


def add(server: Server, name: str, config: dict, rows: list[dict], state: str = "finished", **summary: float) -> None:
    """A run of somebody else's."""
    run = server.run(name)
    run["config"] = json.dumps({key: {"value": value} for key, value in config.items()})
    run["history"], run["summary"], run["state"], run["display"] = rows, summary, state, f"{name}'s name"


def test_a_project_is_read_as_run_folders_are(
    tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in ("kernel_7", "gelu"):
        run_experiment(compose([f"step={step}", "logger=wandb", "epochs=1", f"runs_dir={tmp_path}"]))
    assert loggers.background.drain(280)
    address = "wandb://us/roadmap"
    here, there = (roadmap.load_runs(place).set_index("run_id") for place in (tmp_path, address))
    there = there[here.columns].loc[here.index]
    pd.testing.assert_frame_equal(here.drop(columns="path"), there.drop(columns="path"), check_dtype=False)
    # the type too: 1.0 is not 1 to a hash of a definition
    assert list(map(json.dumps, here["definition"])) == list(map(json.dumps, there["definition"]))
    assert list(there["path"]) == [f"{address}/{run_id}" for run_id in here.index]
    here, there = (
        roadmap.load_history(place).sort_values(["run_id", "epoch"], ignore_index=True) for place in (tmp_path, address)
    )
    pd.testing.assert_frame_equal(here, there[here.columns], check_dtype=False)
    tables = []
    for place in (str(tmp_path), address):
        assert main(["compare", place, "--csv"]) == 0
        tables.append(capsys.readouterr().out)
    assert tables[0] == tables[1]
    # of a run that is in both places, one counts
    assert len(roadmap.load_runs([tmp_path, address])) == 2


def test_runs_of_others_have_what_is_there(server: Server) -> None:
    rows = [{"_step": step, "trainer/epoch": step // 2, "loss": 1 / (step + 1)} for step in range(6)]
    for epoch, row in enumerate(rows[1::2]):
        row["val/acc"] = 0.5 + epoch / 10
    add(server, "theirs", {"seed": 3, "model": {"width": 64}, "_wandb": {}}, rows, **{"val/acc": 0.7})
    add(server, "dead", {"lr": 0.1}, [], state="crashed", **{"val/acc": 0.9})
    url = "wandb://us/roadmap?top1=val/acc&unit=fraction&epoch=trainer/epoch"
    dead, theirs = wandb_summaries(url)
    assert (theirs["run_id"], theirs["variant"], theirs["status"]) == ("theirs", "theirs's name", "finished")
    assert theirs["top1"] == pytest.approx(70.0)
    assert theirs["definition"] == {"seed": 3, "model.width": 64}
    assert theirs["seed"] == 3
    assert theirs["gmacs"] is None
    assert (dead["status"], dead["top1"]) == ("interrupted", None)
    assert dead["definition"] == {"lr": 0.1, "run_id": "dead"}
    read = wandb_history(theirs["path"])
    assert [row["epoch"] for row in read] == [0, 1, 2]
    assert [row["top1"] for row in read] == pytest.approx([50, 60, 70])
    assert [row["loss"] for row in read] == [1 / 2, 1 / 4, 1 / 6]
    assert next(iter(wandb_summaries("wandb://us/roadmap/theirs")))["top1"] is None


def test_all_rows_and_all_runs_of_many(server: Server) -> None:
    for number in range(120):
        add(server, f"run{number:03}", {}, [])
    add(server, "long", {}, [{"_step": step, "loss": step} for step in range(2500)])
    assert len({run["run_id"] for run in wandb_summaries("wandb://us/roadmap")}) == 121
    assert [row["loss"] for row in wandb_history("wandb://us/roadmap/long")] == list(range(2500))


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("wandb://us", "write wandb://ENTITY/PROJECT"),
        ("wandb://us/other", "wandb://us/other does not exist at 127.0.0.1"),
        ("wandb://us/roadmap/none", "wandb://us/roadmap/none does not exist at 127.0.0.1"),
        ("wandb://us/roadmap?acc=top1", "invalid ?acc=top1 (choose top1=KEY"),
        ("wandb://us/roadmap?unit=permille", "invalid ?unit=permille"),
    ],
)
def test_a_wrong_address_is_one_sentence(url: str, sentence: str, server: Server) -> None:
    with pytest.raises(RequestError, match=re.escape(sentence)):
        list(wandb_summaries(url))


def test_no_key_and_no_server_are_one_sentence_each(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wandb_runs, "TIMEOUT", 1)
    server.mood = "ill"
    with pytest.raises(WorkError, match=r"cannot read wandb://us/roadmap from 127\.0\.0\.1: [^\n]+$"):
        list(wandb_summaries("wandb://us/roadmap"))
    monkeypatch.delenv("WANDB_API_KEY")
    with pytest.raises(RequestError, match="reading wandb://us/roadmap needs a W&B key; run `wandb login`"):
        list(wandb_summaries("wandb://us/roadmap"))
