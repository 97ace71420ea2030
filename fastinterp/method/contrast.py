"""What sets a location apart: an input whose activations stand out from the usual as the location's own do.

Eq. 5-8 reproduce the direction of an activation, most of which every location of a class shares, so they name the
class. Here the distance is measured beside what is usual: an activation a' is judged by the whitened distance
d(X) = |W^T (a'(X) - a)|^2, W from `Whitening`. For given gates a'(X) is linear in X, with the Jacobian J to the C
channels, so that a damped Gauss-Newton step is a system of C equations, whatever the size of the field:

    X <- X + J^T (P S G + rho I)^-1 S P r,     G = J J^T,  P = W W^T,  S the channels' slopes,  r = a - S z

First layer: one such step from the usual activation, where a' - mean = J X with every gate open. It is closed: going on
would only rebuild the field itself. Deeper layers, by the operator `contrast`: the target P (a - mean) sent back
through the average gates of the layers below, then two steps, each shortened until d falls.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fastinterp.kernels import ops
from fastinterp.kernels.problems import Problems
from fastinterp.method.background import SHRINKAGE, Background, Whitening
from fastinterp.method.fields import cut_to_their_rows
from fastinterp.validation import integer, number


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

    No problem depends on the others of the call: the first layer's are solved in float64, the others one by one (on a
    GPU up to rounding).

    Args:
        problems: B locations; `target` holds their activations.
        background: of the model's layers, for the average gates below.
        layer: index of the explained layer.
        whitening: of that layer.
        config: settings.
    """
    device = problems.target.device
    if layer == 0:
        return _first_layer_inputs(problems, whitening, config.damping)
    slopes = [background.layers[below].slope.to(device, torch.float32) for below in range(layer)]
    measure = (whitening.mean, whitening.precision, whitening.factor)
    mean, precision, factor = (each.to(device, torch.float32).contiguous() for each in measure)
    return ops.contrast(problems, slopes, mean, precision, factor, config.steps, config.damping)[0]


def _first_layer_inputs(problems: Problems, whitening: Whitening, damping: float) -> Tensor:
    """Returns X = J^T (P G + rho I)^-1 P (a - mean), (B, R, D) float32."""
    inputs = problems.target.new_zeros(len(problems), problems.field, problems.weights[0].shape[1])
    apart = problems.target.double() - whitening.mean.to(problems.target.device)
    for members, rows, part in cut_to_their_rows(problems):
        jacobian = part.weights[0].double().transpose(1, 2).flatten(1)
        key = ("first layer", damping, rows.start, rows.stop)
        if key not in whitening.kept:
            whitening.kept[key] = _multipliers(jacobian, whitening, damping).cpu()
        found = apart[members] @ whitening.kept[key].to(apart.device) @ jacobian
        inputs[members, rows] = found.to(inputs.dtype).view(len(part), part.field, -1)
    return inputs


def _multipliers(jacobian: Tensor, whitening: Whitening, damping: float) -> Tensor:
    """Returns the (C, C) float64 matrix that takes rows a - mean to those that J takes to the input."""
    precision = whitening.precision.to(jacobian.device)
    system = precision @ (jacobian @ jacobian.T)
    size = system.diagonal().mean()
    if not size > 0:  # filters that are zero where the field has rows
        return torch.zeros_like(system)
    system += damping * size * torch.eye(len(system), dtype=torch.float64, device=system.device)
    # ((P G + rho I)^-1 P)^T, for a row vector from the left.
    multipliers: Tensor = torch.linalg.solve(system, precision).T
    return multipliers
