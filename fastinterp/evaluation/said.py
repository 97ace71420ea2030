"""What is said of locations, in the model's own words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fastinterp.method.evidence import Evidence
from fastinterp.method.saliency import same_width
from fastinterp.models.protocol import TextClassifier
from fastinterp.text.vocabulary import UNKNOWN


@dataclass(frozen=True, eq=False)
class Answer:
    """What is said of N locations.

    Attributes:
        words: of each, in the model's words where it has one.
        offset: (N,) int64, row of the field where the first word stands; None where it is the first inside the frame.
        field: (N, C) activations of the optimised inputs that the words were read from; None where there are none.
        inputs: (N, R, D) those inputs; None where they were not asked for, since they are large.
    """

    words: list[list[str]]
    offset: Tensor | None = None
    field: Tensor | None = None
    inputs: Tensor | None = None

    @classmethod
    def joined(cls, parts: Sequence[Answer]) -> Answer:
        """Returns the answers of all parts; optimised inputs get the rows of the longest fields."""
        offsets = [part.offset for part in parts if part.offset is not None]
        fields = [part.field for part in parts if part.field is not None]
        inputs = [part.inputs for part in parts if part.inputs is not None]
        return cls(
            [words for part in parts for words in part.words],
            torch.cat(offsets) if offsets else None,
            torch.cat(fields) if fields else None,
            torch.cat(same_width(inputs)) if inputs else None,
        )


def named(model: TextClassifier, tokens: Sequence[str], ids: Tensor) -> list[str]:
    """Returns the tokens as the model's words; one that it does not know stays what it is.

    A tokenizer's token may be a piece of the text that is another string than its word: "Good" for good.
    """
    return [model.words[i] if i > UNKNOWN else token for token, i in zip(tokens, ids.tolist(), strict=True)]


def evidence_words(model: TextClassifier, found: Sequence[Evidence | None]) -> list[list[str]]:
    """Returns the n-grams as the model's words, by reading the sentences that they stand in."""
    texts = list(dict.fromkeys(each.text for each in found if each is not None))
    read = model.read(texts)
    rows = {text: row for row, text in enumerate(texts)}
    words: list[list[str]] = []
    for each in found:
        if each is None:
            words.append([])
            continue
        tokens, count = read.texts[rows[each.text]].tokens, len(each.tokens)
        first = next(i for i in range(len(tokens)) if tokens[i : i + count] == each.tokens)
        words.append(named(model, each.tokens, read.ids[rows[each.text], first : first + count]))
    return words
