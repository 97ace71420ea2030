"""How sure a mean is: a bootstrap over sentences, or over sentences and trained models at once."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fastinterp.validation import integer, number

SAMPLES = 1000
LEVEL = 0.95

_DRAWS_AT_ONCE = 1 << 22  # bounds the memory for the drawn sentences


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval.

    Attributes:
        value: the mean; None where there was nothing to measure.
        low: lower end of the interval; None where fewer than two sentences were measured, as `high`.
        high: upper end.
        count: sentences that were measured.
    """

    value: float | None
    low: float | None
    high: float | None
    count: int


@dataclass(frozen=True)
class SeedsEstimate(Estimate):
    """A mean over models that were trained with several seeds.

    Attributes:
        least: the lowest of the models' means; None where there was nothing to measure, as `most`.
        most: the highest.
        seeds: how many models were measured.
    """

    least: float | None
    most: float | None
    seeds: int


@dataclass(frozen=True, eq=False)
class SentenceSums:
    """Values of S sentences, added up sentence by sentence: all that a bootstrap over sentences needs.

    Attributes:
        sums: (S,) float64, of each sentence's values.
        counts: (S,) float64, how many there are; 0 where there was nothing to measure.
    """

    sums: NDArray[np.float64]
    counts: NDArray[np.float64]

    @classmethod
    def of(cls, values: Tensor, sentence: Tensor | None, sentences: int) -> SentenceSums:
        """Returns the sums of values.

        Args:
            values: (N,) numbers or truth values; NaN says that there was nothing to measure and is left out.
            sentence: (N,) int64, row of each value's sentence; each value is its own sentence where None.
            sentences: S.

        Raises:
            ValueError: shapes that do not fit, or infinite values.
        """
        if values.dim() != 1 or (sentence is not None and sentence.shape != values.shape):
            shape = None if sentence is None else tuple(sentence.shape)
            raise ValueError(
                f"values: expected (N,) and the sentence of each, got {tuple(values.shape)} and {shape or 'none'}"
            )
        given = values.detach().cpu().double().numpy()
        if np.isinf(given).any():
            raise ValueError("values: expected numbers or NaN, got infinity")
        owner = np.arange(len(given)) if sentence is None else sentence.cpu().numpy()
        measured = ~np.isnan(given)
        counts = np.bincount(owner[measured], minlength=sentences).astype(np.float64)
        sums = np.bincount(owner[measured], weights=given[measured], minlength=sentences).astype(np.float64)
        return cls(sums, counts)

    def estimate(self, seed: int = 0, samples: int = SAMPLES, level: float = LEVEL) -> Estimate:
        """Returns the mean and its interval, as `bootstrap_mean`."""
        draws = integer("samples", samples, least=1)
        outside = (1 - number("level", level, above=0, below=1)) / 2
        measured = self.counts > 0
        sums, counts = self.sums[measured], self.counts[measured]
        if not len(sums):
            return Estimate(None, None, None, 0)
        value = float(sums.sum() / counts.sum())
        if len(sums) < 2:
            return Estimate(value, None, None, len(sums))
        means = _redrawn_means(sums, counts, draws, integer("seed", seed, least=0))
        low, high = np.quantile(means, (outside, 1 - outside))
        return Estimate(value, float(low), float(high), len(sums))


