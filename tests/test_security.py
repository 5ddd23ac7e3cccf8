"""Third-party files are never executed, resolved or written outside their folder (docs/security.md)."""

import fcntl
import html
import json
import math
import os
import pickle
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from roadmap.__main__ import main
from roadmap.config import trust
from roadmap.config.compose import compose
from roadmap.data.robustness_sets import _array
from roadmap.errors import RequestError, WorkError
from roadmap.evaluation.load_trained import load_run
from roadmap.networks.models import library_weights, make_model
from roadmap.runs.evaluations import read_predictions
from roadmap.runs.sweep_plan import folder_of, sweep_name
from roadmap.schema.design import BaselineModel
from roadmap.training.checkpoint import Checkpoints, read_weights_file
from roadmap.untrusted_io import parse_json, parse_yaml
from tests.records import make_run, make_sweep

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file that payloads create, in the current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "ran"


def refused(words: list[str], capsys: Capture) -> str:
    """Return the one-line error of a refused request."""
    capsys.readouterr()
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("roadmap: ")
    return line


SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
CALL = {"_target_": "io.open", "file": "ran", "mode": "w"}  # Hydra itself does not refuse it
MADE = {"()": "io.open", "file": "ran", "mode": "w"}


@pytest.fixture
def conf(ran: Path) -> str:
    """Return a config folder in which each file names something to call."""
    files: dict[str, Any] = {
        "hydra/launcher/evil": CALL,
        "hydra/sweeper/evil": {"_target_": SWEEPER, "params": CALL},
        "experiment/callback": {"hydra": {"callbacks": {"x": CALL}}},
        "engine/formatter": {"hydra": {"job_logging": {"formatters": {"x": MADE}}}},
    }
    for name, values in files.items():
        file = ran.parent / "conf" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        head = "" if name.startswith("hydra") else "# @package _global_\n"
        file.write_text(head + yaml.safe_dump(values))
    return str(ran.parent / "conf")


STUDY = ["study=factorial", "study.axes={norm:[batch]}"]


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (["train", "-m", "hydra/launcher=evil"], "hydra.launcher._target_=io.open"),
        (["train", "-m", "hydra/sweeper=evil"], "hydra.sweeper.params._target_=io.open"),
        (["train", "experiment=callback"], "hydra.callbacks.x._target_=io.open"),
        (["train", "engine=formatter", "--cfg", "job"], "hydra.job_logging cannot be changed"),
        (["train", "-m", "engine=formatter,null"], "hydra.job_logging cannot be changed"),
        (["train", "-m", "hydra.launcher._target_=io.open"], "hydra.launcher._target_=io.open"),
        (["train", "hydra.searchpath=[file:///tmp]"], "'hydra.searchpath=[file:///tmp]' adds folders of configs"),
        (["sweep", *STUDY, "engine=formatter"], "hydra.job_logging cannot be changed"),
        (["sweep", *STUDY, "hydra/launcher=evil"], "hydra.launcher._target_=io.open"),
    ],
)
def test_no_config_can_call_arbitrary_code(words: list[str], place: str, conf: str, ran: Path, capsys: Capture) -> None:
    assert refused([*words, "--config-dir", conf], capsys).startswith(f"roadmap: {place}")
    assert not ran.exists()
    assert not list(ran.parent.glob("runs/*/summary.json"))


def test_without_the_check_the_payload_runs(conf: str, ran: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "check_trusted", lambda config: None)
    main(["train", "engine=formatter", "epochs=0", "--config-dir", conf])
    assert ran.exists()


def test_yaml_files_construct_no_objects(conf: str, ran: Path, capsys: Capture) -> None:
    Path(conf, "path").mkdir()
    Path(conf, "path", "evil.yaml").write_text(f"name: !!python/object/apply:os.system ['touch {ran}']\n")
    for command in ("train", "steps"):
        assert "path/evil.yaml" in refused([command, "path=evil", "--config-dir", conf], capsys)
    assert not ran.exists()


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_model_names_cannot_load_from_elsewhere(library: Any, ran: Path) -> None:
    pytest.importorskip(library)
    recipe = compose(["step=gelu"]).recipe.network
    for name in ("hf-hub:evil/model", "hf_hub:evil/model", "local-dir:conf", "./conf", "../conf"):
        with pytest.raises(RequestError, match=f"{library} has no classifier '{name}'"):
            make_model(BaselineModel(library=library, name=name, options={}), recipe, 10, 32)


@pytest.mark.parametrize("option", BaselineModel.elsewhere)
def test_model_options_cannot_load_weights(option: str) -> None:
    with pytest.raises(RequestError, match=rf"^model\.options\.{option} would load weights without our checks"):
        BaselineModel(library="timm", name="resnet18", options={option: "evil.pt"})


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, ran: Path):
        self.ran = ran

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.ran}",)


@pytest.fixture(params=["torch.save", "pickle"])
def weights(request: pytest.FixtureRequest, ran: Path) -> Path:
    file = ran.parent / "weights.pt"
    content = {"network": {"stem.weight": torch.zeros(1)}, "ema": None, "run_id": "0123456789", "x": Payload(ran)}
    if request.param == "pickle":
        file.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, file)
    return file


