"""The operator contrast against the reference in float64, over drawn shapes; and what must not change a result."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from comparisons import (
    BATCH,
    assert_batching_changes_nothing,
    assert_threads_change_nothing,
    check_operator,
    relative_error,
)
from conftest import batch_invariant
from hypothesis import given
from problems import ContrastProblem, contrast_problem, contrast_problems, deep_problems
from torch import Tensor

from fastinterp.kernels import ops
from fastinterp.kernels import reference_contrast as reference
from fastinterp.kernels.problems import Problems
from fastinterp.kernels.reference import pre_activations


def results(device: str, drawn: ContrastProblem) -> list[Tensor]:
    return [each.cpu() for each in ops.contrast(*drawn.on(device))]


def hinges_on_rounding(drawn: ContrastProblem, row: int) -> bool:
    """Whether float32 can decide otherwise on the reference's way: a gate, a scale, a step's length, a full tanh."""
    problems, slopes, mean, precision, factor, steps, damping = drawn.double()
    problem = problems[row : row + 1]
    way = list(reference.iterates(problem, slopes, mean, precision, factor, steps, damping))
    units = way[0] / max(float(way[0].abs().max()), 1e-300)
    likeness = []
    size = float(way[0].norm())
    entries = float(problem.exists.sum() * way[0].shape[2])
    for scale in reference.SCALES:
        scaled = units * (scale * entries**0.5 / float(units.norm())) if size else units
        mine = (reference.activations(problem, scaled) - mean) @ factor
        likeness.append(float(torch.nn.functional.cosine_similarity(mine, (problem.target - mean) @ factor)))
    first, second = sorted(likeness)[-1:-3:-1]
    close = size > 0 and first - second < 1e-5
    for inputs in way:
        stack: list[Tensor] = []
        for layers in range(1, len(problem.weights) + 1):
            rows = 1 + sum(weight.shape[2] - 1 for weight in problem.weights[:layers])
            for start in range(problem.field - rows + 1):
                part = Problems(
                    problem.target,
                    problem.weights[:layers],
                    problem.biases[:layers],
                    problem.begin - start,
                    problem.end - start,
                    problem.activation,
                )
                stack.append(pre_activations(part, inputs[:, start : start + rows]).abs().flatten())
        z = torch.cat(stack)
        close |= problems.activation not in ("identity", "tanh") and float(z.min()) < 1e-4
        close |= problems.activation == "tanh" and float(z.max()) > 4  # float32 rounds what is left of 1 - a^2
        step = reference.gauss_newton_step(problem, inputs, precision, damping)
        before = float(reference.distance(problem, inputs, precision))
        if step is not None:
            tried = [inputs + 0.4**tries * step for tries in range(reference.TRIES)]
            after = [float(reference.distance(problem, each, precision)) for each in tried]
            close |= any(abs(each - before) < 1e-4 * before + 1e-7 for each in after)
    return bool(close)


@given(contrast_problems())
def test_contrast_agrees_with_the_reference(processor: str, drawn: ContrastProblem):
    inputs, distance = results(processor, drawn)
    expected, expected_distance = reference.contrast(*drawn.double())
    # The distance is that of the input, whichever way led to it.
    own = reference.distance(drawn.problems.double(), inputs.double(), drawn.precision.double())
    torch.testing.assert_close(distance.double(), own, rtol=1e-3, atol=1e-4)
    for row in range(len(inputs)):
        error = relative_error(inputs[row : row + 1], expected[row : row + 1], smallest_norm=1e-3)
        if error > 1e-3 or abs(float(distance[row] - expected_distance[row])) > 1e-3 * float(own[row]) + 1e-4:
            assert hinges_on_rounding(drawn, row)


@given(contrast_problems())
def test_no_step_goes_further_away(processor: str, drawn: ContrastProblem):
    """Checked on the returned inputs, by the reference."""
    reached = []
    for steps in range(4):
        inputs, _ = results(processor, replace(drawn, steps=steps))
        reached.append(reference.distance(drawn.problems.double(), inputs.double(), drawn.precision.double()))
        assert not inputs[~drawn.problems.exists].any()
    for before, after in pairwise(reached):
        assert (after <= before * (1 + 1e-4) + 1e-5).all()


@given(contrast_problems())
def test_the_references_step_is_newtons_where_nothing_bends(drawn: ContrastProblem):
    """With the identity d(X) is quadratic: without damping one step from anywhere minimises it."""
    problems, slopes, mean, precision, factor, *_ = replace(
        drawn, problems=replace(drawn.problems, activation="identity")
    ).double()
    for row in range(len(problems)):
        problem = problems[row : row + 1]
        inputs = reference.start(problem, slopes, mean, precision, factor)
        step = reference.gauss_newton_step(problem, inputs, precision, 1e-9)
        if step is None:
            continue
        variable = (inputs + step).requires_grad_()
        moved = reference.distance(problem, variable, precision)
        (gradient,) = torch.autograd.grad(moved.sum(), variable)
        variable = inputs.requires_grad_()
        (before,) = torch.autograd.grad(reference.distance(problem, variable, precision).sum(), variable)
        exists = problem.exists[..., None]
        assert float((gradient * exists).norm()) <= 1e-3 * float((before * exists).norm()) + 1e-9


def fixed(count: int = BATCH, activation: str = "relu") -> ContrastProblem:
    """Problems of a third layer, some clipped at the edges."""
    generator = torch.Generator().manual_seed(5)
    return contrast_problem(deep_problems(count, activation, 0).problems, generator, 2, 0.03)


def some(device: str, rows: slice) -> tuple[Tensor, ...]:
    problems, *others = fixed().on(device)
    return ops.contrast(problems[rows], *others)


@batch_invariant
def test_contrast_does_not_depend_on_the_batch(cpu: str):
    assert_batching_changes_nothing(lambda rows: some(cpu, rows))


def test_contrast_does_not_depend_on_the_number_of_threads(cpu: str, threads):
    assert_threads_change_nothing(threads, lambda rows: some(cpu, rows))


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "identity", "tanh"])
def test_two_steps_come_near(processor: str, activation: str):
    drawn = fixed(40, activation)
    start, two = (results(processor, replace(drawn, steps=steps))[1] for steps in (0, 2))
    assert float((two / start).median()) < 0.2


def test_what_nothing_moves_stays_at_zero(processor: str):
    """Filters that are zero; the distance is that of the biases' activations."""
    drawn = fixed(3)
    still = replace(drawn.problems, weights=[torch.zeros_like(weight) for weight in drawn.problems.weights])
    inputs, distance = results(processor, replace(drawn, problems=still))
    assert not inputs.any()
    expected = reference.distance(still.double(), inputs.double(), drawn.precision.double())
    torch.testing.assert_close(distance.double(), expected, rtol=1e-4, atol=1e-5)


