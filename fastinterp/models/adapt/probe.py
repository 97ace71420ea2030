"""What a module is like, found out by calling it on drawn texts: the lengths it takes, its layers, their axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fastinterp.messages import one_line
from fastinterp.models.adapt.calls import Caller
from fastinterp.models.adapt.find import is_convolution, listed
from fastinterp.models.adapt.frames import Frames
from fastinterp.models.adapt.lookup import LONGEST_START, REFUSED
from fastinterp.models.adapt.watch import LayerCall

_PROBED = (40, 48)  # tokens of drawn texts, the first as a rule, more where a layer needs more
_MORE = 16  # tokens of a longer one, by which the axis of locations is told from the others


@dataclass(frozen=True)
class Layout:
    """Which axes of a layer's output are which; all others are channels.

    Attributes:
        batch: of the sentences.
        location: of the locations.
    """

    batch: int
    location: int

    def normalise(self, output: Tensor) -> Tensor:
        """Returns the output as (B, P, C): P locations, C channels."""
        return output.movedim((self.batch, self.location), (0, 1)).flatten(2)


def drawn_ids(caller: Caller, count: int, length: int, seed: int = 0) -> Tensor:
    """Returns ids (B, L) int64 of drawn texts without padding."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(caller.embedding.rows, (count, length), generator=generator)
    if caller.embedding.rows > 1:
        ids[ids == caller.padding] = 1 if caller.padding == 0 else 0
    return ids


def frames_of(caller: Caller, length: int | None) -> Frames:
    """Returns how long the sentences are that the module takes.

    Args:
        caller: of the module.
        length: the only one that is asked for, where one was given.

    Raises:
        ValueError: the module takes none.
    """
    fault: Exception | None = None
    only: int | None = None
    for tokens in range(1, LONGEST_START + 1) if length is None else (length,):
        fault = _refusal(caller, tokens)
        if fault is not None:
            continue
        if length is not None:
            return Frames(length, tokens)
        if not _refusal(caller, tokens + 1) or not any(_refusal(caller, each) for each in _PROBED):
            _check_long_texts(caller, tokens)
            return Frames(None, tokens)
        only = tokens
        if tokens > 1:  # else the one vector may have been added to each row of a table of positions
            break
    if only is not None:
        return Frames(only, only)
    lengths = f"1 to {LONGEST_START}" if length is None else str(length)
    raise ValueError(
        f"module: expected one that takes ids (B, L), got a failure at texts of {lengths} tokens ({one_line(fault)}); "
        "length= names the length that it takes, forward= says how it is called"
    )


def _check_long_texts(caller: Caller, taken: int) -> None:
    """Raises ValueError where a module that takes so many tokens does not take long texts, as behind a short table."""
    refused, most = _PROBED[-1], taken
    if most >= refused or not (fault := _refusal(caller, refused)):
        return
    while refused - most > 1:
        middle = (most + refused) // 2
        if _refusal(caller, middle):
            refused = middle
        else:
            most = middle
    raise ValueError(
        f"module: expected one that takes texts of {_PROBED[-1]} tokens, got one that takes {most} "
        f"({one_line(fault)}); length={most} gives every text as many positions, cut or padded"
    )


def _refusal(caller: Caller, tokens: int) -> Exception | None:
    """Returns with what the module fails at texts of so many tokens, if it does."""
    # Two texts; the first pass, whose shape says what is sentence and what token, needs another number.
    count = 3 if tokens == 2 else 2
    try:
        with torch.no_grad():
            caller.run(drawn_ids(caller, count, tokens), torch.full((count,), tokens))
    except REFUSED as error:
        if str(error).startswith(("embedding:", "module:")):
            raise
        return error
    return None


def convolution_calls(caller: Caller, length: int) -> list[LayerCall]:
    """Returns the calls of convolutions in a pass over texts of so many tokens, in their order."""
    return recorded_calls(caller, length, is_convolution)


def recorded_calls(caller: Caller, length: int, wanted: Callable[[nn.Module], bool]) -> list[LayerCall]:
    """Returns the calls in a pass of the modules that are wanted, in their order."""
    with torch.no_grad():
        passed = caller.run(drawn_ids(caller, 2, length), torch.full((2,), length), record=wanted)
    return passed.calls


