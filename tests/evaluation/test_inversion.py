from __future__ import annotations

import itertools

import pytest
import torch
from conftest import small_model
from torch.nn import functional

from fastinterp import fit_background
from fastinterp.evaluation.answers import answer_activations
from fastinterp.evaluation.explained import STANDS_OUT, Asked, explain
from fastinterp.evaluation.inversion import invert

TEXTS = [
    "good film",
    "odd",
    "a dull slow plot the bad actor good fine",
    "great great",
    "slow plot the",
    "fine odd film",
]


@pytest.mark.parametrize("layer", [0, 1])
def test_no_other_word_at_any_position_is_more_alike(layer: int):
    model = small_model(3, channels=(9, 7))
    background = fit_background(model, TEXTS * 9, locations=9)
    whitening = background.layer(model, layer).whitening()
    found = explain(model, TEXTS, Asked(layer, 3, 1, None, (STANDS_OUT,), background, inputs=True))
    begin = found.fields.begin
    inputs = found.answers[STANDS_OUT].inputs
    every = model.prepared().searchable
    given = (model, layer, found.fields, found.activations, inputs, whitening)
    words = invert(*given, candidates=every, rounds=50)
    assert [len(each) for each in words] == [len(each) for each in found.tokens]
    own = functional.normalize(whitening.whiten(found.activations), dim=1)

    def likeness(number: int, ids: list[int]) -> float:
        field = torch.zeros(1, inputs.shape[1], dtype=torch.int64)
        field[0, begin[number] : begin[number] + len(ids)] = torch.tensor(ids)
        reached = answer_activations(model, layer, found.fields[number : number + 1], field)
        return float(functional.normalize(whitening.whiten(reached), dim=1)[0] @ own[number])

    for number, each in enumerate(words):
        ids = [model.words.index(word) for word in each]
        best = likeness(number, ids)
        for position, other in itertools.product(range(len(ids)), range(2, len(model.words))):
            assert likeness(number, [*ids[:position], other, *ids[position + 1 :]]) <= best + 1e-5
    assert invert(*given, candidates=1) == invert(*given, candidates=1, rounds=9)
