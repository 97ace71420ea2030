"""Answers read back: the activations of a location whose receptive field holds an answer instead of its tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastinterp.kernels.problems import Problems
from fastinterp.method.fields import activations, words_in_fields
from fastinterp.method.optimization import field_edges
from fastinterp.method.saliency import Selection
from fastinterp.models.protocol import TextClassifier
from fastinterp.text.vocabulary import PAD

_FLOATS_AT_ONCE = 1 << 23  # bounds the memory for fields and hidden layers


def answer_ids(
    model: TextClassifier, layer: int, location: Tensor, words: Sequence[Sequence[str]], offset: Tensor | None = None
) -> Tensor:
    """Returns answers as the token ids (B, R) of receptive fields, on the model's device; padding elsewhere.

    Words stand one behind the other from the first position of the field that lies inside the sentence frame. Padding
    stands only behind the tokens, so one word for each token in `Location.token_indices` stands where that token
    stood. Real n-grams, which may come from a sentence's edge, say by `offset` where they begin. What does not fit
    between the edges is left out.

    Args:
        model: the classifier.
        layer: index of the convolution.
        location: (B,) int64, position of each location.
        words: B lists.
        offset: (B,) int64, row of the field where the first word of each stands.

    Raises:
        ValueError: no such layer, or not one list for each location.
    """
    if len(words) != len(location):
        raise ValueError(f"words: expected one list for each of {len(location)} locations, got {len(words)}")
    begin, end = field_edges(model, layer, location.to(model.device))
    stack = model.stack(layer)
    rows = torch.arange(stack.before + 1 + stack.after, device=model.device)
    place = rows - (begin if offset is None else offset.to(model.device))[:, None]
    known = model.token_ids(words).to(model.device)
    inside = (rows >= begin[:, None]) & (rows < end[:, None]) & (place >= 0) & (place < model.length)
    return known.gather(1, place.clamp(0, model.length - 1)).masked_fill(~inside, PAD)


def answer_activations(model: TextClassifier, layer: int, location: Tensor, ids: Tensor) -> Tensor:
    """Returns the activations (B, C) of locations that see other words than their sentence's.

    Args:
        model: the classifier.
        layer: index of the convolution.
        location: (B,) int64, position of each location, which says what of its field lies inside the sentence frame.
        ids: (B, R) int64, as `answer_ids` gives.

    Raises:
        ValueError: no such layer, or ids of another shape or dtype.
    """
    stack = model.stack(layer)
    shape = (len(location), stack.before + 1 + stack.after)
    if tuple(ids.shape) != shape or ids.dtype != torch.int64:
        raise ValueError(f"ids: expected int64 of shape {shape}, got {ids.dtype} of shape {tuple(ids.shape)}")
    parts = zip(location.split(_batch(model, layer)), ids.to(model.device).split(_batch(model, layer)), strict=True)
    found = [field_activations(model, layer, places, model.word_vectors[words]) for places, words in parts]
    return torch.cat(found) if found else model.word_vectors.new_empty(0, stack.channels)


def field_activations(model: TextClassifier, layer: int, location: Tensor, inputs: Tensor) -> Tensor:
    """Returns the activations (B, C) of locations whose fields hold `inputs`, such as the optimised ones.

    Args:
        model: the classifier.
        layer: index of the convolution.
        location: (B,) int64.
        inputs: (B, R, D) float32; rows outside the sentence frame are read as 0.

    Raises:
        ValueError: no such layer.
    """
    stack = model.stack(layer)
    begin, end = field_edges(model, layer, location.to(model.device))
    found = []
    size = _batch(model, layer)
    for part, first, last in zip(inputs.split(size), begin.split(size), end.split(size), strict=True):
        no_target = part.new_empty(len(part), 0)
        problems = Problems(no_target, stack.weights, stack.biases, first, last, stack.activation)
        found.append(activations(problems, part * problems.exists[:, :, None]))
    return torch.cat(found) if found else model.word_vectors.new_empty(0, stack.channels)


def location_activations(model: TextClassifier, ids: Tensor, layer: int, selection: Selection) -> Tensor:
    """Returns the activations (N, C) of any locations of sentences, not only of the most salient ones.

    Args:
        model: the classifier.
        ids: (B, L) int64 on the CPU.
        layer: index of the convolution.
        selection: N locations.

    Raises:
        ValueError: no such layer.
    """
    stack, size = model.stack(layer), _batch(model, layer)
    placed = ids.to(model.device)
    found = []
    for location, sentence in zip(selection.location.split(size), selection.sentence.split(size), strict=True):
        field = stack.before + 1 + stack.after
        inputs = words_in_fields(model.word_vectors, placed, location, sentence, stack.before, field)
        found.append(field_activations(model, layer, location, inputs))
    return torch.cat(found) if found else model.word_vectors.new_empty(0, stack.channels)


def _batch(model: TextClassifier, layer: int) -> int:
    """How many locations are read at once."""
    stack = model.stack(layer)
    widths = [model.word_vectors.shape[1], *(weight.shape[0] for weight in stack.weights)]
    return max(1, _FLOATS_AT_ONCE // ((stack.before + 1 + stack.after) * max(widths)))
