"""The activations of the layers, by the names that the operators take."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_SLOPES = {"relu": 0.0, "leaky_relu": 0.01, "identity": 1.0}
_LEAKY = "leaky_relu:"


def leaky_relu(slope: float) -> str:
    """Returns the name of a leaky ReLU: "leaky_relu:0.2" for a slope of 0.2; relu, leaky_relu and identity are some."""
    return next((name for name, known in _SLOPES.items() if known == slope), f"{_LEAKY}{slope!r}")


def negative_slope(activation: str) -> float:
    """Returns the slope below 0 of a piecewise-linear activation."""
    return float(activation.removeprefix(_LEAKY)) if activation.startswith(_LEAKY) else _SLOPES[activation]


def activate(activation: str, z: Tensor) -> Tensor:
    """Returns the activations of pre-activations of any shape."""
    if activation == "tanh":
        return torch.tanh(z)
    if activation == "relu":
        return torch.relu(z)
    return functional.leaky_relu(z, negative_slope(activation))


def slope_at(activation: str, values: Tensor) -> Tensor:
    """Returns the slope of the activation where it has these values."""
    if activation == "tanh":
        return 1 - values**2
    return torch.where(values > 0, 1.0, negative_slope(activation)).to(values.dtype)
