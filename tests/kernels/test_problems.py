"""What travels to the optimisers: problems and settings."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import asdict, fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from problems import OptimizationProblem, deep_problems, optimization_problems

import fastinterp
from fastinterp.kernels import ops
from fastinterp.kernels.problems import OptimizationConfig


@given(optimization_problems(), st.integers(0, 6), st.integers(0, 6))
def test_a_part_of_the_problems_is_that_of_each_tensor(drawn: OptimizationProblem, first: int, last: int):
    problems = drawn.problems
    part = problems[first:last]
    assert len(problems) == len(problems.target)
    assert len(part) == len(range(len(problems))[first:last])
    for name in ("target", "begin", "end"):
        assert torch.equal(getattr(part, name), getattr(problems, name)[first:last])
    assert part.weights is problems.weights
    assert part.biases is problems.biases


@given(optimization_problems())
def test_rows_that_exist_are_those_inside_the_frame(drawn: OptimizationProblem):
    problems = drawn.problems
    assert drawn.start.shape[1] == problems.field
    expected = [
        [first <= row < last for row in range(problems.field)]
        for first, last in zip(problems.begin.tolist(), problems.end.tolist(), strict=True)
    ]
    assert problems.exists.tolist() == expected


@given(optimization_problems())
def test_double_changes_no_number(drawn: OptimizationProblem):
    double = drawn.problems.double()
    assert torch.equal(double.target, drawn.problems.target.to(torch.float64))
    for name in ("weights", "biases"):
        for one, other in zip(getattr(double, name), getattr(drawn.problems, name), strict=True):
            assert one.dtype == torch.float64
            assert torch.equal(one.float(), other)


def test_the_presets_are_the_papers_settings():
    assert OptimizationConfig.preset("mr") == OptimizationConfig(l2_weight=0.004, similarity_weight=0.02)
    assert OptimizationConfig.preset("ag_news") == OptimizationConfig(l2_weight=0.002, similarity_weight=0.01)
    with pytest.raises(ValueError, match="preset: expected one of mr, ag_news, got 'imdb'"):
        OptimizationConfig.preset("imdb")


@pytest.mark.parametrize("name", [field.name for field in fields(OptimizationConfig)])
@pytest.mark.parametrize("value", [None, True, [], float("nan"), float("inf"), "x" * 5000])
def test_every_field_refuses_what_it_cannot_be_on_one_short_line(name: str, value: object):
    with pytest.raises(ValueError, match=f"^{name}: expected ") as caught:
        OptimizationConfig(**{name: value})
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


@given(st.integers(0, 10**6), st.integers(-(2**63), 2**63 - 1), st.floats(0, 1, exclude_max=True, width=32))
def test_numpy_settings_are_kept_as_plain_ones(steps: int, seed: int, beta1: float):
    given_numpy = OptimizationConfig(steps=np.int64(steps), seed=np.int64(seed), beta1=np.float32(beta1))
    plain = OptimizationConfig(steps=steps, seed=seed, beta1=beta1)
    assert given_numpy == plain
    assert hash(given_numpy) == hash(plain)
    assert json.loads(json.dumps(asdict(given_numpy))) == asdict(plain)


def test_settings_are_read_without_importing_torch():
    """The command line takes its defaults from them before it knows whether it will need torch."""
    said = "import sys; import fastinterp.kernels.problems; print('torch' in sys.modules)"
    finished = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "False"


def test_settings_have_one_home():
    assert fastinterp.OptimizationConfig is OptimizationConfig


@pytest.mark.parametrize(
    "activation", ["leaky_relu:", "leaky_relu:-0.1", "leaky_relu:1.5", "leaky_relu:nan", "relu:0.1"]
)
def test_a_slope_that_the_kernels_do_not_have_is_named(activation: str):
    problems = replace(deep_problems(2, "relu", 1).problems, activation=activation)
    with pytest.raises(ValueError, match=rf"activation: expected relu, leaky_relu, .* got {re.escape(activation)}"):
        ops.optimize_ccp(problems, OptimizationConfig(), 10, 1e-5)
