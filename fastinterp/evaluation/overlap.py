"""Do answers differ, and do they stay the same where they should?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from fastinterp.evaluation.draws import draw_others

COMMONEST = 10
PARTNERS = 10


def different_words(words: Sequence[Sequence[str]]) -> int:
    """Returns how many different words are said of all locations together.

    It grows with the locations, so compare it only over the same ones; no mean, it has no interval.

    Args:
        words: of each location.
    """
    return len({word for each in words for word in each})


def commonest_share(words: Sequence[Sequence[str]], label: Tensor, most: int = COMMONEST) -> Tensor:
    """Returns which share of each location's words are among the commonest of its class, (B,) float64.

    Where as many words are said of each location, the mean is the share of all that is said that they cover. NaN for
    a location without words. Ties go to the alphabetically first.

    Args:
        words: of each location.
        label: (B,) int64, predicted class of its sentence.
        most: how many words of each class.
    """
    said: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for value, each in zip(label.tolist(), words, strict=True):
        said[value].update(each)
    common = {
        value: set(sorted(counts, key=lambda word: (-counts[word], word))[:most]) for value, counts in said.items()
    }
    shares = [
        sum(word in common[value] for word in each) / len(each) if each else float("nan")
        for value, each in zip(label.tolist(), words, strict=True)
    ]
    return torch.tensor(shares, dtype=torch.float64)


def overlap_within(words: Sequence[Sequence[str]], sentence: Tensor) -> Tensor:
    """Returns for each location its mean Jaccard overlap with the others of its sentence, (B,) float64.

    Averaged over a sentence's locations this is the mean over its pairs. NaN where the sentence has no other location.

    Args:
        words: of each location.
        sentence: (B,) int64, naming the sentence of each.
    """
    sets = [frozenset(each) for each in words]
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for row, value in enumerate(sentence.tolist()):
        groups[value].append(row)
    totals = torch.full((len(sets),), torch.nan, dtype=torch.float64)
    for rows in groups.values():
        if len(rows) > 1:
            totals[rows] = 0
        for mine, its in combinations(rows, 2):
            totals[[mine, its]] += jaccard(sets[mine], sets[its]) / (len(rows) - 1)
    return totals


def overlap_between(
    words: Sequence[Sequence[str]], sentence: Tensor, label: Tensor, seed: int = 0, partners: int = PARTNERS
) -> Tensor:
    """Returns for each location its mean Jaccard overlap with random ones of its class, (B,) float64.

    The others are of other sentences, drawn as `draw_others` says; NaN where there are none.

    Args:
        words: of each location.
        sentence: (B,) int64, naming the sentence of each.
        label: (B,) int64, predicted class of that sentence.
        seed: of the draw.
        partners: how many others for each location.
    """
    sets = [frozenset(each) for each in words]
    drawn = draw_others(sentence, label, partners, seed).tolist()
    means = []
    for mine, others in zip(sets, drawn, strict=True):
        shared = [jaccard(mine, sets[row]) for row in others if row >= 0]
        means.append(sum(shared) / len(shared) if shared else float("nan"))
    return torch.tensor(means, dtype=torch.float64)


def jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    """Returns the share of the words of either that both have; 1 where neither has any."""
    either = len(first | second)
    return len(first & second) / either if either else 1.0


def agreement(first: Sequence[Sequence[str]], second: Sequence[Sequence[str]]) -> Tensor:
    """Returns for each location the share of positions at which two runs say the same word, (B,) float64.

    NaN where there are no positions.

    Args:
        first: one word for each position of each location.
        second: the same locations in the same order, such as with another seed.

    Raises:
        ValueError: not the same locations, or not the same positions.
    """
    if [len(each) for each in first] != [len(each) for each in second]:
        raise ValueError("first, second: expected the same numbers of words for the same locations")
    shares = [
        sum(mine == its for mine, its in zip(*pair, strict=True)) / len(pair[0]) if pair[0] else float("nan")
        for pair in zip(first, second, strict=True)
    ]
    return torch.tensor(shares, dtype=torch.float64)
