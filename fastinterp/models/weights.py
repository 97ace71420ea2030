"""Whether weights have changed, and whether they are finite."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

# Each weight, where it is and how often it was written to.
WeightState = tuple[tuple[Tensor, int, int | None], ...]


def state_of(weights: Iterable[Tensor]) -> WeightState:
    """Returns what tells whether one of the weights is replaced or written to.

    Writing is noticed by torch's version of a tensor, which `.data` does not count up.
    """
    return tuple((weight, weight.data_ptr(), _version(weight)) for weight in weights)


def is_same(before: WeightState, now: WeightState) -> bool:
    """Whether no weight has changed between two states."""
    if len(before) != len(now):
        return False
    return all(
        mine is its and place == its_place and version == its_version is not None
        for (mine, place, version), (its, its_place, its_version) in zip(before, now, strict=True)
    )


def is_finite(tensor: Tensor) -> bool:
    """Whether a tensor holds neither NaN nor infinity."""
    # NaN or infinity among the terms makes the sum one of them; finite terms may do so too, but only by overflow.
    return bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all())


def _version(weight: Tensor) -> int | None:
    return None if weight.is_inference() else weight._version  # inference tensors do not count
