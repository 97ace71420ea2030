"""Answers read back: the activations of a location whose receptive field holds an answer instead of its tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastinterp.kernels.problems import Problems
from fastinterp.method.fields import activations
from fastinterp.method.places import Fields, fields_at
from fastinterp.method.saliency import Selection
from fastinterp.models.protocol import TextClassifier
from fastinterp.text.vocabulary import PAD

_FLOATS_AT_ONCE = 1 << 23  # bounds the memory for fields and hidden layers


def answer_ids(
    model: TextClassifier, fields: Fields, words: Sequence[Sequence[str]], offset: Tensor | None = None
) -> Tensor:
    """Returns answers as the token ids (N, R) of receptive fields, on the CPU; padding elsewhere.

    Words stand one behind the other from the first position of the field that lies inside the sentence frame, behind
    special tokens such as [CLS]: these stay where they are. Padding stands only behind the tokens, so one word for
    each token in `Location.token_indices` stands where that token stood. Real n-grams, which may come from a
    sentence's edge, say by `offset` where they begin. What does not fit between the edges is left out.

    Args:
        model: the classifier.
        fields: of N locations.
        words: N lists.
        offset: (N,) int64, row of the field where the first word of each stands.

    Raises:
        ValueError: not one list for each location.
    """
    if len(words) != len(fields):
        raise ValueError(f"words: expected one list for each of {len(fields)} locations, got {len(words)}")
    rows, special = torch.arange(fields.ids.shape[1]), fields.special()
    place = rows - (fields.first if offset is None else offset)[:, None]
    behind = special & (rows >= fields.last[:, None])
    end = torch.where(behind, rows, fields.end[:, None]).amin(dim=1, keepdim=True)
    known = model.token_ids(words)
    inside = (rows >= fields.begin[:, None]) & (rows < end) & ~special & (place >= 0) & (place < known.shape[1])
    found = known.gather(1, place.clamp(0, known.shape[1] - 1)).masked_fill(~inside, PAD)
    return torch.where(special, fields.ids, found)


def answer_activations(model: TextClassifier, layer: int, fields: Fields, ids: Tensor) -> Tensor:
    """Returns the activations (N, C) of locations that see other words than their sentence's.

    Args:
        model: the classifier.
        layer: index of the layer.
        fields: of N locations, which say what of their fields lies inside the sentence frame.
        ids: (N, R) int64, as `answer_ids` gives.

    Raises:
        ValueError: no such layer, or ids of another shape or dtype.
    """
    shape = tuple(fields.ids.shape)
    if tuple(ids.shape) != shape or ids.dtype != torch.int64:
        raise ValueError(f"ids: expected int64 of shape {shape}, got {ids.dtype} of shape {tuple(ids.shape)}")
    size = _batch(model, layer, shape[1])
    parts = [slice(first, first + size) for first in range(0, len(ids), size)]
    vectors = model.word_vectors
    found = [_activations(model, layer, fields[part], ids[part], vectors[ids[part].to(model.device)]) for part in parts]
    return torch.cat(found) if found else vectors.new_empty(0, model.channels(layer))


def field_activations(model: TextClassifier, layer: int, fields: Fields, inputs: Tensor) -> Tensor:
    """Returns the activations (N, C) of locations whose fields hold `inputs`, such as the optimised ones.

    Args:
        model: the classifier.
        layer: index of the layer.
        fields: of N locations.
        inputs: (N, R, D) float32; rows outside the sentence frame are read as 0.

    Raises:
        ValueError: no such layer.
    """
    size = _batch(model, layer, inputs.shape[1])
    parts = [slice(first, first + size) for first in range(0, len(inputs), size)]
    found = [_activations(model, layer, fields[part], fields.ids[part], inputs[part]) for part in parts]
    return torch.cat(found) if found else inputs.new_empty(0, model.channels(layer))


def location_activations(model: TextClassifier, ids: Tensor, layer: int, selection: Selection) -> Tensor:
    """Returns the activations (N, C) of any locations of sentences, not only of the most salient ones.

    Args:
        model: the classifier.
        ids: (S, L) int64 on the CPU.
        layer: index of the layer.
        selection: N locations.

    Raises:
        ValueError: no such layer.
    """
    fields = fields_at(model, layer, ids, selection)
    return answer_activations(model, layer, fields, fields.ids)


def _activations(model: TextClassifier, layer: int, fields: Fields, ids: Tensor, inputs: Tensor) -> Tensor:
    """Returns the activations of as many locations as fit into memory, by the kernels' layers or the module itself."""
    own = model.module_layer(layer)
    if own is not None and model.path(layer).name == "module":
        found = inputs.new_empty(len(fields), model.channels(layer))
        with torch.no_grad():
            for members, compute in own.in_fields(fields.holding(ids), most=len(fields)):
                rows = members.to(model.device)
                found[rows] = compute(inputs[rows])
        return found
    stack = model.stack(layer)
    begin, end, no_target = fields.begin.to(model.device), fields.end.to(model.device), inputs.new_empty(len(fields), 0)
    problems = Problems(no_target, stack.weights, stack.biases, begin, end, stack.activation)
    return activations(problems, inputs * problems.exists[:, :, None])


def _batch(model: TextClassifier, layer: int, rows: int) -> int:
    """How many locations are read at once."""
    kernels = model.path(layer).name == "kernels"
    widths = [weight.shape[0] for weight in model.stack(layer).weights] if kernels else [model.channels(layer)]
    return max(1, _FLOATS_AT_ONCE // (rows * max(model.word_vectors.shape[1], *widths)))
