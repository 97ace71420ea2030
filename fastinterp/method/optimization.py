"""What a location detects: the input that reproduces its activations (Eq. 5-7)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from fastinterp.kernels import ops
from fastinterp.models.conv import ConvTextModel


@dataclass(frozen=True)
class OptimizationConfig:
    """How inputs are optimised; the defaults are the paper's for MR.

    Attributes:
        steps: Adam steps. The paper gives no number; the nearest words settle at about 1,000.
        l2_weight: lambda1 of Eq. 6.
        similarity_weight: lambda2 of Eq. 7.
        learning_rate: Adam's step size.
        beta1: decay of Adam's first moment.
        beta2: decay of Adam's second moment.
        epsilon: Adam's denominator floor.
        seed: of the random starts.
        solver: "adam", the paper's; or "ccp", the concave-convex procedure, which goes all the way to a stationary
            point (first layer with ReLU or identity, lambda1 > 0; no start, steps or learning rate).
        objective: "joint" (Eq. 5-7), or "per-channel" (Eq. 4): every channel is maximised alone and the optima are
            summed with the activations as weights.

    Raises:
        ValueError: a value out of range; the message names it.
    """

    steps: int = 1000
    l2_weight: float = 0.004
    similarity_weight: float = 0.02
    learning_rate: float = 2e-4
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    seed: int = 0
    solver: str = "adam"
    objective: str = "joint"

    def __post_init__(self) -> None:
        ranges = {
            "solver": (self.solver in ("adam", "ccp"), "adam or ccp"),
            "objective": (self.objective in ("joint", "per-channel"), "joint or per-channel"),
            "steps": (self.steps >= 0, "at least 0"),
            "l2_weight": (self.l2_weight >= 0, "at least 0"),
            "similarity_weight": (self.similarity_weight >= 0, "at least 0"),
            "learning_rate": (self.learning_rate > 0, "more than 0"),
            "beta1": (0 <= self.beta1 < 1, "0 to below 1"),
            "beta2": (0 <= self.beta2 < 1, "0 to below 1"),
            "epsilon": (self.epsilon > 0, "more than 0"),
        }
        for name, (valid, expected) in ranges.items():
            if not valid:
                raise ValueError(f"{name}: expected {expected}, got {getattr(self, name)!r}")


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
    field, problems = before + after + 1, len(activations)
    begin = torch.zeros(problems, dtype=torch.int64, device=model.device) if begin is None else begin
    end = torch.full((problems,), field, device=model.device) if end is None else end
    keys = torch.arange(problems, device=model.device) if keys is None else keys
    if keys.shape != (problems,) or keys.dtype != torch.int64:
        raise ValueError(f"keys: expected int64 of shape ({problems},), got {keys.dtype} of {tuple(keys.shape)}")
    problems_of = _Problems(model, layer, weights, biases, field, config)
    if config.objective == "per-channel":
        return problems_of.per_channel(activations, begin, end)
    return problems_of.joint(activations.contiguous(), begin, end, keys)


@dataclass(frozen=True)
class _Problems:
    """One layer of a model and how its inputs are optimised."""

    model: ConvTextModel
    layer: int
    weights: list[Tensor]
    biases: list[Tensor]
    field: int
    config: OptimizationConfig

    def joint(self, target: Tensor, begin: Tensor, end: Tensor, keys: Tensor) -> OptimizedInputs:
        if self.config.solver == "adam":
            start = random_starts(self.model, keys, self.field, self.config.seed)
            optimum, gates = self._adam(target, start, begin, end, self.config.steps)
            return OptimizedInputs(optimum, optimum.sum(dim=1) / (end - begin)[:, None], gates)
        activation = self.model.config.activation
        if self.layer != 0 or activation not in ("relu", "identity") or self.config.l2_weight == 0:
            raise ValueError(
                "solver: ccp needs layer 0, activation relu or identity and an l2_weight of more than 0; got "
                f"layer {self.layer}, {activation} and {self.config.l2_weight!r}"
            )
        optimum, gates, iterations, residual = ops.optimize_ccp(
            target,
            self.weights,
            self.biases,
            begin,
            end,
            activation,
            _MOST_ITERATIONS,
            _TOLERANCE,
            self.config.l2_weight,
            self.config.similarity_weight,
        )
        overall = optimum.sum(dim=1) / (end - begin)[:, None]
        return OptimizedInputs(optimum, overall, gates, iterations, residual)

    def per_channel(self, target: Tensor, begin: Tensor, end: Tensor) -> OptimizedInputs:
        """Eq. 4: one product with the channels' optima, which depend on the model and the sentence's edge alone."""
        optimum = target.new_zeros(len(target), self.field, self.model.config.embedding_dimension)
        edges = torch.stack([begin, end], dim=1)
        for first, last in edges.unique(dim=0).tolist():
            members = (begin == first) & (end == last)
            optima = self._channel_optima(first, last).flatten(1)
            optimum[members] = (target[members] @ optima).view(-1, *optimum.shape[1:])
        _, gates = self._adam(target.contiguous(), optimum, begin, end, steps=0)
        return OptimizedInputs(optimum, optimum.sum(dim=1) / (end - begin)[:, None], gates)

    def _channel_optima(self, first: int, last: int) -> Tensor:
        """Returns (C, R, D), row k the optimum of channel k alone; kept for the next call."""
        channels = self.weights[-1].shape[0]
        device = self.model.device
        key = (_fingerprint(self.model, self.layer), device, self.config, first, last)
        if key not in _channel_cache:
            if len(_channel_cache) >= _MOST_CACHED:
                _channel_cache.pop(next(iter(_channel_cache)))
            begin, end = (torch.full((channels,), row, device=device) for row in (first, last))
            found = self.joint(torch.eye(channels, device=device), begin, end, torch.arange(channels, device=device))
            _channel_cache[key] = found.inputs
        return _channel_cache[key]

    def _adam(self, target: Tensor, start: Tensor, begin: Tensor, end: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        optimum, gates, _ = ops.optimize_adam(
            target,
            self.weights,
            self.biases,
            start,
            begin,
            end,
            self.model.config.activation,
            steps,
            self.config.l2_weight,
            self.config.similarity_weight,
            self.config.learning_rate,
            self.config.beta1,
            self.config.beta2,
            self.config.epsilon,
        )
        return optimum, gates


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
