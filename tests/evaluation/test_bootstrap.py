from __future__ import annotations

import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastinterp.evaluation import bootstrap as module
from fastinterp.evaluation.bootstrap import Estimate, bootstrap_mean

VALUES = st.lists(st.tuples(st.integers(0, 9), st.sampled_from([0.0, 1.0, 0.5, -2.0, math.nan])), max_size=40)


@given(VALUES, st.integers(0, 5))
def test_the_mean_is_a_ratio_of_sums_and_the_interval_comes_from_whole_sentences(
    rows: list[tuple[int, float]], seed: int
):
    owner = torch.tensor([row[0] for row in rows], dtype=torch.int64)
    values = torch.tensor([row[1] for row in rows])
    found = bootstrap_mean(values, owner, seed=seed, samples=50, level=0.8)
    groups = [[v for who, v in rows if who == s and not math.isnan(v)] for s in range(10)]
    groups = [each for each in groups if each]
    if not groups:
        assert found == Estimate(None, None, None, 0)
        return
    flat = [v for each in groups for v in each]
    assert found.count == len(groups)
    assert found.value == pytest.approx(sum(flat) / len(flat), abs=1e-12)
    if len(groups) == 1:
        assert (found.low, found.high) == (None, None)
        return
    generator = np.random.default_rng(seed)
    means = []
    for drawn in generator.integers(len(groups), size=(50, len(groups))):
        values_drawn = [v for s in drawn for v in groups[s]]
        means.append(math.fsum(values_drawn) / len(values_drawn))
    np.testing.assert_allclose([found.low, found.high], np.quantile(means, [0.1, 0.9]), atol=1e-12)


def test_the_interval_is_that_of_every_possible_redraw():
    groups = [[1.0], [0.0, 0.0, 1.0], [0.5, 0.5], [0.0]]
    exact = sorted(
        float(sum((Fraction(v) for s in drawn for v in groups[s]), Fraction(0)) / sum(len(groups[s]) for s in drawn))
        for drawn in product(range(4), repeat=4)
    )
    owner = torch.tensor([s for s, each in enumerate(groups) for _ in each])
    values = torch.tensor([v for each in groups for v in each])
    found = bootstrap_mean(values, owner, samples=200_000, level=0.9)
    low, high = np.quantile(exact, [0.05, 0.95])
    assert (found.low, found.high) == (pytest.approx(low, abs=0.02), pytest.approx(high, abs=0.02))


def test_locations_of_one_sentence_do_not_count_as_independent():
    truth = torch.rand(200, generator=torch.Generator().manual_seed(0)) < 0.5
    once = bootstrap_mean(truth)
    thrice = bootstrap_mean(truth.repeat_interleave(3), torch.arange(200).repeat_interleave(3))
    assert once == thrice
    naive = bootstrap_mean(truth.repeat_interleave(3))
    assert naive.high - naive.low < 0.7 * (once.high - once.low)  # what drawing locations would pretend


def test_equal_seeds_give_equal_intervals_whatever_fits_into_memory(monkeypatch: pytest.MonkeyPatch):
    values = torch.rand(37, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = bootstrap_mean(values, seed=3)
    monkeypatch.setattr(module, "_DRAWS_AT_ONCE", 100)
    assert bootstrap_mean(values, seed=3) == found != bootstrap_mean(values, seed=4)
    assert found.low < found.value < found.high


def test_names_of_sentences_may_be_any_numbers():
    values = torch.tensor([1.0, 0.0, 1.0, 0.0])
    names = torch.tensor([-(2**63), 2**63 - 1, -(2**63), 7])
    assert bootstrap_mean(values, names) == bootstrap_mean(values, torch.tensor([0, 2, 0, 1]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"values": torch.zeros(2, 2)}, r"values: expected \(N,\) and the sentence of each, got \(2, 2\) and none"),
        ({"values": torch.zeros(2), "sentence": torch.zeros(3)}, r"got \(2,\) and \(3,\)"),
        ({"values": torch.tensor([1.0, math.inf])}, "values: expected numbers or NaN, got infinity"),
        ({"values": torch.zeros(2), "samples": 0}, "samples: expected at least 1, got 0"),
        ({"values": torch.zeros(2), "level": 1.0}, "level: expected more than 0 and below 1, got 1.0"),
        ({"values": torch.zeros(2), "seed": -1}, "seed: expected at least 0, got -1"),
    ],
)
def test_what_does_not_fit_is_named(arguments: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        bootstrap_mean(**arguments)
