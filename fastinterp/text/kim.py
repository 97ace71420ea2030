"""The paper's tokenizer: Kim (2014), with the case kept. It reads ASCII alone, and says what it lost."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from dataclasses import dataclass, field, replace

from fastinterp.errors import LostTextWarning
from fastinterp.messages import quoted
from fastinterp.text.alignment import read_entities
from fastinterp.text.tokenizer import TokenizedText

WARNING_SHARE = 0.1  # of a text's characters: more of them dropped are warned of

_ASCII_FOR = str.maketrans(
    {
        **dict.fromkeys("\u2019\u201b\u02bc\u02b9\u2032\uff07\u00b4\u055a\ua78c", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb\uff02", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\uff0d", "-"),
    }
)
# Inside a word U+2018 is a mistyped apostrophe; in front of one it opens a quotation and stays a separator.
_MISTYPED_APOSTROPHE = re.compile("(?<=[A-Za-z])\u2018(?=[A-Za-z])")

_DROPPED = re.compile(r"[^A-Za-z0-9(),!?'`]")
_CLITIC = r"(?:'s|'ve|n't|'re|'d|'ll)"
# Punctuation by itself; else a clitic or a character, and what follows up to the next clitic.
_TOKEN = re.compile(rf"[,!?()]|(?:{_CLITIC}|[A-Za-z0-9'`])(?:(?!{_CLITIC})[A-Za-z0-9'`])*")


@dataclass(unsafe_hash=True)
class KimTokenizer:
    """Cuts as Kim (2014) does, but keeps the case.

    HTML entities and typographic apostrophes, quotation marks and dashes are read as the characters of ASCII that
    they stand for. Letters, digits and ``( ) , ! ? ' ` `` stay, anything else separates and is counted as dropped;
    the clitics 's 've n't 're 'd 'll and the punctuation become tokens of their own.

    The first text that loses more than a tenth of its characters to letters, marks, digits and symbols beyond ASCII
    is warned of (LostTextWarning).
    """

    _has_warned: bool = field(default=False, init=False, compare=False, repr=False)

    def read(self, text: str) -> TokenizedText:
        """Returns the tokens of `text`, where they stand in it, and what is part of none."""
        read = _read(text)
        if not self._has_warned and not text.isascii():
            self._warn_of_loss(read, text)
        return read

    def to_fields(self) -> dict[str, object]:
        """Returns the name; there are no settings."""
        return {"name": "kim"}

    def _warn_of_loss(self, read: TokenizedText, text: str) -> None:
        lost = sum(read.dropped_signs.values())
        characters = sum(read.dropped.values()) + sum(map(len, read.tokens))
        if lost > WARNING_SHARE * characters:
            self._has_warned = True
            warnings.warn(
                f"tokenizer: kim reads ASCII alone and dropped {lost:,} of {characters:,} characters of "
                f"{quoted(text)}, which count for nothing; the tokeniser unicode, for a new model, reads every script",
                LostTextWarning,
                stacklevel=3,
            )


def tokenize(text: str) -> list[str]:
    """Returns the tokens of `text` as Kim (2014) cuts them, but with the case kept; see `KimTokenizer`."""
    return list(_read(text).tokens)


def _read(text: str) -> TokenizedText:
    aligned = read_entities(text)
    if not aligned.text.isascii():
        plain = _MISTYPED_APOSTROPHE.sub("'", aligned.text.translate(_ASCII_FOR))
        aligned = replace(aligned, text=plain)
    tokens, spans = [], []
    for found in _TOKEN.finditer(aligned.text):
        tokens.append(found[0])
        spans.append(aligned.raw_span(*found.span()))
    dropped = Counter(found for found in _DROPPED.findall(aligned.text) if not found.isspace())
    return TokenizedText(tuple(tokens), dict(dropped), tuple(spans))
