"""The receptive field of a layer from its Jacobian: which tokens each location depends on, for drawn inputs."""

from __future__ import annotations

import torch
from torch import Tensor

from fastinterp.models.adapt.calls import Caller, LayerCall
from fastinterp.models.adapt.probe import Layout, drawn_ids
from fastinterp.models.protocol import ReceptiveField

# Tokens of the drawn texts: the next number where every location of the last reaches an edge.
_LENGTHS = (48, 144, 400)
_SETTLED = 4  # draws that change nothing end the search; a shut gate or a maximum hides a token in some of them
_MOST_DRAWS = 40
_FLOATS_AT_ONCE = 1 << 23

WHOLE_TEXT = ReceptiveField(before=0, width=None, stride=0)


def field_of(caller: Caller, layer: LayerCall, layout: Layout, length: int | None, shortest: int) -> ReceptiveField:
    """Returns which tokens a layer's locations see; the whole text where that does not depend on the location alone.

    Args:
        caller: of the module.
        layer: the layer.
        layout: of its output.
        length: tokens of the drawn texts, where the module takes no others; else several are tried.
        shortest: tokens that the module needs.
    """
    for tokens in [length] if length is not None else [each for each in _LENGTHS if each >= shortest]:
        first, last = _reach(caller, layer, layout, tokens)
        inside = [i for i in range(len(first)) if first[i] > 0 and last[i] < tokens - 1]
        if len(inside) < 2:
            continue
        one, two = inside[:2]
        stride = first[two] - first[one]
        found = ReceptiveField(one * stride - first[one], last[one] - first[one] + 1, stride)
        rows = [i * stride - found.before for i in range(len(first))]
        width = last[one] - first[one]
        as_expected = [(max(0, row), min(tokens - 1, row + width)) for row in rows]
        if stride > 0 and as_expected == list(zip(first, last, strict=True)):
            return found
        return WHOLE_TEXT
    return WHOLE_TEXT


def _reach(caller: Caller, layer: LayerCall, layout: Layout, tokens: int) -> tuple[list[int], list[int]]:
    """Returns first and last token that each location of a text depends on."""
    seen, settled, draw = None, 0, 0
    while draw < _MOST_DRAWS and settled < _SETTLED:
        now = _dependence(caller, layer, layout, drawn_ids(caller, 1, tokens, seed=draw))
        grown = now if seen is None else seen | now
        settled = settled + 1 if seen is not None and torch.equal(seen, grown) else 0
        seen, draw = grown, draw + 1
    if seen is None or not seen.any(dim=1).all():
        return [], []
    place = torch.arange(tokens)
    first = torch.where(seen, place, tokens).amin(dim=1)
    last = torch.where(seen, place, -1).amax(dim=1)
    return first.tolist(), last.tolist()


def _dependence(caller: Caller, layer: LayerCall, layout: Layout, ids: Tensor) -> Tensor:
    """Returns (P, L) bool: whether the derivative of a location of one drawn text by a token is not zero."""
    tokens, width = ids.shape[1], caller.embedding.embedding_dim
    generator = torch.Generator().manual_seed(int(ids.sum()))
    scale = caller.embedding.weight.detach().std().cpu()
    vectors = torch.randn(1, tokens, width, generator=generator) * (scale if scale > 0 else 1)
    rows, place, found = max(1, _FLOATS_AT_ONCE // (tokens * width)), 0, []
    while True:
        count = min(rows, tokens)
        embedded = vectors.to(caller.device).repeat(count, 1, 1).requires_grad_()
        with torch.enable_grad():
            passed = caller.run(
                ids.expand(count, -1), torch.full((count,), tokens), layer, embedded=embedded, stop=True
            )
            if passed.layer is None:
                return torch.zeros(0, tokens, dtype=torch.bool)
            hidden = layout.normalise(passed.layer)
            # Row i of the batch asks for location place + i.
            asked = torch.arange(place, min(place + count, hidden.shape[1]))
            weights = torch.randn(hidden.shape[2], generator=generator).to(hidden.device)
            total = (hidden[: len(asked)][torch.arange(len(asked)), asked] @ weights).sum()
            (gradient,) = torch.autograd.grad(total, embedded)
        found.append((gradient[: len(asked)] != 0).any(dim=2).cpu())
        place += len(asked)
        if place >= hidden.shape[1]:
            return torch.cat(found)
