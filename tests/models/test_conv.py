from __future__ import annotations

import pytest
import torch
from conftest import small_model, weights_of
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from fastinterp import ConvTextModel, ModelConfig, Vocabulary
from fastinterp.kernels import reference


def full_frame_scores(model: ConvTextModel, ids: torch.Tensor) -> torch.Tensor:
    """Class scores by the reference, which computes every column of the frame, in float64."""
    weights, biases = weights_of(model, model.config.layers - 1)
    _, scores, _ = reference.saliency(
        functional.embedding(ids, model.embedding.weight.detach()).double(),
        (ids != 0).sum(dim=1),
        ids.shape[1],
        [weight.double() for weight in weights],
        [bias.double() for bias in biases],
        model.linear.weight.detach().double(),
        model.linear.bias.detach().double(),
        model.config.activation,
        0,
    )
    return scores


@given(
    st.integers(0, 1000),
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 5)), min_size=1, max_size=4),
    st.integers(1, 40),
    st.lists(st.integers(0, 40), max_size=4),
    st.sampled_from(["relu", "leaky_relu", "identity", "tanh"]),
)
def test_forward_equals_the_full_frame_although_it_computes_less(seed, layers, length, lengths, activation):
    channels, kernels = zip(*layers, strict=True)
    model = small_model(seed, channels, kernels, length, activation)
    generator = torch.Generator().manual_seed(seed)
    ids = torch.zeros(len(lengths), length, dtype=torch.int64)
    for row, tokens in zip(ids, lengths, strict=True):
        row[:tokens] = torch.randint(1, len(model.vocabulary), (length,), generator=generator)[:tokens]
    torch.testing.assert_close(model(ids).double(), full_frame_scores(model, ids), rtol=1e-4, atol=1e-5)


def test_presets_are_table_2():
    mr = ModelConfig.preset("mr", ("n", "p"))
    assert (mr.length, mr.channels, mr.kernel_sizes) == (56, (128, 64, 32), (5, 5, 5))
    ag = ModelConfig.preset("ag_news", ("a", "b", "c", "d"))
    assert (ag.length, ag.channels, ag.kernel_sizes) == (195, (512, 256, 128, 64), (5, 5, 5, 5))
    with pytest.raises(ValueError, match="preset: expected one of mr, ag_news, got 'imdb'"):
        ModelConfig.preset("imdb", ("n", "p"))


def test_receptive_fields_grow_with_depth():
    config = ModelConfig(("a", "b"), 9, (1, 1, 1), (3, 4, 1))
    assert [config.receptive_field(layer) for layer in range(3)] == [(1, 1), (2, 3), (2, 3)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ("a",)}, "classes: expected at least two"),
        ({"classes": ("a", "a")}, "classes"),
        ({"length": 0}, "length: expected a positive integer, got 0"),
        ({"length": True}, "length: expected a positive integer, got True"),
        ({"channels": ()}, "channels: expected one positive integer per layer"),
        ({"kernel_sizes": (3, 3)}, "kernel_sizes: expected 1 values"),
        ({"activation": "gelu"}, "activation: expected one of relu"),
        ({"dropout": 1}, "dropout: expected a number from 0 to below 1"),
    ],
)
def test_a_bad_field_is_named(change: dict, message: str):
    fields = {"classes": ("a", "b"), "length": 9, "channels": (4,), "kernel_sizes": (3,)}
    with pytest.raises(ValueError, match=message):
        ModelConfig(**{**fields, **change})


def test_an_embedding_must_fit_the_vocabulary():
    config = ModelConfig(("a", "b"), 9, (4,), (3,), 7)
    with pytest.raises(ValueError, match=r"embedding: expected shape \(3, 7\)"):
        ConvTextModel(config, Vocabulary(("<pad>", "<unk>", "x")), torch.zeros(4, 7))
