"""The operators: what each computes is specified by the function of the same name in `fastinterp.kernels.reference`.

Here, and nowhere else, `Problems` and `OptimizationConfig` are taken apart into the operators' schemas.

All take contiguous float32 tensors on one device and return new ones. A tensor of another dtype, shape or layout
raises ValueError; results do not depend on how a batch is cut or on the number of threads.

On a GPU nothing waits for the device: rows, lengths and k that are out of range, which the CPU refuses, are clamped
there, and k is 64 at most. Optimisation of layers above the first uses torch's matrix products there, which may add up
differently for another batch, and in TF32 where the user has allowed that; `optimize_ccp` waits there, once a step of
its ascent, to learn whether a problem still climbs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastinterp import _C  # noqa: F401  (importing it registers the operators)
from fastinterp.kernels.problems import OptimizationConfig, Problems

_operators = torch.ops.fastinterp


def saliency(
    embedded: Tensor,
    lengths: Tensor,
    frame: int,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    class_weight: Tensor,
    class_bias: Tensor,
    activation: str,
    layer: int,
    keep_activations: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns (scores (B, L), class scores (B, classes), activations (B, L, C)); see `reference.saliency`.

    Without `keep_activations` the activations are (0, L, C). A location that sees no token costs a copy.
    """
    scores, class_scores, activations = _operators.saliency(
        embedded,
        lengths,
        frame,
        weights,
        biases,
        class_weight,
        class_bias,
        activation,
        layer,
        keep_activations,
    )
    return scores, class_scores, activations


def optimize_adam(problems: Problems, start: Tensor, config: OptimizationConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Returns (optimised inputs (B, R, D), gates (B, C), evaluations (B,)); see `reference.optimize_adam`.

    `evaluations` counts the pre-activations of the last layer that were computed: with certified gating (every
    activation but tanh) a part of steps x C, otherwise all of them.
    """
    optimum, gates, evaluations = _operators.optimize_adam(
        problems.target,
        problems.weights,
        problems.biases,
        start,
        problems.begin,
        problems.end,
        problems.activation,
        config.steps,
        config.l2_weight,
        config.similarity_weight,
        config.learning_rate,
        config.beta1,
        config.beta2,
        config.epsilon,
    )
    return optimum, gates, evaluations


def optimize_ccp(
    problems: Problems, config: OptimizationConfig, max_iterations: int, tolerance: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns (optimised inputs (B, R, D), gates (B, C), iterations (B,), residuals (B,)).

    See `reference.optimize_ccp` for a first layer with identity, or with relu and no negative target, and
    `reference_ascent.optimize_ascent` for everything else. `iterations` counts how often the gates were taken anew,
    `max_iterations` and one more at most; the residual is the norm of the objective's gradient relative to that of
    a . a'(X), at kinks that of the way to the summit.
    """
    optimum, gates, iterations, residual = _operators.optimize_ccp(
        problems.target,
        problems.weights,
        problems.biases,
        problems.begin,
        problems.end,
        problems.activation,
        max_iterations,
        tolerance,
        config.l2_weight,
        config.similarity_weight,
    )
    return optimum, gates, iterations, residual


def contrast(
    problems: Problems,
    slopes: Sequence[Tensor],
    mean: Tensor,
    precision: Tensor,
    factor: Tensor,
    steps: int,
    damping: float,
) -> tuple[Tensor, Tensor]:
    """Returns (inputs (B, R, D) that stand out as the locations do, distances (B,)).

    See `reference_contrast.contrast`.
    """
    optimum, distance = _operators.contrast(
        problems.target,
        problems.weights,
        problems.biases,
        problems.begin,
        problems.end,
        problems.activation,
        slopes,
        mean,
        precision,
        factor,
        steps,
        damping,
    )
    return optimum, distance


def exchange_words(
    problems: Problems,
    vectors: Tensor,
    candidates: Tensor,
    mean: Tensor,
    factor: Tensor,
    rounds: int,
    tie: float,
) -> tuple[Tensor, Tensor]:
    """Returns (chosen (B, R) int64, activations (B, C) that the chosen words give).

    See `reference_contrast.exchange_words`.
    """
    chosen, reached = _operators.exchange_words(
        problems.target,
        problems.weights,
        problems.biases,
        problems.begin,
        problems.end,
        problems.activation,
        vectors,
        candidates,
        mean,
        factor,
        rounds,
        tie,
    )
    return chosen, reached


def cosine_topk(queries: Tensor, vocabulary: Tensor, inverse_norms: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Returns (cosines (Q, k), indices (Q, k)); see `reference.cosine_topk`. Never holds the (Q, V) scores."""
    cosines, indices = _operators.cosine_topk(queries, vocabulary, inverse_norms, k)
    return cosines, indices


@torch.library.register_fake("fastinterp::saliency")
def _(embedded, lengths, frame, weights, biases, class_weight, class_bias, activation, layer, keep_activations):  # type: ignore[no-untyped-def]
    sentences = embedded.shape[0]
    return (
        embedded.new_empty(sentences, frame),
        embedded.new_empty(sentences, class_weight.shape[0]),
        embedded.new_empty(sentences if keep_activations else 0, frame, weights[layer].shape[0]),
    )


@torch.library.register_fake("fastinterp::optimize_adam")
def _(target, weights, biases, start, *settings):  # type: ignore[no-untyped-def]
    return (
        torch.empty_like(start),
        target.new_empty(target.shape, dtype=torch.bool),
        target.new_empty(target.shape[0], dtype=torch.int64),
    )


@torch.library.register_fake("fastinterp::optimize_ccp")
def _(target, weights, biases, begin, *settings):  # type: ignore[no-untyped-def]
    field = 1 + sum(weight.shape[2] - 1 for weight in weights)
    return (
        target.new_empty(len(target), field, weights[0].shape[1]),
        target.new_empty(target.shape, dtype=torch.bool),
        torch.empty_like(begin),
        target.new_empty(len(target)),
    )


@torch.library.register_fake("fastinterp::contrast")
def _(target, weights, *settings):  # type: ignore[no-untyped-def]
    rows = 1 + sum(weight.shape[2] - 1 for weight in weights)
    return target.new_empty(len(target), rows, weights[0].shape[1]), target.new_empty(len(target))


@torch.library.register_fake("fastinterp::exchange_words")
def _(target, weights, biases, begin, end, activation, vectors, candidates, *settings):  # type: ignore[no-untyped-def]
    return candidates.new_empty(candidates.shape[:2]), torch.empty_like(target)


@torch.library.register_fake("fastinterp::cosine_topk")
def _(queries, vocabulary, inverse_norms, k):  # type: ignore[no-untyped-def]
    size = (queries.shape[0], k)
    return queries.new_empty(size), queries.new_empty(size, dtype=torch.int64)
