"""`roadmap doctor --gpu` as a user types it."""

import json
from pathlib import Path

import pytest

from roadmap.__main__ import main
from roadmap.doctor import proof, runs, speed
from roadmap.doctor.checks import Check, Verdict

GOOD, BAD = (
    Check("good", lambda subject: Verdict(True, "equal")),
    Check("bad", lambda subject: Verdict(False, "apart", {"error": float("inf")})),
)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Checks that take no time."""
    monkeypatch.setattr(proof, "CHECKS", (GOOD,))
    monkeypatch.setattr(runs, "CHECKS", ())
    monkeypatch.setattr(speed, "checks", lambda subject: [])
    return monkeypatch


def test_the_table_and_the_file_beside_it(
    quick: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--gpu", "device=cpu", f"runs_dir={tmp_path / 'runs'}"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[2].split() == ["good", "pass", "0.0", "equal"]
    assert err.startswith("[1/1] good: pass, equal (0.0 s)\n")
    kept = json.loads((tmp_path / "runs" / "doctor-cpu.json").read_text())
    assert kept["device"] == "cpu"
    assert [check["outcome"] for check in kept["checks"]] == ["pass"]


def test_a_failed_check_is_named_and_kept(
    quick: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick.setattr(proof, "CHECKS", (BAD, GOOD))
    file = tmp_path / "here" / "proof.json"
    assert main(["doctor", "--gpu", "--json", "device=cpu", "--output", str(file)]) == 1
    out, err = capsys.readouterr()
    assert err.endswith("roadmap: 1 of 2 checks failed: bad\n")
    assert json.loads(out) == json.loads(file.read_text())["checks"]
    assert '"error": "inf"' in out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "no GPU on this machine; `roadmap doctor --gpu device=cpu` tries the same checks on the CPU"),
        (["device=cuda"], "device=cuda cannot be used on this machine; choose auto or cpu"),
        (["device=cpu", "runs_dir=/dev/null/x"], "cannot write to /dev/null/x: Not a directory; choose another"),
        (["device=cpu", "--output", "/dev/null/x.json"], "cannot write to /dev/null: "),
    ],
)
def test_wrong_requests_are_told_before_the_work(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["doctor", "--gpu", *words]) == 2
    assert capsys.readouterr().err.startswith(f"roadmap: {sentence}")


@pytest.mark.long
def test_the_whole_proof_on_the_cpu(tmp_path: Path) -> None:
    """Four to eight minutes."""
    assert main(["doctor", "--gpu", "device=cpu", "--output", str(tmp_path / "proof.json")]) == 0
    checks = json.loads((tmp_path / "proof.json").read_text())["checks"]
    assert len(checks) == 22
    assert {check["outcome"] for check in checks} == {"pass", "measured"}
