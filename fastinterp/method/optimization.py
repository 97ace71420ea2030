"""What a location detects: the input that reproduces its activations (Eq. 5-7)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from fastinterp.kernels import ops
from fastinterp.kernels.problems import OptimizationConfig, Problems
from fastinterp.method.fields import beside_their_middle, cut_to_their_rows
from fastinterp.method.module_path import optimize_by_module
from fastinterp.method.optimized import OptimizedInputs
from fastinterp.method.starts import random_starts
from fastinterp.models.protocol import Places, TextClassifier


def optimize_inputs(
    model: TextClassifier,
    activations: Tensor,
    layer: int = 0,
    begin: Tensor | None = None,
    end: Tensor | None = None,
    keys: Tensor | None = None,
    config: OptimizationConfig | None = None,
    places: Places | None = None,
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
        places: where the locations are; by default in sentences that their fields just fill. Needed, with `begin` and
            `end`, where the module itself explains a layer whose locations are not all the same.

    Raises:
        ValueError: no such layer, weights that cannot be explained, a tensor of the wrong shape or dtype, or a solver
            that does not fit the model.
    """
    config = config or OptimizationConfig()
    if activations.device != model.device:
        raise ValueError(f"activations: expected on the model's {model.device}, got on {activations.device}")
    model.prepared()
    layer = model.layer_index(layer)
    count, device = len(activations), model.device
    rows = places.ids.shape[1] if places is not None else model.field(layer).rows(torch.tensor([1]))
    begin = torch.zeros(count, dtype=torch.int64, device=device) if begin is None else begin
    end = torch.full((count,), rows, device=device) if end is None else end
    keys = torch.arange(count, device=device) if keys is None else keys
    if keys.shape != (count,) or keys.dtype != torch.int64:
        raise ValueError(f"keys: expected int64 of shape ({count},), got {keys.dtype} of {tuple(keys.shape)}")
    frame = int(model.frames(torch.ones(1, rows, dtype=torch.int64))) if places is None else places.frame
    own = model.module_layer(layer)
    if own is not None and model.path(layer).name == "module":
        if places is None:
            raise ValueError(f"places: expected those of the locations of {model.layer_name(layer)}, got none")
        start = random_starts(keys, frame, rows, model.word_vectors.shape[1], config.seed)
        return optimize_by_module(own, activations, begin, end, start, places, config)
    stack = model.stack(layer)
    problems = Problems(activations.contiguous(), stack.weights, stack.biases, begin, end, stack.activation)
    if config.objective == "per-channel":
        return _per_channel(model, layer, problems, config)
    return _joint(problems, _start(problems, keys, frame, config), config)


def _start(problems: Problems, keys: Tensor, frame: int | Tensor, config: OptimizationConfig) -> Tensor | None:
    """Where Adam starts; None for the concave-convex procedure, which has no start."""
    if config.solver != "adam":
        return None
    return random_starts(keys, frame, problems.field, problems.weights[0].shape[1], config.seed)


def _joint(problems: Problems, start: Tensor | None, config: OptimizationConfig) -> OptimizedInputs:
    """Eq. 5-7, by Adam from a random start or by the concave-convex procedure."""
    if beside_their_middle(problems):
        return _aside(problems, start, config)
    if start is not None:
        optimum, gates, _ = ops.optimize_adam(problems, start, config)
        return OptimizedInputs(optimum, _overall(problems, optimum), gates)
    if problems.activation == "tanh" or config.l2_weight == 0:
        raise ValueError(
            "solver: ccp needs activation relu, leaky_relu or identity and an l2_weight of more than 0; got "
            f"{problems.activation} and {config.l2_weight!r}"
        )
    optimum, gates, iterations, residual = ops.optimize_ccp(problems, config, _MOST_ITERATIONS, _TOLERANCE)
    return OptimizedInputs(optimum, _overall(problems, optimum), gates, iterations, residual)


def _aside(problems: Problems, start: Tensor | None, config: OptimizationConfig) -> OptimizedInputs:
    """The same for a convolution that is padded so much that some fields lie beside their middle row."""
    width = problems.weights[0].shape[1]
    inputs = problems.target.new_zeros(len(problems), problems.field, width)
    gates = torch.zeros_like(problems.target, dtype=torch.bool)
    rest: list[Tensor] | None = None
    for members, rows, part in cut_to_their_rows(problems):
        one = _joint(part, None if start is None else start[members, rows].contiguous(), config)
        inputs[members, rows], gates[members] = one.inputs, one.gates
        if one.iterations is not None and one.residual is not None:
            rest = rest or [torch.zeros_like(problems.begin), torch.zeros_like(problems.target[:, 0])]
            rest[0][members], rest[1][members] = one.iterations, one.residual
    return OptimizedInputs(inputs, _overall(problems, inputs), gates, *(rest or ()))


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
    gates = _joint(problems, optimum, replace(config, steps=0)).gates
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
        # Channel optima stand for all sentences, whatever their frames.
        frame = int(model.frames(torch.ones(1, problems.field, dtype=torch.int64)))
        keys = torch.arange(channels, device=device)
        kept[key] = _joint(alone, _start(alone, keys, frame, config), config).inputs
    optima: Tensor = kept[key]
    return optima


_MOST_ITERATIONS = 1000  # of CCP, which stops by itself after about five
_TOLERANCE = 1e-5  # of CCP's residual, a hundred times float32's rounding
