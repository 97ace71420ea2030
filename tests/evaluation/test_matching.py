from __future__ import annotations

import math

import pytest
import torch
from conftest import WORDS, small_model
from hypothesis import given
from hypothesis import strategies as st

from fastinterp import OptimizationConfig, interpret
from fastinterp.evaluation.matching import matches, matching_rate, words_of_sentences

FAST = OptimizationConfig(steps=20)
SENTENCES = ["good film", "bad dull plot", "", "the slow actor", "fine odd"]


def test_matching_rate_counts_the_sentences_whose_words_get_their_class():
    model = small_model(length=20)
    expected = 0
    for found in interpret(model, SENTENCES, optimization=FAST, neighbors=2):
        words = " ".join(word for location in found.locations for word, _ in location.neighbors)
        if words:
            expected += interpret(model, [words], optimization=FAST)[0].label == found.label
    measured = matching_rate(model, SENTENCES, optimization=FAST, neighbors=2)
    assert (measured.matched, measured.total) == (expected, 4)
    assert measured.rate == expected / 4


def test_a_rate_of_no_sentences_is_not_a_number():
    for sentences in ([], ["", ""]):
        assert math.isnan(matching_rate(small_model(), sentences, optimization=FAST).rate)


@given(st.lists(st.tuples(st.lists(st.sampled_from(WORDS), max_size=6), st.integers(0, 1)), max_size=8))
def test_each_sentence_matches_by_itself(rows: list[tuple[list[str], int]]):
    model = small_model()
    found = matches(
        model,
        model.encode([""] * len(rows)),
        [words for words, _ in rows],
        torch.tensor([label for _, label in rows]).long(),
    )
    assert found.dtype == torch.float64
    assert len(found) == len(rows)
    for matched, (words, label) in zip(found.tolist(), rows, strict=True):
        if not words:
            assert math.isnan(matched)
        else:
            read = interpret(model, [" ".join(words)], optimization=FAST)[0].label
            assert matched == (read == model.classes[label])


def test_words_are_read_in_the_order_of_locations():
    words = [["a", "b"], ["c"], [], ["d"]]
    assert words_of_sentences(words, torch.tensor([0, 2, 2, 0]), 4) == [["a", "b", "d"], [], ["c"], []]
    assert words == [["a", "b"], ["c"], [], ["d"]]


def test_a_class_for_each_sentence_is_asked_for():
    model = small_model()
    with pytest.raises(ValueError, match=r"label: expected one for each of 2 sentences, got \(1,\)"):
        matches(model, model.encode(["", ""]), [["good"], ["bad"]], torch.tensor([0]))
