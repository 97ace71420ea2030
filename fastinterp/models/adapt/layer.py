"""A layer of a user's module, explained by the module's own passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fastinterp.models.adapt.calls import Caller
from fastinterp.models.adapt.frames import Frames, class_scores, tokens_of
from fastinterp.models.adapt.probe import Layout, probed_length
from fastinterp.models.adapt.watch import LayerCall
from fastinterp.models.protocol import FieldFunction, LayerPass, Places
from fastinterp.models.receptive_field import ReceptiveField
from fastinterp.text.vocabulary import PAD

# Sentences of a pass forward and back. A matrix product may add up differently for another number of rows; with always
# the same, filled up by copies, what is said of a sentence does not depend on how many others there are.
_ROWS = 8


@dataclass(eq=False)
class AdaptedLayer:
    """A layer together with the module that it is a part of.

    Attributes:
        caller: of the module.
        call: which layer.
        layout: of its output.
        receptive: what its locations see.
        rows: (V,) int64, the embedding's row of each token id.
        frames: how long a sentence's frame is.
        cut: how many tokens a text must have at least for its locations to be computed from their fields alone,
            without the rest of the sentence; None where they cannot be.
    """

    caller: Caller
    call: LayerCall
    layout: Layout
    receptive: ReceptiveField
    rows: Tensor
    frames: Frames
    cut: int | None = None
    _shapes: dict[int, tuple[int, int]] = field(default_factory=dict)

    def locations(self, frames: Tensor) -> Tensor:
        """Returns how many locations sentences with these frames (B,) have: (B,) int64."""
        return torch.tensor([self._shape(frame)[0] for frame in frames.tolist()], dtype=torch.int64)

    def _shape(self, frame: int) -> tuple[int, int]:
        """Returns how many locations and channels a text has that fills this frame."""
        if frame not in self._shapes:
            with torch.no_grad():
                hidden = self.activations(torch.full((1, frame), len(self.rows) - 1), torch.tensor([frame]))
            self._shapes[frame] = (hidden.shape[1], hidden.shape[2])
        return self._shapes[frame]

    @property
    def channels(self) -> int:
        """C, as many as there are in a text that is long enough to reach the layer."""
        return self._shape(probed_length(self.frames.shortest, self.frames.length))[1]

    def activations(self, ids: Tensor, lengths: Tensor, embedded: Tensor | None = None) -> Tensor:
        """Returns the layer's activations (B, P, C) in sentences that fill their frame; P is 0 where it is not reached.

        Args:
            ids: (B, L) int64.
            lengths: (B,) int64, tokens of each.
            embedded: (B, L, D), word vectors in place of those of the ids.
        """
        passed = self.caller.run(self.rows[ids], lengths, self.call, embedded=embedded, stop=True)
        if passed.layer is None:
            return torch.zeros(len(ids), 0, 0, device=self.caller.device)
        return self.layout.normalise(passed.layer)

    def explain(
        self, ids: Tensor, choose: Callable[[Tensor, list[int]], Sequence[int]], versus: int | None
    ) -> LayerPass:
        """Returns activations and gradients, by one pass forward and one back for each length of frame.

        Args:
            ids: (b, L) int64, on the CPU.
            choose: gives the explained classes for the class scores (n, classes) of the sentences in n rows of `ids`.
            versus: the class whose score is taken away from theirs, if any.
        """
        parts: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        for members, framed in self.frames.together(ids, _ROWS):
            parts.append((members, *self._explain_frame(framed, members, choose, versus)))
        if not parts:
            return LayerPass(*self._explain_none())
        widest = max(hidden.shape[1] for _, _, hidden, _ in parts)
        channels = max(hidden.shape[2] for _, _, hidden, _ in parts)
        scores = parts[0][1].new_zeros(len(ids), parts[0][1].shape[1])
        layers = [scores.new_zeros(len(ids), widest, channels) for _ in range(2)]
        for members, found, *values in parts:
            scores[members.to(scores.device)] = found
            for layer, value in zip(layers, values, strict=True):
                if value.numel():
                    layer[members.to(layer.device), : value.shape[1]] = value
        return LayerPass(scores, *layers)

    def _explain_frame(
        self,
        ids: Tensor,
        members: Tensor,
        choose: Callable[[Tensor, list[int]], Sequence[int]],
        versus: int | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns class scores, activations and gradients of as many sentences with one frame as a pass takes."""
        count = len(ids)
        every = _filled_up(ids)
        with torch.inference_mode(False), torch.enable_grad():
            passed = self.caller.run(self.rows[every], tokens_of(every), self.call)
            scores = class_scores(passed, _ROWS)[:count]
            asked = torch.tensor(list(choose(scores.detach(), members.tolist())), device=scores.device)
            if passed.layer is None:
                nothing = scores.new_zeros(count, 0, 0)
                return scores.detach(), nothing, nothing
            explained = scores.gather(1, asked[:, None]).sum()
            if versus is not None:
                explained = explained - scores[:, versus].sum()
            (gradient,) = torch.autograd.grad(explained, passed.layer, allow_unused=True)
        layer = passed.layer.detach()
        if gradient is None:
            gradient = torch.zeros_like(layer)
        hidden, gradients = (self.layout.normalise(each)[:count] for each in (layer, gradient))
        return scores.detach(), hidden, gradients

    def gradient_times_input(self, ids: Tensor) -> Tensor:
        """Returns x_p . dS/dx_p of word vectors, by one pass forward and one back for each length of frame.

        Args:
            ids: (b, L) int64, on the CPU.

        Returns:
            (b, L) float32, for each sentence's predicted class; 0 outside its frame.
        """
        found = torch.zeros(ids.shape, device=self.caller.device)
        for members, framed in self.frames.together(ids, _ROWS):
            every = _filled_up(framed)
            with torch.inference_mode(False), torch.enable_grad():
                weight = self.caller.embedding.weight.detach()
                vectors = weight[self.rows[every].to(weight.device)].requires_grad_()
                passed = self.caller.run(self.rows[every], tokens_of(every), embedded=vectors)
                score = class_scores(passed, _ROWS).amax(dim=1).sum()
                (gradient,) = torch.autograd.grad(score, vectors)
            each = (gradient * vectors.detach()).sum(dim=2)[: len(members)]
            found[members.to(found.device), : framed.shape[1]] = each
        return found

    def _explain_none(self) -> tuple[Tensor, Tensor, Tensor]:
        """What is said of no sentences: tensors of the right widths."""
        frame = self.frames.length or max(self.frames.shortest, 2)
        ids = torch.full((1, frame), len(self.rows) - 1)
        found = self._explain_frame(ids, torch.zeros(1, dtype=torch.int64), lambda scores, rows: [0], None)
        scores, hidden, gradient = (each[:0] for each in found)
        return scores, hidden, gradient

    def in_fields(self, places: Places, most: int) -> Iterator[tuple[Tensor, FieldFunction]]:
        """Yields which of N locations can be computed at once, `most` at most, (n,) int64, and the function.

        A location is computed from as little of a sentence as holds its field; locations at the same distance from
        the edges belong together.

        Args:
            places: the locations.
            most: how many at once.
        """
        location, frame = places.location.cpu(), places.frame.cpu()
        first, place, length = self._cuts(location, frame)
        rows = places.ids.shape[1]
        begin, end = self.receptive.edges(location, frame, rows)
        field_first = self.receptive.first(location) - first  # where the field's first row is in the cut
        keys = torch.stack([length, field_first, begin, end], dim=1)
        if self.receptive.width is not None:
            keys = torch.cat([keys, place[:, None]], dim=1)
        for key in keys.unique(dim=0):
            for members in (keys == key).all(dim=1).nonzero()[:, 0].split(most):
                yield members, self._of_one_kind(places, key, members, place[members])

    def _of_one_kind(self, places: Places, key: Tensor, members: Tensor, place: Tensor) -> FieldFunction:
        """Returns the function that computes `members` of the places, which are at the same distance from the edges."""
        size, shift, low, high = key[:4].tolist()
        ids = torch.full((len(members), size), len(self.rows) - 1)
        inside = slice(shift + low, shift + high)
        ids[:, inside] = places.ids[members, low:high]
        # Behind a field that ends in padding there is more of it.
        ends = ids[:, shift + high - 1 : shift + high] == PAD
        ids[:, shift + high :] = torch.where(ends, PAD, ids[:, shift + high :])
        return self._computed(ids, inside, slice(low, high), place)

    def _cuts(self, location: Tensor, frame: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns for each location where the cut begins, the location's place in it, and the cut's length."""
        width, stride, before = self.receptive.width, self.receptive.stride, self.receptive.before
        if width is None or self.cut is None:
            return torch.zeros_like(location), location, frame
        # The first location whose field does not reach over the left edge stands for all that do not.
        inner = max(0, -(-before // stride))
        start = (location - inner).clamp(min=0) * stride
        end = location * stride - before + width
        # A cut that ends before its sentence does must hold a whole field and what the module needs at least.
        size = torch.where(end >= frame, frame - start, (end - start).clamp(min=self.cut))
        over = (start + size - frame).clamp(min=0)
        start = (start - -(-over // stride) * stride).clamp(min=0)
        size = torch.where(end >= frame, frame - start, size)
        size = torch.minimum(size, frame - start)
        short = (size < self.cut) & (start > 0)
        start = torch.where(short, ((frame - self.cut).clamp(min=0) // stride) * stride, start)
        size = torch.where(short, frame - start, size)
        return start, location - start // stride, size

    def _computed(self, ids: Tensor, inside: slice, rows: slice, place: Tensor) -> FieldFunction:
        """Returns the function that computes locations from inputs (n, R, D) of their fields."""
        lengths = tokens_of(ids)

        def compute(inputs: Tensor) -> Tensor:
            embedded = inputs.new_zeros(len(ids), ids.shape[1], inputs.shape[2])
            embedded[:, inside] = inputs[:, rows]
            hidden = self.activations(ids, lengths, embedded)
            # Made here, where autograd may keep them, whatever mode the caller is in.
            return hidden[torch.arange(len(ids)), place.clone()]

        return compute


def _filled_up(ids: Tensor) -> Tensor:
    """Returns the ids (n, L) of as many sentences as a pass takes, the last one repeated."""
    return ids[torch.arange(_ROWS).clamp(max=len(ids) - 1)]
