"""Fixtures of the GPU tests. Each test also runs with the CPU in the GPU's place, on smaller networks and images."""

from collections.abc import Iterator

import pytest
import torch

from roadmap.runtime.device import tf32
from tests.gpu.devices import GPU


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
