"""Which locations of sentences are explained, for which class: saliency for the class that the caller asks about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fastinterp.method.contributions import score_gradients
from fastinterp.method.saliency import (
    Selection,
    batch_size,
    layer_activations,
    predicted,
    same_width,
    select_locations,
)
from fastinterp.models.protocol import TextClassifier
from fastinterp.validation import choice, got, integer

ORDERS = ("most", "least", "absolute")
ClassChoice = str | int | Sequence[int] | Tensor | None


@dataclass(frozen=True, eq=False)
class Located:
    """The selected locations of S sentences, N in all.

    Attributes:
        scores: (S, L) float32, Score_i of every location for the explained class (Eq. 3).
        class_scores: (S, classes) float32, before softmax.
        targets: S indices of the explained classes.
        chosen: the locations.
        activations: (N, C) float32, theirs.
        gradients: (N, C) float32, of the explained score by them; None where they were not asked for.
    """

    scores: Tensor
    class_scores: Tensor
    targets: list[int]
    chosen: Selection
    activations: Tensor
    gradients: Tensor | None


def locate(
    model: TextClassifier,
    ids: Tensor,
    layer: int,
    locations: int,
    target: ClassChoice = None,
    versus: str | int | None = None,
    order: str = "most",
    with_gradients: bool = False,
) -> Located:
    """Returns the most salient locations of each sentence, for the class asked about.

    Args:
        model: the classifier.
        ids: (S, L) int64; padding only behind the tokens.
        layer: index of the layer.
        locations: m, at most L.
        target: None for the predicted class; or one class, by name or index, for all; or an index for each sentence.
        versus: another class, whose score is taken away from the target's.
        order: "most" salient first, "least" (what speaks against the class), or "absolute".
        with_gradients: whether the gradients at the locations are wanted too.

    Raises:
        TypeError: a target of another kind.
        ValueError: no such layer, class or order, `versus` equal to a target, or m out of range.
    """
    choice("order", order, ORDERS)
    other = None if versus is None else class_index(model, "versus", versus)
    scores, class_scores, targets = [], [], []
    sentences, places, activations, gradients = [], [], [], []
    first = 0
    for explained in _explained(model, ids, layer, target, other, with_gradients):
        batch, batch_scores, hidden = explained.ids, explained.scores, explained.activations
        ranked = {"most": batch_scores, "least": -batch_scores, "absolute": batch_scores.abs()}[order]
        chosen = select_locations(model, batch, ranked, layer, locations)
        scores.append(batch_scores)
        class_scores.append(explained.class_scores)
        targets += explained.targets
        sentences.append(chosen.sentence + first)
        places.append(chosen.location)
        activations.append(hidden[chosen.sentence, chosen.location])
        if with_gradients:
            gradients.append(explained.gradients[chosen.sentence, chosen.location])
        first += len(batch)
    return Located(
        torch.cat(same_width(scores)),
        torch.cat(class_scores),
        targets,
        Selection(torch.cat(sentences), torch.cat(places)),
        torch.cat(activations),
        torch.cat(gradients) if with_gradients else None,
    )


@dataclass(eq=False)
class _Explained:
    """Some of the sentences: ids (b, L), scores (b, P), activations and, where asked for, gradients (b, P, C)."""

    ids: Tensor
    scores: Tensor
    class_scores: Tensor
    activations: Tensor
    gradients: Tensor
    targets: list[int]


def _explained(
    model: TextClassifier, ids: Tensor, layer: int, target: ClassChoice, versus: int | None, with_gradients: bool
) -> Iterator[_Explained]:
    """Yields all sentences, as many at once as fit into little memory."""
    own, first = model.module_layer(layer), 0
    targets = [0] * len(ids)

    def choose(class_scores: Tensor, rows: list[int]) -> list[int]:
        sentences = [first + row for row in rows]
        asked = _targets(model, target, sentences, len(ids), class_scores)
        if versus is not None and versus in asked:
            message = f"versus: expected another class than the explained one, got {got(model.classes[versus])}"
            if target is None:
                message += f", which is predicted for sentence {sentences[asked.index(versus)]}; name a target too"
            raise ValueError(message)
        for sentence, each in zip(sentences, asked, strict=True):
            targets[sentence] = each
        return asked

    if own is not None:
        for batch in ids.split(batch_size(model, layer, ids.shape[1])):
            found = own.explain(batch, choose, versus)
            scores = (found.gradients * found.activations).sum(dim=2)
            asked = targets[first : first + len(batch)]
            yield _Explained(batch, scores, found.class_scores, found.activations, found.gradients, asked)
            first += len(batch)
        return
    for batch, usual, hidden in layer_activations(model, ids, layer):
        asked = choose(usual.class_scores, list(range(len(batch))))
        scores, slopes = usual.scores, hidden[:0]
        if target is not None or versus is not None or with_gradients:
            slopes = score_gradients(model, hidden, layer, asked, versus)
        if target is not None or versus is not None:
            scores = (slopes * hidden).sum(dim=2)
        yield _Explained(batch, scores, usual.class_scores, hidden, slopes, asked)
        first += len(batch)


def class_index(model: TextClassifier, name: str, value: object) -> int:
    """Returns the index of a class given by name or index; raises ValueError where there is none."""
    if isinstance(value, str):
        return model.classes.index(choice(name, value, model.classes))
    return integer(name, value, least=0, most=len(model.classes) - 1)


def _targets(
    model: TextClassifier, target: ClassChoice, sentences: list[int], count: int, class_scores: Tensor
) -> list[int]:
    """The explained classes of some of `count` sentences, whose class scores these are."""
    if target is None:
        return predicted(class_scores, sentences)
    if isinstance(target, Tensor) and target.dim() > 0:
        target = target.tolist()
    if isinstance(target, Sequence) and not isinstance(target, str):
        if len(target) != count:
            raise ValueError(f"target: expected one class for each of {count} sentences, got {len(target)}")
        return [class_index(model, "target", target[sentence]) for sentence in sentences]
    value = target.item() if isinstance(target, Tensor) else target
    return [class_index(model, "target", value)] * len(class_scores)
