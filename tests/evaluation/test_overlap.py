from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from conftest import small_model
from hypothesis import given
from hypothesis import strategies as st

from fastinterp.evaluation.draws import draw_others
from fastinterp.evaluation.overlap import (
    agreement,
    commonest_share,
    different_words,
    jaccard,
    overlap_between,
    overlap_within,
)
from fastinterp.evaluation.reproduction import reproduction, words_held

WORD_LISTS = st.lists(st.lists(st.sampled_from("abcdef"), max_size=4), max_size=12)


def share(first: list[str], second: list[str]) -> float:
    either = set(first) | set(second)
    return sum(word in first and word in second for word in either) / len(either) if either else 1.0


@given(WORD_LISTS, st.data())
def test_counts_and_overlaps_are_those_of_the_definitions(words: list[list[str]], data: st.DataObject):
    owner = data.draw(st.lists(st.integers(0, 4), min_size=len(words), max_size=len(words)))
    sentence = torch.tensor(owner, dtype=torch.int64)
    label = sentence % 2
    assert different_words(words) == len(set("".join(word for each in words for word in each)))

    said = [(int(value), word) for value, each in zip(label, words, strict=True) for word in each]
    shares = commonest_share(words, label, 2)
    covered = sum(
        sum(sorted(Counter(word for which, word in said if which == value).values(), reverse=True)[:2])
        for value in (0, 1)
    )
    lengths = torch.tensor([len(each) for each in words])
    assert torch.equal(shares.isnan(), lengths == 0)
    assert float((shares.nan_to_num() * lengths).sum()) == pytest.approx(covered)

    within = overlap_within(words, sentence).tolist()
    between = overlap_between(words, sentence, label, seed=3, partners=2).tolist()
    drawn = draw_others(sentence, label, 2, 3).tolist()
    for row in range(len(words)):
        same = [other for other in range(len(words)) if owner[other] == owner[row] and other != row]
        for found, others in ((within[row], same), (between[row], [other for other in drawn[row] if other >= 0])):
            shares = [share(words[row], words[other]) for other in others]
            assert found == pytest.approx(np.mean(shares) if shares else math.nan, nan_ok=True)


def test_the_commonest_words_are_those_of_the_class():
    words = [["a", "b"], ["a", "c"], ["c", "d"], [], ["d"]]
    shares = commonest_share(words, torch.tensor([0, 0, 1, 0, 1]), 1)
    assert shares[[0, 1, 2, 4]].tolist() == [0.5, 0.5, 0.5, 1]
    assert shares[3].isnan()
    # "b" and "c" are as common; the first in the alphabet is taken.
    assert commonest_share(words, torch.tensor([0, 0, 1, 0, 1]), 2).tolist()[:2] == [1, 0.5]


def test_the_mean_within_a_sentence_is_that_of_its_pairs():
    words = [["a", "b"], ["a", "c"], ["d"], ["x"]]
    within = overlap_within(words, torch.tensor([5, 5, 5, 9]))
    assert float(within[:3].mean()) == pytest.approx((1 / 3 + 0 + 0) / 3)
    assert math.isnan(within[3])
    assert jaccard(frozenset(), frozenset()) == 1


def test_runs_agree_where_they_say_the_same_word_at_the_same_position():
    found = agreement([["a", "b"], ["a", "b"], ["c"], []], [["a", "b"], ["b", "a"], ["d"], []])
    assert found.dtype == torch.float64
    assert found[:3].tolist() == [1, 0, 0]
    assert math.isnan(found[3])
    with pytest.raises(ValueError, match="first, second: expected the same numbers of words"):
        agreement([["a"]], [["a", "b"]])


def test_reproduction_is_the_cosine_of_activations():
    generator = torch.Generator().manual_seed(0)
    found, own = torch.randn(20, 6, generator=generator).relu(), torch.randn(20, 6, generator=generator).relu()
    own += 0.1
    own[3], found[4] = 0, 0
    cosines = reproduction(found, own).tolist()
    for row, (x, y) in enumerate(zip(found.double().numpy(), own.double().numpy(), strict=True)):
        if row == 3:
            assert math.isnan(cosines[row])
        elif row == 4:
            assert cosines[row] == 0
        else:
            assert cosines[row] == pytest.approx(x @ y / np.linalg.norm(x) / np.linalg.norm(y), abs=1e-12)
    assert reproduction(own[5:6] * 1e-30, own[5:6]).item() == pytest.approx(1)
    with pytest.raises(ValueError, match=r"found, own: expected the same \(B, C\), got \(1, 6\) and \(2, 6\)"):
        reproduction(found[:1], own[:2])


def test_words_held_are_tokens_given_back_unknown_ones_left_out():
    model = small_model()
    answers = [["good", "film", "bad"], ["plot", "odd"], ["film"], []]
    tokens = [["good", "nowhere", "dull"], ["plot", "odd"], ["nowhere"], []]
    held = words_held(model, answers, tokens)
    assert held[:2].tolist() == [0.5, 1]
    assert held[2:].isnan().all()
    with pytest.raises(ValueError, match="answers, tokens: expected one word for each token"):
        words_held(model, [["good"]], [["good", "film"]])
