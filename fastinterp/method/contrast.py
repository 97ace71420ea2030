"""What sets a location apart: an input whose activations stand out from the usual as the location's own do.

Eq. 5-8 reproduce the direction of an activation, most of which every location of a class shares, so they name the
class. Here the distance is measured beside what is usual: an activation a' is judged by the whitened distance
d(X) = |W^T (a'(X) - a)|^2, W from `Whitening`. For given gates a'(X) is linear in X, with the Jacobian J to the C
channels, so that a damped Gauss-Newton step is a system of C equations, whatever the size of the field:

    X <- X + J^T (P S G + rho I)^-1 S P r,     G = J J^T,  P = W W^T,  S the channels' slopes,  r = a - S z

First layer: one such step from the usual activation, where a' - mean = J X with every gate open. It is closed: going on
would only rebuild the field itself. Deeper layers: the target P (a - mean) sent back through the average gates of the
layers below, then two steps, each shortened until d falls.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fastinterp.kernels.problems import Problems
from fastinterp.method.background import SHRINKAGE, Background, Whitening
from fastinterp.method.fields import ACTIVATIONS, activations, inner_slopes, pre_activations, pull_back, slope_at
from fastinterp.method.threads import one_thread
from fastinterp.validation import integer, number

_SHORTEST_STEP = 6  # halvings, at factor 0.4, before a step is given up
_SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the start, in units of the root of its number of entries


@dataclass(frozen=True)
class ContrastConfig:
    """How the input that stands out is found.

    Attributes:
        shrinkage: eps of the covariance; see `LayerBackground.whitening`.
        damping: rho, in units of the mean diagonal of P S G.
        steps: Gauss-Newton steps of layers above the first.

    Raises:
        ValueError: a field has the wrong type or range; the message names it.
    """

    shrinkage: float = SHRINKAGE
    damping: float = 0.03
    steps: int = 2

    def __post_init__(self) -> None:
        checked = {
            "shrinkage": number("shrinkage", self.shrinkage, above=0),
            "damping": number("damping", self.damping, above=0),
            "steps": integer("steps", self.steps, least=0, most=100),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)


def contrast_inputs(
    problems: Problems, background: Background, layer: int, whitening: Whitening, config: ContrastConfig
) -> Tensor:
    """Returns (B, R, D) float32 inputs that stand out as the locations do, zero outside the sentence frame.

    No problem depends on the others of the call: the first layer's are solved in float64, the others one by one.

    Args:
        problems: B locations; `target` holds their activations.
        background: of the model's layers, for the average gates below.
        layer: index of the explained layer.
        whitening: of that layer.
        config: settings.
    """
    width = problems.weights[0].shape[1]
    inputs = problems.target.new_zeros(len(problems), problems.field, width)
    edges = torch.stack([problems.begin, problems.end], dim=1)
    if layer == 0:
        apart = problems.target.double() - whitening.mean.to(problems.target.device)
        for edge in edges.unique(dim=0):
            members = (edges == edge).all(dim=1)
            solver = _linear_solver(problems[members.nonzero()[0, 0] :][:1], whitening, config.damping)
            inputs[members] = (apart[members] @ solver).to(inputs.dtype).view(-1, problems.field, width)
        return inputs
    gates = [background.layers[below].slope.to(inputs.device, inputs.dtype) for below in range(layer)]
    with one_thread():
        for row in range(len(problems)):
            inputs[row] = _descend(problems[row : row + 1], gates, whitening, config)
    return inputs


def _linear_solver(problem: Problems, whitening: Whitening, damping: float) -> Tensor:
    """Returns the (C, R D) float64 matrix that takes a - mean to the first layer's input for a field's edges."""
    jacobian = _jacobian(problem, []).double()
    precision = whitening.precision.to(jacobian.device)
    system = precision @ jacobian @ jacobian.T
    size = system.diagonal().mean()
    if not size > 0:  # filters that are zero where the field has rows
        return torch.zeros_like(jacobian)
    system += damping * size * torch.eye(len(system), dtype=torch.float64, device=system.device)
    # X = J^T (P G + rho I)^-1 P (a - mean), written for a row vector from the left.
    solver: Tensor = torch.linalg.solve(system, precision).T @ jacobian
    return solver


def _jacobian(problem: Problems, inner_slopes: list[Tensor]) -> Tensor:
    """Returns the derivatives (C, R D) of the last layer's pre-activations for given slopes of the layers below.

    Args:
        problem: one location.
        inner_slopes: for each layer below (C, positions) or (C, 1).
    """
    channels = problem.weights[-1].shape[0]
    pulled = torch.eye(channels, dtype=torch.float32, device=problem.target.device)
    return pull_back(_repeated(problem, channels), pulled, inner_slopes).flatten(1)


def _descend(problem: Problems, gates: list[Tensor], whitening: Whitening, config: ContrastConfig) -> Tensor:
    """Returns the (R, D) input of one location of a layer above the first."""
    device = problem.target.device
    mean, factor = (each.to(device, torch.float32) for each in (whitening.mean, whitening.factor))
    precision = whitening.precision.to(device, torch.float32)
    wanted = (problem.target - mean) @ factor

    def distance(inputs: Tensor) -> Tensor:
        apart = (activations(_repeated(problem, len(inputs)), inputs) - mean) @ factor
        squares: Tensor = (apart - wanted).square().sum(dim=1)
        return squares

    target = whitening.target(problem.target)
    start = pull_back(problem, target, gates)
    entries = float((problem.end - problem.begin)[0]) * start.shape[2]
    length = torch.linalg.vector_norm(start)
    if not length > 0:
        return start[0]
    scaled = start * (torch.tensor(_SCALES, device=device)[:, None, None] * (entries**0.5 / length))
    reached = (activations(_repeated(problem, len(scaled)), scaled) - mean) @ factor
    inputs: Tensor = scaled[functional.cosine_similarity(reached, wanted).argmax()][None]
    best = distance(inputs)[0]
    for _ in range(config.steps):
        step = _gauss_newton_step(problem, inputs, precision, config.damping)
        for halvings in range(_SHORTEST_STEP):
            shorter = inputs + 0.4**halvings * step
            value = distance(shorter)[0]
            if value < best:
                inputs, best = shorter, value
                break
        else:
            break  # no step along this direction helps, and the next would be the same
    return inputs[0]


def _gauss_newton_step(problem: Problems, inputs: Tensor, precision: Tensor, damping: float) -> Tensor:
    """Returns the (1, R, D) step of d(X) for the gates in force; gates that the target opens count as open."""
    values = pre_activations(problem, inputs)
    inner = inner_slopes(problem, values)
    z = values[-1][0, 0]
    reached = ACTIVATIONS[problem.activation](z)
    if problem.activation == "relu":
        slope = slope_at("relu", torch.maximum(reached, problem.target[0]))
        reached = slope * z
    else:
        slope = slope_at(problem.activation, reached)
    jacobian = _jacobian(problem, inner)
    pull = slope * (precision @ (problem.target[0] - reached))
    system = slope[:, None] * precision * slope @ (jacobian @ jacobian.T)
    size = system.diagonal().mean()
    if not size > 0:  # every gate on the way is shut: nothing moves the location
        return torch.zeros_like(inputs)
    system = system + damping * size * torch.eye(len(system), device=system.device)
    step: Tensor = torch.linalg.solve(system, pull) @ jacobian
    return step.view_as(inputs)


def _repeated(problem: Problems, count: int) -> Problems:
    """The same location so many times."""
    begin, end = problem.begin.expand(count), problem.end.expand(count)
    return Problems(problem.target, problem.weights, problem.biases, begin, end, problem.activation)
