"""optimize_adam against the reference in float64, over drawn shapes; and what must not change a result."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from comparisons import (
    BATCH,
    assert_batching_changes_nothing,
    assert_threads_change_nothing,
    check_operator,
    relative_error,
)
from conftest import EMULATED
from hypothesis import given
from problems import OptimizationProblem, deep_problems, optimization_problems, paper_problems

from fastinterp.kernels import ops, reference
from fastinterp.kernels.problems import OptimizationConfig, Problems


@given(optimization_problems())
def test_optimize_adam_agrees_with_the_reference(processor: str, drawn: OptimizationProblem):
    optimum, gates, _ = (each.cpu() for each in ops.optimize_adam(*drawn.on(processor)))
    expected, expected_gates = reference.optimize_adam(*drawn.double())
    # Adam's step is as long for a gradient that is all rounding: where X comes close to 0, its steps are the measure.
    ten_steps = 10 * drawn.config.learning_rate * drawn.start[0].numel() ** 0.5 if len(drawn.problems) else 1.0
    error = relative_error(optimum, expected, smallest_norm=ten_steps)
    if error >= 1e-5:  # a problem that turns rounding into steps: then float32 autograd must have the same trouble
        in_float32, _ = reference.optimize_adam(drawn.problems, drawn.start, drawn.config)
        assert error < 8 * relative_error(in_float32, expected, smallest_norm=ten_steps)
    assert torch.equal(gates, expected_gates)


@functools.cache
def exact(make: Callable[..., OptimizationProblem], *arguments: object) -> tuple[torch.Tensor, torch.Tensor]:
    """The reference's answer to a fixed problem, computed once for all processors."""
    return reference.optimize_adam(*make(*arguments).double())


@pytest.mark.parametrize("channels", [128, 512])
def test_optimize_adam_keeps_the_exact_trajectory_for_300_steps(processor: str, channels: int):
    problem = paper_problems(40, channels, 300)
    optimum, gates, evaluations = (each.cpu() for each in ops.optimize_adam(*problem.on(processor)))
    expected, expected_gates = exact(paper_problems, 40, channels, 300)
    assert relative_error(optimum, expected) < 1e-5
    assert torch.equal(gates, expected_gates)
    # The certificate must have saved work, or the dense path was taken.
    active = (problem.problems.target > 0).sum(dim=1)
    assert (evaluations >= active).all()
    assert (evaluations < 0.3 * 300 * active).all()


@pytest.mark.parametrize(("activation", "spared"), [("relu", 0.0), ("leaky_relu", 0.0), ("identity", 0.4)])
def test_optimize_adam_keeps_the_exact_trajectory_through_a_stack(processor: str, activation: str, spared: float):
    problem = deep_problems(12, activation, 100)  # more, and float32 autograd itself takes a gate a step late
    optimum, gates, evaluations = (each.cpu() for each in ops.optimize_adam(*problem.on(processor)))
    expected, expected_gates = exact(deep_problems, 12, activation, 100)
    assert relative_error(optimum, expected) < 1e-5
    assert torch.equal(gates, expected_gates)
    if processor == "cpu" and not EMULATED:  # a GPU takes the whole gradient at every step
        assert (evaluations <= (1 - spared) * 101 * 10).all()


def calm_problems(count: int, steps: int) -> OptimizationProblem:
    """Problems of a third layer whose gates stand far from 0, every other one open."""
    drawn = deep_problems(count, "relu", steps)
    apart = [bias + 1.5 * (1 - 2 * (torch.arange(len(bias)) % 2)) for bias in drawn.problems.biases]
    config = replace(drawn.config, learning_rate=2e-4)
    return OptimizationProblem(replace(drawn.problems, biases=apart), drawn.start, config)


def test_a_stack_whose_gates_hardly_move_is_seldom_passed_through(processor: str):
    """The proof of the upper layers' gates must save passes where it can, without changing the result."""
    problem = calm_problems(12, 300)
    optimum, gates, evaluations = (each.cpu() for each in ops.optimize_adam(*problem.on(processor)))
    expected, expected_gates = exact(calm_problems, 12, 300)
    assert relative_error(optimum, expected) < 1e-5
    assert torch.equal(gates, expected_gates)
    if processor == "cpu" and not EMULATED:
        assert evaluations.double().mean() < 0.3 * 300 * 10


