"""Eq. 5-8 and the parts of a score for layers that only the module itself computes: its own passes and autograd."""

from __future__ import annotations

import torch
from torch import Tensor

from fastinterp.kernels.problems import OptimizationConfig
from fastinterp.method.contributions import TokenScores
from fastinterp.method.optimized import OptimizedInputs
from fastinterp.models.protocol import FieldFunction, ModuleLayer, Places

_FLOATS_AT_ONCE = 1 << 22  # of inputs; a module's pass needs a multiple of it


def optimize_by_module(
    layer: ModuleLayer,
    target: Tensor,
    begin: Tensor,
    end: Tensor,
    start: Tensor,
    places: Places,
    config: OptimizationConfig,
) -> OptimizedInputs:
    """Returns the inputs that maximise a . a'(X) - lambda1 ||X||^2 + lambda2 Sim(X) (Eq. 5-7) by Adam.

    Args:
        layer: the explained layer.
        target: (B, C), activations of the locations.
        begin: (B,) int64, the first row of each field that exists.
        end: (B,) int64, one past the last.
        start: (B, R, D), where the optimisation starts; rows that do not exist are ignored.
        places: where the locations are.
        config: settings; the solver is Adam and the objective the joint one.

    Raises:
        ValueError: another solver or objective.
    """
    for name, value, needed in (("solver", config.solver, "adam"), ("objective", config.objective, "joint")):
        if value != needed:
            raise ValueError(f"{name}: expected {needed} for a layer that the module itself explains, got {value}")
    inputs = torch.zeros_like(start)
    gates = torch.zeros_like(target, dtype=torch.bool)
    for members, compute in layer.in_fields(places, most=max(1, _FLOATS_AT_ONCE // start.shape[1:].numel())):
        rows = members.to(start.device)
        first, last = int(begin[rows[0]]), int(end[rows[0]])
        inputs[rows] = _adam(compute, target[rows], start[rows], first, last, config)
        with torch.no_grad():
            gates[rows] = (compute(inputs[rows]) > 0) & (target[rows] != 0)
    return OptimizedInputs(inputs, inputs.sum(dim=1) / (end - begin)[:, None], gates)


def _adam(
    compute: FieldFunction, target: Tensor, start: Tensor, first: int, last: int, config: OptimizationConfig
) -> Tensor:
    """Returns optimised inputs (n, R, D) whose rows first to last - 1 exist; the others are 0."""
    inputs = torch.zeros_like(start)
    inputs[:, first:last] = start[:, first:last]
    free = inputs[:, first:last]  # a view: what changes it changes the inputs
    mean, square = torch.zeros_like(free), torch.zeros_like(free)
    for step in range(1, config.steps + 1):
        with torch.inference_mode(False), torch.enable_grad():
            variable = inputs.detach().clone().requires_grad_()
            (gradient,) = torch.autograd.grad((compute(variable) * target.clone()).sum(), variable)
        pull = gradient[:, first:last] + _regularisers(free, config)
        mean.mul_(config.beta1).add_(pull, alpha=1 - config.beta1)
        square.mul_(config.beta2).addcmul_(pull, pull, value=1 - config.beta2)
        # Ascent along mean / (sqrt(square) + epsilon), both without the bias of their start at 0.
        spread = (square / (1 - config.beta2**step)).sqrt_().add_(config.epsilon)
        free.addcdiv_(mean, spread, value=config.learning_rate / (1 - config.beta1**step))
    return inputs


def _regularisers(inputs: Tensor, config: OptimizationConfig) -> Tensor:
    """Returns the gradient of -lambda1 ||X||^2 + lambda2 Sim(X) for rows (n, N, D) that all exist (Eq. 6-7)."""
    gradient = -2 * config.l2_weight * inputs
    rows = inputs.shape[1]
    if config.similarity_weight == 0 or rows == 1:  # a single row is as similar to itself whatever it is
        return gradient
    norms = torch.linalg.vector_norm(inputs, dim=2, keepdim=True)
    inverse = torch.where(norms > 0, 1 / norms, 0)
    units = inputs * inverse
    total = units.sum(dim=1, keepdim=True)
    across = total - (units * total).sum(dim=2, keepdim=True) * units
    return gradient.add_(across * inverse, alpha=2 * config.similarity_weight / rows)


def module_token_scores(
    layer: ModuleLayer, inputs: Tensor, gradients: Tensor, activations: Tensor, places: Places
) -> TokenScores:
    """Returns what each row of their fields adds to locations' scores, by gradient times input.

    Args:
        layer: the explained layer.
        inputs: (B, R, D), the word vectors that the locations see.
        gradients: (B, C) of the class score by their activations.
        activations: (B, C), theirs.
        places: where the locations are.
    """
    scores = inputs.new_zeros(inputs.shape[:2])
    for members, compute in layer.in_fields(places, most=max(1, _FLOATS_AT_ONCE // inputs.shape[1:].numel())):
        rows = members.to(inputs.device)
        with torch.inference_mode(False), torch.enable_grad():
            variable = inputs[rows].clone().requires_grad_()
            (pulled,) = torch.autograd.grad((compute(variable) * gradients[rows].clone()).sum(), variable)
        scores[rows] = (pulled * inputs[rows]).sum(dim=2)
    return TokenScores(scores, (gradients * activations).sum(dim=1) - scores.sum(dim=1))
