"""The tokeniser for texts in any script, built on the library `tokenizers`."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fastinterp.messages import one_line
from fastinterp.text.alignment import read_entities
from fastinterp.text.tokenizer import TokenizedText, uncovered
from fastinterp.validation import got

if TYPE_CHECKING:
    from tokenizers.pre_tokenizers import PreTokenizer

_STRAIGHT = str.maketrans(
    {**dict.fromkeys("\u2018\u2019\u201a\u201b", "'"), **dict.fromkeys("\u201c\u201d\u201e\u201f", '"')}
)
# Rust's strings have no halves of surrogate pairs; a control character is dropped as they shall be.
_NO_SURROGATES = dict.fromkeys(range(0xD800, 0xE000), "\0")
# Invisible signs for line breaks and writing direction. Two words that differ by one look the same and are the same.
_INVISIBLE = dict.fromkeys(
    [0xAD, 0x61C, 0x180E, 0x200B, 0x200E, 0x200F, 0xFEFF, *range(0x202A, 0x202F), *range(0x2060, 0x2070)]
)
_JOINING = frozenset("\u200c\u200d\ufe0e\ufe0f")  # joiners and variation selectors: nothing without their neighbours


def _split(pattern: str, behavior: str) -> dict[str, object]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": False}


_CLITIC = r"(?i:n't|'(?:s|ve|re|d|ll|m))"
_AT_WHITE_SPACE = _split(r"[\p{White_Space}\p{Cc}]+", "Removed")
# Words and all else between the boundaries of Unicode's Annex 29, which (?y{w})\X matches: a Chinese character, an
# emoji with its joiners, a letter with its marks are never cut. English clitics become tokens of their own, as in the
# corpora that word vectors are learnt from: of MR's words .909 then have one, else .874.
WORDS: dict[str, object] = {
    "type": "Sequence",
    "pretokenizers": [
        _AT_WHITE_SPACE,
        # Flags, by themselves: in a long row of them every boundary would be looked for from the row's beginning.
        _split(r"[\x{1F1E6}-\x{1F1FF}]{2}\p{M}*", "Isolated"),
        _split(rf"{_CLITIC}(?![\p{{L}}\p{{M}}\p{{N}}_])", "Isolated"),
        _split(rf"(?y{{w}})(?:^{_CLITIC}$|\X)", "Isolated"),
    ],
}


@dataclass(frozen=True)
class UnicodeTokenizer:
    """Cuts texts of any script into words, single Chinese characters, emoji and punctuation; the case is kept.

    HTML entities are read as what they stand for, curly quotes as straight ones. Tokens are in the normal form NFC, and
    without signs that only steer line breaks or writing direction. White space, control characters and halves of
    surrogate pairs are part of no token. The case is kept because word vectors have it; for vectors of lower-case words
    `embed_vocabulary` looks up the lower-case form.

    Attributes:
        pre_tokenizer: what cuts, in the JSON of the library `tokenizers`; by default `WORDS`.

    Raises:
        ValueError: it is no pre-tokenizer of that library.
    """

    pre_tokenizer: str = json.dumps(WORDS)
    _library: PreTokenizer = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_library", _library_of(json.loads(self.pre_tokenizer)))

    def read(self, text: str) -> TokenizedText:
        """Returns the tokens of `text`, where they stand in it, and what is part of none."""
        aligned = read_entities(text)
        plain = aligned.text if aligned.text.isascii() else aligned.text.translate(_STRAIGHT)
        try:
            pieces = self._library.pre_tokenize_str(plain)
        except UnicodeEncodeError:
            pieces = self._library.pre_tokenize_str(plain.translate(_NO_SURROGATES))
        tokens, spans = [], []
        for piece, span in pieces:
            token = piece if piece.isascii() else _visible(piece)
            if token:
                tokens.append(token)
                spans.append(span)
        dropped = uncovered(aligned.text, spans)
        return TokenizedText(tuple(tokens), dropped, tuple(aligned.raw_span(*span) for span in spans))

    def to_fields(self) -> dict[str, object]:
        """Returns the name and the pre-tokenizer, in the library's own JSON."""
        return {"name": "unicode", "pre_tokenizer": json.loads(self.pre_tokenizer)}


def _library_of(settings: object) -> PreTokenizer:
    """Returns what cuts by these settings, and at white space."""
    from tokenizers import Tokenizer
    from tokenizers.pre_tokenizers import Sequence

    # Those of the library may leave white space inside a piece; WORDS does not.
    steps = [settings] if settings == WORDS else [settings, _AT_WHITE_SPACE]
    model = {"type": "WordLevel", "vocab": {}, "unk_token": ""}
    try:
        made = [Tokenizer.from_str(json.dumps({"model": model, "pre_tokenizer": step})).pre_tokenizer for step in steps]
    except Exception as error:
        if type(error) is not Exception:  # the library raises no other for JSON that it does not know
            raise
        raise ValueError(
            f"pre_tokenizer: expected JSON of a pre-tokenizer of the library tokenizers, got {got(settings)} "
            f"({one_line(error, 80)})"
        ) from error
    return Sequence(made)


def named_pre_tokenizers() -> dict[str, str]:
    """Returns the JSON of every pre-tokenizer of the library that needs no settings, by its name."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    found = {}
    for name, kind in sorted(vars(pre_tokenizers).items()):
        if isinstance(kind, type) and issubclass(kind, pre_tokenizers.PreTokenizer):
            carrier = Tokenizer(models.WordLevel({}, unk_token=""))
            try:
                carrier.pre_tokenizer = kind()
            except TypeError:  # it has settings without a default
                continue
            found[name] = json.dumps(json.loads(carrier.to_str())["pre_tokenizer"])
    return found


def _visible(piece: str) -> str:
    """Returns a piece in normal form NFC without invisible signs; nothing where it has no others."""
    token = unicodedata.normalize("NFC", piece.translate(_INVISIBLE))
    return "" if _JOINING.issuperset(token) else token