def test_the_payload_runs_when_unpickled(ran: Path) -> None:
    pickle.loads(pickle.dumps(Payload(ran)))
    assert ran.exists()


def test_pretrained_weights_are_never_executed(weights: Path, ran: Path) -> None:
    with pytest.raises(RequestError, match="is not a weights file, or is damaged"):
        read_weights_file(weights)
    assert not ran.exists()


def test_checkpoints_are_never_executed(weights: Path, ran: Path) -> None:
    run = ran.parent / "runs" / "run-0123456789"
    make_run(run)
    values = {**compose(["step=gelu"]).values}
    (run / ".hydra" / "config.yaml").write_text(yaml.safe_dump(values))
    (run / "checkpoints").mkdir()
    weights.rename(run / "checkpoints" / "last.pt")
    with pytest.raises(RequestError, match="is not a weights file, or is damaged"):
        load_run(run)
    with pytest.raises(WorkError, match="cannot read checkpoint"):
        Checkpoints(run / "checkpoints", "0123456789").load(torch.device("cpu"))
    with pytest.raises(WorkError, match="cannot read checkpoint"):
        Checkpoints(run / "checkpoints", "0123456789").load(torch.device("cpu"))
    assert not ran.exists()


def test_cached_library_weights_are_never_executed(weights: Path, ran: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(ran.parent))
    (ran.parent / "hub" / "checkpoints").mkdir(parents=True)
    weights.rename(ran.parent / "hub" / "checkpoints" / "resnet18-f37072fd.pth")
    with pytest.raises(RequestError, match="is damaged or does not hold plain weights"):
        library_weights(BaselineModel(library="torchvision", name="resnet18", options={}))
    assert not ran.exists()


def test_numpy_files_are_never_executed(ran: Path) -> None:
    array = np.array([Payload(ran)], dtype=object)
    np.save(ran.parent / "fog.npy", array, allow_pickle=True)
    np.savez(ran.parent / "predictions.npz", labels=array, allow_pickle=True)
    with pytest.raises(RequestError, match="not a complete"):
        _array(ran.parent / "fog.npy", (32, 32, 3), None)
    with pytest.raises(RequestError):
        read_predictions(ran.parent / "predictions.npz")
    assert not ran.exists()


CLIMBING = "../../../up"


def test_run_folders_stay_below_runs_dir(ran: Path, capsys: Capture) -> None:
    (ran.parent / "conf" / "path").mkdir(parents=True)
    (ran.parent / "conf" / "path" / "up.yaml").write_text(f"name: {CLIMBING}\nsteps: [step=gelu]\n")
    words = ["path=up", f"regime.name={CLIMBING}", f"data.name={CLIMBING}", "epochs=1", "seeds=[0]", "device=cpu"]
    runs_dir = ran.parent / "deep" / "er" / "runs"
    main(["run", *words, f"runs_dir={runs_dir}", "--config-dir", "conf"])
    assert (capsys.readouterr().err + "").count("Traceback") == 0
    assert {path.name for path in ran.parent.iterdir()} == {"conf", "deep"}
    assert [path.name for path in (ran.parent / "deep").iterdir()] == ["er"]
    assert [path.name for path in (ran.parent / "deep" / "er").iterdir()] == ["runs"]
    assert list(runs_dir.glob("*/summary.json"))


def test_sweep_folders_stay_below_runs_dir(tmp_path: Path) -> None:
    for name in (CLIMBING, "/absolute", "..", "a\0b"):
        folder = folder_of(tmp_path / "runs", sweep_name("factorial", name, name, ["0"]))
        assert folder.resolve().parent == tmp_path / "runs" / "sweeps"


def test_a_plan_cannot_show_files_of_other_folders(ran: Path, capsys: Capture) -> None:
    secret = ran.parent / "secret"
    secret.write_text("s3cret")
    record = make_run(ran.parent / "runs" / "run-0000000001")
    make_sweep(ran.parent / "runs", "made-nano-digits-000000", [record | {"run_id": "../../secret"}])
    with open(secret) as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert main(["status", "runs", "--list", "running,missing"]) == 0
    assert "s3cret" not in "".join(capsys.readouterr())


