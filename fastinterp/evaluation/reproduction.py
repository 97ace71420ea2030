"""How much of a location an answer brings back: its activation, and its very words."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from fastinterp.evaluation.overlap import agreement
from fastinterp.models.protocol import TextClassifier


def reproduction(found: Tensor, own: Tensor) -> Tensor:
    """Returns the cosine of each location's activation and the one that its answer brings about, (B,) float64.

    This is what Eq. 5 asks for, a . a'(X), without the lengths. NaN where a location has no activation at all; 0 where
    only the answer has none.

    Args:
        found: (B, C) activations of the answers, such as the optimised inputs' (`field_activations`).
        own: (B, C) activations of the locations.

    Raises:
        ValueError: shapes that do not fit.
    """
    if found.shape != own.shape or own.dim() != 2:
        raise ValueError(f"found, own: expected the same (B, C), got {tuple(found.shape)} and {tuple(own.shape)}")
    mine = own.detach().cpu().double()
    cosines = functional.cosine_similarity(found.detach().cpu().double(), mine, dim=1, eps=1e-300)
    return torch.where(mine.any(dim=1), cosines, torch.nan)


def words_held(model: TextClassifier, answers: Sequence[Sequence[str]], tokens: Sequence[Sequence[str]]) -> Tensor:
    """Returns for each location the share of its field's tokens that an inversion gave back, (B,) float64.

    An inversion (Mahendran and Vedaldi 2015) is asked for the words that bring the activation about, such as by
    coordinate ascent over words. What it gives back the layer still holds: a measurement of the layer, not of an
    explanation. Tokens without a vector of their own, of which no layer knows anything, are left out; NaN where
    nothing is left.

    Args:
        model: the classifier.
        answers: one word for each token of each location.
        tokens: the tokens.

    Raises:
        ValueError: not one word for each token.
    """
    if [len(each) for each in answers] != [len(each) for each in tokens]:
        raise ValueError("answers, tokens: expected one word for each token of each location")
    pairs = [
        [(word, token) for word, token in zip(*pair, strict=True) if model.is_known(token)]
        for pair in zip(answers, tokens, strict=True)
    ]
    return agreement(*([[pair[side] for pair in each] for each in pairs] for side in (0, 1)))
