"""`roadmap doctor`: what is there, and the sentence for what is not."""

import json
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
import torch

from roadmap.__main__ import main
from roadmap.config.compose import compose
from roadmap.doctor import machine, surroundings
from roadmap.doctor.findings import Finding, render
from roadmap.errors import RequestError

Usage = namedtuple("Usage", "total used free")


def test_the_table_of_this_machine(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["doctor", "device=cpu", f"runs_dir={tmp_path / 'runs'}"]) == 0
    table = capsys.readouterr().out
    for name in ("Python", "torch", "CPU", "GPU", "precision bf16", "processes", "compile", "runs_dir", "open files"):
        assert f"\n{name} " in table, name
    assert "358 images to train on, 1,200 to evaluate on" in table
    assert torch.__version__.partition("+")[0] in table
    assert not (tmp_path / "runs").exists(), "looking leaves nothing behind"


def test_json_has_every_finding_with_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)
    assert all(set(finding) == {"name", "ok", "found", "mend"} for finding in findings)
    assert all(finding["mend"] for finding in findings if finding["ok"] is False)
    names = [finding["name"] for finding in findings]
    assert len(names) == len(set(names))


def test_render_has_the_mending_sentences_below() -> None:
    text = render([Finding("a", True, "there"), Finding("b", False, "none", "buy one"), Finding("c", None, "none")])
    assert text.splitlines()[2:] == ["a     yes  there", "b     NO   none", "c     -    none", "", "b: buy one"]


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["device=foo"], 2, "unknown device 'foo'; choose auto, cpu, cuda, cuda:1 or mps"),
        (["data=imagefolder"], 2, "data.root is not set; add data.root=…"),
        (["devise=cpu"], 2, "unknown setting 'devise'; did you mean device?"),
        (["cpu"], 2, "cannot read 'cpu'; write group=option or setting=value"),
        (["--output", "x.json"], 2, "--output is where --gpu writes its results; add --gpu or leave it out"),
        (["data=imagefolder", "data.root=/nowhere"], 1, "this machine lacks what was asked for: data imagefolder"),
        (["runs_dir=/dev/null/runs"], 1, "this machine lacks what was asked for: runs_dir"),
    ],
)
def test_one_sentence_for_what_cannot_be(
    words: list[str], status: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", *words]) == status
    assert capsys.readouterr().err == f"roadmap: {sentence}\n"


@pytest.mark.parametrize(("name", "ok"), [("auto", None), ("cpu", None), ("cuda", False)])
def test_no_gpu_is_a_fault_only_where_one_is_wanted(
    name: str, ok: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda program: None)
    (finding,) = machine.gpus(name)
    assert finding.ok is ok
    assert "no NVIDIA driver" in finding.mend


def test_a_torch_without_cuda_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "built without CUDA" in machine.gpus("auto")[0].mend


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = namedtuple("Properties", "name major minor")("NVIDIA Test", 8, 6)
    for name, value in {
        "is_available": lambda: True,
        "device_count": lambda: 2,
        "get_device_properties": lambda index: properties,
        "mem_get_info": lambda index: (20 * 2**30, 24 * 2**30),
        "get_arch_list": lambda: ["sm_80", "sm_90"],
        "is_bf16_supported": lambda including_emulation: True,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)


@pytest.mark.usefixtures("two_gpus")
def test_gpus_are_named_with_memory_and_capability() -> None:
    one, _ = machine.gpus("cuda")
    assert one == Finding("GPU 0", True, "NVIDIA Test, 20 of 24 GiB free, compute capability 8.6")
    assert machine.gpus("cuda:2")[-1] == Finding("device cuda:2", False, "not here", "choose device=cuda:1")
    found = {finding.name: finding for finding in machine.precisions()}
    assert all(finding.ok for finding in found.values())


@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_that_this_torch_has_no_code_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_90"])
    assert machine.gpus("auto")[0].ok is False
    assert "no code for capability 8.6" in machine.gpus("auto")[0].mend


@pytest.mark.usefixtures("two_gpus")
def test_what_several_gpus_and_compile_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: False)
    assert "NCCL" in machine.backends().mend
    monkeypatch.setattr(machine, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda program: None)
    assert machine.compiler(wanted=False).ok is None
    assert machine.compiler(wanted=True).ok is False
    assert machine.compiler(wanted=True).mend == (
        "compile=true wants a C++ compiler (apt install g++) and triton (pip install triton)"
    )


def test_more_threads_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "usable_cores", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    assert machine.processor().mend == "64 threads share 2 cores: set OMP_NUM_THREADS=2 or less"


