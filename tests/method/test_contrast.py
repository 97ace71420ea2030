"""The input that stands out and its words, against normal equations and autograd in float64."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from conftest import WORDS, batch_invariant, field_edges, small_model
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fastinterp import ConvTextModel, Problems, reference
from fastinterp.method.background import Background, Whitening, fit_background
from fastinterp.method.contrast import ContrastConfig, contrast_inputs
from fastinterp.method.fields import activations, pre_activations, pull_back
from fastinterp.method.position_words import COMMONEST, LEAST_COUNT, PositionConfig, position_words
from fastinterp.method.saliency import explain_locations

TEXTS = [" ".join(WORDS[(i * 7 + j * j + i // 5) % len(WORDS)] for j in range(1 + i % 9)) for i in range(240)]
SHAPES = [((6,), (3,)), ((6, 5), (3, 4)), ((7, 6, 4), (3, 1, 3))]


def problems_of(model: ConvTextModel, layer: int, count: int = 6) -> tuple[Problems, Tensor]:
    """Locations of the first sentences, and the ids of their fields."""
    ids = model.encode(TEXTS[:count])
    _, chosen, found = explain_locations(model, ids, layer, 3)
    stack = model.stack(layer)
    begin, end = field_edges(model, layer, chosen.location)
    problems = Problems(found.contiguous(), stack.weights, stack.biases, begin, end, stack.activation)
    padded = torch.nn.functional.pad(ids, (stack.before, stack.after))
    return problems, padded[chosen.sentence[:, None], chosen.location[:, None] + torch.arange(problems.field)]


def prepared(seed: int, shape: int, activation: str) -> tuple[ConvTextModel, int, Background, Whitening]:
    channels, kernels = SHAPES[shape]
    model = small_model(seed, channels, kernels, 9, activation)
    background = fit_background(model, TEXTS)
    layer = len(channels) - 1
    return model, layer, background, background.layers[layer].whitening()


def distance(problems: Problems, inputs: Tensor, whitening: Whitening) -> Tensor:
    """The whitened squared distance to the target, in float64, by the reference's forward pass."""
    double = problems.double()
    reached = reference.activate(problems.activation, reference.pre_activations(double, inputs.double()))
    apart = reached - double.target
    return torch.einsum("bi,ij,bj->b", apart, whitening.precision, apart)


MODELS = (st.integers(0, 30), st.integers(0, 2), st.sampled_from(["relu", "leaky_relu", "identity", "tanh"]))


@given(*MODELS)
def test_a_fields_activations_are_the_references(seed: int, shape: int, activation: str):
    model, layer, _, _ = prepared(seed, shape, activation)
    problems, own = problems_of(model, layer)
    inputs = model.word_vectors[own]
    torch.testing.assert_close(activations(problems, inputs), problems.target, rtol=1e-4, atol=1e-5)
    expected = reference.pre_activations(problems.double(), inputs.double())
    found = pre_activations(problems, inputs)[-1][:, 0]
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)


@given(*MODELS)
def test_gradients_are_pulled_back_as_autograd_does(seed: int, shape: int, activation: str):
    model, layer, _, _ = prepared(seed, shape, activation)
    problems, own = problems_of(model, layer, count=2)
    problem = problems[:1]
    inputs = model.word_vectors[own[:1]].double().requires_grad_()
    last = reference.pre_activations(problem.double(), inputs)[0]
    rows = [torch.autograd.grad(value, inputs, retain_graph=True)[0][0] for value in last]
    values = pre_activations(problem, inputs.float())
    slope = {
        "relu": lambda z: (z > 0).float(),
        "leaky_relu": lambda z: torch.where(z > 0, 1.0, 0.01),
        "identity": torch.ones_like,
        "tanh": lambda z: 1 - torch.tanh(z) ** 2,
    }[activation]
    channels = problems.target.shape[1]
    every = replace(problem, begin=problem.begin.expand(channels), end=problem.end.expand(channels))
    found = pull_back(every, torch.eye(channels), [slope(z) for z in values[:-1]])
    exists = problem.exists[0, :, None]
    torch.testing.assert_close(found.double(), torch.stack(rows) * exists, rtol=1e-4, atol=1e-5)


@given(st.integers(0, 30), st.sampled_from([0.3, 1.0, 3.0]), st.sampled_from([0.01, 0.03, 1.0]))
def test_the_first_layer_solves_the_normal_equations(seed: int, shrinkage: float, damping: float):
    model, layer, background, _ = prepared(seed, 0, "relu")
    whitening = background.layers[0].whitening(shrinkage)
    problems, _ = problems_of(model, layer)
    inputs = contrast_inputs(problems, background, 0, whitening, ContrastConfig(shrinkage, damping))
    for row in range(len(problems)):
        weight = problems.weights[0].double().transpose(1, 2) * problems.exists[row, None, :, None]
        jacobian = weight.flatten(1)
        gram = jacobian @ jacobian.T
        rho = damping * (whitening.precision @ gram).diagonal().mean()
        wanted = problems.target[row].double() - whitening.mean
        normal = jacobian.T @ whitening.precision @ jacobian + rho * torch.eye(jacobian.shape[1])
        expected = torch.linalg.solve(normal, jacobian.T @ whitening.precision @ wanted)
        torch.testing.assert_close(inputs[row].flatten().double(), expected, rtol=1e-3, atol=1e-5)


