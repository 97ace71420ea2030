"""Kernels against the reference in float64, over drawn shapes; and what must not change a result."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import EMULATED
from hypothesis import given
from problems import (
    OptimizationProblem,
    SaliencyProblem,
    SearchProblem,
    Stack,
    ccp_problems,
    optimization_problems,
    saliency_problems,
    search_problems,
)

from fastinterp import _C
from fastinterp.kernels import ops, reference


def relative_error(got: torch.Tensor, expected: torch.Tensor, smallest_norm: float = 1e-6) -> float:
    """Largest error of a row (first dimension) relative to the row's norm."""
    if not expected.numel():
        return 0.0
    difference = (got.double() - expected).flatten(1).norm(dim=1)
    return float((difference / expected.flatten(1).norm(dim=1).clamp(min=smallest_norm)).max())


def has_decided_maxima(last_activations: torch.Tensor) -> torch.Tensor:
    """Sentences (B,) whose maxima over time do not hang on a rounding error: none tie but exact zeros."""
    best = last_activations.topk(min(2, last_activations.shape[1]), dim=1).values
    gap = best[:, 0] - best[:, -1]
    zero = best[:, 0] == 0
    return ((gap > 1e-5) | zero).all(dim=1) | torch.tensor(last_activations.shape[1] == 1)


@given(saliency_problems())
def test_saliency_agrees_with_the_reference(device: str, problem: SaliencyProblem):
    scores, classes, activations = (each.cpu() for each in ops.saliency(*problem.arguments(device)))
    expected_scores, expected_classes, expected_activations = reference.saliency(*problem.reference_arguments())
    assert relative_error(activations, expected_activations) < 1e-5
    assert relative_error(classes, expected_classes, smallest_norm=1) < 2e-5
    problem.layer = len(problem.stack.weights) - 1
    decided = has_decided_maxima(reference.saliency(*problem.reference_arguments())[2])
    if classes.shape[1] > 1:  # two classes of equal score: either may be called the predicted one
        best = expected_classes.topk(2, dim=1).values
        decided &= best[:, 0] - best[:, 1] > 1e-4
    assert relative_error(scores[decided], expected_scores[decided], smallest_norm=1e-2) < 1e-4


def test_saliency_of_padding_is_that_of_the_first_location_that_ties(device: str):
    # x = 0 everywhere, so A = relu(bias) = 2 at all four locations; the first is called the maximum, S = 3 * 2.
    ones = torch.ones(1, 1, 3, device=device)
    scores, classes, _ = ops.saliency(
        torch.zeros(1, 0, 1, device=device),
        torch.zeros(1, dtype=torch.int64, device=device),
        4,
        [ones],
        [torch.tensor([2.0], device=device)],
        torch.tensor([[3.0]], device=device),
        torch.zeros(1, device=device),
        "relu",
        0,
        False,
    )
    assert scores.tolist() == [[6, 0, 0, 0]]
    assert classes.tolist() == [[6]]


@given(optimization_problems())
def test_optimize_adam_agrees_with_the_reference(device: str, problem: OptimizationProblem):
    optimum, gates, _ = (each.cpu() for each in ops.optimize_adam(*problem.arguments(device)))
    expected, expected_gates = reference.optimize_adam(*problem.reference_arguments())
    # Adam's step is as long for a gradient that is all rounding: where X comes close to 0, its steps are the measure.
    ten_steps = 10 * problem.settings[3] * problem.start[0].numel() ** 0.5 if len(problem.start) else 1.0
    error = relative_error(optimum, expected, smallest_norm=ten_steps)
    if error >= 1e-5:  # a problem that turns rounding into steps: then float32 autograd must have the same trouble
        in_float32, _ = reference.optimize_adam(*problem.arguments())
        assert error < 8 * relative_error(in_float32, expected, smallest_norm=ten_steps)
    assert torch.equal(gates, expected_gates)


