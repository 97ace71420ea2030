"""Seeded draws that depend on what is drawn for, not on its place in a batch."""

from __future__ import annotations

import torch
from torch import Tensor

from fastinterp.method.starts import mix

_CANDIDATES_AT_ONCE = 1 << 22  # bounds the memory of a draw


def random_scores(keys: Tensor, count: int, seed: int) -> Tensor:
    """Returns (B, count) float64 numbers, uniform from 0 to 1, that depend on the seed, a key and their place alone.

    Args:
        keys: (B,) int64, such as `content_keys` of the sentences.
        count: numbers for each key.
        seed: the same for all.
    """
    stream = mix(mix(torch.zeros_like(keys), torch.tensor(seed, device=keys.device)), keys)
    bits = mix(stream[:, None], torch.arange(count, device=keys.device))
    return (bits & _MANTISSA).double() * 2.0**-53


def draw_others(sentence: Tensor, label: Tensor, count: int, seed: int) -> Tensor:
    """Returns for each location others of the same class from other sentences: their rows, (B, count) int64.

    The locations of a class are laid out on a ring in an order that is drawn from (seed, sentence, how many locations
    of the sentence came before); each takes the next `count` locations of other sentences on that ring. So a location's
    draw is uniform without replacement, costs O(count), and depends on the locations that there are, not on the order
    of their sentences; every location is drawn about as often.

    Args:
        sentence: (B,) int64, naming the sentence of each location; copies of one sentence should have one name, as
            `content_keys` gives.
        label: (B,) int64, its predicted class.
        count: how many others.
        seed: of the draw.

    Returns:
        Rows from 0 to B - 1, none twice; -1 at the end of a row where there are fewer than `count` others.
    """
    keys = mix(mix(torch.zeros_like(sentence), torch.tensor(seed, device=sentence.device)), sentence)
    keys = mix(keys, _ordinals(sentence))
    drawn = torch.full((len(sentence), count), -1, device=sentence.device)
    for value in label.unique().tolist():
        members = (label == value).nonzero()[:, 0]
        ring = members[keys[members].argsort()]
        _, repeats = sentence[ring].unique(return_counts=True)
        # Among so many neighbours on the ring at most `repeats` are of the location's own sentence.
        width = min(len(ring), count + int(repeats.max()))
        steps = torch.arange(1, width + 1, device=ring.device)
        for places in torch.arange(len(ring), device=ring.device).split(max(1, _CANDIDATES_AT_ONCE // width)):
            mine, candidates = ring[places], ring[(places[:, None] + steps) % len(ring)]
            own = sentence[candidates] == sentence[mine][:, None]
            order = own.to(torch.uint8).argsort(dim=1, stable=True)[:, :count]
            chosen = candidates.gather(1, order).masked_fill(own.gather(1, order), -1)
            drawn[mine, : chosen.shape[1]] = chosen
    return drawn


def _ordinals(groups: Tensor) -> Tensor:
    """Returns (B,) int64: how many elements before each one belong to the same group."""
    order = groups.argsort(stable=True)
    _, sizes = groups.unique(return_counts=True)  # in ascending order, as the sorted groups are
    begins = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    ordinals = torch.empty_like(groups)
    ordinals[order] = torch.arange(len(groups), device=groups.device) - begins
    return ordinals


_MANTISSA = 2**53 - 1
