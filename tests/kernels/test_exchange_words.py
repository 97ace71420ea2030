"""The operator exchange_words against the reference in float64, over drawn shapes; what must not change a result."""

from __future__ import annotations

from dataclasses import dataclass, replace

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
from hypothesis import strategies as st
from problems import contrast_problem, deep_problems, optimization_problems
from torch import Tensor

from fastinterp.kernels import ops
from fastinterp.kernels import reference_contrast as reference
from fastinterp.kernels.problems import Problems

TIE = 1e-6


@dataclass(frozen=True)
class Exchange:
    problems: Problems
    vectors: Tensor
    candidates: Tensor
    mean: Tensor
    factor: Tensor
    rounds: int
    tie: float = TIE

    def on(self, device: str) -> tuple[Problems, Tensor, Tensor, Tensor, Tensor, int, float]:
        tensors = (each.to(device) for each in (self.vectors, self.candidates, self.mean, self.factor))
        return (self.problems.to(device), *tensors, self.rounds, self.tie)

    def double(self) -> tuple[Problems, Tensor, Tensor, Tensor, Tensor, int, float]:
        measure = (self.mean.double(), self.factor.double())
        return (self.problems.double(), self.vectors.double(), self.candidates, *measure, self.rounds, self.tie)


def exchange_of(problems: Problems, generator: torch.Generator, candidates: int, rounds: int) -> Exchange:
    """Returns an exchange with drawn words, some rows inside the frame left empty."""
    background = contrast_problem(problems, generator, 0, 1.0)
    words, width = 30, problems.weights[0].shape[1]
    vectors = torch.randn(words, width, generator=generator)
    size = (*problems.exists.shape, candidates)
    drawn = torch.rand(*size[:2], words, generator=generator).argsort(dim=2)[:, :, :candidates]
    empty = ~problems.exists | (torch.rand(size[:2], generator=generator) < 0.1)
    drawn = drawn.masked_fill(empty[..., None], -1).contiguous()
    return Exchange(problems, vectors, drawn, background.mean, background.factor, rounds)


@st.composite
def exchanges(draw: st.DrawFn) -> Exchange:
    problems = draw(optimization_problems()).problems
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    return exchange_of(problems, generator, draw(st.integers(1, 4)), draw(st.integers(0, 3)))


@given(exchanges())
def test_exchange_words_agrees_with_the_reference(processor: str, drawn: Exchange):
    chosen, reached = (each.cpu() for each in ops.exchange_words(*drawn.on(processor)))
    problems, vectors, candidates, mean, factor, rounds, tie = drawn.double()
    expected, expected_reached = reference.exchange_words(*drawn.double())
    for row in range(len(chosen)):
        if torch.equal(chosen[row], expected[row]):
            scale = max(1.0, float(expected_reached[row].norm()))
            assert float((reached[row] - expected_reached[row]).norm()) < 1e-4 * scale
            continue
        words, occupied = vectors[candidates[row].clamp(min=0)], candidates[row, :, 0] >= 0
        problem = problems[row : row + 1]
        _, closest = reference.exchange_one(problem, words, occupied, mean, factor, rounds, tie)
        assert closest < 1e-5


def fixed(count: int = BATCH, activation: str = "relu") -> Exchange:
    """Fields of a third layer, some clipped at the edges."""
    generator = torch.Generator().manual_seed(3)
    return exchange_of(deep_problems(count, activation, 0).problems, generator, 5, 2)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "identity", "tanh"])
def test_words_come_nearer(processor: str, activation: str):
    """Measured on the returned activations, in float64."""
    drawn = fixed(30, activation)

    def mean_likeness(rounds: int) -> float:
        _, reached = ops.exchange_words(*replace(drawn, rounds=rounds).on(processor))
        mine, its = (
            (each.cpu().double() - drawn.mean) @ drawn.factor.double() for each in (reached, drawn.problems.target)
        )
        return float(torch.nn.functional.cosine_similarity(mine, its).mean())

    assert mean_likeness(0) + 0.1 < mean_likeness(1) <= mean_likeness(3) + 1e-6