def bootstrap_over_seeds(
    models: Sequence[SentenceSums], seed: int = 0, samples: int = SAMPLES, level: float = LEVEL
) -> SeedsEstimate:
    """Returns the mean over models of the same sentences, and its interval over redrawn models and sentences.

    Two models' values of one sentence are no independent observations, and neither are two sentences' values of one
    model. So both are drawn with replacement, and every drawn model is read at the same drawn sentences (Owen 2007,
    "The pigeonhole bootstrap"). Each model weighs the same. Of three models the interval says less than of many: it
    tends to be too narrow by a factor of the root of 2/3 in what the models add to it.

    Args:
        models: of each model the values of the same S sentences.
        seed: of the draw.
        samples: how often models and sentences are drawn.
        level: share of the redrawn means that the interval holds.

    Raises:
        ValueError: no models, not the same number of sentences, no samples or a level outside 0 and 1.
    """
    draws = integer("samples", samples, least=1)
    outside = (1 - number("level", level, above=0, below=1)) / 2
    if not models or len({len(each.sums) for each in models}) > 1:
        raise ValueError("models: expected at least one, and as many sentences of each")
    sums, counts = (np.stack([getattr(each, name) for each in models]) for name in ("sums", "counts"))
    filled = counts.sum(axis=1) > 0
    sums, counts = sums[filled], counts[filled]
    if not len(sums):
        return SeedsEstimate(None, None, None, 0, None, None, 0)
    means = sums.sum(axis=1) / counts.sum(axis=1)
    value, least, most = float(means.mean()), float(means.min()), float(means.max())
    sentences = int((counts.sum(axis=0) > 0).sum())
    if sentences < 2:
        return SeedsEstimate(value, None, None, sentences, least, most, len(means))
    seed = integer("seed", seed, least=0)
    weights = _redrawn_weights(sums.shape[1], draws, seed)
    drawn_sums, drawn_counts = weights @ sums.T, weights @ counts.T  # (draws, models)
    # A model has no mean where it has no value at any of the drawn sentences; then the others speak for the draw.
    ratios = np.divide(drawn_sums, drawn_counts, out=np.full_like(drawn_sums, np.nan), where=drawn_counts > 0)
    chosen = np.random.default_rng([seed, 1]).integers(len(means), size=ratios.shape)
    redrawn = np.ma.masked_invalid(np.take_along_axis(ratios, chosen, axis=1)).mean(axis=1).compressed()
    low, high = np.quantile(redrawn, (outside, 1 - outside))
    return SeedsEstimate(value, float(low), float(high), sentences, least, most, len(means))


@functools.lru_cache(maxsize=4)
def _redrawn_weights(sentences: int, samples: int, seed: int) -> NDArray[np.float64]:
    """Returns (samples, sentences), how often each sentence is drawn; a table asks for the same again and again."""
    generator = np.random.default_rng([seed, 0])
    weights = np.zeros((samples, sentences))
    for row in weights:
        row += np.bincount(generator.integers(sentences, size=sentences), minlength=sentences)
    return weights


def bootstrap_mean(
    values: Tensor,
    sentence: Tensor | None = None,
    seed: int = 0,
    samples: int = SAMPLES,
    level: float = LEVEL,
) -> Estimate:
    """Returns the mean of values and its percentile interval over redrawn sentences (Efron and Tibshirani 1993).

    Values of one sentence are no independent observations, so sentences are drawn, each with all its values (a
    cluster bootstrap). The mean is over the values: a sentence with three of them weighs as three, and every redrawn
    mean is the ratio of two sums. Where all values are the same the interval is a single point, which is no certainty:
    after n successes of n a rate below 1 - 3 / n is ruled out, no more.

    Args:
        values: (N,) numbers or truth values; NaN says that there was nothing to measure and is left out.
        sentence: (N,) int64, the sentence of each value by any number; each value is its own sentence where None.
        seed: of the draw; equal arguments give equal intervals.
        samples: how often as many sentences are drawn as there are.
        level: share of the redrawn means that the interval holds.

    Raises:
        ValueError: shapes that do not fit, infinite values, no samples or a level outside 0 and 1.
    """
    if sentence is None or sentence.shape != values.shape:
        return SentenceSums.of(values, sentence, 0).estimate(seed, samples, level)
    place = sentence.cpu().unique(return_inverse=True)[1]
    return SentenceSums.of(values, place, 0).estimate(seed, samples, level)


def _redrawn_means(
    sums: NDArray[np.float64], counts: NDArray[np.float64], samples: int, seed: int
) -> NDArray[np.float64]:
    """Returns (samples,) ratios of sums, each over as many sentences as there are, drawn with replacement."""
    generator = np.random.default_rng(seed)
    means = np.empty(samples)
    at_once = max(1, _DRAWS_AT_ONCE // len(sums))
    for first in range(0, samples, at_once):
        drawn = generator.integers(len(sums), size=(min(at_once, samples - first), len(sums)))
        means[first : first + len(drawn)] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return means
