from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import small_model, weights_of
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from fastinterp import ConvTextModel, ModelConfig, Vocabulary, interpret, saliency
from fastinterp.kernels import reference
from fastinterp.models.shapes import weight_shapes


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
    with pytest.raises(ValueError, match="preset: expected one of mr, ag_news, table, kim, got 'imdb'"):
        ModelConfig.preset("imdb", ("n", "p"))


def test_receptive_fields_grow_with_depth():
    config = ModelConfig(("a", "b"), 9, (1, 1, 1), (3, 4, 1))
    assert [config.receptive_field(layer) for layer in range(3)] == [(1, 1), (2, 3), (2, 3)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ("a",)}, "classes: expected at least two"),
        ({"classes": ("a", "a")}, "classes"),
        ({"length": 0}, "length: expected 1 to 1000000, got 0"),
        ({"length": True}, "length: expected an integer, got True"),
        ({"channels": ()}, "channels: expected one positive integer per layer"),
        ({"kernel_sizes": (3, 3)}, "kernel_sizes: expected 1 values"),
        ({"activation": "gelu"}, "activation: expected one of relu"),
        ({"dropout": 1}, "dropout: expected at least 0 and below 1, got 1"),
        ({"dropout": float("nan")}, "dropout: expected a finite number, got nan"),
        ({"dropout": False}, "dropout: expected a finite number, got False"),
        ({"length": 10**12}, "length: expected 1 to 1000000, got 1000000000000"),
        ({"length": 9.0}, "length: expected an integer, got 9.0"),
        ({"channels": [4]}, r"channels: expected one positive integer per layer, got \[4\]"),
        ({"activation": ["relu"]}, "activation: expected one of relu"),
        ({"classes": ("a", "b\udcff")}, "classes: .* holds a lone surrogate"),
        ({"classes": tuple("x" * 10_000 for _ in range(99))}, "classes: expected at least two"),
    ],
)
def test_a_bad_field_is_named(change: dict, message: str):
    fields = {"classes": ("a", "b"), "length": 9, "channels": (4,), "kernel_sizes": (3,)}
    with pytest.raises(ValueError, match=message) as error:
        ModelConfig(**{**fields, **change})
    assert len(str(error.value)) < 300


def test_numpys_integers_are_integers(model: ConvTextModel):
    config = ModelConfig(("a", "b"), np.int64(9), (np.int32(4),), (np.uint8(3),), np.int16(7))
    assert config == ModelConfig(("a", "b"), 9, (4,), (3,), 7)
    assert type(config.length) is type(config.channels[0]) is int
    assert config.check_layer(np.int64(0)) == 0
    with pytest.raises(ValueError, match="layer: expected an integer, got False"):
        config.check_layer(False)


def with_value(row: int, value: float) -> torch.Tensor:
    embedding = torch.zeros(3, 7)
    embedding[row, 2] = value
    return embedding


@pytest.mark.parametrize(
    ("embedding", "kind", "message"),
    [
        (torch.zeros(4, 7), ValueError, r"embedding: expected shape \(3, 7\)"),
        (
            torch.zeros(3, 7, dtype=torch.float64),
            ValueError,
            "embedding: expected dtype torch.float32, got torch.float64",
        ),
        (torch.zeros(3, 7).numpy(), TypeError, "embedding: expected a tensor, got ndarray"),
        (with_value(2, float("nan")), ValueError, "embedding: expected finite values"),
        (with_value(1, -float("inf")), ValueError, "embedding: expected finite values"),
        (with_value(0, 1e-30), ValueError, "embedding: expected zeros in row 0, the vector of the padding"),
    ],
)
def test_an_embedding_must_fit(embedding: torch.Tensor, kind: type[Exception], message: str):
    config = ModelConfig(("a", "b"), 9, (4,), (3,), 7)
    with pytest.raises(kind, match=message):
        ConvTextModel(config, Vocabulary(("<pad>", "<unk>", "x")), embedding)


