"""When networks are compiled, and what happens where they cannot be."""

import logging

import pytest
import torch

from roadmap.errors import RequestError
from roadmap.runtime import device
from roadmap.runtime.device import compiles, measure_algorithms

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_auto_compiles_large_images_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "missing_for_compiling", lambda kind: "")
    assert compiles("auto", CUDA, 224)
    assert compiles(True, CPU, 32)
    for setting, kind, size in (("auto", CUDA, 223), ("auto", CPU, 224), (False, CUDA, 224)):
        assert not compiles(setting, kind, size)


def test_without_a_compiler_auto_warns_once_and_true_is_refused(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    device.warn_once.cache_clear()
    monkeypatch.setattr(device.shutil, "which", lambda name: None)
    monkeypatch.setattr(device, "find_spec", lambda name: None)
    with caplog.at_level(logging.WARNING):
        assert [compiles("auto", CUDA, 224) for _ in range(3)] == [False] * 3
    (message,) = caplog.messages
    assert "a C++ compiler (apt install g++) and triton (pip install triton); compile=false" in message
    assert not compiles(False, CUDA, 224)
    with pytest.raises(RequestError, match=r"compile=true needs a C\+\+ compiler .* \(choose compile=auto or false\)"):
        compiles(True, CPU, 32)


def test_cudnn_measures_its_algorithms_on_cuda_only() -> None:
    for kind in (CUDA, CPU):
        measure_algorithms(kind)
        assert torch.backends.cudnn.benchmark == (kind == CUDA)