def shallow(device: str, rows: slice) -> tuple[torch.Tensor, ...]:
    """The results of a first layer for some rows of a fixed batch."""
    problems, start, config = paper_problems(BATCH, 33, 50).on(device)
    return ops.optimize_adam(problems[rows], start[rows], config)


def deep(device: str, rows: slice) -> tuple[torch.Tensor, ...]:
    """The same of a second layer."""
    first = paper_problems(BATCH, 33, 50).problems
    generator = torch.Generator().manual_seed(3)
    weights = [*first.weights, torch.randn(7, 33, 3, generator=generator) * 0.2]
    biases = [*first.biases, torch.randn(7, generator=generator)]
    target = torch.rand(BATCH, 7, generator=generator)
    start = (torch.rand(BATCH, 7, 300, generator=generator) * 0.2).to(device)
    whole = torch.zeros(BATCH, dtype=torch.int64), torch.full((BATCH,), 7)
    problems = Problems(target, weights, biases, *whole, "relu").to(device)
    return ops.optimize_adam(problems[rows], start[rows], OptimizationConfig(steps=50))


def test_optimize_adam_does_not_depend_on_the_batch(processor: str):
    assert_batching_changes_nothing(lambda rows: shallow(processor, rows))


def test_optimize_adam_through_a_stack_does_not_depend_on_the_batch(processor: str):
    def same(place: int, full: torch.Tensor, part: torch.Tensor) -> None:
        if place == 0 and (EMULATED or processor != "cpu"):
            # A GPU's products of deeper layers come from its BLAS, which adds up differently for other batches.
            torch.testing.assert_close(full, part)
        else:
            assert torch.equal(full, part)

    assert_batching_changes_nothing(lambda rows: deep(processor, rows), same)


@pytest.mark.parametrize("run", [shallow, deep])
def test_optimize_adam_does_not_depend_on_the_number_of_threads(cpu: str, threads, run):
    assert_threads_change_nothing(threads, lambda rows: run(cpu, rows))


def by_name(problems: Problems, start: torch.Tensor, config: OptimizationConfig) -> dict[str, object]:
    """The operator's arguments by the names of its schema."""
    settings = {name: value for name, value in vars(config).items() if name not in ("seed", "solver", "objective")}
    return {**vars(problems), "start": start, **settings}


def test_optimize_adam_passes_opcheck(processor: str):
    check_operator("optimize_adam", **by_name(*paper_problems(2, 9, 3).on(processor)))


BAD_ARGUMENTS = {
    "dtype": ("target", lambda target: target.double(), "target: expected float32"),
    "channels": ("target", lambda target: target[:, :3].contiguous(), "target: expected 9 channels, got 3"),
    "layout": (
        "start",
        lambda start: start.transpose(0, 1).contiguous().transpose(0, 1),
        "start: expected a contiguous",
    ),
    "width": ("start", lambda start: start[..., :7].contiguous(), "takes 300 channels but receives 7"),
    "activation": ("activation", lambda _: "gelu", "activation: expected relu"),
    # An OptimizationConfig refuses these already; the operator is called by others too.
    "steps": ("steps", lambda _: -1, "steps: expected at least 0, got -1"),
    "epsilon": ("epsilon", lambda _: 0.0, "epsilon: expected more than 0"),
}


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_optimize_adam_names_the_bad_argument(processor: str, case: str):
    name, spoil, message = BAD_ARGUMENTS[case]
    arguments = by_name(*paper_problems(3, 9, 2).on(processor))
    spoiled = SimpleNamespace(**arguments | {name: spoil(arguments[name])})
    with pytest.raises(ValueError, match=message):
        ops.optimize_adam(spoiled, spoiled.start, spoiled)


@pytest.mark.parametrize(("begin", "end"), [(3, 5), (0, 2), (-1, 5), (0, 6)])
def test_rows_that_do_not_hold_the_location_are_refused(checking_device: str, begin: int, end: int):
    problems, start, config = paper_problems(1, 9, 2).on(checking_device)
    problems = replace(problems, begin=torch.tensor([begin]), end=torch.tensor([end]))
    with pytest.raises(ValueError, match="begin, end: problem 0 has rows"):
        ops.optimize_adam(problems, start, config)
