from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from conftest import WORDS, small_model
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fastinterp import ConvTextModel, ModelError
from fastinterp.method.background import Background, LayerBackground, draw_texts, fit_background
from fastinterp.method.saliency import explain_locations

TEXTS = [" ".join(WORDS[(i * 7 + j * j) % len(WORDS)] for j in range(1 + i % 9)) for i in range(200)]


def drawn_activations(seed: int, channels: int, count: int = 60) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(channels, channels, generator=generator)
    return (torch.randn(count, channels, generator=generator) @ mixing + 0.3).relu()


def background_of(activations: Tensor) -> LayerBackground:
    values = activations.double()
    covariance = torch.from_numpy(np.atleast_2d(np.cov(values.numpy().T)))
    return LayerBackground(values.mean(0), covariance, (values > 0).double().mean(0), len(values))


def test_mean_and_covariance_are_those_of_the_most_salient_locations(model: ConvTextModel):
    background = fit_background(model, TEXTS, locations=4)
    assert sorted(background.layers) == [0, 1]
    for layer, fitted in background.layers.items():
        _, _, activations = explain_locations(model, model.encode(TEXTS), layer, 4)
        expected = np.cov(activations.numpy().astype(np.float64).T)
        np.testing.assert_allclose(fitted.mean.numpy(), activations.double().mean(0).numpy(), rtol=1e-12)
        np.testing.assert_allclose(fitted.covariance.numpy(), expected, rtol=1e-10, atol=1e-14)
        assert fitted.count == len(activations)
        open_gates = []
        for text in TEXTS:
            hidden = model.embedding(model.encode([text])).transpose(1, 2)
            for convolution, kernel in zip(model.convolutions[: layer + 1], (3, 4), strict=False):
                hidden = convolution(hidden)[..., 1 - kernel % 2 :].relu()
            open_gates.append((hidden[0, :, : len(text.split())] > 0).double())
        np.testing.assert_allclose(fitted.slope.numpy(), torch.cat(open_gates, 1).mean(1).numpy(), atol=2e-3)


@given(st.integers(0, 100), st.integers(1, 12), st.sampled_from([0.02, 1.0, 10.0]))
def test_whitening_is_the_shrunk_inverse_of_the_covariance(seed: int, channels: int, eps: float):
    activations = drawn_activations(seed, channels)
    activations[:, 0] = 1.0 if channels > 1 else activations[:, 0]  # a channel that never moves
    background = background_of(activations)
    whitening = background.whitening(eps)
    assert background.whitening(eps) is whitening
    covariance = background.covariance.numpy()
    precision = np.linalg.inv(covariance + eps * covariance.diagonal().mean() * np.eye(channels))
    np.testing.assert_allclose(whitening.precision.numpy(), precision, rtol=1e-8, atol=1e-8 * abs(precision).max())
    centred = activations.double().numpy() - activations.double().numpy().mean(0)
    likeness = whitening.whiten(activations).double().numpy()
    np.testing.assert_allclose(
        likeness @ likeness.T, centred @ precision @ centred.T, atol=1e-5 * abs(precision).max() * 10 + 1e-4
    )
    target = whitening.target(activations).double().numpy()
    direction = centred @ precision
    for found, expected, activation in zip(target, direction, activations.double().numpy(), strict=True):
        if np.linalg.norm(expected) > 1e-3:
            np.testing.assert_allclose(
                found, expected / np.linalg.norm(expected) * np.linalg.norm(activation), atol=2e-3
            )


def test_words_are_counted_over_the_whole_corpus(model: ConvTextModel):
    background = fit_background(model, TEXTS, sentences=50)
    expected = Counter(word for text in TEXTS for word in text.split()[: model.length])
    counted = {word: int(count) for word, count in zip(model.words, background.counts, strict=True) if count}
    assert counted == expected


def test_a_corpus_is_drawn_at_random_and_repeatably():
    texts = [str(i) for i in range(1000)]
    drawn = draw_texts(texts, 100, seed=3)
    assert drawn == draw_texts(texts, 100, seed=3) != draw_texts(texts, 100, seed=4)
    assert drawn == sorted(set(drawn), key=int)
    assert sum(int(text) < 500 for text in drawn) in range(30, 71)
    assert draw_texts(texts, 1000, seed=3) == texts


def test_what_does_not_fit_is_named(model: ConvTextModel):
    background = fit_background(model, TEXTS)
    assert background.layer(model, 1).count > 0
    with pytest.raises(ModelError, match="background: it was fitted to another model"):
        background.layer(small_model(1), 1)
    with pytest.raises(ValueError, match="expected more locations than the 6 channels of layer 0, got 4 in 1 texts"):
        fit_background(model, ["the good film"])
    with pytest.raises(ValueError, match="shrinkage: expected more than 0"):
        background.layers[1].whitening(0)
    still = LayerBackground(torch.zeros(2).double(), torch.zeros(2, 2).double(), torch.zeros(2).double(), 9)
    with pytest.raises(ValueError, match="no channel of the layer ever changed"):
        still.whitening()


def test_a_layer_that_does_nothing_has_no_background(model: ConvTextModel):
    with torch.no_grad():
        model.convolutions[1].weight.zero_()
        model.convolutions[1].bias.fill_(-1)
    with pytest.raises(ValueError, match="no channel of the layer ever changed"):
        fit_background(model, TEXTS)


def test_a_background_knows_that_its_model_has_changed(model: ConvTextModel):
    background = fit_background(model, TEXTS)
    assert isinstance(background, Background)
    with torch.no_grad():
        model.linear.weight += 1
    with pytest.raises(ModelError, match="another model"):
        background.layer(model, 0)
