"""The words of a model and their ids."""

from __future__ import annotations

import reprlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from fastinterp.errors import ModelError
from fastinterp.messages import one_line

PAD, UNKNOWN = 0, 1
SPECIAL_WORDS = ("<pad>", "<unk>")


@dataclass(frozen=True)
class Vocabulary:
    """The words of a model; the position of a word is its token id.

    Attributes:
        words: all words; the first two are the padding and the unknown word.

    Raises:
        ValueError: the special words are not where they belong, or a word is empty, repeated, holds white space or
            cannot be written as UTF-8.
    """

    words: tuple[str, ...]
    index: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.words[:2] != SPECIAL_WORDS:
            raise ValueError(f"words: expected to start with {SPECIAL_WORDS}, got {reprlib.repr(self.words[:2])}")
        index = {word: position for position, word in enumerate(self.words)}
        if len(index) != len(self.words):
            repeated = next(word for word, count in Counter(self.words).items() if count > 1)
            raise ValueError(f"words: {reprlib.repr(repeated)} stands more than once")
        broken = next((word for word in self.words if word.split() != [word]), None)
        if broken is not None:
            raise ValueError(f"words: expected words without white space, got {reprlib.repr(broken)}")
        for word in self.words:
            if not word.isascii() and any("\ud800" <= character <= "\udfff" for character in word):
                raise ValueError(f"words: {reprlib.repr(word)} holds a lone surrogate, which UTF-8 cannot write")
        object.__setattr__(self, "index", index)

    def __len__(self) -> int:
        return len(self.words)

    @classmethod
    def build(cls, token_lists: Iterable[Sequence[str]], least: int = 1) -> Vocabulary:
        """Returns the vocabulary of a tokenised corpus, the most frequent word first, ties in alphabetical order.

        Args:
            token_lists: the texts.
            least: how often a word must stand in them.
        """
        counts = Counter(token for tokens in token_lists for token in tokens)
        ordered = sorted((word for word in counts if counts[word] >= least), key=lambda word: (-counts[word], word))
        return cls(SPECIAL_WORDS + tuple(word for word in ordered if word not in SPECIAL_WORDS))

    def encode(self, token_lists: Sequence[Sequence[str]], length: int) -> Tensor:
        """Returns int64 ids (B, length): cut or padded to `length`, unknown words as id 1."""
        ids = torch.full((len(token_lists), length), PAD, dtype=torch.int64)
        for row, tokens in zip(ids, token_lists, strict=True):
            if known := [self.index.get(token, UNKNOWN) for token in tokens[:length]]:
                row[: len(known)] = torch.tensor(known)
        return ids

    def save(self, path: Path) -> None:
        """Writes one word a line, UTF-8, in the order of their ids."""
        path.write_text("\n".join(self.words) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Returns the vocabulary that `save` wrote. Raises ModelError where the file is missing or malformed."""
        try:
            return cls(tuple(path.read_text(encoding="utf-8").removesuffix("\n").split("\n")))
        except OSError as error:
            raise ModelError(f"{one_line(path)}: not a vocabulary ({error.strerror})") from error
        except UnicodeDecodeError as error:
            raise ModelError(f"{one_line(path)}: not a vocabulary (not UTF-8 from byte {error.start} on)") from error
        except ValueError as error:
            raise ModelError(f"{one_line(path)}: not a vocabulary ({error})") from error
