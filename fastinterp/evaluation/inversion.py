"""Which words does a layer still hold? A location's activation turned back into words, as far as that goes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from fastinterp.evaluation.answers import answer_activations
from fastinterp.kernels import ops
from fastinterp.method.background import Whitening
from fastinterp.method.places import Fields
from fastinterp.method.threads import one_thread
from fastinterp.models.protocol import TextClassifier

CANDIDATES = 20
ROUNDS = 3


def invert(
    model: TextClassifier,
    layer: int,
    fields: Fields,
    activations: Tensor,
    inputs: Tensor,
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
        fields: of B locations; of their tokens only how many there are is used, and special ones stay.
        activations: (B, C) theirs.
        inputs: (B, R, D) optimised inputs, such as those that stand out.
        whitening: how likeness of activations is measured.
        candidates: words tried at each position.
        rounds: passes over the positions at most.
    """
    own = functional.normalize(whitening.whiten(activations), dim=1)
    prepared = model.prepared()
    count = min(candidates, prepared.searchable)
    words = []
    for number in range(len(fields)):
        field = fields[number : number + 1]
        rows = inputs[number, int(field.first) : int(field.last)].contiguous()
        _, tried = ops.cosine_topk(rows, model.word_vectors, prepared.inverse_norms, count)
        chosen = _ascend(model, layer, field, own[number], tried.cpu(), whitening, rounds)
        words.append([model.words[index] for index in chosen])
    return words


def _ascend(
    model: TextClassifier,
    layer: int,
    field: Fields,
    own: Tensor,
    tried: Tensor,
    whitening: Whitening,
    rounds: int,
) -> list[int]:
    """Returns the ids of one field's words, of those `tried` (positions, candidates) int64."""
    chosen, first = tried[:, 0].clone(), int(field.first)
    repeated = field[torch.zeros(tried.shape[1], dtype=torch.int64)]
    with one_thread():
        for _ in range(rounds):
            before = chosen.clone()
            for position, row in enumerate(tried):
                ids = repeated.ids.clone()
                ids[:, first : first + len(chosen)] = chosen
                ids[:, first + position] = row
                found = answer_activations(model, layer, repeated, ids)
                likeness = functional.normalize(whitening.whiten(found), dim=1) @ own
                best = int(likeness.argmax())
                if likeness[best] > likeness[int((row == chosen[position]).nonzero()[0, 0])]:
                    chosen[position] = row[best]
            if torch.equal(before, chosen):
                break
    listed: list[int] = chosen.tolist()
    return listed
