"""Do the words stand for the prediction? The matching rate (Table 4)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

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
    interpretations = interpret(model, sentences, layer, locations, neighbors, optimization, answers=("points_to",))
    explained = [each for each in interpretations if each.locations]
    if not explained:
        return MatchingRate(0, 0)
    words = [[word for location in each.locations for word, _ in location.neighbors or ()] for each in explained]
    predicted = model.class_scores(model.token_ids(words)).argmax(dim=1).tolist()
    matched = sum(model.classes[label] == each.label for label, each in zip(predicted, explained, strict=True))
    return MatchingRate(matched, len(explained))