def test_records_cannot_read_environment_variables(ran: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("SECRET", "s3cret")
    places = []
    for number, step in enumerate(("gelu", "kernel_7")):
        run = ran.parent / "runs" / f"run-000000000{number}"
        make_run(run, step)
        (run / ".hydra" / "config.yaml").write_text(yaml.safe_dump({"note": f"{number} ${{oc.env:SECRET}}"}))
        places.append(str(run))
    assert main(["diff", *places]) == 0
    told = "".join(capsys.readouterr())
    assert "${oc.env:SECRET}" in told
    assert "s3cret" not in told


ODD = "gelu\x1b]0;t\x07\x9b31m\u202e\r\u2028x"


def test_control_characters_in_names_are_escaped(ran: Path, capsys: Capture) -> None:
    records = [
        make_run(ran.parent / "runs" / f"run-{number:010}", seed=number, variant=ODD, device=ODD, status=status, **more)
        for number, (status, more) in enumerate(
            [("finished", {}), ("finished", {}), ("failed", {"error": ODD, "top1": None})]
        )
    ]
    make_sweep(ran.parent / "runs", "made-nano-digits-000000", records)
    (ran.parent / "runs" / ODD.replace("/", "")).mkdir()
    (ran.parent / "runs" / ODD / "summary.json").write_text("{")
    one, other = (f"runs/run-000000000{number}" for number in (0, 1))
    for words in (
        ["compare", "runs"],
        ["compare", "runs", "--by", "variant"],
        ["status", "runs"],
        ["diff", one, other],
    ):
        assert main(words) == (words[0] == "status")  # which reports the unreadable record as an error
    main(["status", "runs", "--list", "failed"])
    main(["compare", ODD])
    told = "".join(capsys.readouterr())
    assert "\\x1b]0;t\\x07\\x9b31m\\u202e" in told
    assert not [mark for mark in told if not mark.isprintable() and mark != "\n"]


HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>\u2028"


def test_reports_escape_html_and_shell_characters(ran: Path, capsys: Capture) -> None:
    run = ran.parent / "runs" / "run-0000000000"
    make_run(run, variant=HOSTILE, error=HOSTILE, device=HOSTILE)
    words = ["step=gelu", f"data.root='; touch {ran}; echo '", f"path.name=$(touch {ran})`touch {ran}`\n"]
    (run / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump([*words, HOSTILE]))
    other = ran.parent / "runs" / "run-0000000001"
    make_run(other, seed=1, variant=HOSTILE)
    (other / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(words))
    assert main(["report", "runs", "-o", "r.html"]) == 0
    page = Path("r.html").read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page)
    assert found
    shown = json.loads(found[1])
    assert html.unescape(HOSTILE) in json.dumps(shown, ensure_ascii=False).replace('\\"', '"')
    assert "<img src=x" not in page
    assert "<script>alert" not in page
    first, second = shown["commands"]
    # a word that is not an override, such as an option, makes no command
    assert first is None
    assert shlex.split(second) == ["roadmap", "train", *words]
    shown_commands = map(html.unescape, re.findall(r'<pre class="command">(.*?)</pre>', page, re.DOTALL))
    for command in [second, *shown_commands]:
        subprocess.run(["sh", "-c", command.replace("roadmap", "echo", 1)], check=True, capture_output=True)
    assert not ran.exists()


def test_tables_escape_formulas_and_markup(ran: Path, capsys: Capture) -> None:
    names = [
        "=cmd|' /C calc'!A0",
        "+SUM(1)",
        "@x",
        "-2+3+cmd",
        r"\input{/etc/passwd}$x$ & % #",
        "a|b <b>[x](javascript:1)`",
    ]
    for number, name in enumerate(names):
        make_run(ran.parent / "runs" / f"run-{number:010}", variant=name, lr=number / 10)
    for kind in ("csv", "markdown", "latex"):
        assert main(["compare", "runs", "--force", f"--{kind}", f"table.{kind}"]) == 0
    table = pytest.importorskip("pandas").read_csv("table.csv")
    assert set(table["variant"]) == {f"'{name}" for name in names[:4]} | set(names[4:])
    assert (table["top1"] > 0).all()
    latex = Path("table.latex").read_text()
    assert "\\textbackslash{}input\\{/etc/passwd\\}\\$x\\$ \\& \\% \\#" in latex
    rows = Path("table.markdown").read_text().splitlines()
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1
    assert "a\\|b \\<b>\\[x](javascript:1)\\`" in "\n".join(rows)


def test_too_deep_nesting_is_refused() -> None:
    for parse in (parse_json, parse_yaml):
        assert parse("[[[1]]]") == [[[1]]]  # type: ignore[operator]
        with pytest.raises(ValueError, match=r"too deep|maximum nesting depth"):
            parse("[" * 100_000 + "]" * 100_000)  # type: ignore[operator]


def test_yaml_aliases_and_tags_are_refused() -> None:
    assert parse_yaml("a: [1, x]\nb: null\n") == {"a": [1, "x"], "b": None}
    for text in ("a: &a [*a]\n", "a: &a [1]\nb: *a\n", "a: !!python/object/apply:os.getcwd []\n", "a: [\n"):
        with pytest.raises(ValueError, match=r"^[^\n]+$"):
            parse_yaml(text)


def test_json_accepts_nan_but_no_infinity_or_lone_surrogates() -> None:
    assert math.isnan(parse_json('{"loss": NaN}')["loss"])
    for text in ("[Infinity]", "[-Infinity]", "[1e999]", '["\\ud800"]', b'["\xff"]', "", "{"):
        with pytest.raises(ValueError, match=r"^[^\n]+$"):
            parse_json(text)
