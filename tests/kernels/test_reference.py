"""The specification itself: cases worked by hand, and gradients against closed forms and finite differences."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from problems import OptimizationProblem, optimization_problems

from fastinterp.kernels import reference
from fastinterp.kernels.problems import OptimizationConfig, Problems

ONE_SENTENCE = torch.tensor([[[1.0], [3.0], [2.0]]], dtype=torch.float64)
THREE = torch.tensor([3])


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_saliency_of_one_layer_by_hand():
    # A = relu(2x) = (2, 6, 4); the maximum 6 stands at location 1; S = (6, -6), so class 0 and w = (0, 1, 0).
    scores, classes, activations = reference.saliency(
        ONE_SENTENCE,
        THREE,
        3,
        [column(2).view(1, 1, 1)],
        [column(0)],
        column(1, -1).view(2, 1),
        column(0, 0),
        "relu",
        0,
    )
    assert scores.tolist() == [[0, 6, 0]]
    assert classes.tolist() == [[6, -6]]
    assert activations.flatten().tolist() == [2, 6, 4]


def test_saliency_through_two_layers_by_hand():
    # A_0 = relu(x) = (1, 2, 0). z_1[i] = A_0[i-1] - A_0[i+1] = (-2, 1, 2), maximum 2 at location 2, class weight 3.
    # Only A_0[1] reaches it inside the frame, with weight 1: w = (0, 3, 0), Score = (0, 6, 0).
    scores, classes, _ = reference.saliency(
        torch.tensor([[[1.0], [2.0], [-1.0]]], dtype=torch.float64),
        THREE,
        3,
        [column(1).view(1, 1, 1), column(1, 0, -1).view(1, 1, 3)],
        [column(0), column(0)],
        column(3, 1).view(2, 1),
        column(0, 1),
        "relu",
        0,
    )
    assert classes.tolist() == [[6, 3]]
    assert scores.tolist() == [[0, 6, 0]]


def test_an_even_kernel_pads_one_more_on_the_right():
    # z[i] = x[i] + 10 x[i+1], with zero beyond the end.
    _, _, activations = reference.saliency(
        ONE_SENTENCE,
        THREE,
        3,
        [column(1, 10).view(1, 1, 2)],
        [column(0)],
        column(1).view(1, 1),
        column(0),
        "identity",
        0,
    )
    assert activations.flatten().tolist() == [31, 23, 2]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[2, 0], [0, 5]], 1),  # orthogonal: (1 + 0 + 0 + 1) / 2
        ([[2, 0], [5, 0]], 2),  # parallel: 4 / 2
        ([[2, 0], [-5, 0]], 0),  # opposite: (1 - 1 - 1 + 1) / 2
        ([[2, 0], [0, 0]], 0.5),  # a zero row adds nothing
    ],
)
def test_similarity_by_hand(rows, expected):
    inputs = torch.tensor([rows], dtype=torch.float64)
    assert reference.similarity(inputs, torch.tensor([0]), torch.tensor([2])).item() == pytest.approx(expected)


def test_two_adam_steps_by_hand():
    # f = 3 relu(2x) - x^2 / 2 from x = 1: the gradient is 6 - x, so 5 and then 4.9 after a step of 0.1.
    # m = .94 / (1 - .81), v = .048985 / (1 - .998001): the second step is 0.1 * 4.947368 / 4.950227.
    start = torch.ones(1, 1, 1, dtype=torch.float64)
    problems = Problems(
        column(3).view(1, 1), [column(2).view(1, 1, 1)], [column(0)], torch.tensor([0]), torch.tensor([1]), "relu"
    )
    # One row is similar to itself whatever it is: lambda2 changes nothing.
    config = OptimizationConfig(steps=2, l2_weight=0.5, similarity_weight=0.7, learning_rate=0.1)
    inputs, gates = reference.optimize_adam(problems, start, config)
    assert inputs.item() == pytest.approx(1.19994225, abs=1e-7)
    assert gates.tolist() == [[True]]


def test_overall_input_is_the_mean_of_existing_rows():
    optimum = torch.tensor([[[9.0], [1.0], [3.0]]], dtype=torch.float64)
    assert reference.overall_input(optimum, torch.tensor([1]), torch.tensor([3])).tolist() == [[2]]


def test_topk_by_hand_gives_ties_to_the_lower_index():
    vocabulary = torch.tensor([[1.0, 0], [1, 1], [2, 0], [0, 1], [0, 0]], dtype=torch.float64)
    inverse_norms = torch.tensor([1, 2**-0.5, 0.5, 1, 0], dtype=torch.float64)
    query = torch.tensor([[3.0, 0]], dtype=torch.float64)
    cosines, indices = reference.cosine_topk(query, vocabulary, inverse_norms, 4)
    assert indices.tolist() == [[0, 2, 1, 3]]
    assert cosines[0].tolist() == pytest.approx([1, 1, 2**-0.5, 0])


@given(st.integers(0, 2**32), st.integers(2, 7), st.integers(1, 40))
def test_similarity_gradient_has_the_closed_form(seed, rows, width):
    inputs = torch.randn(1, rows, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    variable = inputs.clone().requires_grad_()
    reference.similarity(variable, torch.tensor([0]), torch.tensor([rows])).sum().backward()
    norms = inputs[0].norm(dim=1, keepdim=True)
    units = inputs[0] / norms
    total = units.sum(dim=0)
    closed = 2 / rows * (total - (units @ total)[:, None] * units) / norms
    torch.testing.assert_close(variable.grad[0], closed, rtol=1e-9, atol=1e-12)


@given(optimization_problems())
def test_objective_gradient_agrees_with_finite_differences(drawn: OptimizationProblem):
    problems, start, _ = drawn.double()
    if problems.activation != "tanh":  # a finite difference across a kink would measure the kink
        problems = replace(problems, activation="identity")
    config = OptimizationConfig(l2_weight=0.3, similarity_weight=0.7)
    exists = problems.exists[..., None]
    direction = torch.randn(start.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * exists

    def value(inputs: torch.Tensor) -> torch.Tensor:
        return reference.objective(problems, inputs * exists, config).sum()

    inputs = start.clone().requires_grad_()
    value(inputs).backward()
    step = 1e-6
    measured = (value(start + step * direction) - value(start - step * direction)) / (2 * step)
    expected = (inputs.grad * direction).sum()
    # A row far shorter than the step has a similarity that no difference can measure.
    if start.numel() and ((start * exists).norm(dim=2) + ~exists[..., 0]).min() > 1e-3:
        torch.testing.assert_close(measured, expected, rtol=1e-4, atol=1e-5)
