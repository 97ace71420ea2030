"""No gate changes before its proof expires: csrc/shared/certificate.h against exact pre-activations.

The ways that X takes here are made to be hard to prove: bias and filter of every channel are chosen afterwards, so that
its gate changes where the proof has the least left.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

HERE = Path(__file__).parent
KINDS = ["random", "persistent", "adam", "straight", "drift", "rounding", "still"]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    built = tmp_path_factory.mktemp("certificate") / "certificate_walk.so"
    flags = ["-std=c++20", "-O2", "-ffp-contract=fast", "-fno-math-errno", "-Wno-psabi", "-shared", "-fPIC"]
    command = [*os.environ.get("CXX", "c++").split(), *flags, str(HERE / "certificate_walk.cpp"), "-o", str(built)]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(built))


def pointer(tensor: Tensor) -> ctypes.c_void_p:
    assert tensor.is_contiguous()
    return ctypes.c_void_p(tensor.data_ptr())


def directions_of(kind: str, steps: int, width: int, generator: torch.Generator) -> tuple[Tensor, Tensor, float]:
    """Returns directions (steps, width), rates (steps,) and how large X is at its start."""
    rates = torch.full((steps,), 2e-3)
    noise = torch.randn(steps, width, generator=generator)
    base = torch.randn(width, generator=generator)
    if kind == "random":
        return noise, rates, 1.0
    if kind == "persistent":
        turning = torch.linspace(0, 1, steps)[:, None]
        return base * (1 - turning) + noise[0] * turning + 0.05 * noise, rates, 1.0
    if kind == "straight":
        return base.repeat(steps, 1), rates, 0.01
    if kind == "drift":  # a little aside of the heading, always the same way: less than float32 sums can see
        aside = torch.randn(width, generator=generator)
        aside -= base * (aside @ base) / (base @ base)
        directions = base.repeat(steps, 1)
        directions[8:] += 2e-4 * aside
        return directions, rates, 1e-3
    if kind == "rounding":  # every step is a little more than half a unit in the last place of X, and is stored as one
        return torch.ones(steps, width), torch.full((steps,), 0.52 * 2**-23), 1.0
    assert kind == "still"  # X stays where it is, and what was measured must be right
    return noise, torch.full((steps,), 1e-12), 1.0


def walk_of(kind: str, steps: int, width: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Returns places (steps + 1, width), directions (steps, width) and rates (steps,) of a way, in float32."""
    if kind == "adam":
        return adam_walk(steps, width, generator)
    directions, rates, size = directions_of(kind, steps, width, generator)
    if kind == "rounding":
        x = torch.rand(width, generator=generator) + 1  # all of one binade
    else:
        x = torch.randn(width, generator=generator) * size
    places = [x]
    for rate, direction in zip(rates, directions, strict=True):
        places.append(places[-1] + rate * direction)
    return torch.stack(places), directions, rates