def paper_problems(problems: int, channels: int, steps: int) -> OptimizationProblem:
    """First-layer problems of Table 2's size, starts as the paper draws them, some clipped at the edges."""
    generator = torch.Generator().manual_seed(7)
    weights = torch.randn(channels, 300, 5, generator=generator) * 0.03
    biases = torch.randn(channels, generator=generator) * 0.02
    limit = (6 / 356) ** 0.5
    start = (torch.rand(problems, 5, 300, generator=generator) * 2 - 1) * limit
    begin = torch.randint(0, 3, (problems,), generator=generator)
    end = torch.randint(3, 6, (problems,), generator=generator)
    target = torch.randn(problems, channels, generator=generator).relu() * 0.5
    settings = (steps, 0.004, 0.02, 2e-4, 0.9, 0.999, 1e-8)
    return OptimizationProblem(target, Stack([weights], [biases], "relu"), start, begin, end, settings)


@pytest.mark.parametrize("channels", [128, 512])
def test_optimize_adam_keeps_the_exact_trajectory_for_300_steps(device: str, channels: int):
    problem = paper_problems(40, channels, 300)
    optimum, gates, evaluations = (each.cpu() for each in ops.optimize_adam(*problem.arguments(device)))
    expected, expected_gates = reference.optimize_adam(*problem.reference_arguments())
    assert relative_error(optimum, expected) < 1e-5
    assert torch.equal(gates, expected_gates)
    # The certificate must have saved work, or the dense path was taken.
    active = (problem.target > 0).sum(dim=1)
    assert (evaluations >= active).all()
    assert (evaluations < 0.3 * 300 * active).all()


def deep_problems(problems: int, activation: str, steps: int) -> OptimizationProblem:
    """Problems of a third layer, some clipped at the edges."""
    generator = torch.Generator().manual_seed(11)
    weights = [
        torch.randn(out, width, kernel, generator=generator) * (width * kernel) ** -0.5
        for out, width, kernel in ((40, 60, 5), (24, 40, 3), (10, 24, 4))
    ]
    biases = [torch.randn(len(weight), generator=generator) * 0.05 for weight in weights]
    start = (torch.rand(problems, 10, 60, generator=generator) * 2 - 1) * 0.2
    begin = torch.randint(0, 5, (problems,), generator=generator)
    end = torch.randint(6, 11, (problems,), generator=generator)
    target = torch.randn(problems, 10, generator=generator).relu() * 0.5
    settings = (steps, 0.004, 0.02, 1e-3, 0.9, 0.999, 1e-8)
    return OptimizationProblem(target, Stack(weights, biases, activation), start, begin, end, settings)


@pytest.mark.parametrize(("activation", "spared"), [("relu", 0.0), ("leaky_relu", 0.0), ("identity", 0.4)])
def test_optimize_adam_keeps_the_exact_trajectory_through_a_stack(device: str, activation: str, spared: float):
    problem = deep_problems(12, activation, 100)  # more, and float32 autograd itself takes a gate a step late
    optimum, gates, evaluations = (each.cpu() for each in ops.optimize_adam(*problem.arguments(device)))
    expected, expected_gates = reference.optimize_adam(*problem.reference_arguments())
    assert relative_error(optimum, expected) < 1e-5
    assert torch.equal(gates, expected_gates)
    if device == "cpu" and not EMULATED:  # a GPU takes the whole gradient at every step
        assert (evaluations <= (1 - spared) * 101 * 10).all()


def test_a_stack_whose_gates_hardly_move_is_seldom_passed_through(device: str):
    """The proof of the upper layers' gates must save passes where it can, without changing the result."""
    problem = deep_problems(12, "relu", 300)
    problem.stack.biases = [bias + 1.5 * (1 - 2 * (torch.arange(len(bias)) % 2)) for bias in problem.stack.biases]
    problem.settings = (300, 0.004, 0.02, 2e-4, *problem.settings[4:])
    optimum, gates, evaluations = (each.cpu() for each in ops.optimize_adam(*problem.arguments(device)))
    expected, expected_gates = reference.optimize_adam(*problem.reference_arguments())
    assert relative_error(optimum, expected) < 1e-5
    assert torch.equal(gates, expected_gates)
    if device == "cpu" and not EMULATED:
        assert evaluations.double().mean() < 0.3 * 300 * 10


