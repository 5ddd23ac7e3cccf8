"""Weights & Biases with the real client: logging offline and to servers that work or fail, and reading projects."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytest
import wandb

import roadmap
from roadmap.__main__ import main
from roadmap.config.compose import compose
from roadmap.errors import RequestError, WorkError
from roadmap.runs.run_folder import read_metrics
from roadmap.schema.experiment import Logger
from roadmap.tracking import loggers, wandb_logger, wandb_runs
from roadmap.tracking.wandb_runs import wandb_history, wandb_summaries
from roadmap.training.run import run_experiment
from tests.processes import interrupt, train_in
from tests.wandb_server import Server

DRAIN_SECONDS = 280  # a test may take 300
OFFLINE = ["logger=wandb", "logger.mode=offline"]
DEFINITION = {"design": {"kernel": 7}, "recipe": {"optimizer": {"lr": 1.0}}, "data": {"name": "digits"}, "seed": 1}
SUMMARY: dict[str, Any] = {"run_id": "0123456789", "status": "running", "regime": "nano", "step": "gelu", "seed": 1}
SUMMARY |= {
    "variant": "gelu norm=layer design.width=24",
    "recipe": "enhanced",
    "data": "digits",
    "definition": DEFINITION,
}


def rows(first: int, last: int) -> list[dict[str, Any]]:
    return [{"epoch": epoch, "top1": 10.0 * epoch, "train_loss": 1 / epoch} for epoch in range(first, last + 1)]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The client remembers the server of a process's first run; we remember one that did not answer."""
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", os.devnull)
    # bounded, where the client's own teardown waits for a silent server
    wandb_logger.leave_client()
    wandb_logger.WandbRun.offline = False
    yield
    assert loggers.background.drain(DRAIN_SECONDS)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    served = Server()
    monkeypatch.setenv("WANDB_BASE_URL", served.url)
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    yield served
    wandb_logger.leave_client()
    served.leave()


def log(folder: Path, new: list[dict[str, Any]], mode: Literal["online", "offline"] | None, **ending: Any) -> None:
    """Log one start of the run, from its opening to its end."""
    logger = loggers.open_logger(Logger(name="wandb", mode=mode), SUMMARY, folder)
    for row in new:
        logger.log(row)
    logger.close(SUMMARY | {"status": "finished", "top1": 10.0 * len(new)} | ending)
    assert loggers.background.drain(DRAIN_SECONDS)


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return our own messages, without those of W&B's client."""
    return [record.getMessage() for record in caplog.records if record.name.startswith("roadmap.")]


def sync(server: Server, folder: Path, *options: str) -> str:
    """Run `wandb sync` as a user does, against the given server; return what it prints."""
    # the client's process writes the end of a file after finish() has returned
    wandb.teardown()
    code = "import sys; from wandb.cli.cli import cli; cli(['sync', '--yes', *sys.argv[1:]])"
    environment = os.environ | {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "x" * 40}
    command = [sys.executable, "-c", code, *options, *map(str, sorted(folder.rglob("wandb")))]
    # it writes a log to the current folder
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder, env=environment).stderr


def sent(server: Server, run_id: str = SUMMARY["run_id"]) -> list[dict[str, Any]]:
    """Return the rows that a server has, without W&B's own fields."""
    return [{k: v for k, v in row.items() if k[0] != "_"} for row in server.runs[run_id]["history"]]


def synced(folder: Path) -> Server:
    """Return a server that received a folder's offline runs by `wandb sync`."""
    server = Server()
    sync(server, folder)
    server.leave()
    return server


def test_a_resumed_offline_run_reaches_the_server_once_and_is_metrics_jsonl(tmp_path: Path, server: Server) -> None:
    request = [*OFFLINE, "epochs=3", "step=gelu", "norm=layer", f"runs_dir={tmp_path}"]
    interrupt(request, after=13)
    summary, folder = run_experiment(compose(request))
    assert loggers.background.drain(DRAIN_SECONDS)
    assert len(list(folder.path.glob("wandb/offline-run-*"))) == 2

    assert sync(server, folder.path).count("Finished syncing") == 2
    run = server.runs[summary["run_id"]]
    lines = read_metrics(folder.path / "metrics.jsonl")
    assert sent(server, summary["run_id"]) == lines
    assert len(lines) == 3
    assert (run["group"], run["job_type"], run["state"]) == ("paper", "gelu", "finished")
    assert run["tags"] == ["nano", "digits", summary["recipe"], "norm=layer"]
    config = {key: entry["value"] for key, entry in json.loads(run["config"]).items() if key != "_wandb"}
    assert not any(isinstance(value, dict) for value in config.values())
    assert config["design.norm"] == "layer"
    assert config["recipe.optimizer.lr"] == summary["definition"]["recipe"]["optimizer"]["lr"]
    for key in ("gmacs", "params_m", "top1", "top5", "best_top1", "train_seconds", "images_per_second", "status"):
        assert run["summary"][key] == summary[key], key
    assert "Finished syncing" not in sync(server, folder.path)


