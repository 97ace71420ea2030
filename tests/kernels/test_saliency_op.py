"""The saliency operator against the reference in float64, over drawn shapes; and what must not change a result."""

from __future__ import annotations

import pytest
import torch
from comparisons import (
    BATCH,
    assert_batching_changes_nothing,
    assert_threads_change_nothing,
    check_operator,
    relative_error,
)
from hypothesis import given
from problems import SaliencyProblem, saliency_problems

from fastinterp.kernels import ops, reference


def has_decided_maxima(last_activations: torch.Tensor) -> torch.Tensor:
    """Sentences (B,) whose maxima over time do not hang on a rounding error: none tie but exact zeros."""
    best = last_activations.topk(min(2, last_activations.shape[1]), dim=1).values
    gap = best[:, 0] - best[:, -1]
    zero = best[:, 0] == 0
    return ((gap > 1e-5) | zero).all(dim=1) | torch.tensor(last_activations.shape[1] == 1)


@given(saliency_problems())
def test_saliency_agrees_with_the_reference(processor: str, problem: SaliencyProblem):
    scores, classes, activations = (each.cpu() for each in ops.saliency(*problem.arguments(processor)))
    expected_scores, expected_classes, expected_activations = reference.saliency(*problem.reference_arguments())
    assert relative_error(activations, expected_activations) < 1e-5
    assert relative_error(classes, expected_classes, smallest_norm=1) < 2e-5
    problem.layer = len(problem.stack.weights) - 1
    decided = has_decided_maxima(reference.saliency(*problem.reference_arguments())[2])
    if classes.shape[1] > 1:  # two classes of equal score: either may be called the predicted one
        best = expected_classes.topk(2, dim=1).values
        decided &= best[:, 0] - best[:, 1] > 1e-4
    assert relative_error(scores[decided], expected_scores[decided], smallest_norm=1e-2) < 1e-4


def test_saliency_of_padding_is_that_of_the_first_location_that_ties(processor: str):
    # x = 0 everywhere, so A = relu(bias) = 2 at all four locations; the first is called the maximum, S = 3 * 2.
    ones = torch.ones(1, 1, 3, device=processor)
    scores, classes, _ = ops.saliency(
        torch.zeros(1, 0, 1, device=processor),
        torch.zeros(1, dtype=torch.int64, device=processor),
        4,
        [ones],
        [torch.tensor([2.0], device=processor)],
        torch.tensor([[3.0]], device=processor),
        torch.zeros(1, device=processor),
        "relu",
        0,
        False,
    )
    assert scores.tolist() == [[6, 0, 0, 0]]
    assert classes.tolist() == [[6]]


def two_layers(device: str, rows: slice) -> list[torch.Tensor]:
    """The results of both layers of one model for some rows of a fixed batch."""
    generator = torch.Generator().manual_seed(3)
    weights = [torch.randn(33, 300, 5, generator=generator) * 0.03, torch.randn(7, 33, 3, generator=generator) * 0.2]
    biases = [torch.randn(33, generator=generator) * 0.02, torch.randn(7, generator=generator)]
    embedded = torch.randn(BATCH, 21, 300, generator=generator)[rows].contiguous()
    lengths = torch.tensor([21, 0, 5, 1, 20, 13, 2, 9, 21])[rows].contiguous()
    head = torch.randn(2, 7, generator=generator).to(device), torch.zeros(2, device=device)
    stack = [weight.to(device) for weight in weights], [bias.to(device) for bias in biases]
    results: list[torch.Tensor] = []
    for layer in (0, 1):
        results += ops.saliency(embedded.to(device), lengths.to(device), 25, *stack, *head, "relu", layer, True)
    return results


def test_saliency_does_not_depend_on_the_batch(processor: str):
    assert_batching_changes_nothing(lambda rows: two_layers(processor, rows))


def test_saliency_does_not_depend_on_the_number_of_threads(cpu: str, threads):
    assert_threads_change_nothing(threads, lambda rows: two_layers(cpu, rows))


def one_layer(device: str) -> dict[str, object]:
    """The operator's arguments by name."""
    arguments = {
        "embedded": torch.zeros(1, 4, 300),
        "lengths": torch.tensor([4]),
        "frame": 6,
        "weights": [torch.ones(9, 300, 5, device=device)],
        "biases": [torch.ones(9, device=device)],
        "class_weight": torch.zeros(2, 9),
        "class_bias": torch.zeros(2),
        "activation": "relu",
        "layer": 0,
        "keep_activations": True,
    }
    return {name: each.to(device) if hasattr(each, "to") else each for name, each in arguments.items()}


def test_saliency_passes_opcheck(processor: str):
    arguments = one_layer(processor)
    arguments["embedded"] = torch.randn(2, 6, 300, device=processor)
    arguments["lengths"] = torch.tensor([1, 3], device=processor)
    check_operator("saliency", **arguments | {"frame": 9})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer": 1}, "layer: expected 0 to 0, got 1"),
        ({"layer": -1}, "layer: expected 0 to 0, got -1"),
        ({"class_weight": torch.zeros(2, 8)}, "class_weight: expected shape"),
        ({"class_bias": torch.zeros(3)}, "class_bias: expected 2 values, got 3"),
        ({"frame": 3}, "frame: expected at least 4, got 3"),
        ({"lengths": torch.tensor([1, 1])}, "lengths: expected contiguous int64"),
    ],
)
def test_saliency_names_the_bad_argument(processor: str, change: dict, message: str):
    change = {name: each.to(processor) if hasattr(each, "to") else each for name, each in change.items()}
    with pytest.raises(ValueError, match=message):
        ops.saliency(**one_layer(processor) | change)


def test_lengths_beyond_the_embedded_positions_are_refused(checking_device: str):
    with pytest.raises(ValueError, match="lengths: expected 0 to 4, got 5"):
        ops.saliency(**one_layer(checking_device) | {"lengths": torch.tensor([5])})
