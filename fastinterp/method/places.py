"""Where explained locations are: what of their sentences they see, and where in it an answer may stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fastinterp.method.saliency import Selection, same_width
from fastinterp.models.protocol import Places, TextClassifier
from fastinterp.text.vocabulary import PAD


@dataclass(frozen=True, eq=False)
class Fields:
    """The receptive fields of N locations, on the CPU.

    Attributes:
        location: (N,) int64, position in the layer.
        frame: (N,) int64, positions of the sentence that each is of.
        ids: (N, R) int64, the token ids that it sees; 0 where there is no token.
        begin: (N,) int64, the first row that lies inside the frame.
        end: (N,) int64, one past the last.
        first: (N,) int64, the row of the first of the sentence's own tokens, from `begin` on.
        last: (N,) int64, one past the row of the last of them.
        top: (N,) int64, the position in the sentence of the field's first row; below 0 where that lies outside.
    """

    location: Tensor
    frame: Tensor
    ids: Tensor
    begin: Tensor
    end: Tensor
    first: Tensor
    last: Tensor
    top: Tensor

    def __len__(self) -> int:
        return len(self.location)

    def __getitem__(self, rows: Tensor | slice) -> Fields:
        """Returns some of the fields: rows (n,) int64, or a slice of them."""
        return Fields(*(each[rows] for each in self._tensors()))

    def holding(self, ids: Tensor) -> Places:
        """Returns the locations as a module's own pass wants them, with token ids (N, R) int64 in their fields."""
        return Places(self.location, self.frame, ids)

    def inside(self) -> Tensor:
        """Returns (N, R) bool: which rows lie inside the frame."""
        return self._between(self.begin, self.end)

    def own(self) -> Tensor:
        """Returns (N, R) bool: which rows hold the sentence's own tokens."""
        return self._between(self.first, self.last)

    def special(self) -> Tensor:
        """Returns (N, R) bool: which rows hold tokens that are not the sentence's own, such as [CLS]."""
        return (self.ids != PAD) & ~self.own()

    def _between(self, first: Tensor, last: Tensor) -> Tensor:
        rows = torch.arange(self.ids.shape[1])
        return (rows >= first[:, None]) & (rows < last[:, None])

    def _tensors(self) -> tuple[Tensor, ...]:
        return self.location, self.frame, self.ids, self.begin, self.end, self.first, self.last, self.top

    @classmethod
    def joined(cls, parts: Sequence[Fields]) -> Fields:
        """Returns the fields of all parts; where every location sees the whole text, R is that of the longest."""
        columns = list(zip(*(part._tensors() for part in parts), strict=True))
        columns[2] = tuple(same_width(columns[2]))
        return cls(*map(torch.cat, columns))


def fields_at(model: TextClassifier, layer: int, ids: Tensor, selection: Selection) -> Fields:
    """Returns the fields of locations of sentences.

    Args:
        model: the classifier.
        layer: index of the layer.
        ids: (S, L) int64 on the CPU.
        selection: N locations.

    Raises:
        ValueError: no such layer.
    """
    field, frames = model.field(layer), model.frames(ids)
    sentence, location = selection.sentence.cpu(), selection.location.cpu()
    rows, frame = field.rows(frames), frames[sentence]
    begin, end = field.edges(location, frame, rows)
    own, top = model.own_tokens(ids)[sentence], field.first(location)
    first = (own[:, 0] - top).clamp(min=0)
    last = torch.maximum((own[:, 1] - top).clamp(max=rows), first)
    return Fields(location, frame, field.ids(ids, location, sentence, rows), begin, end, first, last, top)


def is_own(model: TextClassifier, ids: Tensor) -> Tensor:
    """Returns (B, L) bool: which tokens of sentences (B, L) are neither padding nor special ones."""
    return model.own_tokens(ids.reshape(-1, 1))[:, 1].view(ids.shape) > 0