def probed_length(shortest: int, length: int | None) -> int:
    """Returns of how many tokens the drawn texts are."""
    return length if length is not None else max(_PROBED[0], shortest)


def layout_of(caller: Caller, layer: LayerCall, length: int) -> Layout:
    """Returns the axes of a layer's output.

    Args:
        caller: of the module.
        layer: a layer that a text of `length` tokens reaches.
        length: tokens of a drawn text.

    Raises:
        ValueError: the layer is not reached, or its output has no locations, as behind pooling over time.
    """
    shapes = [_output_shape(caller, layer, count, size) for count, size in ((2, length), (3, length))]
    batch = [axis for axis, sizes in enumerate(zip(*shapes, strict=False)) if sizes == (2, 3)]
    for other in (length + _MORE, length - 1):
        try:
            longer = _output_shape(caller, layer, 2, other)
        except REFUSED:  # the module takes no such text
            continue
        location = [axis for axis, sizes in enumerate(zip(shapes[0], longer, strict=False)) if sizes[0] != sizes[1]]
        break
    else:
        location = _axes_that_the_ends_tell_apart(caller, layer, length)
    if len(batch) != 1 or len(location) != 1 or len(shapes[0]) < 3:
        raise ValueError(
            f"layer: expected one whose output has channels at each location of a text, before any pooling over time, "
            f"got {layer.name}, which gives {shapes[0]} for 2 texts of {length} tokens"
        )
    if not _depends(caller, layer, length):
        raise ValueError(
            f"layer: expected one that the embedding leads to, got {layer.name}, which no word vector moves"
        )
    return Layout(batch[0], location[0])


def _axes_that_the_ends_tell_apart(caller: Caller, layer: LayerCall, length: int) -> list[int]:
    """Returns the axes of a layer's output along which the first and the last token of a text move different places.

    It tells the locations of a module that takes one length alone; a location that sees the whole text tells nothing.
    """
    ids = drawn_ids(caller, 3, length)
    moved = []
    for token in (0, length - 1):
        others = ids.clone()
        others[:, token] = ids[:, token].roll(1)
        outputs = []
        for each in (ids, others):
            with torch.no_grad():
                passed = caller.run(each, torch.full((3,), length), layer, stop=True)
            assert passed.layer is not None  # a pass over a text of this length reaches the layer
            outputs.append(passed.layer)
        moved.append(outputs[0] != outputs[1])
    apart = []
    for axis in range(moved[0].dim()):
        first, last = (each.movedim(axis, 0).flatten(1).any(dim=1) for each in moved)
        if first.any() and last.any() and not (first & last).any():
            apart.append(axis)
    return apart


def _depends(caller: Caller, layer: LayerCall, length: int) -> bool:
    """Whether a layer's output is computed from the word vectors."""
    with torch.inference_mode(False), torch.enable_grad():
        passed = caller.run(drawn_ids(caller, 2, length), torch.full((2,), length), layer, stop=True)
        if passed.layer is None or passed.embedded is None or not passed.layer.requires_grad:
            return False
        return torch.autograd.grad(passed.layer.sum(), passed.embedded, allow_unused=True)[0] is not None


def _output_shape(caller: Caller, layer: LayerCall, count: int, length: int) -> tuple[int, ...]:
    with torch.no_grad():
        passed = caller.run(drawn_ids(caller, count, length), torch.full((count,), length), layer, stop=True)
    if passed.layer is None:
        raise ValueError(f"layer: expected one that a text of {length} tokens reaches, got {layer.name}")
    return tuple(passed.layer.shape)


def find_call(caller: Caller, length: int, name: str, call: int, valid: Sequence[LayerCall]) -> LayerCall:
    """Returns the call of a module that is to be explained.

    Raises:
        ValueError: it is not called so often.
    """
    part = caller.parts[name]
    for each in valid:
        if (each.module, each.call) == (name, call):
            return each
    of_kind = recorded_calls(caller, length, lambda each: each is part)
    if len(of_kind) < call:
        raise ValueError(
            f"layer: expected one of {listed(each.name for each in valid)} or another module that a pass calls, got "
            f"{LayerCall(name, call, False).name}; {name} is called {len(of_kind)} times in a pass"
        )
    return LayerCall(name, call, False)
