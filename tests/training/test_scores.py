"""The short road of training to scores and gradients, against plain convolutions over the whole frame in float64."""

from __future__ import annotations

import pytest
import torch
from conftest import small_model
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from fastinterp import ConvTextModel
from fastinterp.training.scores import batch_scores, class_scores, distinct_words


def whole_frame_scores(model: ConvTextModel, vectors: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Class scores (B, classes) of ids (B, L) by torch's own padded convolutions, every column computed."""
    hidden = vectors[ids].transpose(1, 2)
    for layer in model.convolutions:
        kernel = layer.weight.shape[2]
        framed = functional.pad(hidden, ((kernel - 1) // 2, kernel // 2))
        hidden = model.activation(functional.conv1d(framed, layer.weight, layer.bias))
    return model.linear(hidden.amax(dim=2))


def drawn_ids(model: ConvTextModel, lengths: list[int], seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, len(model.vocabulary), (len(lengths), model.length), generator=generator)
    return ids.masked_fill(torch.arange(model.length) >= torch.tensor(lengths)[:, None], 0)


models = st.tuples(
    st.integers(0, 1000),
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=4),
    st.integers(1, 40),
    st.lists(st.integers(0, 40), min_size=1, max_size=5),
    st.sampled_from(["relu", "leaky_relu", "identity", "tanh"]),
)


@given(models)
def test_scores_and_gradients_are_those_of_the_whole_frame(drawn):
    seed, layers, length, lengths, activation = drawn
    channels, kernels = zip(*layers, strict=True)
    model = small_model(seed, channels, kernels, length, activation).double().eval()
    ids = drawn_ids(model, lengths, seed)
    weights = [weight for name, weight in model.named_parameters() if name != "embedding.weight"]
    table = model.word_vectors.clone().requires_grad_()
    expected = whole_frame_scores(model, table, ids)
    direction = torch.randn(expected.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    expected_gradients = torch.autograd.grad((expected * direction).sum(), [table, *weights])

    words, places = distinct_words(ids)
    vectors = model.word_vectors[words].requires_grad_()
    scores = batch_scores(model, vectors, places)
    gradients = torch.autograd.grad((scores * direction).sum(), [vectors, *weights])

    torch.testing.assert_close(scores, expected)
    # The padding's row has no gradient in training; the plain sum over the whole frame gives it one.
    torch.testing.assert_close(gradients[0], expected_gradients[0][words])
    others = torch.ones(len(table), dtype=torch.bool).index_fill(0, words, False)
    assert not expected_gradients[0][1:][others[1:]].any()
    for gradient, wanted in zip(gradients[1:], expected_gradients[1:], strict=True):
        torch.testing.assert_close(gradient, wanted)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "tanh"])
def test_class_scores_stand_in_the_order_of_the_sentences(activation: str):
    model = small_model(3, (5, 4), (3, 4), 40, activation).eval()
    ids = drawn_ids(model, torch.randint(0, 41, (600,), generator=torch.Generator().manual_seed(1)).tolist(), 2)
    expected = whole_frame_scores(model, model.word_vectors, ids)
    torch.testing.assert_close(class_scores(model, ids), expected.detach(), rtol=1e-4, atol=1e-5)


def test_a_batch_without_a_word_has_scores():
    model = small_model().eval()
    ids = torch.zeros(2, model.length, dtype=torch.int64)
    words, places = distinct_words(ids)
    assert (words.tolist(), places.tolist()) == ([], [[0], [0]])
    torch.testing.assert_close(class_scores(model, ids), whole_frame_scores(model, model.word_vectors, ids).detach())
