"""Batches of sentences of like length, so that little of a batch is padding."""

from __future__ import annotations

import torch
from torch import Tensor

# Sorting the whole corpus would cut the padding a little further, but then each epoch would see the same batches.
_BATCHES_AT_ONCE = 32


def batches_of_like_length(lengths: Tensor, batch_size: int, generator: torch.Generator) -> list[Tensor]:
    """Returns the rows of each batch of an epoch, in which every row stands once.

    The rows are shuffled and cut into windows of 32 batches; each window is sorted by length and cut into batches,
    and the batches of all windows are shuffled. So a row meets others of about its length, others in each epoch, and
    the order of the batches says nothing of their lengths. All batches but one have `batch_size` rows.

    Args:
        lengths: (N,) tokens of each sentence, on the CPU.
        batch_size: rows of a batch.
        generator: of the shuffles; its state decides the result.
    """
    batches: list[Tensor] = []
    for window in torch.randperm(len(lengths), generator=generator).split(batch_size * _BATCHES_AT_ONCE):
        batches += window[lengths[window].argsort(stable=True)].split(batch_size)
    return [batches[place] for place in torch.randperm(len(batches), generator=generator).tolist()]
