"""Which words does a layer still hold? A location's activation turned back into words, as far as that goes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from fastinterp.evaluation.answers import answer_activations
from fastinterp.kernels import ops
from fastinterp.method.background import Whitening
from fastinterp.method.threads import one_thread
from fastinterp.models.protocol import TextClassifier

CANDIDATES = 20
ROUNDS = 3


def invert(
    model: TextClassifier,
    layer: int,
    location: Tensor,
    activations: Tensor,
    tokens: list[list[str]],
    inputs: Tensor,
    begin: Tensor,
    whitening: Whitening,
    candidates: int = CANDIDATES,
    rounds: int = ROUNDS,
) -> list[list[str]]:
    """Returns for each token of the fields a word, so that the activations come out as the locations' own.

    Coordinate ascent over words: one position after the other takes, of the words nearest to its row of an optimised
    input, the one with which the location's activation is most like its own, until nothing improves. Nothing keeps the
    field's own words out, and nothing about the field is known but where its tokens stand.

    Args:
        model: the classifier.
        layer: index of the layer.
        location: (B,) int64, their positions.
        activations: (B, C) theirs.
        tokens: that each location sees; only how many there are is used.
        inputs: (B, R, D) optimised inputs, such as those that stand out.
        begin: (B,) int64, first row of each field inside the sentence frame, where its tokens begin.
        whitening: how likeness of activations is measured.
        candidates: words tried at each position.
        rounds: passes over the positions at most.
    """
    own = functional.normalize(whitening.whiten(activations), dim=1)
    prepared = model.prepared()
    count = min(candidates, prepared.searchable)
    words = []
    for number, field in enumerate(tokens):
        first = int(begin[number])
        rows = inputs[number, first : first + len(field)].contiguous()
        _, tried = ops.cosine_topk(rows, model.word_vectors, prepared.inverse_norms, count)
        place = location[number : number + 1]
        chosen = _ascend(model, layer, place, own[number], tried.cpu(), first, inputs.shape[1], whitening, rounds)
        words.append([model.words[index] for index in chosen])
    return words


def _ascend(
    model: TextClassifier,
    layer: int,
    location: Tensor,
    own: Tensor,
    tried: Tensor,
    first: int,
    width: int,
    whitening: Whitening,
    rounds: int,
) -> list[int]:
    """Returns the ids of one field's words, of those `tried` (positions, candidates) int64."""
    chosen = tried[:, 0].clone()
    with one_thread():
        for _ in range(rounds):
            before = chosen.clone()
            for position, row in enumerate(tried):
                fields = torch.zeros(len(row), width, dtype=torch.int64)
                fields[:, first : first + len(chosen)] = chosen
                fields[:, first + position] = row
                found = answer_activations(model, layer, location.expand(len(row)), fields)
                likeness = whitened_likeness(whitening, found, own)
                best = int(likeness.argmax())
                if likeness[best] > likeness[int((row == chosen[position]).nonzero()[0, 0])]:
                    chosen[position] = row[best]
            if torch.equal(before, chosen):
                break
    listed: list[int] = chosen.tolist()
    return listed


def whitened_likeness(whitening: Whitening, found: Tensor, own: Tensor) -> Tensor:
    """Returns the likeness (N,) of activations (N, C) with a normalised whitened one (C,)."""
    return functional.normalize(whitening.whiten(found), dim=1) @ own