def test_of_the_same_word_twice_the_first_is_taken(processor: str):
    drawn = fixed(6)
    twice = drawn.candidates.repeat_interleave(2, dim=2).contiguous()
    chosen, reached = ops.exchange_words(*replace(drawn, candidates=twice).on(processor))
    once, expected = ops.exchange_words(*drawn.on(processor))
    assert torch.equal(chosen, 2 * once)
    assert relative_error(reached.cpu(), expected.cpu().double()) < 1e-5


def test_a_row_that_is_empty_stays_so(processor: str):
    drawn = fixed(4)
    nothing = torch.full_like(drawn.candidates, -1)
    chosen, reached = ops.exchange_words(*replace(drawn, candidates=nothing).on(processor))
    assert not chosen.any()
    empty = torch.zeros(4, drawn.problems.field, drawn.vectors.shape[1], dtype=torch.float64)
    assert relative_error(reached.cpu(), reference.activations(drawn.problems.double(), empty)) < 1e-5


def some(device: str, rows: slice) -> tuple[Tensor, ...]:
    problems, vectors, candidates, *others = fixed().on(device)
    return ops.exchange_words(problems[rows], vectors, candidates[rows].contiguous(), *others)


@batch_invariant
def test_exchange_words_does_not_depend_on_the_batch(cpu: str):
    assert_batching_changes_nothing(lambda rows: some(cpu, rows))


def test_exchange_words_does_not_depend_on_the_number_of_threads(cpu: str, threads):
    assert_threads_change_nothing(threads, lambda rows: some(cpu, rows))


def by_name(drawn: Exchange, **changes: object) -> dict[str, object]:
    """The operator's arguments by the names of its schema."""
    settings = {name: value for name, value in vars(drawn).items() if name != "problems"}
    return {**vars(drawn.problems), **settings, **changes}


def test_exchange_words_passes_opcheck(processor: str):
    check_operator("exchange_words", **by_name(Exchange(*fixed(2).on(processor))))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": torch.zeros(3, 8)}, "target: expected 10 channels, got 8"),
        ({"vectors": torch.zeros(5, 61)}, "weights: layer 0 takes 60 channels but receives 61"),
        ({"candidates": torch.zeros(3, 9, 2, dtype=torch.int64)}, "candidates: expected contiguous int64 of shape"),
        ({"candidates": torch.zeros(3, 10, 0, dtype=torch.int64)}, "candidates: expected contiguous int64 of shape"),
        ({"mean": torch.zeros(9)}, "mean: expected 10 values, got 9"),
        ({"factor": torch.zeros(10, 9)}, "factor: expected shape"),
        ({"rounds": -1}, "rounds: expected at least 0, got -1"),
        ({"tie": -1.0}, "tie: expected at least 0, got -1"),
    ],
)
def test_exchange_words_names_the_bad_argument(processor: str, change: dict, message: str):
    spoiled = by_name(fixed(3), **change)
    problems = Problems(*(spoiled[name] for name in Problems.__dataclass_fields__))
    others = {name: spoiled[name] for name in spoiled if name not in Problems.__dataclass_fields__}
    with pytest.raises(ValueError, match=message):
        ops.exchange_words(*Exchange(problems, **others).on(processor))


@pytest.mark.parametrize("number", [30, -2, -1])
def test_a_candidate_out_of_range_is_refused(checking_device: str, number: int):
    problems, vectors, candidates, *others = fixed(1).on(checking_device)
    candidates[0, 4, 0], candidates[0, 4, 1] = 0, number
    with pytest.raises(ValueError, match=f"candidates: expected 0 to 29 or rows of -1, got {number}"):
        ops.exchange_words(problems, vectors, candidates, *others)
