"""Models whose convolutions stand beside each other (Kim 2014), against plain convolutions and autograd in float64."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch
from conftest import WORDS, small_model
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from fastinterp import (
    ConvTextModel,
    ModelConfig,
    ModelError,
    OptimizationConfig,
    TrainingConfig,
    Vocabulary,
    build_index,
    fit_background,
    interpret,
    load_corpus,
    load_model,
    saliency,
    save,
    train_model,
)
from fastinterp.method.locations import locate
from fastinterp.method.module_path import optimize_by_module
from fastinterp.method.optimization import optimize_inputs
from fastinterp.method.saliency import explain_locations, layer_activations
from fastinterp.method.starts import random_starts
from fastinterp.models.protocol import Places
from fastinterp.models.shapes import weight_shapes
from fastinterp.training.scores import batch_scores, distinct_words

SLOPES = {
    "relu": torch.relu,
    "leaky_relu": lambda z: functional.leaky_relu(z, 0.01),
    "identity": lambda z: z,
    "tanh": torch.tanh,
}


def branched(
    seed: int = 0,
    channels: tuple[int, ...] = (6, 5, 7),
    kernel_sizes: tuple[int, ...] = (3, 4, 5),
    length: int = 9,
    activation: str = "relu",
    classes: int = 3,
) -> ConvTextModel:
    """Returns a randomly initialised model of branches, in evaluation mode."""
    names = tuple(f"class {i}" for i in range(classes))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = ModelConfig(names, length, channels, kernel_sizes, 7, activation, branches=True)
        return ConvTextModel(config, Vocabulary(("<pad>", "<unk>", *WORDS))).eval()


def drawn_ids(model: ConvTextModel, lengths: list[int], seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, len(model.vocabulary), (len(lengths), model.length), generator=generator)
    return ids.masked_fill(torch.arange(model.length) >= torch.tensor(lengths, dtype=torch.int64)[:, None], 0)


def by_hand(model: ConvTextModel, vectors: torch.Tensor, ids: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Activations (B, L, C) of every branch over the whole frame, and class scores (B, classes), in float64."""
    state = {name: weight.detach().double() for name, weight in model.state_dict().items()}
    hidden = []
    for i, kernel in enumerate(model.config.kernel_sizes):
        framed = functional.pad(vectors.double()[ids].transpose(1, 2), ((kernel - 1) // 2, kernel // 2))
        z = functional.conv1d(framed, state[f"convolutions.{i}.weight"], state[f"convolutions.{i}.bias"])
        hidden.append(SLOPES[model.config.activation](z).transpose(1, 2))
    return hidden, head_of(model, hidden)


def head_of(model: ConvTextModel, hidden: list[torch.Tensor]) -> torch.Tensor:
    """Class scores of the branches' activations; of equal maxima the first has the gradient, as in the method."""
    maxima = torch.cat([each.max(dim=1).values for each in hidden], dim=1)
    return functional.linear(maxima, model.linear.weight.detach().double(), model.linear.bias.detach().double())


branches = st.tuples(
    st.integers(0, 1000),
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=4),
    st.integers(1, 20),
    st.lists(st.integers(0, 20), max_size=4),
    st.sampled_from(list(SLOPES)),
)


def drawn_model(drawn: tuple) -> tuple[ConvTextModel, torch.Tensor]:
    seed, layers, length, lengths, activation = drawn
    channels, kernels = zip(*layers, strict=True)
    model = branched(seed, channels, kernels, length, activation)
    return model, drawn_ids(model, lengths, seed)


@given(branches)
def test_class_scores_are_those_of_plain_convolutions(drawn):
    model, ids = drawn_model(drawn)
    _, expected = by_hand(model, model.word_vectors, ids)
    torch.testing.assert_close(model(ids).double(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(saliency(model, ids).class_scores.double(), expected, rtol=1e-4, atol=1e-5)


@given(branches, st.sampled_from([None, 0, 2]))
def test_saliency_activations_and_gradients_are_those_of_autograd(drawn, versus: int | None):
    model, ids = drawn_model(drawn)
    target = None if versus is None else 1
    for layer in range(model.layers):
        hidden, _ = by_hand(model, model.word_vectors, ids)
        hidden[layer].requires_grad_()
        scores = head_of(model, hidden)
        asked = scores.argmax(dim=1) if target is None else torch.full((len(ids),), target)
        score = scores.gather(1, asked[:, None]).sum() - (0 if versus is None else scores[:, versus].sum())
        (gradient,) = torch.autograd.grad(score, hidden[layer])
        expected = (gradient * hidden[layer]).sum(dim=2).detach()
        found = locate(model, ids, layer, 1, target, versus, with_gradients=True)
        torch.testing.assert_close(found.scores.double(), expected, rtol=1e-4, atol=1e-5)
        places = (found.chosen.sentence, found.chosen.location)
        torch.testing.assert_close(found.activations.double(), hidden[layer].detach()[places], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.gradients.double(), gradient[places], rtol=1e-4, atol=1e-5)
        if target is None:
            torch.testing.assert_close(saliency(model, ids, layer).scores, found.scores)
            every = [each for _, _, each in layer_activations(model, ids, layer)]
            torch.testing.assert_close(
                torch.cat(every).double(), hidden[layer].detach(), rtol=1e-4, atol=1e-5, check_device=False
            )


@given(branches, st.booleans())
def test_gradient_times_input_is_that_of_autograd(drawn, inference: bool):
    model, ids = drawn_model(drawn)
    vectors = model.word_vectors[ids].double().requires_grad_()
    rows = torch.arange(ids.numel()).view(ids.shape)
    _, scores = by_hand(model, vectors.reshape(-1, 7), rows)
    (gradient,) = torch.autograd.grad(scores.max(dim=1).values.sum(), vectors)
    with torch.inference_mode(inference):
        found = model.module_layer(model.layers - 1).gradient_times_input(ids)
    torch.testing.assert_close(found.double(), (gradient * vectors).sum(dim=2).detach(), rtol=1e-4, atol=1e-5)


@given(branches.filter(lambda drawn: drawn[3]))
def test_training_has_the_scores_and_gradients_of_plain_convolutions(drawn):
    model, ids = drawn_model(drawn)
    model.double()
    weights = [weight for name, weight in model.named_parameters() if name != "embedding.weight"]
    words, places = distinct_words(ids)
    vectors = model.word_vectors[words].requires_grad_()
    scores = batch_scores(model, vectors, places)
    direction = torch.randn(scores.shape, generator=torch.Generator().manual_seed(drawn[0]), dtype=torch.float64)
    gradients = torch.autograd.grad((scores * direction).sum(), [vectors, *weights])

    table = model.word_vectors.clone().requires_grad_()
    hidden = table[ids].transpose(1, 2)
    maxima = []
    for layer, kernel in zip(model.convolutions, model.config.kernel_sizes, strict=True):
        framed = functional.pad(hidden, ((kernel - 1) // 2, kernel // 2))
        maxima.append(SLOPES[model.config.activation](functional.conv1d(framed, layer.weight, layer.bias)).amax(dim=2))
    expected = functional.linear(torch.cat(maxima, dim=1), model.linear.weight, model.linear.bias)
    wanted = torch.autograd.grad((expected * direction).sum(), [table, *weights])
    torch.testing.assert_close(scores, expected)
    torch.testing.assert_close(gradients[0], wanted[0][words])
    for gradient, other in zip(gradients[1:], wanted[1:], strict=True):
        torch.testing.assert_close(gradient, other)


@given(st.integers(0, 1000), st.integers(1, 5), st.integers(1, 9), st.sampled_from(list(SLOPES)))
def test_the_functions_of_fields_give_the_branchs_activations(seed: int, kernel: int, length: int, activation: str):
    model = branched(seed, (4, 3), (2, kernel), length, activation)
    own, field = model.module_layer(1), model.field(1)
    location = torch.arange(length)
    begin, end = field.edges(location, length, kernel)
    rows = torch.arange(kernel)
    inputs = torch.randn(length, kernel, 7, generator=torch.Generator().manual_seed(seed))
    inputs[(rows < begin[:, None]) | (rows >= end[:, None])] = 0
    places = Places(location, torch.full_like(location, length), torch.zeros(length, kernel, dtype=torch.int64))
    found = torch.full((length, 3), torch.nan)
    for members, compute in own.in_fields(places, most=2):
        assert len(members) <= 2
        assert len({(int(begin[i]), int(end[i])) for i in members}) == 1
        found[members] = compute(inputs[members])
    stack = model.stack(1)
    z = functional.conv1d(inputs.double().transpose(1, 2), stack.weights[0].double(), stack.biases[0].double())
    torch.testing.assert_close(found.double(), SLOPES[activation](z)[..., 0], rtol=1e-4, atol=1e-5)


def test_the_kernels_optimise_a_branch_as_its_own_module_would():
    model, config = branched(), OptimizationConfig(steps=60)
    ids = model.encode(["a good slow film the plot", "dull"])
    for layer in range(model.layers):
        _, chosen, activations = explain_locations(model, ids, layer, 2)
        rows = model.config.kernel_sizes[layer]
        begin, end = model.field(layer).edges(chosen.location, model.length, rows)
        keys = torch.arange(len(activations))
        places = Places(
            chosen.location,
            torch.full_like(keys, model.length),
            model.field(layer).ids(ids, chosen.location, chosen.sentence, rows),
        )
        found = optimize_inputs(model, activations, layer, begin, end, keys, config, places)
        start = random_starts(keys, places.frame, rows, 7, config.seed)
        expected = optimize_by_module(model.module_layer(layer), activations, begin, end, start, places, config)
        torch.testing.assert_close(found.inputs, expected.inputs, rtol=1e-3, atol=1e-4)


def test_each_branch_is_a_layer_of_its_own():
    model = branched()
    assert (model.layers, model.config.ends) == (3, (0, 1, 2))
    assert [model.config.receptive_field(layer) for layer in range(3)] == [(1, 1), (1, 2), (2, 2)]
    assert [model.field(layer).width for layer in range(3)] == [3, 4, 5]
    for layer, convolution in enumerate(model.convolutions):
        stack = model.stack(layer)
        assert len(stack.weights) == 1
        assert stack.below == ()
        assert torch.equal(stack.weights[0], convolution.weight)
    with pytest.raises(ValueError, match=r"^layer: expected 0 to 2, got 3$"):
        saliency(model, ["good"], 3)
    with pytest.raises(ValueError, match="^model: expected one whose last convolution alone .* got branches$"):
        _ = model.head


@given(branches)
def test_weight_shapes_are_those_of_the_model(drawn):
    model, _ = drawn_model(drawn)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert weight_shapes(model.config, len(model.vocabulary)) == shapes


def test_one_branch_is_a_stack_of_one():
    alone, stack = branched(channels=(6,), kernel_sizes=(4,), classes=2), small_model(3, (6,), (4,))
    stack.load_state_dict(alone.state_dict())
    sentences = ["a good slow film", "dull", "", "the odd plot the odd plot the odd plot"]
    found, expected = saliency(alone, sentences), saliency(stack, sentences)
    torch.testing.assert_close(found.scores, expected.scores)
    torch.testing.assert_close(found.class_scores, expected.class_scores)
    # They compute the same, but a background of one is not a background of the other.
    assert alone.fingerprint() != stack.fingerprint()


def test_a_saliency_does_not_depend_on_the_batch(monkeypatch: pytest.MonkeyPatch):
    model, sentences = branched(), ["a good film", "dull", "", "the slow actor the slow actor"]
    together = saliency(model.train(), sentences, 1)
    assert model.training
    monkeypatch.setattr("fastinterp.method.saliency.batch_size", lambda model, layer, length: 1)
    alone = saliency(model, sentences, 1)
    assert torch.equal(together.scores, alone.scores)
    assert torch.equal(together.class_scores, alone.class_scores)
    assert saliency(model, [], 1).scores.shape == (0, 9)


def test_a_trained_model_is_saved_loaded_and_explained(table: Path, tmp_path: Path):
    corpus = load_corpus(table)
    model = branched(classes=2)
    model = ConvTextModel(dataclasses.replace(model.config, classes=corpus.train.classes), model.vocabulary)
    config = TrainingConfig(learning_rate=0.02, batch_size=8, epochs=12, patience=12, word_dropout=0.1)
    result = train_model(model, corpus.train, config)
    assert result.losses[-1] < 0.3 * result.losses[0]
    background = fit_background(model, corpus.train.texts)
    save(model, tmp_path / "m", companions={"background.safetensors": background.save})

    loaded = load_model(tmp_path / "m")
    assert loaded.config == model.config
    assert loaded.config.branches
    assert loaded.fingerprint() == model.fingerprint()
    sentences = ["a good slow film", "a bad plot", ""]
    for layer, width in enumerate((3, 4, 5)):
        index = build_index(model, corpus.train, background, layer, 3)
        found = interpret(loaded, sentences, layer=layer, index=index)
        assert [each.label for each in found] == ["pos", "neg", found[2].label]
        for each in found[:2]:
            assert (each.path, each.layer_name) == ("kernels", f"convolutions.{layer}")
            for location in each.locations:
                assert 1 <= len(location.tokens) <= width
                assert len(location.position_words) == len(location.tokens)
                assert location.evidence
                assert location.neighbors
                total = sum(location.token_scores) + location.rest_score
                assert total == pytest.approx(location.score, abs=1e-4)
        assert found == interpret(model, sentences, layer=layer, index=index, background=background)


@pytest.mark.parametrize("static", [False, True])
def test_static_word_vectors_stay_as_they_are(table: Path, static: bool):
    model = branched(classes=2)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    train_model(model, load_corpus(table).train, TrainingConfig(batch_size=8, epochs=1, static=static))
    same = {name for name, weight in model.state_dict().items() if torch.equal(weight, before[name])}
    assert same == ({"embedding.weight"} if static else set())
    assert all(weight.grad is None and weight.requires_grad for weight in model.parameters())


def test_a_folder_without_the_entry_holds_a_stack(tmp_path: Path):
    model = small_model()
    save(model, tmp_path / "m")
    path = tmp_path / "m" / "config.json"
    fields = json.loads(path.read_text())
    assert "branches" not in fields
    assert load_model(tmp_path / "m").fingerprint() == model.fingerprint()
    # A stack's weights are no branches'.
    path.write_text(json.dumps({**fields, "branches": True}))
    with pytest.raises(ModelError, match=r"convolutions.1.weight has shape \(5, 6, 4\), expected \(5, 7, 4\)"):
        load_model(tmp_path / "m")


def test_the_fingerprint_of_a_stack_is_that_of_before_there_were_branches():
    config = small_model().config
    assert "branches" not in repr(config)
    assert dataclasses.replace(config, branches=True) != config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"branches": 1}, "branches: expected True or False, got 1"),
        ({"branches": "yes"}, "branches: expected True or False, got 'yes'"),
        ({"channels": (4, 4)}, "kernel_sizes: expected 2 values, one per layer, got 3"),
    ],
)
def test_a_bad_field_is_named(change: dict, message: str):
    fields = {"classes": ("a", "b"), "length": 9, "channels": (4, 4, 4), "kernel_sizes": (3, 4, 5), "branches": True}
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ModelConfig(**{**fields, **change})
    with pytest.raises(ValueError, match="^static: expected True or False, got 'no'$"):
        TrainingConfig(static="no")


def test_the_preset_is_kims_network():
    config, training = ModelConfig.preset("kim", ("n", "p")), TrainingConfig.preset("kim")
    assert (config.channels, config.kernel_sizes, config.branches) == ((100, 100, 100), (3, 4, 5), True)
    assert (config.length, config.dropout, training.batch_size, training.static) == (56, 0.5, 50, False)
    assert ModelConfig.from_fields(json.loads(json.dumps(config.to_fields()))) == config
