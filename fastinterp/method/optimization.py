"""What a location detects: the input that reproduces its activations (Eq. 5-7)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fastinterp.kernels import ops
from fastinterp.kernels.problems import OptimizationConfig, Problems
from fastinterp.method.starts import random_starts
from fastinterp.models.protocol import TextClassifier


@dataclass(frozen=True)
class OptimizedInputs:
    """The optimised receptive fields of B locations, on the model's device.

    Attributes:
        inputs: (B, R, D) float32, zero at positions outside the sentence frame.
        overall: (B, D) float32, the mean of the positions that exist (Eq. 8).
        gates: (B, C) bool, channels whose pre-activation is positive at the optimum and whose target is not 0.
        iterations: (B,) int64, how often the gates were taken anew; None but for the joint objective by "ccp".
        residual: (B,) float32, norm of the objective's gradient relative to that of its linear part; None as above.
            At kinks of the objective it is the way to the nearest summit, relative to the same. Below 1e-5 the point is
            stationary. More than that marks a location that rounding left short of it, or whose activations pull less
            than the similarity term does: it would shrink a row to nothing, where Sim jumps, and no maximum is
            attained.
    """

    inputs: Tensor
    overall: Tensor
    gates: Tensor
    iterations: Tensor | None = None
    residual: Tensor | None = None


def field_edges(model: TextClassifier, layer: int, location: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the first row of each location's receptive field inside the sentence frame, and one past the last.

    Args:
        model: the classifier.
        layer: index of the convolution.
        location: (B,) int64.
    """
    stack = model.stack(layer)
    begin = (stack.before - location).clamp(min=0)
    end = (model.length - location + stack.before).clamp(max=stack.before + stack.after + 1)
    return begin, end


def optimize_inputs(
    model: TextClassifier,
    activations: Tensor,
    layer: int = 0,
    begin: Tensor | None = None,
    end: Tensor | None = None,
    keys: Tensor | None = None,
    config: OptimizationConfig | None = None,
) -> OptimizedInputs:
    """Returns the inputs that maximise a . a'(X) - lambda1 ||X||^2 + lambda2 Sim(X) (Eq. 5-7), or those of Eq. 4.

    Args:
        model: the classifier.
        activations: (B, C) float32, the activations `a` of B locations of the layer.
        layer: index of the convolution.
        begin: (B,) int64, first position of each receptive field inside the sentence frame; default 0.
        end: (B,) int64, one past the last; default R, the width of the receptive field.
        keys: (B,) int64 naming each problem: its start is drawn from (seed, key), so that its result does not
            depend on the other problems of the call. Default 0, 1, 2, ...
        config: defaults to the paper's values for MR.

    Raises:
        ValueError: no such layer, weights that cannot be explained, a tensor of the wrong shape or dtype, or a solver
            that does not fit the model.
    """
    config = config or OptimizationConfig()
    if activations.device != model.device:
        raise ValueError(f"activations: expected on the model's {model.device}, got on {activations.device}")
    stack = model.stack(layer)
    model.prepared()
    count, device = len(activations), model.device
    begin = torch.zeros(count, dtype=torch.int64, device=device) if begin is None else begin
    end = torch.full((count,), stack.before + stack.after + 1, device=device) if end is None else end
    keys = torch.arange(count, device=device) if keys is None else keys
    if keys.shape != (count,) or keys.dtype != torch.int64:
        raise ValueError(f"keys: expected int64 of shape ({count},), got {keys.dtype} of {tuple(keys.shape)}")
    problems = Problems(activations.contiguous(), stack.weights, stack.biases, begin, end, stack.activation)
    if config.objective == "per-channel":
        return _per_channel(model, layer, problems, config)
    return _joint(model, layer, problems, keys, config)


def _joint(
    model: TextClassifier, layer: int, problems: Problems, keys: Tensor, config: OptimizationConfig
) -> OptimizedInputs:
    """Eq. 5-7, by Adam from a random start or by the concave-convex procedure, which has none."""
    if config.solver == "adam":
        start = random_starts(keys, model.length, problems.field, model.word_vectors.shape[1], config.seed)
        optimum, gates, _ = ops.optimize_adam(problems, start, config)
        return OptimizedInputs(optimum, _overall(problems, optimum), gates)
    if problems.activation == "tanh" or config.l2_weight == 0:
        raise ValueError(
            "solver: ccp needs activation relu, leaky_relu or identity and an l2_weight of more than 0; got "
            f"{problems.activation} and {config.l2_weight!r}"
        )
    optimum, gates, iterations, residual = ops.optimize_ccp(problems, config, _MOST_ITERATIONS, _TOLERANCE)
    return OptimizedInputs(optimum, _overall(problems, optimum), gates, iterations, residual)


def _overall(problems: Problems, optimum: Tensor) -> Tensor:
    """Returns x_overall (B, D), the mean of the rows that exist; the others are 0 (Eq. 8)."""
    return optimum.sum(dim=1) / (problems.end - problems.begin)[:, None]


def _per_channel(model: TextClassifier, layer: int, problems: Problems, config: OptimizationConfig) -> OptimizedInputs:
    """Eq. 4: one product with the channels' optima, which depend on the model and the sentence's edge alone."""
    optimum = problems.target.new_zeros(len(problems), problems.field, model.word_vectors.shape[1])
    edges = torch.stack([problems.begin, problems.end], dim=1)
    for first, last in edges.unique(dim=0).tolist():
        members = (problems.begin == first) & (problems.end == last)
        optima = _channel_optima(model, layer, problems, first, last, config).flatten(1)
        optimum[members] = (problems.target[members] @ optima).view(-1, *optimum.shape[1:])
    _, gates, _ = ops.optimize_adam(problems, optimum, replace(config, steps=0))
    return OptimizedInputs(optimum, _overall(problems, optimum), gates)


def _channel_optima(
    model: TextClassifier, layer: int, problems: Problems, first: int, last: int, config: OptimizationConfig
) -> Tensor:
    """Returns (C, R, D), row k the optimum of channel k alone in the problems' layers; kept for the next call."""
    kept = model.prepared().kept
    key = ("channel optima", layer, config, first, last)
    if key not in kept:
        channels, device = len(problems.weights[-1]), model.device
        begin, end = (torch.full((channels,), row, device=device) for row in (first, last))
        alone = replace(problems, target=torch.eye(channels, dtype=torch.float32, device=device), begin=begin, end=end)
        kept[key] = _joint(model, layer, alone, torch.arange(channels, device=device), config).inputs
    optima: Tensor = kept[key]
    return optima


_MOST_ITERATIONS = 1000  # of CCP, which stops by itself after about five
_TOLERANCE = 1e-5  # of CCP's residual, a hundred times float32's rounding
