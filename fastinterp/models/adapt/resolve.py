"""What is known of a layer of a user's module: its receptive field, and by what it is explained."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from fastinterp.messages import plural
from fastinterp.models.adapt.calls import Caller
from fastinterp.models.adapt.frames import Frames
from fastinterp.models.adapt.layer import AdaptedLayer
from fastinterp.models.adapt.lookup import REFUSED
from fastinterp.models.adapt.probe import Layout, probed_length
from fastinterp.models.adapt.receptive import field_of
from fastinterp.models.adapt.recognise import NotRecognised, Recognised, recognise
from fastinterp.models.adapt.watch import LayerCall
from fastinterp.models.protocol import LayerPath, Places
from fastinterp.text.vocabulary import PAD, UNKNOWN

TOLERANCE = 1e-5  # of activations, relative to the largest
_FUNCTIONS = {
    "relu": torch.relu,
    "leaky_relu": lambda values: functional.leaky_relu(values, 0.01),
    "tanh": torch.tanh,
    "identity": lambda values: values,
}


@dataclass(frozen=True, eq=False)
class Resolved:
    """A layer and how it is explained.

    Attributes:
        layer: for the module's own passes.
        path: which way, and why.
        recognised: the convolutions for the kernels; None where the module itself is used.
    """

    layer: AdaptedLayer
    path: LayerPath
    recognised: Recognised | None


def resolve(caller: Caller, call: LayerCall, layout: Layout, rows: Tensor, frames: Frames, vectors: Tensor) -> Resolved:
    """Returns what is known of a layer, after its convolutions were compared with the module's own activations.

    Args:
        caller: of the module.
        call: the layer.
        layout: of its output.
        rows: (V,) int64, the embedding's row of each token id.
        frames: how long sentences are.
        vectors: (V, D), by token id.
    """
    length = probed_length(frames.shortest, frames.length)
    try:
        found = recognise(caller, call, length)
        layer = AdaptedLayer(caller, call, layout, found.field, rows, frames)
        fault = _fault(layer, found, vectors)
        if fault is None:
            return Resolved(layer, LayerPath("kernels", _recognised(found)), found)
        reason = f"the convolutions that were recognised are not the module's: activations differ by {fault:.1e}"
    except NotRecognised as refused:
        reason = str(refused)
    field = field_of(caller, call, layout, frames.length, frames.shortest)
    if field.width is None:
        reason = f"{reason}; each location sees the whole text"
    layer = AdaptedLayer(caller, call, layout, field, rows, frames)
    shorter = replace(layer, cut=_least_tokens(layer))
    if shorter.cut is not None and _can_be_cut(shorter, vectors):
        layer = shorter
    return Resolved(layer, LayerPath("module", reason), None)


def _recognised(found: Recognised) -> str:
    return f"{plural(len(found.weights), 'convolution')} with {found.stack.activation}, compared with the module's own"


def _drawn(layer: AdaptedLayer, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Returns token ids (B, L) and lengths of drawn texts to compare activations in, of several lengths."""
    generator = torch.Generator().manual_seed(seed)
    width, frames = layer.receptive.width or 1, layer.frames
    lengths = [frames.length] if frames.length is not None else [frames.shortest + width + more for more in (0, 3, 20)]
    texts = []
    for length in lengths:
        ids = torch.randint(UNKNOWN + 1, max(UNKNOWN + 2, len(layer.rows)), (2, length), generator=generator)
        ids = ids.clamp(max=len(layer.rows) - 1)
        if frames.length is not None:
            ids[1, max(1, length // 2) :] = PAD
        texts.append((ids, (ids != PAD).sum(dim=1)))
    return texts


def _fault(layer: AdaptedLayer, found: Recognised, vectors: Tensor) -> float | None:
    """Returns how far the recognised convolutions are from the module's activations, None where they are near."""
    worst = 0.0
    for ids, lengths in _drawn(layer, 0) + _drawn(layer, 1):
        with torch.no_grad():
            own = layer.activations(ids, lengths)
            location = torch.arange(own.shape[1])
            inputs, begin, end = _fields(layer, ids, location, vectors)
            recomputed = _recomputed(found, inputs, begin, end).view_as(own) if own.numel() else own
            size = float(own.abs().max()) if own.numel() else 0.0
            fault = float((own - recomputed).abs().max()) / size if size > 0 else 0.0
        worst = max(worst, fault)
        if not worst <= TOLERANCE:
            return worst
    return None


def _fields(layer: AdaptedLayer, ids: Tensor, location: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the word vectors (B P, R, D) of the fields of all locations, and where each begins and ends."""
    sentences, frame = ids.shape
    rows = layer.receptive.rows(torch.tensor([frame]))
    every = location.repeat(sentences)
    begin, end = layer.receptive.edges(every, frame, rows)
    place = layer.receptive.first(every)[:, None] + torch.arange(rows)
    exists = (place >= 0) & (place < frame)
    sentence = torch.arange(sentences).repeat_interleave(len(location))
    own = ids[sentence[:, None], place.clamp(0, frame - 1)]
    inputs = vectors[own.to(vectors.device)] * exists[..., None].to(vectors.device)
    return inputs, begin.to(vectors.device), end.to(vectors.device)


def _recomputed(found: Recognised, inputs: Tensor, begin: Tensor, end: Tensor) -> Tensor:
    """Returns the activations (B, C) of locations from the word vectors (B, R, D) of their fields."""
    hidden, offset, function = inputs.transpose(1, 2), 0, _FUNCTIONS[found.stack.activation]
    for weight, bias in zip(found.stack.weights, found.stack.biases, strict=True):
        hidden = function(functional.conv1d(hidden, weight, bias))
        offset += (weight.shape[2] - 1) // 2
        if hidden.shape[2] > 1:
            place = torch.arange(hidden.shape[2], device=hidden.device) + offset
            hidden = hidden * ((place >= begin[:, None]) & (place < end[:, None]))[:, None]
    return hidden[:, :, 0]


def _least_tokens(layer: AdaptedLayer) -> int | None:
    """Returns how many tokens a text must have for the layer to be reached, None where its whole field is too few."""
    for tokens in range(1, (layer.receptive.width or 0) + 1):
        try:
            with torch.no_grad():
                hidden = layer.activations(torch.full((1, tokens), len(layer.rows) - 1), torch.tensor([tokens]))
        except REFUSED:
            continue
        if hidden.shape[1]:
            return tokens
    return None


def _can_be_cut(layer: AdaptedLayer, vectors: Tensor) -> bool:
    """Whether locations computed from their fields alone are those of the whole text."""
    for ids, lengths in _drawn(layer, 0):
        with torch.no_grad():
            whole = layer.activations(ids, lengths)
            count = whole.shape[1]
            inputs, _, _ = _fields(layer, ids, torch.arange(count), vectors)
            rows = layer.receptive.rows(torch.tensor([ids.shape[1]]))
            location, frame = torch.arange(count).repeat(2), torch.full((2 * count,), ids.shape[1])
            sentence = torch.arange(len(ids)).repeat_interleave(count)
            places = Places(location, frame, layer.receptive.ids(ids, location, sentence, rows))
            try:
                for members, compute in layer.in_fields(places, most=len(location)):
                    expected = whole.flatten(0, 1)[members]
                    error = (compute(inputs[members]) - expected).abs().max()
                    if not error <= TOLERANCE * whole.abs().max():
                        return False
            except REFUSED:  # too short a text for what comes before the layer
                return False
    return True
