"""Where an optimisation starts: numbers drawn from a seed and a problem's content alone."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def random_starts(keys: Tensor, length: int | Tensor, field: int, width: int, seed: int) -> Tensor:
    """Returns Xavier-uniform starts (B, R, D) with fans (L, D), each drawn from (seed, key) alone.

    Every position of the field gets its numbers, whether it exists or not, so that a location's start is the same
    wherever the sentence's edge is.

    Args:
        keys: (B,) int64, naming each problem.
        length: L of the sentence frame, or (B,) that of each problem's.
        field: R, rows of a receptive field.
        width: D of a word vector.
        seed: the same for all.
    """
    if isinstance(length, Tensor):
        limit: float | Tensor = ((6 / (length.double() + width)) ** 0.5).to(keys.device, torch.float32)[:, None]
    else:
        limit = (6 / (length + width)) ** 0.5
    stream = mix(mix(torch.zeros_like(keys), torch.tensor(seed, device=keys.device)), keys)
    counter = torch.arange(1, field * width + 1, device=keys.device)
    bits = _scramble(stream[:, None] + counter * _GOLDEN)
    unit = _shift_right(bits, 40).to(torch.float32) * 2.0**-24  # 24 bits are what a float32 holds
    starts: Tensor = (2 * unit - 1) * limit
    return starts.view(len(keys), field, width)


def content_keys(ids: Tensor) -> Tensor:
    """Returns one int64 key per sentence (B,) that depends on its token ids (B, L) alone: `mix` over the columns.

    numpy's integers wrap as torch's do and cost a tenth where there are few of them.
    """
    golden = np.uint64(_GOLDEN & _ALL_BITS)
    keys = np.zeros(len(ids), dtype=np.uint64)
    for column in _scramble_numpy(ids.numpy().T.astype(np.uint64) + golden):
        keys = _scramble_numpy((keys + golden) ^ column)
    return torch.from_numpy(keys.view(np.int64))


def sentence_keys(ids: Tensor, frames: Tensor) -> Tensor:
    """Returns one int64 key per sentence (B,), which depends on its ids inside its own frame alone.

    Args:
        ids: (B, L) int64 on the CPU.
        frames: (B,) int64, at most L.
    """
    keys = torch.zeros(len(ids), dtype=torch.int64)
    for frame in frames.unique().tolist():
        rows = frames == frame
        keys[rows] = content_keys(ids[rows, :frame])
    return keys


def mix(state: Tensor, value: Tensor) -> Tensor:
    """Returns int64 keys that depend on `state` and `value` both."""
    return _scramble((state + _GOLDEN) ^ _scramble(value + _GOLDEN))


# Steele, Lea & Flood's SplitMix64. The constants are the unsigned ones as int64, which is what torch computes in.
_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_MULTIPLIERS = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)
_ALL_BITS = 2**64 - 1


def _shift_right(value: Tensor, bits: int) -> Tensor:
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def _scramble(value: Tensor) -> Tensor:
    value = (value ^ _shift_right(value, 30)) * _MULTIPLIERS[0]
    value = (value ^ _shift_right(value, 27)) * _MULTIPLIERS[1]
    return value ^ _shift_right(value, 31)


def _scramble_numpy(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    value = (value ^ (value >> np.uint64(30))) * np.uint64(_MULTIPLIERS[0] & _ALL_BITS)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(_MULTIPLIERS[1] & _ALL_BITS)
    return value ^ (value >> np.uint64(31))
