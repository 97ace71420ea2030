"""A user's own function as a tokeniser, such as a word segmenter for Chinese."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from fastinterp.text.tokenizer import TokenizedText, uncovered
from fastinterp.validation import got

# What it returns: tokens as they stand in the text, or each with its (begin, end) where it is spelt otherwise.
CutFunction = Callable[[str], Iterable[str] | Iterable[tuple[str, tuple[int, int]]]]


@dataclass(frozen=True)
class CustomTokenizer:
    """Cuts by a user's own function. What is white space alone is no token.

    Attributes:
        name: of the function; saved with the model in its stead.
        function: gives the tokens of a text in their order, as they stand in it, or as pairs of a token and its
            (begin, end) in the text. None for a model whose folder was read: `load_model` takes it.
    """

    name: str
    function: CutFunction | None

    @classmethod
    def of(cls, function: CutFunction) -> CustomTokenizer:
        """Returns the tokeniser under the function's own name; raises ValueError where it has none."""
        name = getattr(function, "__qualname__", None)
        if not isinstance(name, str) or "<lambda>" in name:
            raise ValueError(
                f"tokenizer: expected a function with a name, under which a model is saved, got {got(function)}"
            )
        return cls(name, function)

    def read(self, text: str) -> TokenizedText:
        """Returns the tokens of `text`, where they stand in it, and what is part of none.

        Raises:
            ValueError: the function was not given, or it returns something else than tokens of the text.
        """
        if self.function is None:
            raise ValueError(f"tokenizer: expected the function {self.name}, which cuts this model's texts, got none")
        tokens, spans = [], []
        last = 0
        for each in self.function(text):
            token, begin, end = self._place(each, text, last)
            if token.isspace() or not token:
                continue
            if token.split() != [token]:
                raise ValueError(f"tokenizer: expected tokens without white space from {self.name}, got {got(token)}")
            tokens.append(token)
            spans.append((begin, end))
            last = end
        return TokenizedText(tuple(tokens), uncovered(text, spans), tuple(spans))

    def to_fields(self) -> dict[str, object]:
        """Returns the name; the function itself cannot be saved."""
        return {"name": "custom", "function": self.name}

    def __deepcopy__(self, memo: dict[int, Any]) -> CustomTokenizer:
        # A function may hold what cannot be copied, such as a segmenter with a lock; and nothing here ever changes.
        return self

    def _place(self, each: object, text: str, last: int) -> tuple[str, int, int]:
        """Returns a token and its place, which must be behind `last`."""
        if isinstance(each, str):
            begin = text.find(each, last)
            if begin < 0:
                raise ValueError(
                    f"tokenizer: expected tokens in the order of the text from {self.name}, or pairs with (begin, end),"
                    f" got {got(each)}, which does not stand behind character {last}"
                )
            return each, begin, begin + len(each)
        match each:
            case (str(token), (int(begin), int(end))) if last <= begin < end <= len(text):
                return token, begin, end
        raise ValueError(
            f"tokenizer: expected tokens, or pairs of a token and its (begin, end) in order, from {self.name}, "
            f"got {got(each)}"
        )
