"""Labelled sentences as an index keeps them: a few tensors, from which strings are made when somebody asks for one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

NO_TOKEN = -1  # stands in a receptive field where it has no token


@dataclass(frozen=True, eq=False)
class PackedStrings:
    """N strings, one behind the other.

    Attributes:
        characters: (bytes,) uint8, UTF-8; halves of surrogate pairs, which a caller's string may hold, are kept.
        starts: (N + 1,) int64, first byte of each string, and the end of the last.
    """

    characters: Tensor
    starts: Tensor

    @classmethod
    def of(cls, strings: Iterable[str]) -> PackedStrings:
        """Returns the strings, packed."""
        encoded = [string.encode("utf-8", "surrogatepass") for string in strings]
        characters = torch.from_numpy(np.frombuffer(b"".join(encoded), dtype=np.uint8).copy())
        return cls(characters, starts_of([len(each) for each in encoded]))

    def __len__(self) -> int:
        return len(self.starts) - 1

    def at(self, positions: Sequence[int]) -> list[str]:
        """Returns the strings at these positions."""
        data, chosen = self.characters.numpy(), torch.tensor(positions, dtype=torch.int64)
        firsts, lasts = self.starts[chosen].tolist(), self.starts[chosen + 1].tolist()
        return [
            data[first:last].tobytes().decode("utf-8", "surrogatepass")
            for first, last in zip(firsts, lasts, strict=True)
        ]

    def all(self) -> list[str]:
        """Returns every string."""
        data, starts = self.characters.numpy().tobytes(), self.starts.tolist()
        return [data[first:last].decode("utf-8", "surrogatepass") for first, last in pairwise(starts)]


def starts_of(lengths: Sequence[int]) -> Tensor:
    """Returns (N + 1,) int64: where each of N parts of these lengths starts, and where the last one ends."""
    starts = torch.zeros(len(lengths) + 1, dtype=torch.int64)
    torch.cumsum(torch.tensor(lengths, dtype=torch.int64), dim=0, out=starts[1:])
    return starts


@dataclass(frozen=True, eq=False)
class ReferenceCorpus:
    """S labelled sentences and their tokens inside the frame, as the model read them. Everything is on the CPU.

    Attributes:
        texts: S raw texts.
        labels: (S,) int32 class indices.
        words: the distinct tokens.
        tokens: (T,) int32, the tokens of all sentences as positions in `words`.
        starts: (S + 1,) int64, where each sentence's tokens start.
    """

    texts: PackedStrings
    labels: Tensor
    words: PackedStrings
    tokens: Tensor
    starts: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def copies(self, tokens: Sequence[str]) -> list[int]:
        """Returns the sentences that consist of these tokens."""
        numbers = [self._number_of.get(token, NO_TOKEN) for token in tokens]
        return [] if NO_TOKEN in numbers else self._sentences_of.get(np.array(numbers, dtype=np.int32).tobytes(), [])

    def fields(self, sentence: Tensor, location: Tensor, before: int, width: int) -> Tensor:
        """Returns (B, width) int32: each location's receptive field as positions in `words`, else NO_TOKEN.

        Two rows are equal where the same tokens stand at the same place of the field.

        Args:
            sentence: (B,) int64 numbers.
            location: (B,) int64 positions in the layer.
            before: how many tokens before its own position a location sees.
            width: R, how many positions it sees.
        """
        place = location[:, None] - before + torch.arange(width)
        lengths = self.starts.diff()[sentence][:, None]
        within = (place >= 0) & (place < lengths)
        flat = self.starts[sentence][:, None] + place
        return torch.where(within, self.tokens[torch.where(within, flat, 0)], NO_TOKEN)

    @cached_property
    def word_list(self) -> list[str]:
        """The distinct tokens as strings."""
        return self.words.all()

    @cached_property
    def _number_of(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.word_list)}

    @cached_property
    def _sentences_of(self) -> dict[bytes, list[int]]:
        tokens, starts = self.tokens.numpy(), self.starts.tolist()
        found: dict[bytes, list[int]] = {}
        for sentence in range(len(self)):
            found.setdefault(tokens[starts[sentence] : starts[sentence + 1]].tobytes(), []).append(sentence)
        return found