def test_online_a_start_logs_only_epochs_that_the_server_does_not_have(
    tmp_path: Path, server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    log(tmp_path, rows(1, 3), "online", status="failed")
    assert server.runs[SUMMARY["run_id"]]["state"] == "failed"
    # goes back an epoch, as after a kill
    log(tmp_path, rows(3, 4), "online", status="interrupted")
    log(tmp_path, rows(5, 5), "offline")
    sync(server, tmp_path)
    assert sent(server) == rows(1, 5)
    assert "monotonically" not in capfd.readouterr().err


def test_of_several_processes_the_first_alone_logs(tmp_path: Path) -> None:
    request = [*OFFLINE, "epochs=1", "device=cpu", "recipe.batch_norm_images=32", f"runs_dir={tmp_path}"]
    assert train_in(2, request) == [0, 0]
    assert len(list(tmp_path.rglob("*.wandb"))) == 1
    (run,) = synced(tmp_path).runs.values()
    assert len(run["history"]) == 1
    assert run["exit"] == 0


def test_a_server_that_does_not_answer_is_replaced_by_offline_logging(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(wandb_logger.INIT_SECONDS, "online", 1.0)
    server.mood = "hole"
    # as if the client were busy: nothing may wait for its thread
    held = threading.Event()
    loggers.background.submit(lambda: held.wait() and None)
    logger = loggers.open_logger(Logger(name="wandb"), SUMMARY, tmp_path)
    for row in rows(1, 3):
        logger.log(row)
    logger.close(SUMMARY | {"status": "finished"})
    assert not messages(caplog)
    held.set()
    assert loggers.background.drain(DRAIN_SECONDS)
    (message,) = messages(caplog)
    assert message.startswith("logging to wandb online failed")
    caplog.clear()
    assert sent(synced(tmp_path)) == rows(1, 3)
    # the next run does not ask again
    (tmp_path / "next").mkdir()
    log(tmp_path / "next", rows(1, 1), None)
    assert not messages(caplog)
    assert sent(synced(tmp_path / "next")) == rows(1, 1)


def test_a_server_that_goes_away_in_the_middle_does_not_hold_the_run(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(wandb_logger, "FINISH_SECONDS", 1.0)
    logger = loggers.open_logger(Logger(name="wandb"), SUMMARY, tmp_path)
    logger.log(rows(1, 1)[0])
    assert loggers.background.drain(DRAIN_SECONDS)
    server.leave()
    logger.log(rows(2, 2)[0])
    logger.close(SUMMARY | {"status": "finished"})
    assert loggers.background.drain(DRAIN_SECONDS)
    assert "wandb could not send all of this run; the rest is in" in caplog.text
    again = Server()
    sync(again, tmp_path, "--include-online")
    assert sent(again) == rows(1, 2)
    again.leave()


def test_a_client_that_is_killed_is_done_without_and_the_next_run_has_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("killed", "next"):
        (tmp_path / name).mkdir()
    logger = loggers.open_logger(Logger(name="wandb"), SUMMARY, tmp_path / "killed")
    assert loggers.background.drain(DRAIN_SECONDS)
    connection: Any = wandb.setup()._connection
    os.kill(connection._proc._process.pid, signal.SIGKILL)
    for row in rows(1, 2):
        logger.log(row)
    logger.close(SUMMARY | {"status": "finished"})
    log(tmp_path / "next", rows(1, 2), "offline")
    (message,) = messages(caplog)
    assert message.startswith("logging to wandb failed")
    assert sent(synced(tmp_path / "next")) == rows(1, 2)


def test_a_client_that_hangs_does_not_hold_the_programs_end(tmp_path: Path) -> None:
    code = f"""
import os, pathlib, signal, wandb
from roadmap.tracking import loggers, wandb_logger, wandb_runs
from roadmap.tracking.wandb_runs import wandb_history, wandb_summaries
from roadmap.schema.experiment import Logger
summary = {SUMMARY!r}
loggers.END_SECONDS = loggers.NOTICE_SECONDS = wandb_logger.LEAVE_SECONDS = 1
logger = loggers.open_logger(Logger(name="wandb", mode="offline"), summary, pathlib.Path({str(tmp_path)!r}))
assert loggers.background.drain(280)
os.kill(wandb.setup()._connection._proc._process.pid, signal.SIGSTOP)
logger.close(summary | {{"status": "finished"}})
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0
    assert "wandb has not received everything" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_without_the_package_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(RequestError, match=r"pip install 'convnext-roadmap\[wandb\]'"):
        run_experiment(compose([*OFFLINE, "epochs=1", f"runs_dir={tmp_path}"]))


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