def ccp_results(device: str, problem: OptimizationProblem, most: int = 1000) -> list[torch.Tensor]:
    target, weights, biases, _, begin, end, activation, l2_weight, similarity_weight = problem.arguments(device)
    settings = (activation, most, 1e-5, l2_weight, similarity_weight)
    return [each.cpu() for each in ops.optimize_ccp(target, weights, biases, begin, end, *settings)]


def double_objective(problem: OptimizationProblem, inputs: torch.Tensor) -> torch.Tensor:
    target, weights, biases, _, begin, end, activation, l2_weight, similarity_weight = problem.reference_arguments()
    weightings = (l2_weight, similarity_weight)
    return reference.objective(inputs.double(), target, weights, biases, begin, end, activation, *weightings)


@given(ccp_problems())
def test_optimize_ccp_agrees_with_the_reference(device: str, problem: OptimizationProblem):
    optimum, gates, iterations, residual = ccp_results(device, problem)
    target, weights, biases, _, begin, end, activation, l2_weight, similarity_weight = problem.reference_arguments()
    expected, expected_gates = reference.optimize_ccp(
        target, weights, biases, begin, end, activation, 1e-9, l2_weight, similarity_weight
    )
    assert relative_error(optimum, expected, smallest_norm=1e-3) < 1e-4
    assert torch.equal(gates, expected_gates)
    assert (iterations >= 1).all()
    # Where Sim is worth more than a row's own pull it would shrink the row towards a zero at which it jumps: no
    # maximum is attained and the residual says so. Everywhere else the point is stationary.
    place = torch.arange(expected.shape[1])
    exists = (place >= problem.begin[:, None]) & (place < problem.end[:, None])
    worth = l2_weight * expected.norm(dim=2) ** 2
    attained = ((worth > 4 * similarity_weight) | ~exists).all(dim=1)
    assert (residual[attained] < 1e-4).all()


@given(ccp_problems())
def test_ccp_never_lowers_the_objective(problem: OptimizationProblem):
    target, weights, biases, _, begin, end, activation, l2_weight, similarity_weight = problem.reference_arguments()
    filters = weights[0].transpose(1, 2)
    for i, (first, last) in enumerate(zip(begin.tolist(), end.tolist(), strict=True)):
        reached = -torch.inf
        for inputs in reference.ccp_iterates(
            target[i], filters[:, first:last], biases[0], activation, 1e-9, l2_weight, similarity_weight
        ):
            whole = torch.zeros(1, *filters.shape[1:], dtype=torch.float64)
            whole[0, first:last] = inputs
            value = reference.objective(
                whole,
                target[i : i + 1],
                weights,
                biases,
                begin[i : i + 1],
                end[i : i + 1],
                activation,
                l2_weight,
                similarity_weight,
            ).item()
            assert value >= reached - 1e-9 * abs(value)
            reached = value


@given(ccp_problems())
def test_ccp_is_stationary_and_no_worse_for_more_iterations(device: str, problem: OptimizationProblem):
    optimum, _, iterations, _ = ccp_results(device, problem)
    best = double_objective(problem, optimum)
    # Sim, which the first iterations leave out, is worth lambda2 N at most.
    slack = problem.settings[1] * (problem.end - problem.begin)
    for most in (1, 2, 3):
        earlier = double_objective(problem, ccp_results(device, problem, most)[0])
        assert (best >= earlier - slack - 1e-5 * earlier.abs()).all()
    variable = optimum.double().requires_grad_()
    double_objective(problem, variable).sum().backward()
    place = torch.arange(variable.shape[1])
    exists = (place >= problem.begin[:, None]) & (place < problem.end[:, None])
    moving = exists & (variable.detach().norm(dim=2) > 1e-3)
    gradient = (variable.grad * moving[..., None]).flatten(1).norm(dim=1)
    scale = 2 * problem.settings[0] * variable.detach().flatten(1).norm(dim=1)
    assert (gradient <= 1e-3 * scale + 1e-6).all()
    assert (iterations < 1000).all()


