from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import WORDS, small_model
from hypothesis import given
from hypothesis import strategies as st

from fastinterp import interpret
from fastinterp.evaluation import answers as module
from fastinterp.evaluation.answers import answer_activations, answer_ids, field_activations, location_activations
from fastinterp.method.places import Fields, fields_at
from fastinterp.method.saliency import Selection, explain_locations
from fastinterp.models.conv import ConvTextModel
from fastinterp.text.vocabulary import PAD

TEXTS = ["the good film", "", "odd", "a dull slow plot the bad actor good fine", "great great", "nowhere actor"]


def layer_of_sentence(model: ConvTextModel, ids: torch.Tensor, layer: int) -> np.ndarray:
    """Activations (B, L, C) by loops, in float64, of whole sentences."""
    hidden = model.word_vectors.double().numpy()[ids.numpy()]
    stack = model.stack(layer)
    for weight, bias in zip(stack.weights, stack.biases, strict=True):
        w, length = weight.double().numpy(), hidden.shape[1]
        before = (w.shape[2] - 1) // 2
        out = np.zeros((len(hidden), length, len(w))) + bias.double().numpy()
        for place in range(length):
            for tap in range(w.shape[2]):
                if 0 <= place + tap - before < length:
                    out[:, place] += hidden[:, place + tap - before] @ w[:, :, tap].T
        hidden = np.maximum(out, 0)
    return hidden


def fields_of(model: ConvTextModel, layer: int, location: list[int]) -> Fields:
    """Fields of locations of sentences without tokens, to be filled."""
    ids, places = model.encode([""] * len(location)), torch.tensor(location, dtype=torch.int64)
    return fields_at(model, layer, ids, Selection(torch.arange(len(location)), places))


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("at_once", [1, 1 << 23])
def test_every_location_has_the_activation_that_it_has_in_its_sentence(
    model: ConvTextModel, layer: int, at_once: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "_FLOATS_AT_ONCE", at_once)
    ids = model.encode(TEXTS)
    sentence = torch.arange(len(TEXTS)).repeat_interleave(model.length)
    location = torch.arange(model.length).repeat(len(TEXTS))
    found = location_activations(model, ids, layer, Selection(sentence, location))
    expected = layer_of_sentence(model, ids, layer)[sentence.numpy(), location.numpy()]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


@given(st.data())
def test_an_answer_read_in_place_of_the_field_is_a_sentence_with_those_words(data: st.DataObject):
    model = small_model(length=data.draw(st.sampled_from([4, 9])))
    layer = data.draw(st.integers(0, 1))
    before, after = model.config.receptive_field(layer)
    location = data.draw(st.integers(0, model.length - 1))
    first, last = max(0, location - before), min(model.length, location + after + 1)
    words = data.draw(st.lists(st.sampled_from(WORDS), max_size=last - first))
    offset = data.draw(st.none() | st.integers(-3, before + after + 3))
    given_offset = None if offset is None else torch.tensor([offset])
    fields = fields_of(model, layer, [location])
    ids = answer_ids(model, fields, [words], given_offset)
    assert ids.shape == (1, before + after + 1)
    sentence, expected_ids = torch.full((1, model.length), PAD), torch.full_like(ids, PAD)
    begins = first if offset is None else location - before + offset
    for place, word in enumerate(words, begins):
        if first <= place < last:
            sentence[0, place] = model.words.index(word)
            expected_ids[0, place - location + before] = model.words.index(word)
    assert torch.equal(ids, expected_ids)
    found = answer_activations(model, layer, fields, ids)
    expected = layer_of_sentence(model, sentence, layer)[:, location]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("layer", [0, 1])
def test_the_tokens_that_a_location_sees_stand_where_they_stood(model: ConvTextModel, layer: int):
    ids = model.encode(TEXTS)
    _, chosen, own = explain_locations(model, ids, layer, 3)
    tokens = [location.tokens for each in interpret(model, TEXTS, layer) for location in each.locations]
    fields = fields_at(model, layer, ids, chosen)
    read = answer_activations(model, layer, fields, answer_ids(model, fields, tokens))
    np.testing.assert_allclose(read.numpy(), own.numpy(), atol=1e-5)


def test_rows_outside_the_frame_and_words_beyond_it_are_not_read(model: ConvTextModel):
    before, after = model.config.receptive_field(1)
    place = fields_of(model, 1, [0, model.length - 1])
    inputs = torch.ones(2, before + after + 1, 7)
    changed = inputs.clone()
    changed[0, :before], changed[1, before + 1 :] = 9, 9
    assert torch.equal(field_activations(model, 1, place, inputs), field_activations(model, 1, place, changed))
    ids = answer_ids(model, place, [["good"] * 20] * 2)
    assert (ids == PAD).tolist() == [[True] * before + [False] * (after + 1), [False] * (before + 1) + [True] * after]


def test_no_answers_are_an_answer_too(model: ConvTextModel):
    none = torch.zeros(0, dtype=torch.int64)
    for layer, channels in enumerate(model.config.channels):
        fields = fields_of(model, layer, [])
        ids = answer_ids(model, fields, [])
        assert answer_activations(model, layer, fields, ids).shape == (0, channels)
        assert location_activations(model, model.encode([]), layer, Selection(none, none)).shape == (0, channels)


def test_what_does_not_fit_is_named(model: ConvTextModel):
    place = fields_of(model, 0, [0, 1])
    with pytest.raises(ValueError, match="words: expected one list for each of 2 locations, got 1"):
        answer_ids(model, place, [["good"]])
    with pytest.raises(ValueError, match=r"ids: expected int64 of shape \(2, 3\), got torch.int64 of shape \(2, 4\)"):
        answer_activations(model, 0, place, torch.zeros(2, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match="layer: expected 0 to 1, got 2"):
        fields_of(model, 2, [0])
