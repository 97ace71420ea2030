"""Do the words stand for the prediction? The matching rate (Table 4)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fastinterp.kernels.problems import OptimizationConfig
from fastinterp.method.interpretation import interpret
from fastinterp.method.places import is_own
from fastinterp.models.protocol import TextClassifier
from fastinterp.text.sentences import check_sentences
from fastinterp.text.vocabulary import PAD


@dataclass(frozen=True)
class MatchingRate:
    """How often the neighbours of a sentence's locations, read as a sentence, get the sentence's predicted class.

    Attributes:
        matched: sentences that match.
        total: sentences with at least one token; the others have no words to feed.
    """

    matched: int
    total: int

    @property
    def rate(self) -> float:
        """Matched sentences divided by all that have words; NaN where there are none."""
        return self.matched / self.total if self.total else float("nan")


def matches(model: TextClassifier, ids: Tensor, words: Sequence[Sequence[str]], label: Tensor) -> Tensor:
    """Returns whether each sentence's words, read as a sentence, are given its class: (B,) float64, 1 or 0.

    NaN where a sentence has no words, so nothing to read.

    Args:
        model: the classifier.
        ids: (B, L) int64 on the CPU, the sentences, whose special tokens such as [CLS] stand around their words too.
        words: all words said of each of B sentences, in the order of reading.
        label: (B,) int64, the class that the model predicts for each sentence.

    Raises:
        ValueError: not one class for each sentence.
    """
    if label.shape != (len(words),):
        raise ValueError(f"label: expected one for each of {len(words)} sentences, got {tuple(label.shape)}")
    if not len(words):
        return torch.empty(0, dtype=torch.float64)
    same = model.class_scores(_as_sentences(model, ids, words)).argmax(dim=1) == label.cpu()
    return torch.where(torch.tensor([len(each) > 0 for each in words]), same.double(), torch.nan)


def _as_sentences(model: TextClassifier, ids: Tensor, words: Sequence[Sequence[str]]) -> Tensor:
    """Returns the ids (B, W) of words in place of the sentences' own tokens (B, L), cut to the frame."""
    said, tokens = model.token_ids(words), is_own(model, ids)
    special = (ids != PAD) & ~tokens
    if not special.any():
        return said
    begins = (tokens.cumsum(dim=1) == 0) & special
    rows = []
    for sentence, own, before, every in zip(ids, said, begins, special, strict=True):
        head, tail = sentence[before], sentence[every & ~before]
        rows.append(torch.cat([head, own[own != PAD][: max(0, model.length - len(head) - len(tail))], tail]))
    width = max(said.shape[1], *(len(row) for row in rows))
    return torch.stack([functional.pad(row, (0, width - len(row)), value=PAD) for row in rows])


def words_of_sentences(words: Sequence[Sequence[str]], sentence: Tensor, count: int) -> list[list[str]]:
    """Returns what is said of each sentence, the words of its first location first.

    Args:
        words: of each of N locations.
        sentence: (N,) int64, row of each location's sentence.
        count: number of sentences; those without a location have no words.
    """
    said: list[list[str]] = [[] for _ in range(count)]
    for row, each in zip(sentence.tolist(), words, strict=True):
        said[row] += each
    return said


def matching_rate(
    model: TextClassifier,
    sentences: Iterable[str],
    layer: int = 0,
    locations: int = 3,
    neighbors: int = 5,
    optimization: OptimizationConfig | None = None,
) -> MatchingRate:
    """Returns the matching rate: the k x m words, most salient location first, are classified as a sentence.

    Args:
        model: the classifier.
        sentences: raw texts.
        layer: index of the interpreted convolution.
        locations: m, locations per sentence.
        neighbors: k, words per location.
        optimization: settings of the input optimisation.

    Raises:
        TypeError, ValueError: as `interpret`.
    """
    read = check_sentences(sentences)
    found = interpret(model, read, layer, locations, neighbors, optimization, answers=("points_to",))
    words = [[word for location in each.locations for word, _ in location.neighbors or ()] for each in found]
    label = torch.tensor([model.classes.index(each.label) for each in found], dtype=torch.int64)
    matched = matches(model, model.read(read).ids, words, label)
    return MatchingRate(int(matched.nansum()), int((~matched.isnan()).sum()))
