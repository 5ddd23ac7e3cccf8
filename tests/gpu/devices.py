"""Which devices a test of this folder runs on: `make test-gpu` takes the GPU's tests, `make test` the CPU's."""

import pytest

GPU = pytest.param("cuda", marks=pytest.mark.gpu)
slow_on_cpu = pytest.mark.parametrize("device", [pytest.param("cpu", marks=pytest.mark.slow), GPU], indirect=True)
