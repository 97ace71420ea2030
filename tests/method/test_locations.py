"""Saliency for any class, and its parts, against autograd in float64."""

from __future__ import annotations

import copy

import pytest
import torch
from conftest import field_edges, small_model
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fastinterp import ConvTextModel, Problems
from fastinterp.method import contributions
from fastinterp.method.contributions import token_scores
from fastinterp.method.locations import locate

SENTENCES = ["the good film", "", "a dull plot , the odd actor is bad", "great", "good good bad film plot film the"]


def expected_scores(model: ConvTextModel, ids: Tensor, layer: int, direction: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Score_i (S, L) for a direction in class space, and the gradients (S, L, C), by autograd in float64.

    The third says which sentences' maxima over time do not hang on a rounding error: columns of padding tie.
    """
    double = copy.deepcopy(model).double()
    hidden = double.embedding(ids).transpose(1, 2)
    for index, (convolution, kernel) in enumerate(zip(double.convolutions, double.config.kernel_sizes, strict=True)):
        hidden = double.activation(convolution(hidden)[..., 1 - kernel % 2 :])
        if index == layer:
            explained = hidden
    first = hidden.detach().argmax(dim=2, keepdim=True)
    score = (double.linear(hidden.gather(2, first)[..., 0]) * direction).sum()
    (gradient,) = torch.autograd.grad(score, explained)
    best = hidden.detach().topk(2, dim=2).values
    decided = ((best[..., 0] - best[..., 1] > 1e-6) | (best[..., 0] == 0)).all(dim=1)
    return (gradient * explained).sum(1).detach(), gradient.transpose(1, 2).detach(), decided


CASES = (st.integers(0, 30), st.integers(0, 1), st.sampled_from(["relu", "leaky_relu", "identity", "tanh"]))


@given(*CASES, st.sampled_from([(0, None), (1, None), (0, 1), (1, 0)]))
def test_scores_are_those_of_the_class_that_was_asked_for(seed, layer, activation, asked):
    target, versus = asked
    model = small_model(seed, activation=activation)
    ids = model.encode(SENTENCES)
    found = locate(model, ids, layer, 2, target, versus, with_gradients=True)
    direction = torch.zeros(2, dtype=torch.float64)
    direction[target] = 1
    if versus is not None:
        direction[versus] -= 1
    scores, gradients, decided = expected_scores(model, ids, layer, direction)
    torch.testing.assert_close(found.scores.double()[decided], scores[decided], rtol=1e-3, atol=1e-5)
    sure = decided[found.chosen.sentence]
    expected = gradients[found.chosen.sentence, found.chosen.location][sure]
    torch.testing.assert_close(found.gradients.double()[sure], expected, rtol=1e-3, atol=1e-5)


@given(*CASES)
def test_the_parts_of_a_score_add_up_to_it(seed, layer, activation):
    model = small_model(seed, activation=activation)
    ids = model.encode(SENTENCES)
    found = locate(model, ids, layer, 9, with_gradients=True)
    stack, chosen = model.stack(layer), found.chosen
    begin, end = field_edges(model, layer, chosen.location)
    problems = Problems(found.activations, stack.weights, stack.biases, begin, end, activation)
    padded = torch.nn.functional.pad(ids, (stack.before, stack.after))
    own = padded[chosen.sentence[:, None], chosen.location[:, None] + torch.arange(problems.field)]
    parts = token_scores(problems, model.word_vectors[own], found.gradients)
    score = found.scores[chosen.sentence, chosen.location]
    torch.testing.assert_close(parts.tokens.sum(1) + parts.rest, score, rtol=1e-4, atol=1e-6)
    assert (parts.tokens[own == 0] == 0).all()

    double = copy.deepcopy(model).double()
    for row in range(0, len(problems), 3):  # the definition: (g . da/dx_p) x_p
        sentence, location = int(chosen.sentence[row]), int(chosen.location[row])
        embedded = double.embedding(ids[sentence : sentence + 1]).detach().requires_grad_()
        hidden = embedded.transpose(1, 2)
        for convolution, kernel in zip(list(double.convolutions)[: layer + 1], (3, 4), strict=False):
            hidden = double.activation(convolution(hidden)[..., 1 - kernel % 2 :])
        (gradient,) = torch.autograd.grad((found.gradients[row].double() * hidden[0, :, location]).sum(), embedded)
        expected = (gradient * embedded)[0].sum(1).detach()
        for place in range(problems.field):
            position = location - stack.before + place
            if 0 <= position < model.length:
                assert float(parts.tokens[row, place]) == pytest.approx(float(expected[position]), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("layer", [0, 1])
def test_parts_do_not_depend_on_how_many_are_computed_at_once(layer: int, monkeypatch: pytest.MonkeyPatch):
    model = small_model(3)
    ids = model.encode(SENTENCES)
    stack = model.stack(layer)
    results = []
    for at_once in (1 << 21, 1):
        monkeypatch.setattr(contributions, "_FLOATS_AT_ONCE", at_once)
        found = locate(model, ids, layer, 9, with_gradients=True)
        begin, end = field_edges(model, layer, found.chosen.location)
        problems = Problems(found.activations, stack.weights, stack.biases, begin, end, stack.activation)
        place = found.chosen.location[:, None] + torch.arange(problems.field)
        own = torch.nn.functional.pad(ids, (stack.before, stack.after))[found.chosen.sentence[:, None], place]
        parts = token_scores(problems, model.word_vectors[own], found.gradients)
        results.append((found.gradients, parts.tokens, parts.rest))
    assert results[0][1].any()
    for together, alone in zip(*results, strict=True):
        assert torch.equal(together, alone)


def test_a_class_is_asked_for_by_name_by_index_or_for_each_sentence():
    model = small_model()
    ids = model.encode(SENTENCES)
    by_name = locate(model, ids, 0, 2, "pos")
    for same in (1, torch.tensor(1), [1] * 5, torch.ones(5, dtype=torch.int64)):
        assert torch.equal(locate(model, ids, 0, 2, same).scores, by_name.scores)
    mixed = locate(model, ids, 0, 2, [0, 1, 0, 1, 0])
    assert mixed.targets == [0, 1, 0, 1, 0]
    assert torch.equal(mixed.scores[1::2], by_name.scores[1::2])
    predicted = locate(model, ids, 0, 2)
    assert predicted.targets == predicted.class_scores.argmax(1).tolist()
    torch.testing.assert_close(
        locate(model, ids, 0, 2, predicted.targets).scores, predicted.scores, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("asked", [{}, {"target": 1}, {"versus": 0, "target": 1}, {"order": "least"}])
def test_no_sentences_have_no_locations(asked: dict):
    model = small_model()
    found = locate(model, model.encode([]), 0, 2, **asked, with_gradients=True)
    assert (len(found.scores), len(found.activations), len(found.gradients)) == (0, 0, 0)


def test_a_predicted_class_has_no_contrast_with_itself():
    model = small_model()
    ids = model.encode(SENTENCES)
    predicted = locate(model, ids, 0, 2).targets
    with pytest.raises(ValueError, match=rf"which is predicted for sentence {predicted.index(predicted[2])}; name a"):
        locate(model, ids, 0, 2, versus=predicted[2])


def test_the_least_and_the_absolute_end_of_the_saliency():
    model = small_model(3)
    ids = model.encode(SENTENCES[-1:])
    scores = locate(model, ids, 0, 1).scores[0]
    seen = scores[: len(SENTENCES[-1].split()) + model.stack(0).before]
    chosen = {order: locate(model, ids, 0, 3, order=order).chosen.location for order in ("most", "least", "absolute")}
    assert chosen["least"].tolist() == seen.argsort(stable=True)[:3].tolist()
    assert chosen["most"].tolist() == (-seen).argsort(stable=True)[:3].tolist()
    assert chosen["absolute"].tolist() == (-seen.abs()).argsort(stable=True)[:3].tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": "good"}, "target: expected one of neg, pos, got 'good'"),
        ({"target": 2}, "target: expected 0 to 1, got 2"),
        ({"target": True}, "target: expected an integer, got True"),
        ({"target": [0, 1]}, "target: expected one class for each of 5 sentences, got 2"),
        ({"target": 1, "versus": "pos"}, "versus: expected another class than the explained one, got 'pos'$"),
        ({"versus": "superb"}, "versus: expected one of neg, pos, got 'superb'"),
        ({"order": "best"}, "order: expected one of most, least, absolute, got 'best'"),
    ],
)
def test_a_class_that_cannot_be_explained_is_named(arguments: dict, message: str):
    model = small_model()
    with pytest.raises(ValueError, match=f"^{message}"):
        locate(model, model.encode(SENTENCES), 0, 2, **arguments)
