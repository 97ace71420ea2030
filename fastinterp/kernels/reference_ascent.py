"""The specification of `optimize_ccp` where the objective is not convex: deeper layers, and targets of both signs.

As `fastinterp.kernels.reference`: plain PyTorch, any float dtype, one problem at a time, not meant to be fast. Nothing
else of the package is imported.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from fastinterp.kernels.reference import objective, similarity, slope_of

if TYPE_CHECKING:
    from fastinterp.kernels.problems import OptimizationConfig, Problems

_ROUNDS = 8  # of adding kinks to one step

Kinks = dict[tuple[int, int], float]  # by layer and unit: the share of its gate that is open


def ascent_iterates(
    problem: Problems, config: OptimizationConfig, max_iterations: int, tolerance: float
) -> Iterator[Tensor]:
    """Yields the inputs X (1, R, D) of the ascent for one problem; `objective` never falls.

    For the gates of X, a . a'(X) is linear. With the gradient of Sim at X added, what is left has one summit,
    X* = gradient / (2 lambda1); X goes towards it, halving its way until the objective rises. A unit between X and X*
    whose activation has a negative coefficient c bends the objective down: as long as there are such, they enter what
    is maximised as c relu(z) with z linear in X, whose summit `_balance` finds. The ascent ends where X is its own
    summit: stationary, as the gates at kinks may be anything from closed to open.

    Args:
        problem: one location of any layer with a piecewise-linear activation.
        config: lambda1, more than 0, and lambda2.
        max_iterations: how often the gates are taken anew at most.
        tolerance: of the way to the summit, relative to the gradient of a . a'(X), at which the ascent ends.
    """
    exists = problem.exists[0][:, None]
    kinks: Kinks = {}
    nothing = problem.weights[0].new_zeros(problem.field, problem.weights[0].shape[1])
    inputs = _look(problem, nothing, {}, open_gates=True).pull * exists / (2 * config.l2_weight)
    for _ in range(max_iterations):
        yield inputs[None]
        height = float(objective(problem, inputs[None], config))
        summit, distance = _summit(problem, inputs, kinks, config)
        if distance <= tolerance:
            return
        for _ in range(_ROUNDS):
            passed = _passed(problem, inputs, summit, kinks)
            if not passed:
                break
            kinks |= passed
            summit, _ = _summit(problem, inputs, kinks, config)
        share = 1.0
        while float(objective(problem, (inputs + share * (summit - inputs))[None], config)) <= height:
            share /= 2
            if share < 1e-6:
                return
        inputs = inputs + share * (summit - inputs)
        kinks = {unit: gate for unit, gate in kinks.items() if 0 < gate < 1}


def optimize_ascent(problems: Problems, config: OptimizationConfig, max_iterations: int, tolerance: float) -> Tensor:
    """Returns the inputs (B, R, D) that `ascent_iterates` ends at, zero outside [begin, end)."""
    field, width = problems.field, problems.weights[0].shape[1]
    inputs = problems.target.new_zeros(len(problems), field, width)
    for b in range(len(problems)):
        *_, inputs[b : b + 1] = ascent_iterates(problems[b : b + 1], config, max_iterations, tolerance)
    return inputs


class _Look(NamedTuple):
    """The linear piece at some X: with graphs from `variable` to every z."""

    variable: Tensor  # X, (R, D)
    pull: Tensor  # gradient of a . a'(X), (R, D)
    z: list[Tensor]  # of each layer, (outputs, C)
    coefficients: list[Tensor]  # gradient with respect to each activation; 0 outside the frame


def _look(problem: Problems, inputs: Tensor, kinks: Kinks, open_gates: bool = False) -> _Look:
    """Returns the linear piece for the gates of X, or for open ones; kinks have the gates that they were given."""
    slope = slope_of(problem.activation)
    with torch.enable_grad():
        variable = inputs.detach().requires_grad_()
        hidden, offset = variable, 0
        reached, values, frames = [], [], []
        for layer, (weight, bias) in enumerate(zip(problem.weights, problem.biases, strict=True)):
            z = functional.conv1d(hidden.T[None], weight, bias)[0].T.contiguous()
            offset += (weight.shape[2] - 1) // 2
            place = torch.arange(len(z)) + offset
            inside = ((place >= problem.begin) & (place < problem.end))[:, None]
            gates = torch.where((z.detach() > 0) | open_gates, 1.0, slope).to(z.dtype).contiguous()
            for (kink_layer, unit), share in kinks.items():
                if kink_layer == layer:
                    gates.view(-1)[unit] = slope + (1 - slope) * share
            hidden = z * gates * inside
            reached.append(z)
            values.append(hidden)
            frames.append(inside)
        total = (problem.target[0] * hidden[0]).sum()
        pull, *coefficients = torch.autograd.grad(total, [variable, *values], retain_graph=True)
    return _Look(variable, pull, reached, [c * inside for c, inside in zip(coefficients, frames, strict=True)])


def _summit(problem: Problems, inputs: Tensor, kinks: Kinks, config: OptimizationConfig) -> tuple[Tensor, float]:
    """Returns the summit for the gates of X, (R, D), and how far X is from it; sets the kinks' shares."""
    exists, slope = problem.exists[0][:, None], slope_of(problem.activation)
    while True:
        look = _look(problem, inputs, kinks)
        # A coefficient that the kinks above have turned positive makes the gate a plain one.
        plain = [(layer, unit) for layer, unit in kinks if look.coefficients[layer].flatten()[unit] >= 0]
        for unit in plain:
            del kinks[unit]
        if not plain:
            break
    with torch.enable_grad():
        variable = inputs.detach()[None].requires_grad_()
        likeness = config.similarity_weight * similarity(variable, problem.begin, problem.end).sum()
        (tilt,) = torch.autograd.grad(likeness, variable) if likeness.requires_grad else (torch.zeros_like(variable),)
    pull = look.pull * exists
    summit = (pull + tilt[0] * exists) / (2 * config.l2_weight)
    if kinks:
        units = list(kinks)
        of_kinks = torch.stack([look.z[layer].flatten()[unit] for layer, unit in units])
        rows = [torch.autograd.grad(z, look.variable, retain_graph=True)[0] * exists for z in of_kinks]
        jacobian = torch.stack(rows).flatten(1)
        most = torch.stack([-(1 - slope) * look.coefficients[layer].flatten()[unit] for layer, unit in units])
        z = of_kinks.detach()
        z = z + jacobian @ (summit - inputs).flatten()
        before = most * torch.tensor([kinks[unit] for unit in units], dtype=most.dtype)
        after = _balance(z, before, most, jacobian @ jacobian.T / (2 * config.l2_weight))
        moved = ((before - after) @ jacobian).view_as(summit)
        pull, summit = pull + moved, summit + moved / (2 * config.l2_weight)
        for unit, share in zip(units, (after / most).tolist(), strict=True):
            kinks[unit] = share
    off, strength = float((summit - inputs).norm()), float(pull.norm()) / (2 * config.l2_weight)
    return summit, off / (strength or float(inputs.norm()) or off) if off else 0.0


