"""Operator inputs, drawn by hypothesis or fixed: every shape, and the edges that real sentences have."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from hypothesis import strategies as st
from torch import Tensor

from fastinterp.kernels.problems import OptimizationConfig, Problems

ACTIVATIONS = ("relu", "leaky_relu", "leaky_relu:0.3", "identity", "tanh")


@dataclass
class Stack:
    weights: list[Tensor]
    biases: list[Tensor]
    activation: str

    @property
    def before(self) -> int:
        return sum((weight.shape[2] - 1) // 2 for weight in self.weights)

    @property
    def after(self) -> int:
        return sum(weight.shape[2] // 2 for weight in self.weights)

    def problems(self, target: Tensor, begin: Tensor, end: Tensor) -> Problems:
        return Problems(target, self.weights, self.biases, begin, end, self.activation)

    def move(self, device: str) -> tuple[list[Tensor], list[Tensor]]:
        return [w.to(device) for w in self.weights], [b.to(device) for b in self.biases]


@st.composite
def stacks(draw: st.DrawFn, most_layers: int = 3) -> tuple[Stack, torch.Generator, int]:
    """Draws a stack, a generator for further numbers and the input's width."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    width = draw(st.sampled_from([1, 2, 3, 8, 17, 33, 300]))
    widths = [width]
    weights, biases = [], []
    for _ in range(draw(st.integers(1, most_layers))):
        channels = draw(st.sampled_from([1, 2, 5, 16, 33, 40]))
        kernel = draw(st.integers(1, 7))
        scale = (widths[-1] * kernel) ** -0.5
        weights.append(torch.randn(channels, widths[-1], kernel, generator=generator) * scale * 2)
        biases.append(torch.randn(channels, generator=generator) * 0.3)
        widths.append(channels)
    if draw(st.booleans()):  # a dead channel: no input opens it
        weights[0][0] = 0
        biases[0][0] = -1
    return Stack(weights, biases, draw(st.sampled_from(ACTIVATIONS))), generator, width


@dataclass
class SaliencyProblem:
    embedded: Tensor
    lengths: Tensor
    frame: int
    stack: Stack
    class_weight: Tensor
    class_bias: Tensor
    layer: int

    def arguments(self, device: str = "cpu") -> tuple[object, ...]:
        weights, biases = self.stack.move(device)
        head = (self.class_weight.to(device), self.class_bias.to(device))
        text = (self.embedded.to(device), self.lengths.to(device), self.frame)
        return (*text, weights, biases, *head, self.stack.activation, self.layer, True)

    def reference_arguments(self) -> tuple[object, ...]:
        """The same numbers in float64: what float32 rounded away is no error of the kernel's."""
        head = (self.class_weight.double(), self.class_bias.double())
        weights = [weight.double() for weight in self.stack.weights]
        biases = [bias.double() for bias in self.stack.biases]
        text = (self.embedded.double(), self.lengths, self.frame)
        return (*text, weights, biases, *head, self.stack.activation, self.layer)


@st.composite
def saliency_problems(draw: st.DrawFn) -> SaliencyProblem:
    stack, generator, width = draw(stacks())
    batch, length = draw(st.integers(0, 5)), draw(st.integers(1, 40))
    embedded = torch.randn(batch, length, width, generator=generator)
    lengths = torch.tensor([draw(st.integers(0, length)) for _ in range(batch)], dtype=torch.int64)
    frame = length + draw(st.sampled_from([0, 1, 7, 30]))
    classes = draw(st.integers(1, 4))
    class_weight = torch.randn(classes, stack.weights[-1].shape[0], generator=generator)
    layer = draw(st.integers(0, len(stack.weights) - 1))
    return SaliencyProblem(
        embedded, lengths, frame, stack, class_weight, torch.randn(classes, generator=generator), layer
    )


@dataclass(frozen=True)
class OptimizationProblem:
    problems: Problems
    start: Tensor
    config: OptimizationConfig

    def on(self, device: str) -> tuple[Problems, Tensor, OptimizationConfig]:
        """The arguments of `ops.optimize_adam`."""
        return self.problems.to(device), self.start.to(device), self.config

    def double(self) -> tuple[Problems, Tensor, OptimizationConfig]:
        """The arguments of `reference.optimize_adam` in float64."""
        return self.problems.double(), self.start.double(), self.config


