"""Text to tokens: Kim-2014 tokenisation with case kept."""

from __future__ import annotations

import html
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, field

_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")
# AG's News and other web corpora have lost the ampersand of some entities: "isn #39;t", "quot;Go! quot;".
_APOSTROPHE_WITHOUT_AMPERSAND = re.compile(r"\s?(?<![&\w])#39;(?=(?:t|s|re|ve|ll|d|m)\b)|(?<![&\w])#39;")
_ENTITY_WITHOUT_AMPERSAND = re.compile(r"(?<![&\w])(quot|amp|lt|gt);")

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
_DETACHED = re.compile(r"('s|'ve|n't|'re|'d|'ll)|([,!?()])")


@dataclass(frozen=True)
class TokenizedText:
    """The tokens of a text and what was lost on the way.

    Attributes:
        tokens: the tokens in their order.
        dropped: each character that is part of no token, white space apart, and how often; in order of appearance.
    """

    tokens: tuple[str, ...]
    dropped: dict[str, int] = field(default_factory=dict)

    @property
    def dropped_signs(self) -> dict[str, int]:
        """Those dropped characters that mean something: letters, marks, digits and symbols beyond ASCII."""
        return {
            character: count
            for character, count in self.dropped.items()
            if not character.isascii() and unicodedata.category(character)[0] in "LMNS"
        }


def read_tokens(text: str) -> TokenizedText:
    """Returns the tokens of `text` as Kim (2014) cuts them, but with the case kept.

    HTML entities and typographic apostrophes, quotation marks and dashes are read as the characters of ASCII that
    they stand for. Letters, digits and ``( ) , ! ? ' ` `` stay, anything else separates and is counted as dropped;
    the clitics 's 've n't 're 'd 'll and the punctuation become tokens of their own.
    """
    plain = _to_ascii(text)
    dropped = Counter(found for found in _DROPPED.findall(plain) if not found.isspace())
    kept = _DROPPED.sub(" ", plain)
    tokens = _DETACHED.sub(lambda found: f" {found[1]}" if found[1] else f" {found[2]} ", kept).split()
    return TokenizedText(tuple(tokens), dict(dropped))


def tokenize(text: str) -> list[str]:
    """Returns the tokens of `text`; see `read_tokens`."""
    return list(read_tokens(text).tokens)


def _to_ascii(text: str) -> str:
    if ";" in text:
        text = _ENTITY.sub(lambda found: html.unescape(found[0]), text)
        text = _APOSTROPHE_WITHOUT_AMPERSAND.sub("'", text)
        text = _ENTITY_WITHOUT_AMPERSAND.sub(lambda found: html.unescape(f"&{found[0]}"), text)
    if not text.isascii():
        text = _MISTYPED_APOSTROPHE.sub("'", text.translate(_ASCII_FOR))
    return text