@given(search_problems())
def test_cosine_topk_agrees_with_the_reference(device: str, problem: SearchProblem):
    arguments = [each.to(device) for each in (problem.queries, problem.vocabulary, problem.inverse_norms)]
    cosines, indices = (each.cpu() for each in ops.cosine_topk(*arguments, problem.k))
    expected, _ = reference.cosine_topk(
        problem.queries.double(), problem.vocabulary.double(), problem.inverse_norms.double(), problem.k
    )
    assert cosines.shape == indices.shape == (len(problem.queries), problem.k)
    torch.testing.assert_close(cosines.double(), expected, rtol=0, atol=2e-6)
    # Every index must stand for its cosine, be distinct and searchable; equal cosines stand in ascending order.
    for query, row, values in zip(problem.queries.double(), indices, cosines, strict=True):
        assert len(set(row.tolist())) == problem.k
        assert (problem.inverse_norms[row] > 0).all()
        words = problem.vocabulary[row].double()
        exact = torch.nn.functional.cosine_similarity(words, query[None], eps=1e-30)
        torch.testing.assert_close(values.double(), exact, rtol=0, atol=2e-6)
        tied = values[1:] == values[:-1]
        assert (row[1:][tied] > row[:-1][tied]).all()
        assert (values[1:] <= values[:-1]).all()


def test_words_with_the_same_vector_tie_to_the_lower_index(device: str):
    vector = torch.randn(300, generator=torch.Generator().manual_seed(0))
    vocabulary = vector.repeat(1000, 1).to(device)
    inverse_norms = torch.full((1000,), 1 / float(vector.norm()), device=device)
    _, indices = ops.cosine_topk(vocabulary[:1], vocabulary, inverse_norms, 64)
    assert indices.tolist() == [list(range(64))]


@pytest.mark.parametrize("count", [1, 40])
def test_words_that_point_where_the_query_points_tie_to_the_lower_index(device: str, count: int):
    """Rounded cosines differ in their last bit, some past 1; what is returned is in order by cosine, then index."""
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(300, generator=generator)
    vocabulary = (vector * (torch.rand(500, 1, generator=generator) + 0.1)).to(device)
    inverse_norms = 1 / vocabulary.norm(dim=1)
    cosines, indices = ops.cosine_topk(vocabulary[:count].contiguous(), vocabulary, inverse_norms, 64)
    assert (cosines <= 1).all()
    tied = cosines[:, 1:] == cosines[:, :-1]
    assert (indices[:, 1:][tied] > indices[:, :-1][tied]).all()
    assert tied.any()


