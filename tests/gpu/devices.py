"""Which devices a test of this folder runs on: `make test-gpu` runs it on a GPU, the slow tests on a CPU."""

import pytest

GPU = pytest.param("cuda", marks=pytest.mark.gpu)
SLOW_CPU = pytest.param("cpu", marks=pytest.mark.slow)
