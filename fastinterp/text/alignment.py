"""Text in which parts were replaced, and where each of its characters stood before."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import dataclass

_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")
# AG's News and other web corpora have lost the ampersand of some entities: "isn #39;t", "quot;Go! quot;".
_APOSTROPHE_WITHOUT_AMPERSAND = re.compile(r"\s?(?<![&\w])#39;(?=(?:t|s|re|ve|ll|d|m)\b)|(?<![&\w])#39;")
_ENTITY_WITHOUT_AMPERSAND = re.compile(r"(?<![&\w])(quot|amp|lt|gt);")


@dataclass(frozen=True)
class AlignedText:
    """A text and where its characters come from.

    Attributes:
        text: what became of the raw text.
        origin: for each of its characters the (begin, end) of its source in the raw text; None where each character
            stands where it stood.
    """

    text: str
    origin: tuple[tuple[int, int], ...] | None = None

    def replace(self, pattern: re.Pattern[str], replacement: Callable[[str], str]) -> AlignedText:
        """Returns the text with every match replaced; what replaces it comes from all of the match."""
        pieces: list[str] = []
        origin: list[tuple[int, int]] = []
        last = 0
        for found in pattern.finditer(self.text):
            begin, end = found.span()
            new = replacement(found[0])
            pieces += [self.text[last:begin], new]
            origin += [self.raw_span(i, i + 1) for i in range(last, begin)]
            origin += [self.raw_span(begin, end)] * len(new)
            last = end
        if not pieces:
            return self
        origin += [self.raw_span(i, i + 1) for i in range(last, len(self.text))]
        return AlignedText("".join([*pieces, self.text[last:]]), tuple(origin))

    def raw_span(self, begin: int, end: int) -> tuple[int, int]:
        """Returns the (begin, end) in the raw text of a part of this one that is not empty."""
        return (begin, end) if self.origin is None else (self.origin[begin][0], self.origin[end - 1][1])


def read_entities(raw: str) -> AlignedText:
    """Returns the text with HTML entities, also those that lost their ampersand, read as what they stand for."""
    aligned = AlignedText(raw)
    if ";" not in raw:
        return aligned
    aligned = aligned.replace(_ENTITY, html.unescape)
    aligned = aligned.replace(_APOSTROPHE_WITHOUT_AMPERSAND, lambda found: "'")
    return aligned.replace(_ENTITY_WITHOUT_AMPERSAND, lambda found: html.unescape(f"&{found}"))