def test_missing_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = surroundings._version
    there = {"timm": None, "tqdm": None, "hydra-core": "1.4.0"}
    monkeypatch.setattr(surroundings, "_version", lambda name: there[name] if name in there else plain(name))
    missing = {finding.name: finding for finding in surroundings.versions() if not finding.ok}
    assert set(missing) == {"tqdm", "hydra-core"}
    assert missing["tqdm"].mend.startswith("pip install 'tqdm>=")
    assert missing["hydra-core"] == Finding("hydra-core", False, "1.4.0", "pip install 'hydra-core<1.4,>=1.3.8'")
    assert surroundings.extra("timm").ok is None
    assert surroundings.extra("timm").mend.endswith("pip install timm")


def disk(*overrides: str) -> Finding:
    composed = compose(overrides)
    return surroundings.disk(composed, composed.experiment())


def test_room_is_counted_in_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """SGD keeps one number a weight, AdamW two, an average one more; three checkpoints."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 2**30))
    sizes = [
        disk("step=separate_downsampling", f"runs_dir={tmp_path}", *more).found.split("(")[1]
        for more in (["recipe=original"], [], ["recipe.ema_decay=0.9"])
    ]
    assert sizes == ["15 MiB)", "23 MiB)", "31 MiB)"]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 2**20))
    full = disk(f"runs_dir={tmp_path}")
    assert full.ok is False
    assert full.mend == "make room, or choose another runs_dir"


def test_small_shared_memory(monkeypatch: pytest.MonkeyPatch, photo_folder: Path) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 64 * 2**20))
    request = ["data=imagefolder", f"data.root={photo_folder}", "image_size=224", "num_workers=8"]
    finding = surroundings.shared_memory(compose([*request, "batch_size=256"]).experiment())
    assert finding.ok is False
    assert "8 workers want 588 MiB of /dev/shm: start the container with --shm-size" in finding.mend
    assert surroundings.shared_memory(compose([*request, "batch_size=8"]).experiment()).ok is True
    assert surroundings.shared_memory(compose(["batch_size=256"]).experiment()).ok is None


def test_few_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings.resource, "getrlimit", lambda kind: (256, 4096))
    assert surroundings.open_files() == Finding(
        "open files",
        False,
        "256 of 4096 allowed",
        "loader workers pass batches as open files: `ulimit -n 1024` before the run",
    )


def data(*overrides: str) -> Finding:
    return surroundings.data(compose(overrides).experiment())


def test_data_is_opened_by_the_readers_of_a_run(photo_folder: Path, tmp_path: Path) -> None:
    finding = data("data=imagefolder", f"data.root={photo_folder}")
    assert finding.ok is True
    assert finding.found.startswith("24 images to train on, 10 to evaluate on, 2 classes; the first is ")
    missing = data("data=imagenet", f"data.root={tmp_path}")
    assert missing == Finding(
        "data imagenet",
        False,
        "cannot be opened",
        f"no folder {tmp_path}/train; data.root wants train/ and val/, each with a folder a class "
        "(or train/ alone and data.holdout=0.1)",
    )
    cifar = data("data=cifar10", f"data.root={tmp_path}")
    assert cifar.ok is None
    assert not list(tmp_path.iterdir()), "nothing is downloaded by looking"


def test_a_first_image_that_is_none(photo_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(photo_folder, tmp_path / "images")
    (tmp_path / "images" / "train" / "china" / "0.jpg").write_bytes(b"no image")
    finding = data("data=imagefolder", f"data.root={tmp_path / 'images'}")
    assert finding.ok is False
    assert finding.mend.startswith("mend or remove it: cannot identify image file")


def test_other_data_are_named() -> None:
    finding = surroundings.other_data(compose([]).experiment().data)
    assert "imagenet" in finding.found
    assert "data.root=FOLDER" in finding.mend


def test_where_the_key_is_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert surroundings.wandb_key(wanted=True).ok is None
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password made-up\n")
    assert surroundings.wandb_key(wanted=True).ok is True
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert surroundings.wandb_key(wanted=True).ok is None
    monkeypatch.setenv("WANDB_API_KEY", "made-up")
    assert surroundings.wandb_key(wanted=True) == Finding("W&B key", True, "there, for wandb.example.org")
    monkeypatch.setattr(surroundings, "find_spec", lambda name: None)
    assert surroundings.wandb_key(wanted=True).ok is False


def test_processes_of_a_launcher_are_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    from roadmap.commands import doctor

    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RequestError, match="runs in one process"):
        doctor.main([])


def test_the_survey_is_over_soon() -> None:
    """Importing torch and torchvision is most of it."""
    code = "import sys; from roadmap.__main__ import main; main(['doctor']); sys.exit('wandb' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    assert result.returncode == 0
    assert result.stderr == b""
