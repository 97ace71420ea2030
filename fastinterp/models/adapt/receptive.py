"""The receptive field of a layer from its Jacobian: which tokens each location depends on, for drawn inputs."""

from __future__ import annotations

import torch
from torch import Tensor

from fastinterp.models.adapt.calls import Caller
from fastinterp.models.adapt.probe import Layout, drawn_ids
from fastinterp.models.adapt.watch import LayerCall
from fastinterp.models.receptive_field import ReceptiveField

_FIRST, _WIDEST = 48, 120  # tokens of the first drawn texts; of the widest field that is not the whole text
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
    tokens = length if length is not None else max(shortest, _FIRST)
    reach = _reach(caller, layer, layout, tokens, middle=True)
    if length is None and reach == [(0, tokens - 1)]:
        tokens = max(shortest, 2 * _WIDEST)
        reach = _reach(caller, layer, layout, tokens, middle=True)
    if not reach or reach[0][1] - reach[0][0] + 1 >= min(tokens, _WIDEST):
        return WHOLE_TEXT
    width = reach[0][1] - reach[0][0] + 1
    tokens = length if length is not None else max(shortest, 2 * width + 16)
    reach = _reach(caller, layer, layout, tokens, middle=False)
    inside = [i for i, (first, last) in enumerate(reach) if first > 0 and last < tokens - 1]
    if len(inside) < 2:
        return WHOLE_TEXT
    (first, last), (second, _) = (reach[i] for i in inside[:2])
    stride = (second - first) // (inside[1] - inside[0])
    found = ReceptiveField(inside[0] * stride - first, last - first + 1, stride)
    rows = [i * stride - found.before for i in range(len(reach))]
    expected = [(max(0, row), min(tokens - 1, row + last - first)) for row in rows]
    return found if stride > 0 and expected == reach else WHOLE_TEXT


def _reach(caller: Caller, layer: LayerCall, layout: Layout, tokens: int, middle: bool) -> list[tuple[int, int]]:
    """Returns first and last token that each location of a text depends on, or those of the middle location alone."""
    seen, settled, draw = None, 0, 0
    while draw < _MOST_DRAWS and settled < _SETTLED:
        now = _dependence(caller, layer, layout, drawn_ids(caller, 1, tokens, seed=draw), middle)
        grown = now if seen is None else seen | now
        settled = settled + 1 if seen is not None and torch.equal(seen, grown) else 0
        seen, draw = grown, draw + 1
    if seen is None or not seen.any(dim=1).all():
        return []
    place = torch.arange(tokens)
    first = torch.where(seen, place, tokens).amin(dim=1).tolist()
    last = torch.where(seen, place, -1).amax(dim=1).tolist()
    return list(zip(first, last, strict=True))


def _dependence(caller: Caller, layer: LayerCall, layout: Layout, ids: Tensor, middle: bool) -> Tensor:
    """Returns (P, L) bool: whether the derivative of a location of one drawn text by a token is not zero.

    Args:
        caller: of the module.
        layer: the layer.
        layout: of its output.
        ids: (1, L) int64.
        middle: whether only the middle location is asked for; P is 1 then.
    """
    if middle:
        return _gradients(caller, layer, layout, ids, None, 1)[0]
    count = max(1, min(ids.shape[1], _FLOATS_AT_ONCE // (ids.shape[1] * caller.embedding.width)))
    found: list[Tensor] = []
    locations = 1
    while len(found) * count < locations:
        part, locations = _gradients(caller, layer, layout, ids, len(found) * count, count)
        found.append(part)
    return torch.cat(found)


def _gradients(
    caller: Caller, layer: LayerCall, layout: Layout, ids: Tensor, first: int | None, count: int
) -> tuple[Tensor, int]:
    """Returns (n, L) bool for `count` locations from the `first` on, or for the middle one; and how many there are."""
    tokens = ids.shape[1]
    generator = torch.Generator().manual_seed(int(ids.sum()))
    scale = caller.embedding.weight.detach().std().cpu()
    vectors = torch.randn(1, tokens, caller.embedding.width, generator=generator)
    with torch.inference_mode(False), torch.enable_grad():
        # Row i of the batch asks for the i-th of the chosen locations.
        embedded = (vectors * (scale if scale > 0 else 1)).to(caller.device).repeat(count, 1, 1).requires_grad_()
        lengths = torch.full((count,), tokens)
        passed = caller.run(ids.expand(count, -1), lengths, layer, embedded=embedded, stop=True)
        if passed.layer is None:
            return torch.zeros(0, tokens, dtype=torch.bool), 0
        hidden = layout.normalise(passed.layer)
        locations = hidden.shape[1]
        begin = locations // 2 if first is None else first
        asked = torch.arange(begin, min(begin + count, locations))
        weights = torch.randn(hidden.shape[2], generator=generator).to(hidden.device)
        total = (hidden[torch.arange(len(asked)), asked] @ weights).sum()
        (gradient,) = torch.autograd.grad(total, embedded)
    return (gradient[: len(asked)] != 0).any(dim=2).cpu(), locations
