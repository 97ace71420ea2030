"""Explaining a module that somebody else wrote: `adapt` makes a classifier of it that the method can explain."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fastinterp.messages import plural
from fastinterp.models.adapt.calls import Caller
from fastinterp.models.adapt.classifier import AdaptedModel
from fastinterp.models.adapt.find import listed, name_of, parts_of, split_call, unwrap
from fastinterp.models.adapt.frames import Frames, class_scores
from fastinterp.models.adapt.lookup import Forward, find_lookup
from fastinterp.models.adapt.probe import (
    Layout,
    convolution_calls,
    drawn_ids,
    find_call,
    frames_of,
    layout_of,
    probed_length,
)
from fastinterp.models.adapt.readers import Lexicon, reader_of, special_rows, words_of
from fastinterp.models.adapt.watch import LayerCall
from fastinterp.models.config import MOST_POSITIONS
from fastinterp.models.device import check_device
from fastinterp.validation import got, integer

__all__ = ["AdaptedModel", "adapt"]

Layer = nn.Module | str


def adapt(
    module: nn.Module,
    *,
    tokenizer: Callable[[str], Any] | object,
    words: Sequence[str] | Mapping[str, int] | None = None,
    embedding: nn.Module | str | None = None,
    layer: Layer | Sequence[Layer] | None = None,
    classes: Sequence[str] | None = None,
    padding_id: int = 0,
    unknown_id: int | None = None,
    forward: Forward | None = None,
    length: int | None = None,
    multilabel: bool = False,
) -> AdaptedModel:
    """Returns a classifier made of any module that goes from token ids over an embedding to class scores.

    The module is called as it is, in evaluation mode, and given back as it came: hooks, mode, gradients, random
    numbers. Where a layer is a chain of convolutions that the kernels compute, they do, after a comparison with the
    module's own activations; anything else is explained by the module itself and autograd. `Interpretation.path` says
    which. A module of another dtype is copied to float32.

    A layer is the output of a module, or, of a convolution whose output goes straight into an activation function
    (over a batch norm or not), what comes out of that: as in the paper, activations are explained behind it.

    Args:
        module: takes ids (B, L) int64 and gives class scores (B, classes), before a softmax or sigmoid or behind it;
            or a single score s of the second of two classes, of which the first then has -s.
        tokenizer: gives the ids of a text, or (ids, offsets) with where each token stands in it, or its tokens; or one
            of the library `tokenizers`, a fast one of `transformers`, or one of ours. Special tokens are never
            explained.
        words: a word for each row of the embedding, or a mapping of words to rows; by default the tokenizer's own.
        embedding: the `torch.nn.Embedding`, or another part of the module whose output is the rows of a (V, D) table
            for the ids, or its name; needed where there are several.
        layer: the layer to explain, or several, each a module or a name as `named_modules()` or, of a Keras model, its
            `layers` have it; "name:2" is the second call in a pass. `interpret(layer=...)` takes their names and
            indices. The convolutions follow behind them; by default they alone are the layers, in the order of their
            calls.
        classes: names of the classes.
        padding_id: the embedding's row of padding, which fills up sentences shorter than the module takes or `length`.
        unknown_id: the row of words that it does not have, if there is one.
        forward: how the module is called: `forward(module, ids, lengths)` with the tokens of each sentence (B,); by
            default `module(ids)`.
        length: positions of every sentence, which is cut or padded to it; by default each has as many as tokens, but
            where the module takes one length alone, of at most 64.
        multilabel: whether a text may have several labels; true of itself where several outputs end in a sigmoid.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: what was named is not there, does not fit the module, or the module cannot be called so; one line.
    """
    found, note = unwrap(module)
    if forward is not None and not callable(forward):
        raise TypeError(f"forward: expected a callable (module, ids, lengths), got {type(forward).__name__}")
    frame = None if length is None else integer("length", length, least=1, most=MOST_POSITIONS)
    table = find_lookup(found, parts_of(found), embedding, forward, frame)
    size = table.rows
    listed_words = words_of(tokenizer, words, size)
    padding = integer("padding_id", padding_id, least=0, most=size - 1)
    unknown = None if unknown_id is None else integer("unknown_id", unknown_id, least=0, most=size - 1)
    if unknown == padding:
        raise ValueError(f"unknown_id: expected another row than padding_id, got {unknown}")
    if isinstance(words, Mapping):
        rows = dict(words)
    else:
        rows = {word: row for row, word in reversed(list(enumerate(listed_words)))}
    lexicon = Lexicon(listed_words, rows, padding, unknown)
    caller = Caller(found, table, forward, padding)
    check_device(caller.device)
    frames = frames_of(caller, frame)
    calls = _layers(caller, frames, layer)
    ids = drawn_ids(caller, 2, probed_length(frames.shortest, frames.length))
    with torch.no_grad():
        passed = caller.run(ids, torch.full((2,), ids.shape[1]))
    outputs = 1 if passed.outputs is None or passed.outputs.dim() == 1 else passed.outputs.shape[1]
    scores = class_scores(passed, 2)
    return AdaptedModel(
        caller,
        calls,
        lexicon,
        special_rows(tokenizer, lexicon),
        reader_of(tokenizer, lexicon),
        _class_names(classes, scores),
        several=outputs > 1 and (multilabel or passed.last == "sigmoid"),
        single=outputs == 1,
        frames=frames,
        note=note,
    )


def _class_names(classes: Sequence[str] | None, scores: Tensor) -> tuple[str, ...]:
    count = scores.shape[1]
    if classes is None:
        return tuple(f"class {i}" for i in range(count))
    names = tuple(classes)
    if isinstance(classes, str) or len(names) != count or not all(isinstance(name, str) for name in names):
        wanted = f"{plural(count, 'name')}, a string for each class score"
        raise ValueError(f"classes: expected {wanted}, got {got(classes)}")
    if len(set(names)) != count:
        raise ValueError(f"classes: expected different names, got {got(classes)}")
    return names


def _layers(caller: Caller, frames: Frames, wanted: Layer | Sequence[Layer] | None) -> list[tuple[LayerCall, Layout]]:
    """Returns the layers that can be explained: those asked for, then the convolutions in the order of their calls."""
    length = probed_length(frames.shortest, frames.length)
    convolutions = convolution_calls(caller, length)
    asked: list[Layer] = []
    if isinstance(wanted, (str, nn.Module)) and not isinstance(wanted, nn.ModuleList):
        asked = [wanted]
    elif wanted is not None:
        asked = list(wanted)
    calls = []
    for each in asked:
        name, number = split_call("layer", each) if isinstance(each, str) else (each, 1)
        valid = [call.name for call in convolutions]
        call = find_call(caller, length, name_of("layer", caller.parts, name, valid), number, convolutions)
        calls.append((call, layout_of(caller, call, length)))
    known = {call for call, _ in calls}
    for call in convolutions:
        if call not in known:
            layout = _layout_or_none(caller, call, length)
            if layout is not None:
                calls.append((call, layout))
    if not calls:
        names = [name for name in caller.parts if name]
        raise ValueError(
            f"layer: expected one of {listed(names)} to be named, got none, and a pass over a text calls no "
            "convolution that has locations"
        )
    return calls


def _layout_or_none(caller: Caller, call: LayerCall, length: int) -> Layout | None:
    """The axes of a convolution's output, None of one that does not work on texts, such as behind pooling over time."""
    try:
        return layout_of(caller, call, length)
    except ValueError:
        return None
