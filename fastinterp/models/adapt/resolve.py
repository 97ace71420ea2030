"""What is known of a layer of a user's module: its receptive field, and by what it is explained."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from fastinterp.kernels.activations import activate
from fastinterp.messages import plural
from fastinterp.models.adapt.calls import Caller
from fastinterp.models.adapt.frames import Frames, tokens_of
from fastinterp.models.adapt.layer import AdaptedLayer
from fastinterp.models.adapt.lookup import REFUSED
from fastinterp.models.adapt.probe import Layout, probed_length
from fastinterp.models.adapt.receptive import field_of
from fastinterp.models.adapt.recognise import NotRecognised, Recognised, recognise
from fastinterp.models.adapt.watch import LayerCall
from fastinterp.models.protocol import LayerPath, Places
from fastinterp.text.vocabulary import PAD, UNKNOWN

TOLERANCE = 1e-5  # of activations, relative to the largest


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
        texts.append((ids, tokens_of(ids)))
    return texts


def _fault(layer: AdaptedLayer, found: Recognised, vectors: Tensor) -> float | None:
    """Returns how far the recognised convolutions are from the module's activations, None where they are near."""
    worst = 0.0
    for ids, lengths in _drawn(layer, 0) + _drawn(layer, 1):
        with torch.no_grad():
            own = layer.activations(ids, lengths)
            inputs, begin, end = _fields(layer, _places(layer, ids, own.shape[1]), vectors)
            recomputed = _recomputed(found, inputs, begin, end).view_as(own) if own.numel() else own
            size = float(own.abs().max()) if own.numel() else 0.0
            fault = float((own - recomputed).abs().max()) / size if size > 0 else 0.0
        worst = max(worst, fault)
        if not worst <= TOLERANCE:
            return worst
    return None


def _places(layer: AdaptedLayer, ids: Tensor, count: int) -> Places:
    """Returns the first so many locations of each text."""
    sentences, frame = ids.shape
    location, sentence = torch.arange(count).repeat(sentences), torch.arange(sentences).repeat_interleave(count)
    rows = layer.receptive.rows(torch.tensor([frame]))
    own = layer.receptive.ids(ids, location, sentence, rows)
    return Places(location, torch.full_like(location, frame), own)


def _fields(layer: AdaptedLayer, places: Places, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the word vectors (N, R, D) of the fields of locations, and where each begins and ends."""
    rows = torch.arange(places.ids.shape[1])
    begin, end = layer.receptive.edges(places.location, places.frame, len(rows))
    exists = (rows >= begin[:, None]) & (rows < end[:, None])
    inputs = vectors[places.ids.to(vectors.device)] * exists[..., None].to(vectors.device)
    return inputs, begin.to(vectors.device), end.to(vectors.device)


def _recomputed(found: Recognised, inputs: Tensor, begin: Tensor, end: Tensor) -> Tensor:
    """Returns the activations (B, C) of locations from the word vectors (B, R, D) of their fields."""
    hidden, offset = inputs.transpose(1, 2), 0
    for weight, bias in zip(found.stack.weights, found.stack.biases, strict=True):
        hidden = activate(found.stack.activation, functional.conv1d(hidden, weight, bias))
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
            places = _places(layer, ids, whole.shape[1])
            inputs, _, _ = _fields(layer, places, vectors)
            try:
                for members, compute in layer.in_fields(places, most=len(inputs)):
                    expected = whole.flatten(0, 1)[members]
                    error = (compute(inputs[members]) - expected).abs().max()
                    if not error <= TOLERANCE * whole.abs().max():
                        return False
            except REFUSED:  # too short a text for what comes before the layer
                return False
    return True
