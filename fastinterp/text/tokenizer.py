"""What reading a text gives, and what every tokeniser can do."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol


@dataclass(frozen=True)
class TokenizedText:
    """The tokens of a text, where they stand in it, and what was lost on the way.

    Attributes:
        tokens: the tokens in their order.
        dropped: each character that is part of no token, white space apart, and how often; in order of appearance.
        spans: for each token the (begin, end) of what it was read from, in characters of the raw text; in order, and
            no two share a character but where a character itself was cut, as byte-level pre-tokenizers do. Empty where
            the text came as tokens.
    """

    tokens: tuple[str, ...]
    dropped: dict[str, int] = field(default_factory=dict)
    spans: tuple[tuple[int, int], ...] = ()

    @property
    def dropped_signs(self) -> dict[str, int]:
        """Those dropped characters that mean something: letters, marks, digits and symbols beyond ASCII."""
        return {
            character: count
            for character, count in self.dropped.items()
            if not character.isascii() and unicodedata.category(character)[0] in "LMNS"
        }


class Tokenizer(Protocol):
    """Cuts texts into tokens. Two that are equal cut alike."""

    def read(self, text: str) -> TokenizedText:
        """Returns the tokens of `text`, where they stand in it, and what is part of none."""
        ...

    def to_fields(self) -> dict[str, object]:
        """Returns name and settings as JSON knows them, from which `tokenizer_from_fields` makes an equal one."""
        ...


def uncovered(text: str, spans: Sequence[tuple[int, int]]) -> dict[str, int]:
    """Returns the characters that are part of no token, white space apart, and how often each."""
    edges = [(0, 0), *sorted(spans), (len(text), len(text))]
    reached, left = 0, []
    for (_, end), (begin, _) in pairwise(edges):
        reached = max(reached, end)
        left.append(text[reached:begin])
    return dict(Counter(character for character in "".join(left) if not character.isspace()))
