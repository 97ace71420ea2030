"""What a location detects: the input that reproduces its activations (Eq. 5-7)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fastinterp.kernels import ops
from fastinterp.kernels.problems import OptimizationConfig, Problems
from fastinterp.models.conv import ConvTextModel

__all__ = ["OptimizationConfig", "OptimizedInputs", "field_edges", "mix", "optimize_inputs", "random_starts"]


@dataclass(frozen=True)
class OptimizedInputs:
    """The optimised receptive fields of B locations, on the model's device.

    Attributes:
        inputs: (B, R, D) float32, zero at positions outside the sentence frame.
        overall: (B, D) float32, the mean of the positions that exist (Eq. 8).
        gates: (B, C) bool, channels whose pre-activation is positive at the optimum and whose target is not 0.
        iterations: (B,) int64, how often the gates were taken anew; None but for the joint objective by "ccp".
        residual: (B,) float32, norm of the objective's gradient relative to that of its linear part; None as above.
            Below 1e-5 the point is stationary. More than that marks a location whose activations pull less than the
            similarity term does: it would shrink a row to nothing, where Sim jumps, and no maximum is attained.
    """

    inputs: Tensor
    overall: Tensor
    gates: Tensor
    iterations: Tensor | None = None
    residual: Tensor | None = None


def field_edges(model: ConvTextModel, layer: int, location: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the first row of each location's receptive field inside the sentence frame, and one past the last.

    Args:
        model: the classifier.
        layer: index of the convolution.
        location: (B,) int64.
    """
    before, after = model.config.receptive_field(layer)
    begin = (before - location).clamp(min=0)
    end = (model.config.length - location + before).clamp(max=before + after + 1)
    return begin, end