def test_large_values_that_only_their_sum_makes_infinite_are_finite():
    embedding = torch.zeros(3, 7)
    embedding[1:] = 3e38
    ConvTextModel(
        ModelConfig(("a", "b"), 9, (4,), (3,), 7), Vocabulary(("<pad>", "<unk>", "x")), embedding
    ).check_weights()


def test_the_embedding_is_copied():
    embedding = torch.zeros(3, 7)
    model = ConvTextModel(ModelConfig(("a", "b"), 9, (4,), (3,), 7), Vocabulary(("<pad>", "<unk>", "x")), embedding)
    embedding[0] = 1
    assert not model.embedding.weight[0].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_torchs_default_dtype_changes_nothing(model: ConvTextModel, dtype: torch.dtype):
    sentences = ["a good film", "dull"]
    scores, found = model(model.encode(sentences)), saliency(model, sentences)
    torch.set_default_dtype(dtype)
    try:
        same = small_model()
        assert all(
            torch.equal(a, b) for a, b in zip(same.state_dict().values(), model.state_dict().values(), strict=True)
        )
        assert torch.equal(same(same.encode(sentences)), scores)
        again = saliency(same, sentences)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(again.scores, found.scores)
    assert torch.equal(again.class_scores, found.class_scores)


@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 5)), min_size=1, max_size=4),
    st.integers(1, 9),
    st.integers(2, 5),
)
def test_weight_shapes_are_those_of_the_model(layers, dimension: int, classes: int):
    channels, kernels = zip(*layers, strict=True)
    config = ModelConfig(tuple(map(str, range(classes))), 9, channels, kernels, dimension)
    model = ConvTextModel(config, Vocabulary(("<pad>", "<unk>", "x")))
    assert weight_shapes(config, 3) == {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    again = ConvTextModel.from_tensors(config, model.vocabulary, model.state_dict())
    assert all(weight.requires_grad and weight.dtype == torch.float32 for weight in again.parameters())
    assert repr(again) == repr(model)
    ids = torch.tensor([[1, 2, 2, 1, 0, 0, 0, 0, 0]])
    assert torch.equal(again.eval()(ids), model.eval()(ids))


@pytest.mark.parametrize("tensor", [name for name in weight_shapes(ModelConfig(("a", "b"), 9, (6, 5), (3, 4), 7), 14)])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_weight_that_is_not_finite_is_named(model: ConvTextModel, tensor: str, value: float):
    model.state_dict()[tensor].view(-1)[-1] = value
    with pytest.raises(ValueError, match=f"^model: {tensor} holds NaN or infinite values$"):
        model.check_weights()
    with pytest.raises(ValueError, match=f"^model: {tensor} holds NaN or infinite values$"):
        saliency(model, ["good"])


@pytest.mark.parametrize("explained_before", [False, True])
def test_a_padding_row_that_is_written_later_is_named(model: ConvTextModel, explained_before: bool):
    message = "^model: expected zeros in row 0 of embedding.weight, the vector of the padding$"
    if explained_before:
        interpret(model, ["good"])
    model.embedding.weight.data[0, 3] = 0.25
    for explain in (saliency, interpret):
        with pytest.raises(ValueError, match=message):
            explain(model, ["good"])
    with torch.no_grad():
        model.embedding.weight[0] = 0
    interpret(model, ["good"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_another_dtype_is_one_line_that_says_what_to_do(model: ConvTextModel, dtype: torch.dtype):
    with pytest.raises(ValueError, match=f"^model: embedding.weight is {dtype}; .* model.float"):
        saliency(model.to(dtype), ["good"])
    with pytest.raises(ValueError, match="model.float"):
        interpret(model, ["good"])
    saliency(model.float(), ["good"])


def test_training_mode_changes_no_explanation(model: ConvTextModel):
    sentences = ["a good slow film", "dull", ""]
    found = saliency(model.eval(), sentences)
    again = saliency(model.train(), sentences)
    assert model.training
    assert torch.equal(again.scores, found.scores)
    assert torch.equal(again.class_scores, found.class_scores)
    torch.testing.assert_close(found.class_scores, model.eval()(model.encode(sentences)))
