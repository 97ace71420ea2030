from __future__ import annotations

import math

from conftest import small_model

from fastinterp import OptimizationConfig, interpret
from fastinterp.evaluation.matching import matching_rate

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
    assert math.isnan(matching_rate(small_model(), ["", ""], optimization=FAST).rate)
