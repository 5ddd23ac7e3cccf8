"""Weights & Biases beside the run's folder, with the real client: offline, and against a server that goes away."""

import http.server
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb

from roadmap import loggers
from roadmap.config import compose
from roadmap.execute import execute

REQUEST = ["epochs=1", "logger=wandb"]
OFFLINE = [*REQUEST, "logger.mode=offline"]


class Server(http.server.BaseHTTPRequestHandler):
    """As much of W&B's server as its client needs to open a run."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        project = {"id": "p", "name": "roadmap", "entity": {"id": "e", "name": "us"}}
        run = {"id": "r", "name": "r", "displayName": "r", "config": "{}", "project": project, "historyLineCount": 0}
        run |= {"description": "", "sweepName": None}
        viewer = {"id": "v", "username": "us", "entity": "us", "flags": "{}", "teams": {"edges": []}, "email": ""}
        info = {"cliVersionInfo": {}, "features": [], "latestLocalVersionInfo": None}
        files = {"runID": "r", "uploadHeaders": [], "files": []}
        bucket = {"bucket": run, "inserted": True}
        data = {"viewer": viewer, "serverInfo": info, "upsertBucket": bucket, "model": {"bucket": None}}
        answer = {"data": data | {"createRunFiles": files}, "limits": {}, "exitcode": None}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[http.server.ThreadingHTTPServer]:
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{served.server_port}")
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    yield served
    served.shutdown()
    served.server_close()


@pytest.fixture(autouse=True)
def fresh_client() -> None:
    """The client remembers the server of the first run in a process."""
    wandb.teardown()


def test_an_offline_run_under_our_run_id(tmp_path: Path) -> None:
    summary, folder = execute(compose([*OFFLINE, f"runs_dir={tmp_path}"]))
    assert summary["status"] == "finished"
    (offline,) = (folder.path / "wandb").glob("offline-run-*")
    assert offline.name.endswith(summary["run_id"])
    assert list(offline.glob("*.wandb"))


def test_a_server_that_never_answers_costs_the_start_and_the_run_is_logged_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setattr(loggers, "INIT_SECONDS", 2.0)
    summary, folder = execute(compose([*REQUEST, f"runs_dir={tmp_path}"]))
    assert summary["status"] == "finished"
    assert "wandb does not answer" in capsys.readouterr().err
    (offline,) = (folder.path / "wandb").glob("offline-run-*")
    assert offline.name.endswith(summary["run_id"])


def test_a_server_that_goes_away_in_the_middle_does_not_hold_the_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    server: http.server.ThreadingHTTPServer,
) -> None:
    monkeypatch.setattr(loggers, "FINISH_SECONDS", 2.0)
    opened = loggers.WandbLogger._open

    def open_then_lose(self: loggers.WandbLogger, mode: str) -> object:
        run = opened(self, mode)
        server.shutdown()
        server.server_close()
        return run

    monkeypatch.setattr(loggers.WandbLogger, "_open", open_then_lose)
    summary, folder = execute(compose([*REQUEST, f"runs_dir={tmp_path}"]))
    assert summary["status"] == "finished"
    assert "wandb could not send all of this run; `wandb sync` sends the rest" in capsys.readouterr().err
    assert list((folder.path / "wandb").glob("run-*/*.wandb"))


def test_a_client_that_does_not_start_does_not_stop_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> None:
        raise wandb.errors.CommError("no route to host")

    monkeypatch.setattr(wandb, "init", fail)
    summary, _ = execute(compose([*OFFLINE, f"runs_dir={tmp_path}"]))
    assert summary["status"] == "finished"
    assert "wandb does not start (no route to host); going on with the run's own files" in capsys.readouterr().err


def test_a_client_that_breaks_in_the_middle_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(self: object, row: dict, **_: object) -> None:
        raise OSError("broken pipe")

    monkeypatch.setattr(wandb.Run, "log", fail)
    summary, _ = execute(compose([*OFFLINE, f"runs_dir={tmp_path}"]))
    assert summary["status"] == "finished"
    assert capsys.readouterr().err.count("logging failed (broken pipe)") == 1


def test_without_the_package_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(loggers.RequestError, match=r"pip install 'roadmap\[wandb\]'"):
        execute(compose([*OFFLINE, f"runs_dir={tmp_path}"]))


def test_where_metrics_go_is_not_part_of_the_runs_identity() -> None:
    assert compose(OFFLINE).experiment().run_id == compose(["epochs=1"]).experiment().run_id
