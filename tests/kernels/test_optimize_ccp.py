"""optimize_ccp against the reference in float64, over drawn shapes; and what must not change a result."""

from __future__ import annotations

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
from hypothesis import given
from hypothesis import strategies as st
from problems import ccp_problems, paper_problems

from fastinterp.kernels import ops, reference
from fastinterp.kernels.problems import OptimizationConfig, Problems

Drawn = tuple[Problems, OptimizationConfig]


def ccp_results(device: str, drawn: Drawn, most: int = 1000) -> list[torch.Tensor]:
    problems, config = drawn
    return [each.cpu() for each in ops.optimize_ccp(problems.to(device), config, most, 1e-5)]


def has_a_maximum(drawn: Drawn, expected: torch.Tensor) -> torch.Tensor:
    """Problems (B,) of which every row's own pull is worth more than Sim.

    Sim would shrink any other row towards a zero at which it jumps: no maximum is attained, and the residual says so.
    """
    problems, config = drawn
    worth = config.l2_weight * expected.norm(dim=2) ** 2
    return ((worth > 4 * config.similarity_weight) | ~problems.exists).all(dim=1)


@given(ccp_problems())
def test_optimize_ccp_agrees_with_the_reference(processor: str, drawn: Drawn):
    optimum, gates, iterations, residual = ccp_results(processor, drawn)
    problems, config = drawn
    expected, expected_gates = reference.optimize_ccp(problems.double(), config, 1000, 1e-9)
    assert relative_error(optimum, expected, smallest_norm=1e-3) < 1e-4
    assert torch.equal(gates, expected_gates)
    assert (iterations >= 1).all()
    assert (residual[has_a_maximum(drawn, expected)] < 1e-4).all()


def test_gates_are_right_where_every_target_pulls_the_other_way(processor: str):
    """The sum that bounds the rounding once took signed values; with a negative one no gate was looked at."""
    problems = Problems(
        target=torch.tensor([[-1.0845, -1.3986]]),
        weights=[torch.tensor([[[3.0820]], [[-0.5869]]])],
        biases=[torch.tensor([-0.6536, 0.1705])],
        begin=torch.tensor([0]),
        end=torch.tensor([1]),
        activation="identity",
    )
    config = OptimizationConfig(similarity_weight=0)
    _, gates, _, _ = ccp_results(processor, (problems, config))
    assert torch.equal(gates, reference.optimize_ccp(problems.double(), config, 1000, 1e-9)[1])
    assert gates.tolist() == [[False, True]]


@given(ccp_problems(), st.integers(1, 6))
def test_optimize_ccp_stops_where_the_reference_does(processor: str, drawn: Drawn, most: int):
    optimum, _, iterations, _ = ccp_results(processor, drawn, most)
    problems, config = drawn
    expected, _ = reference.optimize_ccp(problems.double(), config, most, 1e-9)
    decided = has_a_maximum(drawn, expected)
    assert relative_error(optimum[decided], expected[decided], smallest_norm=1e-3) < 1e-4
    assert (iterations <= most + 1).all()


@given(ccp_problems())
def test_ccp_never_lowers_the_objective(drawn: Drawn):
    problems, config = drawn[0].double(), drawn[1]
    for i in range(len(problems)):
        reached = -torch.inf
        for inputs in reference.ccp_iterates(problems[i : i + 1], config, 1000, 1e-9):
            value = reference.objective(problems[i : i + 1], inputs, config).item()
            assert value >= reached - 1e-9 * abs(value)
            reached = value


@given(ccp_problems())
def test_ccp_is_stationary_and_no_worse_for_more_iterations(processor: str, drawn: Drawn):
    optimum, _, iterations, _ = ccp_results(processor, drawn)
    problems, config = drawn[0].double(), drawn[1]
    best = reference.objective(problems, optimum.double(), config)
    # Sim, which the first iterations leave out, is worth lambda2 N at most.
    slack = config.similarity_weight * (problems.end - problems.begin)
    for most in (1, 2, 3):
        earlier = reference.objective(problems, ccp_results(processor, drawn, most)[0].double(), config)
        assert (best >= earlier - slack - 1e-5 * earlier.abs()).all()
    variable = optimum.double().requires_grad_()
    reference.objective(problems, variable, config).sum().backward()
    moving = problems.exists & (variable.detach().norm(dim=2) > 1e-3)
    gradient = (variable.grad * moving[..., None]).flatten(1).norm(dim=1)
    scale = 2 * config.l2_weight * variable.detach().flatten(1).norm(dim=1)
    attained = has_a_maximum(drawn, optimum.double())
    assert (gradient <= 1e-3 * scale + 1e-6)[attained].all()
    assert (iterations < 1000).all()


def fixed(device: str, rows: slice) -> tuple[torch.Tensor, ...]:
    """The results for some rows of a fixed batch."""
    problems, _, config = paper_problems(BATCH, 33, 0).on(device)
    return ops.optimize_ccp(problems[rows], config, 100, 1e-5)


def test_optimize_ccp_does_not_depend_on_the_batch(processor: str):
    assert_batching_changes_nothing(lambda rows: fixed(processor, rows))


def test_optimize_ccp_does_not_depend_on_the_number_of_threads(cpu: str, threads):
    assert_threads_change_nothing(threads, lambda rows: fixed(cpu, rows))


def by_name(problems: Problems, **changes: object) -> dict[str, object]:
    """The operator's arguments by the names of its schema."""
    settings = {"max_iterations": 100, "tolerance": 1e-5, "l2_weight": 0.004, "similarity_weight": 0.02}
    return {**vars(problems), **settings, **changes}


def test_optimize_ccp_passes_opcheck(processor: str):
    check_operator("optimize_ccp", **by_name(paper_problems(2, 9, 0).problems.to(processor)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": torch.zeros(3, 9, dtype=torch.float64)}, "target: expected float32"),
        ({"target": torch.zeros(3, 8)}, "target: expected 9 channels, got 8"),
        ({"weights": [torch.zeros(9, 300, 5)] * 2, "biases": [torch.zeros(9)] * 2}, "layer 1 takes 300 channels"),
        ({"activation": "tanh"}, "activation: expected relu, leaky_relu or identity, got tanh"),
        ({"max_iterations": 0}, "max_iterations: expected at least 1, got 0"),
        ({"l2_weight": 0.0}, "l2_weight: expected more than 0, got 0"),
    ],
)
def test_optimize_ccp_names_the_bad_argument(processor: str, change: dict, message: str):
    spoiled = SimpleNamespace(**by_name(paper_problems(3, 9, 0).problems, **change))
    problems = Problems(*(getattr(spoiled, name) for name in Problems.__dataclass_fields__)).to(processor)
    with pytest.raises(ValueError, match=message):
        ops.optimize_ccp(problems, spoiled, spoiled.max_iterations, spoiled.tolerance)


@pytest.mark.parametrize(("begin", "end"), [(3, 5), (0, 2), (-1, 5), (0, 6)])
def test_rows_that_do_not_hold_the_location_are_refused(checking_device: str, begin: int, end: int):
    problems, _, config = paper_problems(1, 9, 0).on(checking_device)
    problems = replace(problems, begin=torch.tensor([begin]), end=torch.tensor([end]))
    with pytest.raises(ValueError, match="begin, end: problem 0 has rows"):
        ops.optimize_ccp(problems, config, 10, 1e-5)