def by_name(drawn: ContrastProblem, **changes: object) -> dict[str, object]:
    """The operator's arguments by the names of its schema."""
    settings = {name: value for name, value in vars(drawn).items() if name != "problems"}
    return {**vars(drawn.problems), **settings, **changes}


def test_contrast_passes_opcheck(processor: str):
    problems, slopes, mean, precision, factor, steps, damping = fixed(2).on(processor)
    moved = ContrastProblem(problems, slopes, mean, precision, factor, steps, damping)
    check_operator("contrast", **by_name(moved))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": torch.zeros(3, 10, dtype=torch.float64)}, "target: expected float32"),
        ({"target": torch.zeros(3, 8)}, "target: expected 10 channels, got 8"),
        ({"slopes": [torch.zeros(40)]}, "slopes: expected 2 tensors, got 1"),
        ({"slopes": [torch.zeros(40), torch.zeros(3)]}, "slopes: layer 1 has 3 values for 24 channels"),
        ({"mean": torch.zeros(9)}, "mean: expected 10 values, got 9"),
        ({"factor": torch.zeros(10, 9)}, "precision, factor: expected shape"),
        (
            {"activation": "gelu"},
            "activation: expected relu, leaky_relu, leaky_relu:SLOPE with .*, identity or tanh, got gelu",
        ),
        ({"steps": -1}, "steps: expected at least 0, got -1"),
        ({"damping": 0.0}, "damping: expected more than 0, got 0"),
    ],
)
def test_contrast_names_the_bad_argument(processor: str, change: dict, message: str):
    spoiled = by_name(fixed(3), **change)
    problems = Problems(*(spoiled[name] for name in Problems.__dataclass_fields__))
    others = {name: spoiled[name] for name in spoiled if name not in Problems.__dataclass_fields__}
    with pytest.raises(ValueError, match=message):
        ops.contrast(*ContrastProblem(problems, **others).on(processor))


@pytest.mark.parametrize(("begin", "end"), [(5, 10), (0, 4), (-1, 10), (0, 11)])
def test_rows_that_do_not_hold_the_location_are_refused(checking_device: str, begin: int, end: int):
    problems, *others = fixed(1).on(checking_device)
    problems = replace(problems, begin=torch.tensor([begin]), end=torch.tensor([end]))
    with pytest.raises(ValueError, match="begin, end: problem 0 has rows"):
        ops.contrast(problems, *others)
