"""Tokenizers by name, by settings, by function."""

from __future__ import annotations

import json
from collections.abc import Mapping

from fastinterp.text.custom import CustomTokenizer, CutFunction
from fastinterp.text.kim import KimTokenizer
from fastinterp.text.tokenizer import Tokenizer
from fastinterp.text.unicode import UnicodeTokenizer, named_pre_tokenizers
from fastinterp.validation import got

NAMES = ("kim", "unicode")
TokenizerChoice = Tokenizer | str | Mapping[str, object] | CutFunction


def make_tokenizer(choice: TokenizerChoice) -> Tokenizer:
    """Returns the tokeniser that was asked for.

    Args:
        choice: "kim" (the paper's: ASCII alone), "unicode" (every script), the name of a pre-tokenizer of the library
            `tokenizers` that needs no settings, such as "Whitespace", or its JSON, such as `{"type": "Punctuation",
            "behavior": "Isolated"}`; a function of yours that cuts a text; or a tokeniser, which is returned.

    Raises:
        ValueError: there is no such tokeniser, or the function has no name.
        TypeError: something else.
    """
    if isinstance(choice, (KimTokenizer, UnicodeTokenizer, CustomTokenizer)):
        return choice
    if isinstance(choice, str):
        return _named(choice)
    if isinstance(choice, Mapping):
        return UnicodeTokenizer(_json(choice))
    if callable(choice):
        return CustomTokenizer.of(choice)
    raise TypeError(f"tokenizer: expected a name, a pre-tokenizer's JSON or a function, got {got(choice)}")


def tokenizer_from_fields(fields: object) -> Tokenizer:
    """Returns the tokeniser that `to_fields` describes; a function has to be given to it later.

    Raises:
        ValueError: no such tokeniser, or settings that it does not have.
    """
    match fields:
        case {"name": "kim", **rest} if not rest:
            return KimTokenizer()
        case {"name": "unicode", "pre_tokenizer": dict(settings), **rest} if not rest:
            return UnicodeTokenizer(_json(settings))
        case {"name": "custom", "function": str(name), **rest} if not rest:
            return CustomTokenizer(name, None)
    raise ValueError(f"tokenizer: expected name and settings of one, got {got(fields)}")


def _named(name: str) -> Tokenizer:
    if name == "kim":
        return KimTokenizer()
    if name == "unicode":
        return UnicodeTokenizer()
    known = named_pre_tokenizers()
    if name in known:
        return UnicodeTokenizer(known[name])
    raise ValueError(f"tokenizer: expected one of {', '.join((*NAMES, *known))}, got {got(name)}")


def _json(settings: Mapping[str, object]) -> str:
    try:
        return json.dumps(settings)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"tokenizer: expected what JSON knows, got {got(settings)}") from error