def every_result(device: str, rows: slice) -> list[torch.Tensor]:
    """Results of all operators for some rows of one fixed batch; those of deeper layers' optimisation last."""
    problem = paper_problems(9, 33, 50)
    weights, biases = problem.stack.move(device)
    generator = torch.Generator().manual_seed(3)
    deep_weights = [weights[0], (torch.randn(7, 33, 3, generator=generator) * 0.2).to(device)]
    deep_biases = [biases[0], torch.randn(7, generator=generator).to(device)]
    embedded = torch.randn(9, 21, 300, generator=generator).to(device)[rows].contiguous()
    tokens = torch.tensor([21, 0, 5, 1, 20, 13, 2, 9, 21], device=device)[rows].contiguous()
    head = torch.randn(2, 7, generator=generator).to(device), torch.zeros(2, device=device)
    deep_target = torch.rand(9, 7, generator=generator).to(device)[rows].contiguous()
    deep_start = (torch.rand(9, 7, 300, generator=generator) * 0.2).to(device)[rows].contiguous()
    count = len(range(9)[rows])
    edges = (
        torch.zeros(count, dtype=torch.int64, device=device),
        torch.full((count,), 7, dtype=torch.int64, device=device),
    )
    shallow = [each.to(device)[rows].contiguous() for each in (problem.target, problem.start)]
    shallow_edges = [each.to(device)[rows].contiguous() for each in (problem.begin, problem.end)]
    vocabulary = torch.randn(501, 300, generator=generator).to(device)
    results: list[torch.Tensor] = []
    for layer in (0, 1):
        results += ops.saliency(embedded, tokens, 25, deep_weights, deep_biases, *head, "relu", layer, True)
    adam = problem.settings
    results += ops.optimize_adam(shallow[0], weights, biases, shallow[1], *shallow_edges, "relu", *adam)
    shallow_layer = (weights, biases, *shallow_edges, "relu", 100, 1e-5, 0.004, 0.02)
    results += ops.optimize_ccp(shallow[0], *shallow_layer)
    results += ops.cosine_topk(embedded[:, 0].contiguous(), vocabulary, 1 / vocabulary.norm(dim=1), 5)
    results += ops.optimize_adam(deep_target, deep_weights, deep_biases, deep_start, *edges, "relu", *adam)
    return results


def test_results_do_not_depend_on_the_batch(device: str):
    whole = every_result(device, slice(0, 9))
    for rows in (slice(0, 1), slice(3, 7), slice(8, 9)):
        results = every_result(device, rows)
        for place, (full, part) in enumerate(zip(whole, results, strict=True)):
            if place == len(results) - 3 and (EMULATED or device != "cpu"):
                # A GPU's products of deeper layers come from its BLAS, which adds up differently for other batches.
                torch.testing.assert_close(full[rows], part)
            else:
                assert torch.equal(full[rows], part)


def test_results_do_not_depend_on_the_number_of_threads(threads):
    threads(1)
    alone = every_result("cpu", slice(0, 9))
    for count in (2, 5):
        threads(count)
        for one, many in zip(alone, every_result("cpu", slice(0, 9)), strict=True):
            assert torch.equal(one, many)


@pytest.mark.parametrize("simd", ["generic", "avx2", "avx512"])
def test_every_instruction_set_agrees_with_the_reference(simd: str):
    """The same comparisons on the paths that this machine would not choose."""
    ascending = ["generic", "avx2", "avx512", "avx512vnni"]
    if ascending.index(_C.simd) < ascending.index(simd):
        pytest.skip(f"this processor has no {simd}")
    chosen = subprocess.run(
        [sys.executable, "-c", "from fastinterp import _C; print(_C.simd)"],
        env={**os.environ, "FASTINTERP_SIMD": simd},
        capture_output=True,
        text=True,
        check=True,
    )
    assert chosen.stdout.strip() == simd
    finished = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            __file__,
            "-k",
            "agrees_with_the_reference and not every or exact_trajectory",
        ],
        env={**os.environ, "FASTINTERP_SIMD": simd, "FASTINTERP_EXAMPLES": "25"},
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    )
    assert finished.returncode == 0, finished.stdout[-3000:]


def test_operators_pass_opcheck(device: str):
    """Schemas, fake kernels and dispatch hold under torch.compile."""
    problem = paper_problems(2, 9, 3)
    torch.library.opcheck(
        torch.ops.fastinterp.optimize_adam.default,
        problem.arguments(device),
        test_utils=["test_schema", "test_faketensor"],
    )
    weights, biases = problem.stack.move(device)
    edges = problem.begin.to(device), problem.end.to(device)
    torch.library.opcheck(
        torch.ops.fastinterp.optimize_ccp.default,
        (problem.arguments(device)[0], weights, biases, *edges, "relu", 100, 1e-5, 0.004, 0.02),
        test_utils=["test_schema", "test_faketensor"],
    )
    embedded = torch.randn(2, 6, 300, device=device)
    head = torch.randn(2, 9, device=device), torch.zeros(2, device=device)
    torch.library.opcheck(
        torch.ops.fastinterp.saliency.default,
        (embedded, problem.begin.to(device) + 1, 9, weights, biases, *head, "relu", 0, True),
        test_utils=["test_schema", "test_faketensor"],
    )
    torch.library.opcheck(
        torch.ops.fastinterp.cosine_topk.default,
        (torch.randn(2, 8, device=device), torch.randn(9, 8, device=device), torch.ones(9, device=device), 2),
        test_utils=["test_schema", "test_faketensor"],
    )