def adam_walk(steps: int, width: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Adam in float32 on a . relu(W x + b) - lambda ||x||^2."""
    weights, bias = torch.randn(24, width, generator=generator), torch.randn(24, generator=generator)
    target, x = torch.rand(24, generator=generator), torch.randn(width, generator=generator) * 0.1
    first, second = torch.zeros(width), torch.zeros(width)
    places, directions, rates = [x], [], []
    for step in range(1, steps + 1):
        gradient = weights.T @ (target * (weights @ x + bias > 0)) - 0.3 * x
        first, second = 0.9 * first + gradient, 0.999 * second + gradient**2
        size = ((1 - 0.999) / (1 - 0.999**step)) ** 0.5
        rate = torch.tensor(2e-3 * 0.1 / (1 - 0.9**step) / size)
        directions.append(first / (second.sqrt() + 1e-8 / size))
        x = x + rate * directions[-1]
        rates.append(rate)
        places.append(x)
    return torch.stack(places), torch.stack(directions), torch.stack(rates)


def hard_channels(kind: str, places: Tensor, channels: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Returns weights (channels, width) and bias (channels,) whose gates change at places of the way, just so."""
    steps, width = len(places) - 1, places.shape[1]
    weights = torch.randn(channels, width, generator=generator)
    whole_way = places[-1] - places[0]
    half = channels // 2  # straight at their hyperplane, as fast as can be
    if kind == "still":
        sign = torch.where(torch.arange(width) < width // 2, 1.0, -1.0)  # sums grow, and come back to almost nothing
        weights[:half] = sign * places[0] * (1 + 0.3 * torch.rand(half, width, generator=generator))
    elif kind == "drift":
        start, end = places[8], places[-1]
        along = places[1] - places[0]
        aside = (end - start) - along * ((end - start) @ along) / (along @ along)
        weights[:half] = aside / aside.norm() * (1 + torch.rand(half, 1, generator=generator))
    elif whole_way.norm() > 0:
        sign = torch.where(torch.rand(half, 1, generator=generator) < 0.5, -1.0, 1.0)
        weights[:half] = whole_way / whole_way.norm() * sign * (1 + torch.rand(half, 1, generator=generator))
    when = torch.randint(1, steps + 1, (channels,), generator=generator)
    reached = (weights.double() * places[when].double()).sum(1)
    before = (weights.double() * places[when - 1].double()).sum(1)
    bias = -(reached if kind == "still" else 0.999 * reached + 0.001 * before).float()
    # A unit in the last place to either side.
    other = torch.nextafter(bias, torch.where(torch.rand(channels, generator=generator) < 0.5, -1e9, 1e9))
    return weights, torch.where(torch.rand(channels, generator=generator) < 0.5, bias, other)


@given(st.sampled_from(KINDS), st.integers(0, 2**32), st.sampled_from([4, 32, 1024]), st.sampled_from([0.0, 3e6]))
def test_no_gate_changes_before_its_proof_expires(
    library: ctypes.CDLL, kind: str, seed: int, width: int, headings_before: float
):
    generator = torch.Generator().manual_seed(seed)
    steps, channels = 60, 64
    if kind == "still":  # deep sums, whose rounding shows
        steps, channels, width = 3, 128, 8192
    places, directions, rates = walk_of(kind, steps, width, generator)
    weights, bias = hard_channels(kind, places, channels, generator)
    proven = torch.zeros(steps + 1, channels, dtype=torch.bool)
    believed = torch.zeros(steps + 1, channels, dtype=torch.bool)
    sizes = [ctypes.c_int64(each) for each in (channels, width, steps)]
    tensors = [pointer(each) for each in (weights, bias, places, directions, rates)]
    before = ctypes.c_double(headings_before * float(rates[0]))
    library.walk(*sizes, *tensors, before, pointer(proven), pointer(believed))
    exact = places.double() @ weights.double().T + bias.double() > 0
    assert torch.equal(believed[proven], exact[proven])
    if kind in ("persistent", "straight", "adam") and not headings_before:
        assert proven.double().mean() > 0.3  # or the certificate would hold because it proves nothing


@given(st.sampled_from(["random", "persistent", "adam", "straight"]), st.integers(0, 2**32))
def test_flips_take_a_layer_no_further_than_its_deviation(library: ctypes.CDLL, kind: str, seed: int):
    generator = torch.Generator().manual_seed(seed)
    steps, width, channels = 60, 32, 64
    places, directions, rates = walk_of(kind, steps, width, generator)
    weights, bias = hard_channels(kind, places, channels, generator)
    length = torch.zeros(steps + 1, dtype=torch.float64)
    anew = torch.zeros(steps + 1, dtype=torch.bool)
    sizes = [ctypes.c_int64(each) for each in (channels, width, steps)]
    tensors = [pointer(each) for each in (weights, bias, places, directions, rates, length, anew)]
    library.deviate(*sizes, *tensors)
    z = places.double() @ weights.double().T + bias.double()
    since = torch.where(anew, torch.arange(steps + 1), 0).cummax(0).values
    exact = (z.relu() - z * (z[since] > 0)).norm(dim=1)
    assert (exact <= length).all()


def descend(
    library: ctypes.CDLL,
    weights: list[Tensor],
    biases: list[Tensor],
    target: Tensor,
    start: Tensor,
    steps: int,
    rate: float,
    slope: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns places (steps + 1, rows, width) of Adam through two layers; which units are proven there, and open."""
    (first, width, below), (last, _, above) = weights[0].shape, weights[1].shape
    places = torch.zeros(steps + 1, *start.shape)
    proven = torch.zeros(steps + 1, above * first + last, dtype=torch.bool)
    believed = torch.zeros_like(proven)
    largest = [torch.linalg.matrix_norm(each.flatten(1).double(), 2).item() * (1 + 1e-6) for each in weights]
    library.descend(
        ctypes.c_int64(width),
        (ctypes.c_int64 * 2)(first, last),
        (ctypes.c_int64 * 2)(below, above),
        (ctypes.c_void_p * 2)(*(each.data_ptr() for each in weights)),
        (ctypes.c_void_p * 2)(*(each.data_ptr() for each in biases)),
        (ctypes.c_double * 2)(*largest),
        pointer(target),
        pointer(start),
        ctypes.c_int64(steps),
        ctypes.c_float(rate),
        ctypes.c_float(slope),
        pointer(places),
        pointer(proven),
        pointer(believed),
    )
    return places, proven, believed


def exact_layers(places: Tensor, weights: list[Tensor], biases: list[Tensor], slope: float) -> tuple[Tensor, ...]:
    """Returns the first layer's pre-activations and activations, and the second's pre-activations."""
    first = torch.nn.functional.conv1d(places.double().transpose(1, 2), weights[0].double(), biases[0].double())
    hidden = torch.where(first > 0, first, slope * first)
    return first, hidden, torch.nn.functional.conv1d(hidden, weights[1].double(), biases[1].double())


@given(
    st.integers(0, 2**32),
    st.sampled_from([(1, 1), (3, 2)]),
    st.sampled_from([0.0, 0.01]),
    st.sampled_from([2e-4, 2e-3]),
    st.sampled_from([0.0, 0.5]),
)
def test_no_gate_of_a_stack_changes_before_its_proof_expires(
    library: ctypes.CDLL, seed: int, kernels: tuple[int, int], slope: float, rate: float, shift: float
):
    generator = torch.Generator().manual_seed(seed)
    width, channels, spectators, steps = 12, 12, 5, 120
    below = torch.randn(channels, width, kernels[0], generator=generator) * (width * kernels[0]) ** -0.5
    if kernels == (1, 1):  # no layer between X and the gates shortens a way: the bounds are as tight as they get
        below[..., 0] = torch.linalg.qr(below[..., 0]).Q
    above = torch.randn(6, channels, kernels[1], generator=generator) * (channels * kernels[1]) ** -0.5
    weights, biases = [below, above], []
    for each in weights:
        side = torch.where(torch.rand(len(each), generator=generator) < 0.3, -1.0, 1.0)
        biases.append(side * shift + torch.randn(len(each), generator=generator) * 0.1)
    start = (torch.rand(sum(kernels) - 1, width, generator=generator) * 2 - 1) * 0.13
    target = torch.rand(6, generator=generator)
    target[:spectators] = 0  # their gates have no part in where X goes
    places, *_ = descend(library, weights, biases, target, start, steps, rate, slope)
    # So they can be chosen afterwards, for the way to lead straight through their hyperplanes.
    first, hidden, _ = exact_layers(places, weights, biases, slope)
    for k in range(spectators):
        begin, end = sorted(torch.randint(1, steps + 1, (2,), generator=generator).tolist())
        way = hidden[end] - hidden[begin - 1]
        if k >= 2:  # what the gates that changed below them have made of it
            way = hidden[end] - torch.where(first[begin - 1] > 0, first[end], slope * first[end])
        weights[1][k] = (way / way.norm().clamp(min=1e-9)).float() * (1 if k % 2 else -1)
        reached = 0.9 * hidden[end] + 0.1 * hidden[end - 1]
        biases[1][k] = -float((weights[1][k].double() * reached).sum())
    places, proven, believed = descend(library, weights, biases, target, start, steps, rate, slope)
    first, _, second = exact_layers(places, weights, biases, slope)
    exact = torch.cat([first.transpose(1, 2).flatten(1), second.transpose(1, 2).flatten(1)], dim=1) > 0
    assert torch.equal(believed[proven], exact[proven])
    if shift:
        assert proven.any()
