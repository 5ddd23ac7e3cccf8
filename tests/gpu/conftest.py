"""Fixtures of the GPU tests. Each test also runs on a CPU, with smaller networks and images.

`make test` runs the CPU twin of each block; a few longer ones, of which it has others, are slow tests.
"""

from collections.abc import Iterator

import pytest
import torch

from roadmap.runtime.device import tf32

GPU = pytest.param("cuda", marks=pytest.mark.gpu)
SLOW_CPU = pytest.param("cpu", marks=pytest.mark.slow)


@pytest.fixture(params=["cpu", GPU])
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """The device under test, with fp32 in full precision."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA GPU")
    with tf32(False):
        yield torch.device(request.param)


@pytest.fixture
def regime(device: torch.device) -> str:
    """The networks of the paper on a GPU, the smallest ones on a CPU."""
    return "tiny" if device.type == "cuda" else "nano"


@pytest.fixture
def size(device: torch.device) -> tuple[str, ...]:
    """Overrides of runs on a CPU: a block for each stage, and fewer images to train on and to evaluate."""
    return () if device.type == "cuda" else ("design.depths=[1,1,1,1]", "data.holdout=0.2")
