"""Modules of other libraries: an embedding that is no `torch.nn.Embedding`, and Keras' models against Keras itself."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fastinterp import OptimizationConfig, adapt, interpret, saliency

WORDS = ["<pad>", "<unk>", *(f"w{i}" for i in range(2, 30))]
TEXT = "w2 w3 w4 w5 w6 w7"
LENGTH = 9
FEW = OptimizationConfig(steps=20)


class Gather(nn.Module):
    """Rows of a table that is given to it, as in a graph that a converter has made."""

    def forward(self, table: Tensor, ids: Tensor) -> Tensor:
        return table[ids]


class Graph(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gather = Gather()
        self.register_buffer("table", torch.randn(len(WORDS), 12))
        self.register_buffer("places", torch.randn(50, 12))
        self.place = Gather()
        self.conv, self.fc = nn.Conv1d(12, 6, 3, padding=1), nn.Linear(6, 2)

    def forward(self, ids: Tensor) -> Tensor:
        vectors = self.gather(self.table, ids)
        places = self.place(self.places, torch.arange(ids.shape[1]).expand(len(ids), -1))
        hidden = self.conv(vectors.transpose(1, 2)).relu().amax(dim=2)
        return self.fc(hidden) + places.sum() * 0


class Plain(nn.Module):
    """The same network with an embedding of torch's."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.embedding = nn.Embedding.from_pretrained(graph.table.clone())
        self.conv, self.fc = graph.conv, graph.fc

    def forward(self, ids: Tensor) -> Tensor:
        return self.fc(self.conv(self.embedding(ids).transpose(1, 2)).relu().amax(dim=2))


def graph() -> Graph:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Graph()


def adapted(module: nn.Module, **settings: Any) -> Any:
    return adapt(module, **{"tokenizer": str.split, "words": WORDS, "unknown_id": 1, **settings})


@pytest.mark.parametrize("named", [None, "gather", "module"])
def test_a_part_that_looks_the_ids_up_in_a_table_is_the_embedding(named: str | None):
    module = graph()
    found = adapted(module, embedding=module.gather if named == "module" else named)
    assert interpret(found, TEXT, optimization=FEW) == interpret(adapted(Plain(module)), TEXT, optimization=FEW)
    assert torch.equal(found.word_vectors, module.table)
    assert not any(part._forward_hooks for part in module.modules())


def test_a_table_that_changes_or_moves_is_followed():
    module = graph()
    found = adapted(module)
    before = interpret(found, TEXT, optimization=FEW)
    module.table = module.table * 2
    assert torch.equal(found.word_vectors, module.table)
    after = interpret(found, TEXT, optimization=FEW)
    assert after == interpret(adapted(Plain(module)), TEXT, optimization=FEW)
    assert after != before


class Blind(Graph):
    """The ids go into the table by a sum, so that no part gives its rows."""

    def forward(self, ids: Tensor) -> Tensor:
        one_hot = nn.functional.one_hot(ids, len(WORDS)).float()
        return self.fc(self.conv((one_hot @ self.table).transpose(1, 2)).relu().amax(dim=2))


def test_what_looks_nothing_up_is_refused_in_one_line():
    with pytest.raises(ValueError, match=r"module: .* got Blind without any, and none of its parts looks the ids up"):
        adapted(Blind())
    with pytest.raises(TypeError, match=r"another part that looks the ids up in a table, got place \(Gather\)$"):
        adapted(graph(), embedding="place")
    with pytest.raises(ValueError, match=r"embedding: expected one of gather, .* got 'gathr'"):
        adapted(graph(), embedding="gathr")


@pytest.fixture(scope="module")
def keras() -> Any:
    os.environ["KERAS_BACKEND"] = "torch"
    return pytest.importorskip("keras", reason="Keras is not installed: pip install keras")


def keras_model(keras: Any, *body: Any, last: str = "softmax", units: int = 2) -> Any:
    keras.utils.set_random_seed(1)
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((LENGTH,), dtype="int32"),
            layers.Embedding(len(WORDS), 12, name="vectors"),
            *body,
            layers.GlobalMaxPooling1D(),
            layers.Dense(units, activation=last),
        ]
    )
    for weight in model.weights:  # Keras' biases start at zero, which would hide one that is left out
        weight.assign(weight + torch.randn(weight.shape, generator=torch.Generator().manual_seed(2)) * 0.3)
    return model


def bodies(keras: Any) -> dict[str, tuple[list[Any], str, str]]:
    conv = keras.layers.Conv1D
    return {
        "same": ([conv(6, 3, padding="same", activation="relu", name="conv")], "conv", "kernels"),
        "two, even width": (
            [conv(8, 4, padding="same", activation="relu"), conv(6, 4, padding="same", activation="relu", name="conv")],
            "conv",
            "kernels",
        ),
        "strided": ([conv(6, 3, strides=2, use_bias=False, activation="tanh", name="conv")], "conv", "kernels"),
        "causal": ([conv(6, 3, padding="causal", activation="gelu", name="conv")], "conv", "module"),
        "batch norm": ([conv(6, 3, padding="same"), keras.layers.BatchNormalization(name="norm"),
                        keras.layers.ReLU(name="relu"), keras.layers.Dropout(0.5)], "relu", "module"),
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["same", "two, even width", "strided", "causal", "batch norm"])
def test_a_keras_model_is_explained_by_its_own_outputs_and_gradients(keras: Any, kind: str):
    body, layer, path = bodies(keras)[kind]
    module = keras_model(keras, *body)
    found = adapted(module, layer=layer, length=LENGTH)
    result = interpret(found, TEXT, layer, optimization=FEW)
    assert result.path == path, result.reason
    ids = torch.tensor([[*range(2, 8), 0, 0, 0]])
    torch.testing.assert_close(result.probability, float(module(ids).detach().max()), rtol=1e-5, atol=1e-6)
    # The same by Keras layer for layer, up to the softmax, which the saliency leaves out.
    place = [each.name for each in module.layers].index(layer) + 1
    hidden = ids
    for each in module.layers[:place]:
        hidden = each(hidden)
    hidden = hidden.detach().requires_grad_()
    pooled = hidden
    for each in module.layers[place:-1]:
        pooled = each(pooled)
    scores = pooled @ module.layers[-1].kernel.value + module.layers[-1].bias.value
    (gradient,) = torch.autograd.grad(scores[0].max(), hidden)
    expected = (gradient * hidden).sum(dim=2)[0].detach()
    torch.testing.assert_close(result.saliency, expected[: len(result.saliency)], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(saliency(found, [TEXT], layer).scores[0], result.saliency)
    own = found.module_layer(0).explain(found.read([TEXT]).ids, lambda values, rows: [0], None).activations[0]
    torch.testing.assert_close(own, hidden[0].detach(), rtol=1e-4, atol=1e-5)


def test_layers_of_a_keras_model_have_their_own_names_also_inside_another(keras: Any):
    inner = keras.Sequential(
        [keras.layers.Input((LENGTH, 12)), keras.layers.Conv1D(6, 3, name="deep", activation="relu")], name="inner"
    )
    found = adapted(keras_model(keras, inner, last="sigmoid", units=1), length=LENGTH)
    assert found.layer_names == ("inner.deep",)
    assert interpret(found, TEXT, optimization=FEW).path == "kernels"
    with pytest.raises(ValueError, match="layer: expected one of inner.deep, got 'deep'"):
        adapted(found.module, length=LENGTH, layer="deep")
