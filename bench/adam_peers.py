"""Input optimisation by what a PyTorch user would write. All take the arguments of `ops.optimize_adam`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastinterp import OptimizationConfig
from fastinterp.kernels import reference
from fastinterp.kernels.problems import Problems
from fastinterp.kernels.reference import activate


def negative_objective(problems: Problems, inputs: Tensor, config: OptimizationConfig) -> Tensor:
    """Eq. 5-7 with the fewest operations: each convolution as one product, the pairwise similarity as ||s||^2 / N."""
    hidden, offset = inputs, 0
    begin, end = problems.begin, problems.end
    for weight, bias in zip(problems.weights, problems.biases, strict=True):
        kernel = weight.shape[2]
        outputs = hidden.shape[1] - kernel + 1
        whole = outputs == 1  # one window: no copy is needed
        columns = hidden.flatten(1)[:, None] if whole else hidden.unfold(1, kernel, 1).transpose(2, 3).flatten(2)
        hidden = activate(problems.activation, columns @ weight.permute(2, 1, 0).flatten(0, 1) + bias)
        offset += (kernel - 1) // 2
        if outputs > 1:
            place = torch.arange(outputs, device=hidden.device) + offset
            hidden = hidden * ((place >= begin[:, None]) & (place < end[:, None]))[..., None]
    norms = inputs.norm(dim=2, keepdim=True).clamp(min=1e-12)
    total = (inputs / norms).sum(dim=1)
    similarity = ((total * total).sum(dim=1) / (end - begin)).sum()
    return -(
        (problems.target * hidden[:, 0]).sum()
        - config.l2_weight * (inputs * inputs).sum()
        + config.similarity_weight * similarity
    )


def autograd_adam(
    problems: Problems,
    start: Tensor,
    config: OptimizationConfig,
    objective: Callable[[Problems, Tensor, OptimizationConfig], Tensor] = negative_objective,
) -> Tensor:
    """Batched autograd and torch.optim.Adam (fused) over all problems at once."""
    mask = problems.exists[..., None].to(start.dtype)
    inputs = (start * mask).requires_grad_()
    betas = (config.beta1, config.beta2)
    optimizer = torch.optim.Adam([inputs], lr=config.learning_rate, betas=betas, eps=config.epsilon, fused=True)
    for _ in range(config.steps):
        optimizer.zero_grad()
        objective(problems, inputs, config).backward()
        inputs.grad *= mask
        optimizer.step()
    return inputs.detach()


def plain_autograd_adam(problems: Problems, start: Tensor, config: OptimizationConfig) -> Tensor:
    """The same as the paper's equations read: a convolution, the N x N cosines of Eq. 7, Adam with its defaults."""
    mask = problems.exists[..., None].to(start.dtype)
    inputs = (start * mask).requires_grad_()
    betas = (config.beta1, config.beta2)
    optimizer = torch.optim.Adam([inputs], lr=config.learning_rate, betas=betas, eps=config.epsilon)
    for _ in range(config.steps):
        optimizer.zero_grad()
        (-reference.objective(problems, inputs * mask, config).sum()).backward()
        optimizer.step()
    return inputs.detach() * mask


def one_by_one(problems: Problems, start: Tensor, config: OptimizationConfig) -> Tensor:
    """The paper's way: a loop over locations."""
    rows = [slice(i, i + 1) for i in range(len(problems))]
    return torch.cat([autograd_adam(problems[i], start[i], config) for i in rows])


def hand_step(inputs, first, second, matrix, bias, target, mask, count, l2, similarity, rate, beta1, beta2, epsilon, t):
    """One Adam step with the gradient of a first layer with ReLU written out."""
    gate = (inputs.flatten(1) @ matrix + bias > 0).to(inputs.dtype)
    pull = ((target * gate) @ matrix.T).view_as(inputs)
    inverse = inputs.norm(dim=2, keepdim=True).clamp(min=1e-12).reciprocal()
    units = inputs * inverse
    total = units.sum(dim=1, keepdim=True)
    toward = total - (units * total).sum(dim=2, keepdim=True) * units
    gradient = (pull - 2 * l2 * inputs + (2 * similarity / count) * toward * inverse) * mask
    first = beta1 * first + (1 - beta1) * gradient
    second = beta2 * second + (1 - beta2) * gradient * gradient
    root = (second / (1 - beta2**t)).sqrt() + epsilon
    return inputs + rate / (1 - beta1**t) * first / root, first, second


def hand_adam(
    problems: Problems, start: Tensor, config: OptimizationConfig, step: Callable[..., Any] = hand_step
) -> Tensor:
    """Batched, without autograd; first layer with ReLU only."""
    with torch.inference_mode():
        mask = problems.exists[..., None].to(start.dtype)
        inputs = start * mask
        matrix = problems.weights[0].permute(2, 1, 0).flatten(0, 1).contiguous()
        count = (problems.end - problems.begin).view(-1, 1, 1).to(start.dtype)
        first, second = torch.zeros_like(inputs), torch.zeros_like(inputs)
        fixed = {
            "matrix": matrix,
            "bias": problems.biases[0],
            "target": problems.target,
            "mask": mask,
            "count": count,
            "l2": config.l2_weight,
            "similarity": config.similarity_weight,
            "rate": config.learning_rate,
            "beta1": config.beta1,
            "beta2": config.beta2,
            "epsilon": config.epsilon,
        }
        # A tensor, so that torch.compile does not compile every step anew.
        for time in torch.arange(1.0, config.steps + 1, device=start.device):
            inputs, first, second = step(inputs, first, second, t=time, **fixed)
        return inputs.clone()