@given(st.integers(0, 30), st.integers(1, 2), st.sampled_from(["relu", "leaky_relu", "identity", "tanh"]))
def test_every_step_comes_nearer(seed: int, shape: int, activation: str):
    model, layer, background, whitening = prepared(seed, shape, activation)
    problems, _ = problems_of(model, layer)
    reached = [
        distance(
            problems, contrast_inputs(problems, background, layer, whitening, ContrastConfig(steps=steps)), whitening
        )
        for steps in (0, 1, 2, 5)
    ]
    for before, after in pairwise(reached):
        assert (after <= before * (1 + 1e-4) + 1e-6).all()


@batch_invariant
@given(st.integers(0, 30), st.integers(0, 2))
def test_no_problem_depends_on_the_others(seed: int, shape: int):
    model, layer, background, whitening = prepared(seed, shape, "relu")
    problems, own = problems_of(model, layer)
    config, choice = ContrastConfig(), PositionConfig(4)
    inputs = contrast_inputs(problems, background, layer, whitening, config)
    words = position_words(model, problems, inputs, own, background.counts, whitening, choice)
    for row in range(len(problems)):
        alone = slice(row, row + 1)
        found = contrast_inputs(problems[alone], background, layer, whitening, config)
        assert torch.equal(found, inputs[alone])
        again = position_words(model, problems[alone], found, own[alone], background.counts, whitening, choice)
        assert torch.equal(again.ids, words.ids[alone])
        assert torch.equal(again.likeness, words.likeness[alone])


def likeness(model: ConvTextModel, problem: Problems, ids: Tensor, whitening: Whitening) -> float:
    """Of the location's activation and that of these words, in float64 by the reference."""
    inputs = model.word_vectors[ids.clamp(min=0)] * (ids > 0)[..., None]
    double = problem.double()
    reached = reference.activate(problem.activation, reference.pre_activations(double, inputs[None].double()))
    mine, its = ((each - whitening.mean) @ whitening.factor for each in (reached[0], double.target[0]))
    return float(torch.nn.functional.cosine_similarity(mine, its, dim=0))


@settings(max_examples=25)
@given(st.integers(0, 30), st.integers(0, 2))
def test_no_exchange_of_a_word_makes_the_answer_better(seed: int, shape: int):
    model, layer, background, whitening = prepared(seed, shape, "relu")
    problems, own = problems_of(model, layer, count=3)
    inputs = contrast_inputs(problems, background, layer, whitening, ContrastConfig())
    candidates = 4
    words = position_words(
        model, problems, inputs, own, background.counts, whitening, PositionConfig(candidates, rounds=50)
    )
    assert torch.equal(words.ids > 0, own > 0)
    unit = torch.nn.functional.normalize(model.word_vectors.double(), dim=1)
    allowed = [w for w in range(2, len(model.words)) if background.counts[w] >= LEAST_COUNT]
    common = set(background.counts.topk(min(COMMONEST, len(background.counts))).indices.tolist())
    for row in range(len(problems)):
        problem = problems[row : row + 1]
        reached = likeness(model, problem, words.ids[row], whitening)
        assert reached == pytest.approx(float(words.likeness[row]), abs=1e-4)
        content = set(own[row].tolist()) - common
        for place in (own[row] > 0).nonzero()[:, 0].tolist():
            cosines = unit @ torch.nn.functional.normalize(inputs[row, place].double(), dim=0)
            nearest = sorted((w for w in allowed if w not in content), key=lambda w: -float(cosines[w]))[:candidates]
            chosen = int(words.ids[row, place])
            assert chosen not in content
            assert float(words.cosines[row, place]) == pytest.approx(float(cosines[chosen]), abs=1e-4)
            for other in nearest:
                exchanged = words.ids[row].clone()
                exchanged[place] = other
                assert likeness(model, problem, exchanged, whitening) <= reached + 1e-4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shrinkage": 0}, "shrinkage: expected more than 0, got 0"),
        ({"damping": float("nan")}, "damping: expected a finite number, got nan"),
        ({"steps": -1}, "steps: expected 0 to 100, got -1"),
    ],
)
def test_a_bad_setting_is_named(change: dict, message: str):
    with pytest.raises(ValueError, match=f"^{message}"):
        ContrastConfig(**change)
    with pytest.raises(ValueError, match="^candidates: expected 1 to 1000, got 0"):
        PositionConfig(0)
