"""Receptive fields as inputs of their own: what a location's activations are for given rows of its field."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from fastinterp.kernels.activations import activate, slope_at
from fastinterp.kernels.problems import Problems


def existing_rows(problems: Problems, offset: int, rows: int) -> Tensor:
    """Returns (B, rows) bool: which positions of a layer, the first `offset` rows into the field, are in the frame."""
    place = torch.arange(rows, device=problems.begin.device) + offset
    return (place >= problems.begin[:, None]) & (place < problems.end[:, None])


def convolve(values: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Returns (B, P - K + 1, C_out), the convolution of (B, P, C_in) as one matrix product: fast in float64 too."""
    return values.unfold(1, weight.shape[2], 1).flatten(2) @ weight.flatten(1).T + bias


def convolve_back(gradients: Tensor, weight: Tensor) -> Tensor:
    """Returns (B, P + K - 1, C_in): gradients (B, P, C_out) at what `convolve` gives, sent back to its input."""
    _, width, kernel = weight.shape
    count, rows, _ = gradients.shape
    parts = (gradients @ weight.transpose(1, 2).flatten(1)).view(count, rows, kernel, width)
    back = parts.new_zeros(count, rows + kernel - 1, width)
    for row in range(kernel):
        back[:, row : row + rows] += parts[:, :, row]
    return back


def class_scores(
    values: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], activation: str, head: tuple[Tensor, Tensor]
) -> Tensor:
    """Returns class scores (B, classes), before softmax, for the values of a layer over the whole frame.

    Where the maximum over time is reached more than once, the first of them has the gradient.

    Args:
        values: (B, L, C), activations or word vectors.
        weights: (C_out, C_in, K) of each layer above.
        biases: (C_out,) of each.
        activation: as `activate` takes it.
        head: weight (classes, C_last) and bias (classes,) of the linear layer.
    """
    for weight, bias in zip(weights, biases, strict=True):
        kernel = weight.shape[2]
        padded = functional.pad(values, (0, 0, (kernel - 1) // 2, kernel // 2))
        values = activate(activation, convolve(padded, weight, bias))
    first_maximum = values.detach().argmax(dim=1, keepdim=True)
    return functional.linear(values.gather(1, first_maximum)[:, 0], *head)


def pre_activations(problems: Problems, inputs: Tensor) -> list[Tensor]:
    """Returns for each layer the values before its activation, (B, positions, C); the last has one position.

    Args:
        problems: B locations; their targets are not used.
        inputs: (B, R, D) rows of the receptive fields; those outside [begin, end) must be 0.
    """
    first = convolve(inputs, problems.weights[0], problems.biases[0])
    return [first, *_above(problems, first)]


def _above(problems: Problems, z: Tensor) -> list[Tensor]:
    """Returns the pre-activations of the layers above the first for those of the first, (B, positions, C)."""
    offset, values = (problems.weights[0].shape[2] - 1) // 2, []
    for weight, bias in zip(problems.weights[1:], problems.biases[1:], strict=True):
        # Beyond the frame the next convolution sees its zero padding, not the activation of a bias.
        exists = existing_rows(problems, offset, z.shape[1])
        z = convolve(activate(problems.activation, z) * exists[..., None], weight, bias)
        values.append(z)
        offset += (weight.shape[2] - 1) // 2
    return values


def activations(problems: Problems, inputs: Tensor) -> Tensor:
    """Returns the activations (B, C) of locations whose receptive fields hold `inputs` (B, R, D)."""
    return activate(problems.activation, pre_activations(problems, inputs)[-1][:, 0])


def inner_slopes(problems: Problems, values: Sequence[Tensor]) -> list[Tensor]:
    """Returns the activation's slopes (B, positions, C) in each layer below the last.

    Args:
        problems: B locations.
        values: their `pre_activations`.
    """
    return [slope_at(problems.activation, activate(problems.activation, z)) for z in values[:-1]]


def pull_back(problems: Problems, pulled: Tensor, inner_slopes: Sequence[Tensor]) -> Tensor:
    """Returns (B, R, D): gradients (B, C) at the locations' last pre-activations, sent back to their fields.

    Args:
        problems: B locations.
        pulled: (B, C).
        inner_slopes: for each layer below the last (B, positions, C) or (C,), the activation's slopes there.
    """
    offsets = [0]
    for weight in problems.weights:
        offsets.append(offsets[-1] + (weight.shape[2] - 1) // 2)
    gradients = pulled[:, None]
    for index in reversed(range(len(problems.weights))):
        gradients = convolve_back(gradients, problems.weights[index])
        if index > 0:
            exists = existing_rows(problems, offsets[index], gradients.shape[1])
            gradients = gradients * inner_slopes[index - 1] * exists[..., None]
    return gradients * problems.exists[..., None]


def beside_their_middle(problems: Problems) -> bool:
    """Whether a convolution is padded so much that some fields lack their middle row, which the operators ask for."""
    centre = (problems.field - 1) // 2
    return len(problems.weights) == 1 and bool(((problems.begin > centre) | (problems.end <= centre)).any())


def cut_to_their_rows(problems: Problems) -> Iterator[tuple[Tensor, slice, Problems]]:
    """Yields each kind of fields as problems of their own: (B,) bool whose they are, the rows that exist, the problems.

    Where only some rows of a field of one convolution exist, the filter's other rows play no part.
    """
    edges = torch.stack([problems.begin, problems.end], dim=1)
    for first, last in edges.unique(dim=0).tolist():
        members = (problems.begin == first) & (problems.end == last)
        weight = problems.weights[0][:, :, first:last].contiguous()
        begin, end = (torch.full_like(problems.begin[members], row) for row in (0, last - first))
        target = problems.target[members].contiguous()
        yield members, slice(first, last), replace(problems, target=target, weights=[weight], begin=begin, end=end)
