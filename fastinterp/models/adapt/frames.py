"""How long a sentence's frame is for a user's module, and what its outputs mean."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fastinterp.models.adapt.watch import Passed
from fastinterp.text.vocabulary import PAD


@dataclass(frozen=True)
class Frames:
    """How many positions each sentence is given.

    Attributes:
        length: the frame of every sentence; None where each has as many positions as it has tokens.
        shortest: positions that the module needs.
    """

    length: int | None
    shortest: int

    def of(self, ids: Tensor) -> Tensor:
        """Returns the frames (B,) int64 of sentences (B, L)."""
        if self.length is not None:
            return torch.full((len(ids),), self.length)
        return tokens_of(ids).clamp(min=self.shortest)

    def together(self, ids: Tensor, most: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields which sentences (n,) int64 of (B, L) have one frame, `most` at most, and their ids (n, frame)."""
        frames = self.of(ids)
        for frame in frames.unique().tolist():
            for members in (frames == frame).nonzero()[:, 0].split(most):
                yield members, ids[members, :frame]


def tokens_of(ids: Tensor) -> Tensor:
    """Returns how many tokens each sentence (B, L) has: (B,) int64."""
    return (ids != PAD).sum(dim=1)


def class_scores(passed: Passed, sentences: int) -> Tensor:
    """Returns the class scores (B, classes) of a pass, before any softmax or sigmoid at the end of the module.

    A single output s is the score of the second of two classes, and -s that of the first.

    Raises:
        ValueError: the module's output is of another shape.
    """
    outputs = passed.outputs
    if outputs is None or (outputs.shape not in ((sentences,), (sentences, 1)) and outputs.dim() != 2):
        shape = None if outputs is None else tuple(outputs.shape)
        raise ValueError(f"module: expected class scores of shape ({sentences}, classes), got {shape}")
    if outputs.dim() == 2 and outputs.shape[1] > 1:
        return outputs
    score = outputs.reshape(sentences)
    return torch.stack([-score, score], dim=1)
