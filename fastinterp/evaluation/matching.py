"""Do the words stand for the prediction? The matching rate (Table 4)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fastinterp.kernels.problems import OptimizationConfig
from fastinterp.method.interpretation import interpret
from fastinterp.models.protocol import TextClassifier


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


def matches(model: TextClassifier, words: Sequence[Sequence[str]], label: Tensor) -> Tensor:
    """Returns whether each sentence's words, read as a sentence, are given its class: (B,) float64, 1 or 0.

    NaN where a sentence has no words, so nothing to read.

    Args:
        model: the classifier.
        words: all words said of each of B sentences, in the order of reading.
        label: (B,) int64, the class that the model predicts for each sentence.

    Raises:
        ValueError: not one class for each sentence.
    """
    if label.shape != (len(words),):
        raise ValueError(f"label: expected one for each of {len(words)} sentences, got {tuple(label.shape)}")
    if not len(words):
        return torch.empty(0, dtype=torch.float64)
    same = model.class_scores(model.token_ids(words)).argmax(dim=1) == label.cpu()
    return torch.where(torch.tensor([len(each) > 0 for each in words]), same.double(), torch.nan)


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
    found = interpret(model, sentences, layer, locations, neighbors, optimization, answers=("points_to",))
    words = [[word for location in each.locations for word, _ in location.neighbors or ()] for each in found]
    label = torch.tensor([model.classes.index(each.label) for each in found], dtype=torch.int64)
    matched = matches(model, words, label)
    return MatchingRate(int(matched.nansum()), int((~matched.isnan()).sum()))
