from __future__ import annotations

import pytest
import torch
from conftest import small_model, weights_of

from fastinterp import ConvTextModel, saliency
from fastinterp.kernels import reference
from fastinterp.method.saliency import explain_locations, select_locations


def test_scores_are_those_of_the_reference(model: ConvTextModel):
    sentences = ["a good film", "dull", "", "the the the the the the the the the the the the"]
    ids = model.encode(sentences)
    weights, biases = weights_of(model, 1)
    for layer in (0, 1):
        found = saliency(model.train(), sentences, layer)  # dropout must not show
        expected, classes, _ = reference.saliency(
            model.embedding(ids).detach(),
            (ids != 0).sum(dim=1),
            9,
            weights,
            biases,
            model.linear.weight.detach(),
            model.linear.bias.detach(),
            "relu",
            layer,
        )
        torch.testing.assert_close(found.scores, expected, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(found.class_scores, classes, rtol=1e-4, atol=1e-6)


def test_selected_activations_are_those_of_the_whole_layer(model: ConvTextModel, monkeypatch: pytest.MonkeyPatch):
    sentences = ["a good film", "dull", "", "the slow actor"]
    ids = model.encode(sentences)
    found, chosen, activations = explain_locations(model, ids, 1, 3)
    hidden = model.embedding(ids).transpose(1, 2)
    for convolution, kernel in zip(model.convolutions, (3, 4), strict=True):
        hidden = convolution(hidden)[..., 1 - kernel % 2 :].relu()
    expected = hidden.transpose(1, 2)[chosen.sentence, chosen.location]
    torch.testing.assert_close(activations, expected.detach(), rtol=1e-4, atol=1e-6)
    # Batches of one sentence give the same.
    monkeypatch.setattr("fastinterp.method.saliency.batch_size", lambda model, layer, length: 1)
    again, chosen_again, activations_again = explain_locations(model, ids, 1, 3)
    assert torch.equal(again.scores, found.scores)
    assert torch.equal(chosen_again.sentence, chosen.sentence)
    assert torch.equal(chosen_again.location, chosen.location)
    assert torch.equal(activations_again, activations)


def test_class_scores_are_those_of_the_model(model: ConvTextModel):
    sentences = ["a good film", "dull", ""]
    torch.testing.assert_close(saliency(model, sentences).class_scores, model(model.encode(sentences)))


def test_locations_that_see_only_padding_are_never_selected():
    model = small_model(kernel_sizes=(3, 3), length=9)
    ids = torch.tensor([[2, 3, 0, 0, 0, 0, 0, 0, 0], [0] * 9, [2] * 9])
    scores = torch.arange(27.0).view(3, 9)
    chosen = select_locations(model, ids, scores, 0, 5)
    # Two tokens and a kernel of 3: locations 0, 1 and 2 see a token.
    assert chosen.sentence.tolist() == [0] * 3 + [2] * 5
    assert chosen.location.tolist() == [2, 1, 0, 8, 7, 6, 5, 4]


def test_ties_go_to_the_lower_location():
    model = small_model()
    chosen = select_locations(model, torch.full((1, 9), 2), torch.tensor([[0, 1, 1, 0, 1, 0, 0, 0, 0.0]]), 0, 4)
    assert chosen.location.tolist() == [1, 2, 4, 0]


@pytest.mark.parametrize(
    ("sentences", "kind", "message"),
    [
        ("one string", TypeError, "expected a list of strings, got one str"),
        (["a", 3], TypeError, "expected strings, got int"),
        (torch.zeros(2, 3, dtype=torch.int64), ValueError, r"int64 ids of shape \(B, 9\)"),
        (torch.zeros(2, 9), ValueError, "expected int64 ids"),
        (torch.full((1, 9), 99), ValueError, "expected ids 0 to 13"),
        (torch.tensor([[2, 0, 2, 0, 0, 0, 0, 0, 0]]), ValueError, "expected padding behind the tokens"),
    ],
)
def test_bad_sentences_are_named(model: ConvTextModel, sentences, kind, message: str):
    with pytest.raises(kind, match=message):
        saliency(model, sentences)


@pytest.mark.parametrize(("layer", "expected"), [(-1, "0 to 1"), (2, "0 to 1"), (1.0, "an integer")])
def test_a_layer_that_does_not_exist_is_named(model: ConvTextModel, layer: object, expected: str):
    with pytest.raises(ValueError, match=f"layer: expected {expected}, got {layer}"):
        saliency(model, ["good"], layer)
