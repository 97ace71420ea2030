"""How sure a mean is: a bootstrap over sentences."""

from __future__ import annotations

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
    if values.dim() != 1 or (sentence is not None and sentence.shape != values.shape):
        shape = None if sentence is None else tuple(sentence.shape)
        raise ValueError(
            f"values: expected (N,) and the sentence of each, got {tuple(values.shape)} and {shape or 'none'}"
        )
    draws = integer("samples", samples, least=1)
    outside = (1 - number("level", level, above=0, below=1)) / 2
    given = values.detach().cpu().double().numpy()
    owner = np.arange(len(given)) if sentence is None else sentence.cpu().numpy()
    measured = ~np.isnan(given)
    if np.isinf(given).any():
        raise ValueError("values: expected numbers or NaN, got infinity")
    if not measured.any():
        return Estimate(None, None, None, 0)
    _, owner = np.unique(owner[measured], return_inverse=True)
    counts = np.bincount(owner).astype(np.float64)
    sums = np.bincount(owner, weights=given[measured]).astype(np.float64)
    value = float(sums.sum() / counts.sum())
    if len(sums) < 2:
        return Estimate(value, None, None, len(sums))
    means = _redrawn_means(sums, counts, draws, integer("seed", seed, least=0))
    low, high = np.quantile(means, (outside, 1 - outside))
    return Estimate(value, float(low), float(high), len(sums))


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