def _balance(z: Tensor, shares: Tensor, most: Tensor, products: Tensor) -> Tensor:
    """Returns y in [0, most] with y = 0 where z < 0 and y = most where z > 0, z being `z - products (y - shares)`."""
    y = shares.clone()
    z = z.clone()
    for _ in range(2000):
        largest = 0.0
        for u in range(len(y)):
            if products[u, u] > 0:
                wanted = y[u] + z[u] / products[u, u]
            else:
                wanted = most[u] if z[u] > 0 else torch.zeros_like(most[u])
            step = torch.minimum(wanted.clamp(min=0), most[u]) - y[u]
            y[u] += step
            z -= products[:, u] * step
            largest = max(largest, float(step.abs() / most[u]))
        if largest < 1e-9:
            break
    return y


def _passed(problem: Problems, inputs: Tensor, summit: Tensor, kinks: Kinks) -> Kinks:
    """Returns the units that are no kinks yet, pull against X and change their gates on the way to the summit."""
    if problem.activation == "identity":  # nothing bends
        return {}
    here, there = _look(problem, inputs, kinks), _look(problem, summit, {})
    found = {}
    for layer, (z, reached, c) in enumerate(zip(here.z, there.z, here.coefficients, strict=True)):
        changes = ((z > 0) != (reached > 0)) & (c < 0)
        for unit in changes.flatten().nonzero().flatten().tolist():
            if (layer, unit) not in kinks:
                found[layer, unit] = float(z.flatten()[unit] > 0)
    return found
