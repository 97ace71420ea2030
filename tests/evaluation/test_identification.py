from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fastinterp.evaluation import identification as module
from fastinterp.evaluation.draws import draw_others
from fastinterp.evaluation.identification import identification_ranks
from fastinterp.method.background import LayerBackground, Whitening


def whitening_of(activations: Tensor) -> Whitening:
    values = activations.double()
    covariance = torch.from_numpy(np.atleast_2d(np.cov(values.numpy().T)))
    return LayerBackground(
        values.mean(0), covariance, torch.ones(values.shape[1], dtype=torch.float64), len(values)
    ).whitening()


def reference_ranks(found: Tensor, own: Tensor, drawn: list[list[int]], whitening: Whitening) -> list[int]:
    """By loops, in float64, with (a - mu)' P (b - mu) in place of a factor of P."""
    precision, mean = whitening.precision.numpy(), whitening.mean.numpy()

    def cosine(first: Tensor, second: Tensor) -> float:
        x, y = (each.double().numpy() - mean for each in (first, second))
        return float(x @ precision @ y / np.sqrt((x @ precision @ x) * (y @ precision @ y)))

    ranks = []
    for row, others in enumerate(drawn):
        mine = cosine(found[row], own[row])
        ranks.append(1 + sum(cosine(found[row], own[other]) >= mine for other in others if other >= 0))
    return ranks


@given(st.integers(0, 1000), st.integers(1, 25), st.sampled_from([1, 300, 1 << 23]))
def test_ranks_are_those_of_the_definition(seed: int, distractors: int, at_once: int):
    generator = torch.Generator().manual_seed(seed)
    count = int(torch.randint(4, 60, (), generator=generator))
    own = torch.randn(count, 6, generator=generator).relu()
    found = own + 0.7 * torch.randn(count, 6, generator=generator)
    sentence = torch.randint(count // 2 + 1, (count,), generator=generator)
    label = sentence % 2
    whitening = whitening_of(own + 0.1 * torch.randn(count, 6, generator=generator))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_FLOATS_AT_ONCE", at_once)
        result = identification_ranks(found, own, sentence, label, whitening, distractors, seed)
    drawn = draw_others(sentence, label, distractors, seed).tolist()
    assert result.distractors.tolist() == [sum(other >= 0 for other in others) for others in drawn]
    expected = reference_ranks(found, own, drawn, whitening)
    # Rows of own may be equal (all channels 0), and then float64 decides a tie that float32 counts as one.
    equal = (own[:, None] == own).all(2).sum(1) > 1
    for rank, wanted, row in zip(result.rank.tolist(), expected, drawn, strict=True):
        if not equal[[other for other in row if other >= 0]].any():
            assert rank == wanted
    for rank, identified, compared in zip(result.rank, result.identified, result.distractors, strict=True):
        assert math.isnan(identified) if compared == 0 else float(identified) == float(rank == 1)


def test_the_own_activation_identifies_and_a_copy_of_it_is_a_tie_that_counts_against():
    own = torch.randn(40, 5, generator=torch.Generator().manual_seed(1))
    sentence, label = torch.arange(40), torch.zeros(40, dtype=torch.int64)
    whitening = whitening_of(own)
    alone = identification_ranks(own, own, sentence, label, whitening, 39)
    assert alone.rank.tolist() == [1] * 40
    own[1] = own[0]
    twice = identification_ranks(own, own, sentence, label, whitening, 39)
    assert twice.rank.tolist() == [2, 2] + [1] * 38
    # Where both are of one sentence, neither is the other's distractor.
    sentence[1] = 0
    assert identification_ranks(own, own, sentence, label, whitening, 39).rank.tolist() == [1] * 40


def test_ties_count_against_whatever_float32_makes_of_them():
    own = torch.randn(300, 128, generator=torch.Generator().manual_seed(6)).relu().repeat(2, 1)
    sentence, label = torch.arange(600), torch.zeros(600, dtype=torch.int64)
    answers = own + 0.3 * torch.randn(own.shape, generator=torch.Generator().manual_seed(7))
    result = identification_ranks(answers, own, sentence, label, whitening_of(own), 599)
    assert int(result.rank.min()) == 2
    assert not result.identified.any()


def test_an_answer_that_says_nothing_is_last():
    own = torch.randn(30, 5, generator=torch.Generator().manual_seed(2))
    whitening = whitening_of(own)
    # A mean that float32 holds, so that the usual activation is exactly that.
    whitening = replace(whitening, mean=whitening.mean.float().double())
    usual = whitening.mean.float().expand(30, 5)
    sentence, label = torch.arange(30), torch.zeros(30, dtype=torch.int64)
    assert identification_ranks(usual, own, sentence, label, whitening, 9).rank.tolist() == [10] * 30
    broken = torch.full((30, 5), torch.nan)
    assert identification_ranks(broken, own, sentence, label, whitening, 9).rank.tolist() == [10] * 30


def test_answers_by_chance_identify_as_often_as_stated():
    generator = torch.Generator().manual_seed(3)
    own, found = torch.randn(4000, 8, generator=generator), torch.randn(4000, 8, generator=generator)
    label = torch.zeros(4000, dtype=torch.int64)
    result = identification_ranks(found, own, torch.arange(4000), label, whitening_of(own), 9)
    assert result.chance == pytest.approx(0.1)
    assert float(result.identified.mean()) == pytest.approx(0.1, abs=0.025)
    assert float(result.rank.double().mean()) == pytest.approx(5.5, abs=0.25)


def test_fewer_others_than_asked_for_are_counted():
    own = torch.randn(7, 3, generator=torch.Generator().manual_seed(4))
    sentence = torch.tensor([0, 0, 1, 1, 1, 2, 3])
    label = torch.tensor([0, 0, 0, 0, 0, 1, 2])
    result = identification_ranks(own, own, sentence, label, whitening_of(own))
    assert result.distractors.tolist() == [3, 3, 2, 2, 2, 0, 0]
    assert result.identified.isnan().tolist() == [False] * 5 + [True] * 2
    assert result.chance == pytest.approx((2 / 4 + 3 / 3) / 5)
    one = identification_ranks(own[:1], own[:1], sentence[:1], label[:1], whitening_of(own))
    assert math.isnan(one.chance)
    none = identification_ranks(own[:0], own[:0], sentence[:0], label[:0], whitening_of(own))
    assert none.rank.shape == (0,)


def test_what_does_not_fit_is_named():
    own, one = torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64)
    whitening = whitening_of(torch.randn(9, 2, generator=torch.Generator().manual_seed(5)))
    with pytest.raises(ValueError, match=r"expected \(B, C\), \(B, C\), \(B,\), \(B,\), got \[\(2, 2\), \(3, 2\)"):
        identification_ranks(own[:2], own, one, one, whitening)
    with pytest.raises(ValueError, match="distractors: expected at least 1, got 0"):
        identification_ranks(own, own, one, one, whitening, distractors=0)
