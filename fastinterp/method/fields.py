"""Receptive fields as inputs of their own: what a location's activations are for given rows of its field."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from fastinterp.kernels.problems import Problems

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "leaky_relu": lambda z: functional.leaky_relu(z, 0.01),
    "identity": lambda z: z,
    "tanh": torch.tanh,
}


def slope_at(activation: str, values: Tensor) -> Tensor:
    """Returns the slope of the activation where it has these values."""
    if activation == "identity":
        return torch.ones_like(values)
    if activation == "tanh":
        return 1 - values**2
    return torch.where(values > 0, 1.0, 0.01 if activation == "leaky_relu" else 0.0)


def existing_rows(problems: Problems, offset: int, rows: int) -> Tensor:
    """Returns (B, rows) bool: which positions of a layer, the first `offset` rows into the field, are in the frame."""
    place = torch.arange(rows, device=problems.begin.device) + offset
    return (place >= problems.begin[:, None]) & (place < problems.end[:, None])


def pre_activations(problems: Problems, inputs: Tensor) -> list[Tensor]:
    """Returns for each layer the values before its activation, (B, C, positions); the last has one position.

    Args:
        problems: B locations; their targets are not used.
        inputs: (B, R, D) rows of the receptive fields; those outside [begin, end) must be 0.
    """
    first = functional.conv1d(inputs.transpose(1, 2), problems.weights[0], problems.biases[0])
    return [first, *_above(problems, first)]


def _above(problems: Problems, z: Tensor) -> list[Tensor]:
    """Returns the pre-activations of the layers above the first for those of the first, (B, C, positions)."""
    offset, values = (problems.weights[0].shape[2] - 1) // 2, []
    for weight, bias in zip(problems.weights[1:], problems.biases[1:], strict=True):
        # Beyond the frame the next convolution sees its zero padding, not the activation of a bias.
        exists = existing_rows(problems, offset, z.shape[2])
        z = functional.conv1d(ACTIVATIONS[problems.activation](z) * exists[:, None], weight, bias)
        values.append(z)
        offset += (weight.shape[2] - 1) // 2
    return values


def activations(problems: Problems, inputs: Tensor) -> Tensor:
    """Returns the activations (B, C) of locations whose receptive fields hold `inputs` (B, R, D)."""
    return ACTIVATIONS[problems.activation](pre_activations(problems, inputs)[-1].squeeze(2))


def activations_above_first(problems: Problems, z: Tensor) -> Tensor:
    """Returns the activations (B, C) of locations for the first layer's pre-activations (B, C_1, positions)."""
    last = [z, *_above(problems, z)][-1]
    return ACTIVATIONS[problems.activation](last.squeeze(2))


def inner_slopes(problem: Problems, values: Sequence[Tensor]) -> list[Tensor]:
    """Returns the activation's slopes (C, positions) in each layer below the last of one location.

    Args:
        problem: one location.
        values: its `pre_activations`.
    """
    return [slope_at(problem.activation, ACTIVATIONS[problem.activation](z[0])) for z in values[:-1]]


def pull_back(problem: Problems, pulled: Tensor, inner_slopes: Sequence[Tensor]) -> Tensor:
    """Returns (N, R, D): gradients (N, C, 1) at one location's last pre-activations, sent back to its field.

    Args:
        problem: one location.
        pulled: (N, C, 1).
        inner_slopes: for each layer below the last (C, positions) or (C, 1), the activation's slopes there.
    """
    offsets = [0]
    for weight in problem.weights:
        offsets.append(offsets[-1] + (weight.shape[2] - 1) // 2)
    for index in reversed(range(len(problem.weights))):
        pulled = functional.conv_transpose1d(pulled, problem.weights[index])
        if index > 0:
            exists = existing_rows(problem, offsets[index], pulled.shape[2])
            pulled = pulled * inner_slopes[index - 1] * exists[:, None]
    gradients: Tensor = pulled.transpose(1, 2) * problem.exists[0, :, None]
    return gradients


def ids_in_fields(ids: Tensor, location: Tensor, sentence: Tensor, before: int, field: int) -> Tensor:
    """Returns the token ids (B, R) that locations see; 0 in rows without a token.

    Args:
        ids: (S, L) int64.
        location: (B,) int64, position of each location.
        sentence: (B,) int64, its row in `ids`.
        before: how many positions before its own a location sees.
        field: R.
    """
    padded = functional.pad(ids, (before, field - 1 - before))
    place = location[:, None] + torch.arange(field, device=ids.device)
    return padded[sentence[:, None], place]


def words_in_fields(
    vectors: Tensor, ids: Tensor, location: Tensor, sentence: Tensor, before: int, field: int
) -> Tensor:
    """Returns the word vectors (B, R, D) that locations see; rows without a token are 0.

    Args:
        vectors: (V, D) with a zero row for padding.
        ids: (S, L) int64, on the device of the vectors.
        location: (B,) int64, position of each location.
        sentence: (B,) int64, its row in `ids`.
        before: how many positions before its own a location sees.
        field: R.
    """
    return vectors[ids_in_fields(ids, location, sentence, before, field)]
