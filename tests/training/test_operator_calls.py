"""Operator calls of one update, each of which a GPU launches, without views."""

import pytest
import torch

from benchmarks.operator_calls import OperatorCalls, operator_calls, replayed_calls

CONVNEXT = "regime=nano", "data=cifar10", "step=separate_downsampling"  # the enhanced recipe, batch 256


@pytest.fixture(scope="module")
def calls() -> dict[str, int]:
    counted = operator_calls(*CONVNEXT)
    return {part: operators.total() for part, operators in counted.items()}


@pytest.mark.parametrize(
    ("part", "most"), [("input", 105), ("forward", 53), ("loss", 3), ("backward", 58), ("optimizer and EMA", 4)]
)
def test_calls_of_a_part(part: str, most: int, calls: dict[str, int]) -> None:
    assert 0 < calls[part] <= most


def test_calls_of_an_update(calls: dict[str, int]) -> None:
    assert sum(calls.values()) <= 223


def test_calls_around_a_replayed_update() -> None:
    assert replayed_calls(*CONVNEXT) == 13  # ten inputs and two learning rates into buffers, the loss out of one


def test_views_and_allocations_are_not_counted() -> None:
    weight = torch.ones(3, requires_grad=True)
    with OperatorCalls() as count:
        torch.empty(3).copy_(torch.arange(3.0).view(3)[:3])  # arange, copy
        (weight * 2).sum().backward()  # with ones_like and one more product in the backward pass
    assert count.calls["backward"].total() == 6
