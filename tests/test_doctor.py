"""`roadmap doctor`: what is found, and how to fix what is missing."""

import json
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch

from roadmap.__main__ import main
from roadmap.config.compose import compose
from roadmap.doctor import command as doctor
from roadmap.doctor.command import Finding
from roadmap.runtime import device

Package = namedtuple("Package", "name")


def free_space(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    usage = namedtuple("Usage", "total used free")(0, 0, free)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)


def test_table_and_json_list_the_findings(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["doctor", "device=cpu", f"runs_dir={tmp_path / 'runs'}"]) == 0
    table = capsys.readouterr().out
    for name in ("CPU", "GPU", "compile", "packages", "extras", "runs_dir"):
        assert f"\n{name} " in table, name
    assert "358 training images, 1,200 validation images" in table
    assert not (tmp_path / "runs").exists(), "nothing is written"
    assert main(["doctor", "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)
    assert all(set(finding) == {"name", "ok", "found", "fix"} for finding in findings)
    assert all(finding["name"] in table for finding in findings)


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["device=foo"], 2, "unknown device 'foo' (choose auto, cpu, cuda, cuda:1 or mps)"),
        (["data=imagefolder"], 2, "data.root is not set (add data.root=…)"),
        (["data=imagefolder", "data.root=/nowhere"], 1, "missing on this machine: data imagefolder"),
        (["runs_dir=/dev/null/runs"], 1, "missing on this machine: runs_dir"),
    ],
)
def test_errors(words: list[str], status: int, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", *words]) == status
    assert capsys.readouterr().err == f"roadmap: {sentence}\n"


@pytest.mark.parametrize(("name", "ok"), [("auto", None), ("cpu", None), ("cuda", False)])
def test_a_missing_gpu_is_an_error_only_if_requested(
    name: str, ok: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda program: None)
    (finding,) = doctor.gpus(name)
    assert finding.ok is ok
    assert "driver" in finding.fix


def test_gpus_are_named_with_memory_and_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = namedtuple("Properties", "name major minor")("NVIDIA Test", 8, 6)
    for name, value in {
        "is_available": lambda: True,
        "device_count": lambda: 2,
        "get_device_properties": lambda index: properties,
        "mem_get_info": lambda index: (20 * 2**30, 24 * 2**30),
        "get_arch_list": lambda: ["sm_80", "sm_90"],
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    one, _ = doctor.gpus("cuda")
    assert one == Finding("GPU 0", True, "NVIDIA Test, 20 of 24 GiB free, compute capability 8.6")
    assert doctor.gpus("cuda:2")[-1].fix == "choose device=cuda:1"
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_90"])
    assert doctor.gpus("auto")[0].ok is False
    monkeypatch.setattr(device, "find_spec", lambda name: None)
    assert "triton" in doctor.compiling(needed=True).fix


def test_missing_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "distributions", lambda: [Package("timm"), Package("hydra_joblib_launcher")])
    assert doctor.extras().found == "timm, joblib"
    assert "[wandb,search,parquet,slurm,ray]" in doctor.extras().fix
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    assert doctor.wandb_key(needed=True).ok is False


def test_disk_space_is_counted_in_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """SGD keeps one number per weight, AdamW two, EMA one more; three checkpoints."""

    def disk(*overrides: str) -> Finding:
        composed = compose(["step=separate_downsampling", f"runs_dir={tmp_path}", *overrides])
        return doctor.disk(composed, composed.experiment())

    free_space(monkeypatch, 2**30)
    found = [disk(*more).found for more in (["recipe=original"], [], ["recipe.ema_decay=0.9"])]
    assert [text.split("(")[1] for text in found] == ["15 MiB each)", "23 MiB each)", "31 MiB each)"]
    free_space(monkeypatch, 2**20)
    assert disk().ok is False


def test_data_is_opened_with_the_readers_of_a_run(photo_folder: Path, tmp_path: Path) -> None:
    def data(*overrides: str) -> Finding:
        return doctor.data(compose(overrides).experiment())

    found = data("data=imagefolder", f"data.root={photo_folder}").found
    assert found == "24 training images, 10 validation images, 2 classes"
    assert data("data=imagenet", f"data.root={tmp_path}").ok is False
    assert data("data=cifar10", f"data.root={tmp_path}").ok is None
    assert not list(tmp_path.iterdir()), "nothing is downloaded"
    shutil.copytree(photo_folder, tmp_path / "images")
    (tmp_path / "images" / "train" / "china" / "0.jpg").write_bytes(b"no image")
    assert data("data=imagefolder", f"data.root={tmp_path / 'images'}").fix.startswith("replace or remove it: ")


def test_where_the_wandb_key_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert doctor.wandb_key(needed=True).ok is None
    monkeypatch.setenv("WANDB_API_KEY", "made-up")
    assert doctor.wandb_key(needed=True) == Finding("W&B key", True, "found for api.wandb.ai")