BAD_ARGUMENTS = {
    "dtype": (0, lambda target: target.double(), "target: expected float32"),
    "channels": (0, lambda target: target[:, :3].contiguous(), "target: expected 9 channels, got 3"),
    "layout": (
        3,
        lambda start: start.transpose(0, 1).contiguous().transpose(0, 1),
        "start: expected a contiguous",
    ),
    "width": (3, lambda start: start[..., :7].contiguous(), "takes 300 channels but receives 7"),
    "activation": (6, lambda _: "gelu", "activation: expected relu"),
    "steps": (7, lambda _: -1, "steps: expected at least 0, got -1"),
    "epsilon": (13, lambda _: 0.0, "epsilon: expected more than 0"),
}


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_optimize_adam_names_the_bad_argument(device: str, case: str):
    arguments = list(paper_problems(3, 9, 2).arguments(device))
    place, spoil, message = BAD_ARGUMENTS[case]
    arguments[place] = spoil(arguments[place])
    with pytest.raises(ValueError, match=message):
        ops.optimize_adam(*arguments)


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
def test_saliency_names_the_bad_argument(device: str, change: dict, message: str):
    weights, biases = paper_problems(1, 9, 1).stack.move(device)
    arguments = {
        "embedded": torch.zeros(1, 4, 300),
        "lengths": torch.tensor([4]),
        "frame": 6,
        "weights": weights,
        "biases": biases,
        "class_weight": torch.zeros(2, 9),
        "class_bias": torch.zeros(2),
        "activation": "relu",
        "layer": 0,
        "keep_activations": False,
        **change,
    }
    arguments = {name: each.to(device) if hasattr(each, "to") else each for name, each in arguments.items()}
    with pytest.raises(ValueError, match=message):
        ops.saliency(**arguments)


@pytest.mark.parametrize("k", [0, 4])
def test_cosine_topk_refuses_more_words_than_there_are(checking_device: str, k: int):
    inverse_norms = torch.tensor([1.0, 0, 1, 1])
    with pytest.raises(ValueError, match="k: expected 1 to 3"):
        ops.cosine_topk(torch.ones(1, 2), torch.ones(4, 2), inverse_norms, k)


@pytest.mark.parametrize(("begin", "end"), [(3, 5), (0, 2), (-1, 5), (0, 6)])
def test_rows_that_do_not_hold_the_location_are_refused(checking_device: str, begin: int, end: int):
    target, weights, biases, start, _, _, *rest = paper_problems(1, 9, 2).arguments(checking_device)
    edges = torch.tensor([begin]), torch.tensor([end])
    with pytest.raises(ValueError, match="begin, end: problem 0 has rows"):
        ops.optimize_adam(target, weights, biases, start, *edges, *rest)
    with pytest.raises(ValueError, match="begin, end: problem 0 has rows"):
        ops.optimize_ccp(target, weights, biases, *edges, "relu", 10, 1e-5, 0.004, 0.02)


def test_lengths_beyond_the_embedded_positions_are_refused(checking_device: str):
    weights, biases = paper_problems(1, 9, 1).stack.move(checking_device)
    head = torch.zeros(2, 9), torch.zeros(2)
    with pytest.raises(ValueError, match="lengths: expected 0 to 4, got 5"):
        ops.saliency(torch.zeros(1, 4, 300), torch.tensor([5]), 6, weights, biases, *head, "relu", 0, False)