def optimize_inputs(
    model: ConvTextModel,
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
        ValueError: no such layer, a tensor of the wrong shape or dtype, or a solver that does not fit the model.
    """
    config = config or OptimizationConfig()
    if activations.device != model.device:
        raise ValueError(f"activations: expected on the model's {model.device}, got on {activations.device}")
    before, after = model.config.receptive_field(layer)
    weights, biases = model.convolution_weights(layer)
    count, device = len(activations), model.device
    begin = torch.zeros(count, dtype=torch.int64, device=device) if begin is None else begin
    end = torch.full((count,), before + after + 1, device=device) if end is None else end
    keys = torch.arange(count, device=device) if keys is None else keys
    if keys.shape != (count,) or keys.dtype != torch.int64:
        raise ValueError(f"keys: expected int64 of shape ({count},), got {keys.dtype} of {tuple(keys.shape)}")
    problems = Problems(activations.contiguous(), weights, biases, begin, end, model.config.activation)
    if config.objective == "per-channel":
        return _per_channel(model, layer, problems, config)
    return _joint(model, layer, problems, keys, config)


def _joint(
    model: ConvTextModel, layer: int, problems: Problems, keys: Tensor, config: OptimizationConfig
) -> OptimizedInputs:
    """Eq. 5-7, by Adam from a random start or by the concave-convex procedure."""
    if config.solver == "adam":
        start = random_starts(model, keys, problems.field, config.seed)
        optimum, gates, _ = ops.optimize_adam(problems, start, config)
        return OptimizedInputs(optimum, _overall(problems, optimum), gates)
    if layer != 0 or problems.activation not in ("relu", "identity") or config.l2_weight == 0:
        raise ValueError(
            "solver: ccp needs layer 0, activation relu or identity and an l2_weight of more than 0; got "
            f"layer {layer}, {problems.activation} and {config.l2_weight!r}"
        )
    optimum, gates, iterations, residual = ops.optimize_ccp(problems, config, _MOST_ITERATIONS, _TOLERANCE)
    return OptimizedInputs(optimum, _overall(problems, optimum), gates, iterations, residual)


def _overall(problems: Problems, optimum: Tensor) -> Tensor:
    """Returns x_overall (B, D), the mean of the rows that exist; the others are 0 (Eq. 8)."""
    return optimum.sum(dim=1) / (problems.end - problems.begin)[:, None]


def _per_channel(model: ConvTextModel, layer: int, problems: Problems, config: OptimizationConfig) -> OptimizedInputs:
    """Eq. 4: one product with the channels' optima, which depend on the model and the sentence's edge alone."""
    optimum = problems.target.new_zeros(len(problems), problems.field, model.config.embedding_dimension)
    edges = torch.stack([problems.begin, problems.end], dim=1)
    for first, last in edges.unique(dim=0).tolist():
        members = (problems.begin == first) & (problems.end == last)
        optima = _channel_optima(model, layer, problems, first, last, config).flatten(1)
        optimum[members] = (problems.target[members] @ optima).view(-1, *optimum.shape[1:])
    _, gates, _ = ops.optimize_adam(problems, optimum, replace(config, steps=0))
    return OptimizedInputs(optimum, _overall(problems, optimum), gates)


def _channel_optima(
    model: ConvTextModel, layer: int, problems: Problems, first: int, last: int, config: OptimizationConfig
) -> Tensor:
    """Returns (C, R, D), row k the optimum of channel k alone in the problems' layers; kept for the next call."""
    device = model.device
    key = (_fingerprint(model, layer), device, config, first, last)
    if key not in _channel_cache:
        if len(_channel_cache) >= _MOST_CACHED:
            _channel_cache.pop(next(iter(_channel_cache)))
        channels = len(problems.weights[-1])
        begin, end = (torch.full((channels,), row, device=device) for row in (first, last))
        alone = replace(problems, target=torch.eye(channels, device=device), begin=begin, end=end)
        found = _joint(model, layer, alone, torch.arange(channels, device=device), config)
        _channel_cache[key] = found.inputs
    return _channel_cache[key]


_MOST_ITERATIONS = 1000  # of CCP; gates are finite in number and it stops by itself after about five
_TOLERANCE = 1e-5  # of CCP's residual, a hundred times float32's rounding
# Channel optima by model, settings and edge. A first layer of width 5 has nine edges.
_channel_cache: dict[tuple[object, ...], Tensor] = {}
_MOST_CACHED = 32


def _fingerprint(model: ConvTextModel, layer: int) -> str:
    """SHA-256 of all that a channel's optimum depends on in the model."""
    weights, biases = model.convolution_weights(layer)
    digest = hashlib.sha256(f"{model.config.activation} {model.config.length}".encode())
    for tensor in (*weights, *biases):
        digest.update(f"{tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()


def random_starts(model: ConvTextModel, keys: Tensor, field: int, seed: int) -> Tensor:
    """Returns Xavier-uniform starts (B, R, D) with fans (L, D), each drawn from (seed, key) alone.

    Every position of the field gets its numbers, whether it exists or not, so that a location's start is the same
    wherever the sentence's edge is.
    """
    width = model.config.embedding_dimension
    limit = (6 / (model.config.length + width)) ** 0.5
    stream = mix(mix(torch.zeros_like(keys), torch.tensor(seed, device=keys.device)), keys)
    counter = torch.arange(1, field * width + 1, device=keys.device)
    bits = _scramble(stream[:, None] + counter * _GOLDEN)
    unit = _shift_right(bits, 40).to(torch.float32) * 2.0**-24  # 24 bits are what a float32 holds
    starts: Tensor = (2 * unit - 1) * limit
    return starts.view(len(keys), field, width)


def mix(state: Tensor, value: Tensor) -> Tensor:
    """Returns int64 keys that depend on `state` and `value` both."""
    return _scramble((state + _GOLDEN) ^ _scramble(value + _GOLDEN))


# Steele, Lea & Flood's SplitMix64. The constants are the unsigned ones as int64, which is what torch computes in.
_GOLDEN = 0x9E3779B97F4A7C15 - 2**64


def _shift_right(value: Tensor, bits: int) -> Tensor:
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def _scramble(value: Tensor) -> Tensor:
    value = (value ^ _shift_right(value, 30)) * (0xBF58476D1CE4E5B9 - 2**64)
    value = (value ^ _shift_right(value, 27)) * (0x94D049BB133111EB - 2**64)
    return value ^ _shift_right(value, 31)
