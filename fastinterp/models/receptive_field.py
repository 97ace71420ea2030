"""Which tokens a location of a layer sees: the one place that knows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ReceptiveField:
    """Which positions of its sentence's frame each location of a layer sees.

    Location i sees `width` positions from i * stride - before on, as far as they lie inside the frame.

    Attributes:
        before: how many positions before its own a location sees.
        width: R, how many positions in all; None where every location sees the whole frame.
        stride: from one location to the next; 0 where every location sees the whole frame.
    """

    before: int
    width: int | None
    stride: int = 1

    def first(self, location: Tensor) -> Tensor:
        """Returns the first position that each location (B,) sees; it may lie before the frame."""
        return location * self.stride - self.before

    def rows(self, frames: Tensor) -> int:
        """Returns R, for locations of sentences with these frames."""
        return self.width if self.width is not None else int(frames.max()) if len(frames) else 1

    def edges(self, location: Tensor, frame: Tensor | int, rows: int) -> tuple[Tensor, Tensor]:
        """Returns the first row of each field that lies inside the frame, and one past the last: (B,) int64 each.

        Args:
            location: (B,) int64.
            frame: positions of each location's sentence, or of all.
            rows: R.
        """
        first = self.first(location)
        return (-first).clamp(min=0), (frame - first).clamp(max=rows)

    def ids(self, ids: Tensor, location: Tensor, sentence: Tensor, rows: int) -> Tensor:
        """Returns the token ids (N, R) that locations see; 0 in rows that lie outside the frame or hold no token.

        Args:
            ids: (S, L) int64.
            location: (N,) int64, position of each location.
            sentence: (N,) int64, its row in `ids`.
            rows: R.
        """
        place = self.first(location)[:, None] + torch.arange(rows, device=ids.device)
        if not ids.shape[1]:
            return torch.zeros_like(place)
        found = ids[sentence[:, None], place.clamp(0, ids.shape[1] - 1)]
        return found.masked_fill((place < 0) | (place >= ids.shape[1]), 0)

    def stands_at(self, locations: Tensor, own: Tensor) -> Tensor:
        """Returns (S, P) bool: whether the locations (P,) stand at a token own[s, 0] to own[s, 1] - 1."""
        place = locations * self.stride if self.width is not None else locations
        return (place >= own[:, :1]) & (place < own[:, 1:])

    def sees(self, locations: Tensor, own: Tensor) -> Tensor:
        """Returns (S, P) bool: whether the locations (P,) see one of the tokens own[s, 0] to own[s, 1] - 1."""
        first, begin, end = self.first(locations), own[:, :1], own[:, 1:]
        nearest = torch.maximum(first, begin)
        return nearest < (end if self.width is None else torch.minimum(end, first + self.width))
