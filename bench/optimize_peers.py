"""Input optimisation by what a PyTorch user would write. All take the arguments of `ops.optimize_adam`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastinterp.kernels import reference
from fastinterp.kernels.reference import ACTIVATIONS


def existing_rows(start: Tensor, begin: Tensor, end: Tensor) -> Tensor:
    place = torch.arange(start.shape[1], device=start.device)
    return ((place >= begin[:, None]) & (place < end[:, None]))[..., None].to(start.dtype)


def negative_objective(inputs, target, weights, biases, mask, begin, end, activation, l2_weight, similarity_weight):
    """Eq. 5-7 with the fewest operations: each convolution as one product, the pairwise similarity as ||s||^2 / N."""
    hidden, offset = inputs, 0
    for weight, bias in zip(weights, biases, strict=True):
        kernel = weight.shape[2]
        outputs = hidden.shape[1] - kernel + 1
        whole = outputs == 1  # one window: no copy is needed
        columns = hidden.flatten(1)[:, None] if whole else hidden.unfold(1, kernel, 1).transpose(2, 3).flatten(2)
        hidden = ACTIVATIONS[activation](columns @ weight.permute(2, 1, 0).flatten(0, 1) + bias)
        offset += (kernel - 1) // 2
        if outputs > 1:
            place = torch.arange(outputs, device=hidden.device) + offset
            hidden = hidden * ((place >= begin[:, None]) & (place < end[:, None]))[..., None]
    norms = inputs.norm(dim=2, keepdim=True).clamp(min=1e-12)
    total = (inputs / norms).sum(dim=1)
    similarity = (total * total).sum(dim=1) / (end - begin)
    return -((target * hidden[:, 0]).sum() - l2_weight * (inputs * inputs).sum() + similarity_weight * similarity.sum())


def autograd_adam(arguments: tuple[Any, ...], objective: Callable[..., Tensor] = negative_objective) -> Tensor:
    """Batched autograd and torch.optim.Adam (fused) over all problems at once."""
    target, weights, biases, start, begin, end, activation, steps, l2, similarity, rate, beta1, beta2, epsilon = (
        arguments
    )
    mask = existing_rows(start, begin, end)
    inputs = (start * mask).requires_grad_()
    optimizer = torch.optim.Adam([inputs], lr=rate, betas=(beta1, beta2), eps=epsilon, fused=True)
    for _ in range(steps):
        optimizer.zero_grad()
        objective(inputs, target, weights, biases, mask, begin, end, activation, l2, similarity).backward()
        inputs.grad *= mask
        optimizer.step()
    return inputs.detach()


def plain_autograd_adam(arguments: tuple[Any, ...]) -> Tensor:
    """The same as the paper's equations read: a convolution, the N x N cosines of Eq. 7, Adam with its defaults."""
    target, weights, biases, start, begin, end, activation, steps, l2, similarity, rate, beta1, beta2, epsilon = (
        arguments
    )
    mask = existing_rows(start, begin, end)
    inputs = (start * mask).requires_grad_()
    optimizer = torch.optim.Adam([inputs], lr=rate, betas=(beta1, beta2), eps=epsilon)
    for _ in range(steps):
        optimizer.zero_grad()
        value = reference.objective(inputs * mask, target, weights, biases, begin, end, activation, l2, similarity)
        (-value.sum()).backward()
        optimizer.step()
    return inputs.detach() * mask


def one_by_one(arguments: tuple[Any, ...]) -> Tensor:
    """The paper's way: a loop over locations."""
    target, weights, biases, start, begin, end, *rest = arguments
    rows = [slice(i, i + 1) for i in range(len(target))]
    return torch.cat([autograd_adam((target[i], weights, biases, start[i], begin[i], end[i], *rest)) for i in rows])


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


def hand_adam(arguments: tuple[Any, ...], step: Callable[..., Any] = hand_step) -> Tensor:
    """Batched, without autograd; first layer with ReLU only."""
    target, weights, biases, start, begin, end, _, steps, *settings = arguments
    with torch.inference_mode():
        mask = existing_rows(start, begin, end)
        inputs = start * mask
        matrix = weights[0].permute(2, 1, 0).flatten(0, 1).contiguous()
        count = (end - begin).view(-1, 1, 1).to(start.dtype)
        first, second = torch.zeros_like(inputs), torch.zeros_like(inputs)
        fixed = (matrix, biases[0], target, mask, count, *settings)
        # A tensor, so that torch.compile does not compile every step anew.
        for time in torch.arange(1.0, steps + 1, device=start.device):
            inputs, first, second = step(inputs, first, second, *fixed, time)
        return inputs.clone()