@st.composite
def optimization_problems(draw: st.DrawFn, most_layers: int = 3) -> OptimizationProblem:
    stack, generator, width = draw(stacks(most_layers))
    batch, field = draw(st.integers(0, 5)), stack.before + stack.after + 1
    channels = stack.weights[-1].shape[0]
    target = torch.randn(batch, channels, generator=generator)
    if stack.activation != "tanh":
        target = target.relu()
    if batch and draw(st.booleans()):  # a location whose activations are all zero
        target[0] = 0
    begin = torch.tensor([draw(st.integers(0, stack.before)) for _ in range(batch)], dtype=torch.int64)
    end = torch.tensor([draw(st.integers(stack.before + 1, field)) for _ in range(batch)], dtype=torch.int64)
    start = (torch.rand(batch, field, width, generator=generator) * 2 - 1) * 0.13
    config = OptimizationConfig(
        steps=draw(st.sampled_from([0, 1, 2, 25, 60])),
        l2_weight=draw(st.sampled_from([0.0, 0.004, 0.3])),
        # With one dimension Sim is flat: Adam would blow the rounding error of a zero gradient up to a full step.
        similarity_weight=draw(st.sampled_from([0.0, 0.02, 1.0] if width > 1 else [0.0])),
        learning_rate=draw(st.sampled_from([2e-4, 1e-2])),
    )
    return OptimizationProblem(stack.problems(target, begin, end), start, config)


@st.composite
def ccp_problems(draw: st.DrawFn) -> tuple[Problems, OptimizationConfig]:
    """Draws first-layer problems that CCP takes, with lambda1 and lambda2."""
    problems = draw(optimization_problems(most_layers=1)).problems
    activation = draw(st.sampled_from(["relu", "relu", "identity"]))
    target = problems.target.abs() if activation == "relu" else problems.target
    config = OptimizationConfig(
        l2_weight=draw(st.sampled_from([0.004, 0.3])), similarity_weight=draw(st.sampled_from([0.0, 0.02, 1.0]))
    )
    return replace(problems, target=target, activation=activation), config


@dataclass(frozen=True)
class ContrastProblem:
    problems: Problems
    slopes: list[Tensor]
    mean: Tensor
    precision: Tensor
    factor: Tensor
    steps: int
    damping: float

    def on(self, device: str) -> tuple[Problems, list[Tensor], Tensor, Tensor, Tensor, int, float]:
        """The arguments of `ops.contrast`."""
        measure = (each.to(device) for each in (self.mean, self.precision, self.factor))
        slopes = [slope.to(device) for slope in self.slopes]
        return (self.problems.to(device), slopes, *measure, self.steps, self.damping)

    def double(self) -> tuple[Problems, list[Tensor], Tensor, Tensor, Tensor, int, float]:
        """The arguments of `reference_contrast.contrast` in float64."""
        measure = (each.double() for each in (self.mean, self.precision, self.factor))
        slopes = [slope.double() for slope in self.slopes]
        return (self.problems.double(), slopes, *measure, self.steps, self.damping)


def contrast_problem(problems: Problems, generator: torch.Generator, steps: int, damping: float) -> ContrastProblem:
    """Returns problems with a drawn background."""
    channels = problems.target.shape[1]
    spread = torch.randn(channels, channels, generator=generator)
    precision = spread @ spread.T / channels + 0.3 * torch.eye(channels)
    slopes = [torch.rand(len(bias), generator=generator) for bias in problems.biases[:-1]]
    mean = torch.randn(channels, generator=generator) * 0.3
    factor = torch.linalg.cholesky(precision).contiguous()
    return ContrastProblem(problems, slopes, mean, precision, factor, steps, damping)


@st.composite
def contrast_problems(draw: st.DrawFn) -> ContrastProblem:
    problems = draw(optimization_problems()).problems
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    return contrast_problem(problems, generator, draw(st.integers(0, 3)), draw(st.sampled_from([0.03, 1.0])))


