"""Texts to rows of a user's embedding, by whatever tokenizer the user has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fastinterp.messages import quoted
from fastinterp.text.tokenizer import TokenizedText, uncovered
from fastinterp.validation import got


@dataclass(frozen=True)
class Read:
    """One text as a tokenizer reads it.

    Attributes:
        text: its tokens, and what was dropped.
        rows: the embedding's row of each token.
    """

    text: TokenizedText
    rows: list[int]


@dataclass(frozen=True)
class Lexicon:
    """The words of an embedding.

    Attributes:
        words: by row.
        rows: by word; the first one of several equal ones.
        padding: the row of padding.
        unknown: the row of unknown words, if there is one.
    """

    words: tuple[str, ...]
    rows: Mapping[str, int]
    padding: int
    unknown: int | None

    def row(self, token: str) -> int:
        """Returns the row of a token; raises ValueError where it has none and there is none for unknown words."""
        found = self.rows.get(token, self.unknown)
        if found is None:
            raise ValueError(
                f"tokenizer: expected tokens that are among words, got {quoted(token)}; unknown_id= names the row of "
                "all others"
            )
        return found


Reader = Callable[[str], Read]


def reader_of(tokenizer: object, lexicon: Lexicon) -> Reader:
    """Returns the function that reads a text.

    Args:
        tokenizer: a callable that gives ids, (ids, offsets) or tokens; a tokenizer of the library `tokenizers` or a
            fast one of `transformers`; or one of ours, whose `read` gives tokens.
        lexicon: the words of the embedding.

    Raises:
        TypeError: something else.
    """
    if hasattr(tokenizer, "read"):
        return lambda text: _from_tokenized(tokenizer.read(text), lexicon)
    if hasattr(tokenizer, "encode") and hasattr(tokenizer, "get_vocab_size"):
        return lambda text: _from_encoding(text, tokenizer.encode(text), lexicon)
    if hasattr(tokenizer, "backend_tokenizer"):
        return lambda text: _from_batch_encoding(text, tokenizer, lexicon)
    if not callable(tokenizer):
        raise TypeError(
            "tokenizer: expected a callable from text to ids, (ids, offsets) or tokens, or a tokenizer of tokenizers, "
            f"transformers (a fast one) or fastinterp, got {type(tokenizer).__name__}"
        )
    return lambda text: _from_callable(text, tokenizer(text), lexicon)


def words_of(tokenizer: object, words: object, rows: int) -> tuple[str, ...]:
    """Returns the word of each row of the embedding.

    Args:
        tokenizer: whose own vocabulary is used where `words` is None.
        words: a word for each row, or a mapping of words to rows.
        rows: V.

    Raises:
        TypeError: `words` is of another kind.
        ValueError: it does not fit the embedding, or is None and the tokenizer has no vocabulary.
    """
    if words is None and hasattr(tokenizer, "get_vocab"):
        words = tokenizer.get_vocab()
    if words is None:
        raise ValueError(f"words: expected a word for each of the embedding's {rows:,} rows, got None")
    if isinstance(words, Mapping):
        named = [f"<row {row}>" for row in range(rows)]
        for word, row in words.items():
            if not isinstance(word, str) or isinstance(row, bool) or not isinstance(row, int):
                raise TypeError(f"words: expected a mapping of strings to rows, got {got(word)}: {got(row)}")
            if not 0 <= row < rows:
                raise ValueError(f"words: expected rows 0 to {rows - 1} of the embedding, got {row} for {quoted(word)}")
            named[row] = word
        return tuple(named)
    if isinstance(words, (str, bytes)) or not isinstance(words, Sequence):
        raise TypeError(f"words: expected a list of words or a mapping of words to rows, got {type(words).__name__}")
    other = next((word for word in words if not isinstance(word, str)), None)
    if other is not None:
        raise TypeError(f"words: expected strings, got {got(other)}")
    if len(words) != rows:
        raise ValueError(f"words: expected a word for each of the embedding's {rows:,} rows, got {len(words):,}")
    return tuple(words)


def special_rows(tokenizer: object, lexicon: Lexicon) -> set[int]:
    """Returns the rows of special tokens, which are no words of an answer."""
    special: set[int] = {lexicon.padding} | (set() if lexicon.unknown is None else {lexicon.unknown})
    special |= {int(row) for row in getattr(tokenizer, "all_special_ids", ())}
    if hasattr(tokenizer, "get_added_tokens_decoder"):
        special |= {row for row, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    return special


def _from_tokenized(read: Any, lexicon: Lexicon) -> Read:
    if not isinstance(read, TokenizedText):
        raise TypeError(f"tokenizer: expected read(text) to give a TokenizedText, got {type(read).__name__}")
    rows = [lexicon.row(token) for token in read.tokens]
    return Read(read, rows)


def _from_callable(text: str, found: Any, lexicon: Lexicon) -> Read:
    offsets = None
    if isinstance(found, tuple) and len(found) == 2 and not isinstance(found[0], (int, str)):
        found, offsets = found
    listed = found.tolist() if isinstance(found, Tensor) or hasattr(found, "tolist") else found
    if isinstance(listed, (str, bytes)) or not isinstance(listed, Sequence):
        raise TypeError(f"tokenizer: expected ids or tokens of a text, got {type(found).__name__}")
    if all(isinstance(each, str) for each in listed):
        rows = [lexicon.row(token) for token in listed]
        return Read(TokenizedText(tuple(listed)), rows)
    return _from_rows(text, listed, offsets, None, lexicon)


def _from_encoding(text: str, encoding: Any, lexicon: Lexicon) -> Read:
    return _from_rows(text, encoding.ids, encoding.offsets, encoding.special_tokens_mask, lexicon)


def _from_batch_encoding(text: str, tokenizer: Any, lexicon: Lexicon) -> Read:
    encoding = tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True)
    return _from_rows(text, encoding["input_ids"], encoding["offset_mapping"], encoding["special_tokens_mask"], lexicon)


def _from_rows(
    text: str, given: Sequence[Any], offsets: Sequence[Any] | None, special: Sequence[int] | None, lexicon: Lexicon
) -> Read:
    """Checks ids, takes padding off their end, and finds the surface of each token."""
    rows = [_row(each, lexicon) for each in given]
    if offsets is not None and len(offsets) != len(rows):
        raise ValueError(f"tokenizer: expected an offset for each of {len(rows)} ids, got {len(offsets)}")
    while rows and rows[-1] == lexicon.padding:
        rows.pop()
    if lexicon.padding in rows:
        raise ValueError(
            f"tokenizer: expected padding behind the tokens alone, got padding_id {lexicon.padding} at token "
            f"{rows.index(lexicon.padding)} of {len(rows)}"
        )
    masked = [bool(each) for each in special[: len(rows)]] if special is not None else [False] * len(rows)
    if offsets is None:
        return Read(TokenizedText(tuple(lexicon.words[row] for row in rows)), rows)
    spans = [(int(begin), int(end)) for begin, end in offsets[: len(rows)]]
    tokens = tuple(
        lexicon.words[row] if hidden or begin >= end else text[begin:end]
        for row, (begin, end), hidden in zip(rows, spans, masked, strict=True)
    )
    return Read(TokenizedText(tokens, uncovered(text, spans), tuple(spans)), rows)


def _row(given: object, lexicon: Lexicon) -> int:
    if isinstance(given, bool) or not hasattr(given, "__index__"):
        raise TypeError(f"tokenizer: expected ids or tokens of a text, got {got(given)} among them")
    row = int(given.__index__())
    if not 0 <= row < len(lexicon.words):
        raise ValueError(f"tokenizer: expected ids 0 to {len(lexicon.words) - 1}, the embedding's rows, got {row}")
    return row