@st.composite
def ascent_problems(draw: st.DrawFn, most_layers: int = 3) -> tuple[Problems, OptimizationConfig]:
    """Draws problems of any layer, with targets of one sign or of both, with lambda1 and lambda2."""
    problems = draw(optimization_problems(most_layers)).problems
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    target = torch.randn(problems.target.shape, generator=generator)
    if draw(st.booleans()):
        target = target.abs()
    activation = draw(st.sampled_from(["relu", "relu", "leaky_relu", "leaky_relu:0.3", "identity"]))
    config = OptimizationConfig(
        l2_weight=draw(st.sampled_from([0.004, 0.3])), similarity_weight=draw(st.sampled_from([0.0, 0.02, 1.0]))
    )
    return replace(problems, target=target, activation=activation), config


def paper_problems(count: int, channels: int, steps: int) -> OptimizationProblem:
    """First-layer problems of Table 2's size, starts as the paper draws them, some clipped at the edges."""
    generator = torch.Generator().manual_seed(7)
    weights = torch.randn(channels, 300, 5, generator=generator) * 0.03
    biases = torch.randn(channels, generator=generator) * 0.02
    limit = (6 / 356) ** 0.5
    start = (torch.rand(count, 5, 300, generator=generator) * 2 - 1) * limit
    begin = torch.randint(0, 3, (count,), generator=generator)
    end = torch.randint(3, 6, (count,), generator=generator)
    target = torch.randn(count, channels, generator=generator).relu() * 0.5
    problems = Problems(target, [weights], [biases], begin, end, "relu")
    return OptimizationProblem(problems, start, OptimizationConfig(steps=steps))


def deep_problems(count: int, activation: str, steps: int) -> OptimizationProblem:
    """Problems of a third layer, some clipped at the edges."""
    generator = torch.Generator().manual_seed(11)
    weights = [
        torch.randn(out, width, kernel, generator=generator) * (width * kernel) ** -0.5
        for out, width, kernel in ((40, 60, 5), (24, 40, 3), (10, 24, 4))
    ]
    biases = [torch.randn(len(weight), generator=generator) * 0.05 for weight in weights]
    start = (torch.rand(count, 10, 60, generator=generator) * 2 - 1) * 0.2
    begin = torch.randint(0, 5, (count,), generator=generator)
    end = torch.randint(6, 11, (count,), generator=generator)
    target = torch.randn(count, 10, generator=generator).relu() * 0.5
    problems = Problems(target, weights, biases, begin, end, activation)
    return OptimizationProblem(problems, start, OptimizationConfig(steps=steps, learning_rate=1e-3))


@dataclass
class SearchProblem:
    queries: Tensor
    vocabulary: Tensor
    inverse_norms: Tensor
    k: int


@st.composite
def search_problems(draw: st.DrawFn) -> SearchProblem:
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    width = draw(st.sampled_from([1, 2, 3, 16, 31, 64, 300]))
    queries = torch.randn(draw(st.integers(0, 70)), width, generator=generator)
    vocabulary = torch.randn(draw(st.integers(2, 400) | st.just(3000)), width, generator=generator)
    if draw(st.booleans()):  # heavy tails: a few large components leave 8 bits little for the others
        vocabulary = vocabulary**5
    if draw(st.booleans()):  # a cluster: more words within rounding of each other than any first pass tells apart
        vocabulary = vocabulary[:1] + vocabulary * draw(st.sampled_from([1e-1, 1e-3, 1e-6]))
    copied = draw(st.integers(0, len(vocabulary) // 2))  # words that share a vector tie
    vocabulary[len(vocabulary) - copied :] = vocabulary[:copied]
    vocabulary[: draw(st.integers(0, len(vocabulary) - 1))] *= draw(st.sampled_from([0.0, 1e-3, 1.0]))
    if len(queries) and draw(st.booleans()):
        queries[0] = 0
    norms = vocabulary.norm(dim=1)
    inverse_norms = torch.where(norms > 0, 1 / norms, 0)
    most = int((inverse_norms > 0).sum())
    return SearchProblem(queries, vocabulary, inverse_norms, draw(st.integers(1, min(most, 64))))
