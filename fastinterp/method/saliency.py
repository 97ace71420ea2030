"""Which locations of a hidden layer decide a prediction (Eq. 1-3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastinterp.kernels import ops
from fastinterp.models.protocol import TextClassifier
from fastinterp.text.sentences import check_sentences
from fastinterp.text.vocabulary import PAD
from fastinterp.validation import integer


@dataclass(frozen=True)
class Saliency:
    """The saliency of B sentences at one layer, on the model's device.

    Attributes:
        scores: (B, L) float32, Score_i of every location for the predicted class; 0 behind a sentence's last location
            where sentences have frames of their own.
        class_scores: (B, classes) float32, before softmax.
    """

    scores: Tensor
    class_scores: Tensor


def token_ids(model: TextClassifier, sentences: Iterable[str] | Tensor) -> Tensor:
    """Returns (B, L) int64 ids of raw sentences on the CPU; ids that are given already are checked and returned.

    Raises:
        TypeError: a single string, or something that is no text.
        ValueError: ids of another shape or dtype, or outside the vocabulary.
    """
    if isinstance(sentences, Tensor):
        size = len(model.words)
        frame = int(model.frames(sentences).max()) if sentences.dim() == 2 and len(sentences) else model.length
        if sentences.dtype != torch.int64 or sentences.dim() != 2 or sentences.shape[1] != frame:
            raise ValueError(
                f"sentences: expected int64 ids of shape (B, {frame}), got {sentences.dtype} of shape "
                f"{tuple(sentences.shape)}"
            )
        if sentences.numel() and (sentences.min() < 0 or sentences.max() >= size):
            raise ValueError(f"sentences: expected ids 0 to {size - 1}")
        if ((sentences[:, 1:] != PAD) & (sentences[:, :-1] == PAD)).any():
            raise ValueError("sentences: expected padding behind the tokens, got a token behind padding")
        return sentences
    return model.read(check_sentences(sentences)).ids


def saliency(model: TextClassifier, sentences: Iterable[str] | Tensor, layer: int | str | nn.Module = 0) -> Saliency:
    """Returns the saliency of every location of a layer for each sentence's predicted class (Eq. 1-3).

    Dropout is never applied: a model in training mode gives the numbers that it gives in evaluation mode.

    Args:
        model: the classifier.
        sentences: B raw texts, or their ids (B, L) int64.
        layer: index of the layer, 0 for the first, for an adapted module also its name, or the module.

    Raises:
        ValueError: no such layer, ids outside the vocabulary, or weights that cannot be explained: not float32, NaN,
            or a padding row that is not zero.
        TypeError: `sentences` is a single string.
    """
    ids = token_ids(model, sentences)
    place = model.layer_index(layer)
    model.prepared()
    size = batch_size(model, place, ids.shape[1])
    return _join([_explain(model, batch, place, keep_activations=False)[0] for batch in ids.split(size)])


def batch_size(model: TextClassifier, layer: int, length: int) -> int:
    """How many sentences of so many positions keep word vectors and activations of a batch below 64 MiB."""
    own = model.module_layer(layer)
    # A module's own pass keeps what it needs to go back; how much that is nobody knows.
    channels = model.stack(layer).channels if own is None else 3 * model.word_vectors.shape[1]
    return max(1, (1 << 24) // (max(1, length) * (model.word_vectors.shape[1] + channels)))


def predicted(class_scores: Tensor, rows: list[int]) -> list[int]:
    """Returns the predicted class of each sentence: the explained one where no other is asked for."""
    classes: list[int] = class_scores.argmax(dim=1).tolist()
    return classes


def _explain(model: TextClassifier, ids: Tensor, layer: int, keep_activations: bool) -> tuple[Saliency, Tensor]:
    own = model.module_layer(layer)
    if own is not None:
        found = own.explain(ids, predicted, None)
        return Saliency((found.gradients * found.activations).sum(dim=2), found.class_scores), found.activations
    stack = model.stack(model.layers - 1)
    lengths = (ids != PAD).sum(dim=1)
    longest = int(lengths.max()) if len(ids) else 0
    scores, class_scores, activations = ops.saliency(
        model.word_vectors[ids[:, :longest].to(model.device)],
        lengths.to(model.device),
        model.length,
        list(stack.weights),
        list(stack.biases),
        *model.head,
        stack.activation,
        layer,
        keep_activations,
    )
    return Saliency(scores, class_scores), activations


def _join(parts: list[Saliency]) -> Saliency:
    scores = torch.cat(same_width([part.scores for part in parts]))
    return Saliency(scores, torch.cat([part.class_scores for part in parts]))


def same_width(parts: Sequence[Tensor]) -> list[Tensor]:
    """Returns tensors (n, W, ...) of as many columns as the widest, zeros behind those that had fewer."""
    widest = max((part.shape[1] for part in parts), default=0)
    return [functional.pad(part, (0, 0) * (part.dim() - 2) + (0, widest - part.shape[1])) for part in parts]


@dataclass(frozen=True)
class Selection:
    """The most salient locations of B sentences, flat: N locations in the order of their sentences.

    Attributes:
        sentence: (N,) int64, row of the sentence, on the model's device as is `location`.
        location: (N,) int64, index of the location, the most salient of a sentence first.
    """

    sentence: Tensor
    location: Tensor


def explain_locations(
    model: TextClassifier, ids: Tensor, layer: int, locations: int
) -> tuple[Saliency, Selection, Tensor]:
    """Returns the saliency of every location, the selected ones, and the activations (N, C) of those alone.

    Args:
        model: the classifier.
        ids: (B, L) int64; padding only behind the tokens.
        layer: index of the convolution.
        locations: m, at most L.

    Raises:
        ValueError: no such layer, or m is not between 1 and L.
    """
    saliencies, sentences, places, activations = [], [], [], []
    first = 0
    for batch, found, hidden in layer_activations(model, ids, layer):
        chosen = select_locations(model, batch, found.scores, layer, locations)
        saliencies.append(found)
        sentences.append(chosen.sentence + first)
        places.append(chosen.location)
        activations.append(hidden[chosen.sentence, chosen.location])
        first += len(batch)
    return _join(saliencies), Selection(torch.cat(sentences), torch.cat(places)), torch.cat(activations)


def layer_activations(model: TextClassifier, ids: Tensor, layer: int) -> Iterator[tuple[Tensor, Saliency, Tensor]]:
    """Yields ids, saliency and all activations (b, L, C) of as many sentences at once as fit into little memory."""
    for batch in ids.split(batch_size(model, layer, ids.shape[1])):
        yield batch, *_explain(model, batch, layer, keep_activations=True)


def select_locations(model: TextClassifier, ids: Tensor, scores: Tensor, layer: int, locations: int) -> Selection:
    """Returns the `locations` highest-scoring locations of each sentence, ties to the lower index.

    A location that sees only padding is never selected, so a short sentence may have fewer and an empty one none.

    Args:
        model: the classifier.
        ids: (B, L) int64.
        scores: (B, L) from `saliency`.
        layer: the layer of the scores.
        locations: m, at most L.

    Raises:
        ValueError: m is not between 1 and L.
    """
    count = integer("locations", locations, least=1, most=model.length)
    visible = visible_locations(model, ids, layer, scores.shape[1]).to(scores.device)
    order = scores.masked_fill(~visible, -torch.inf).argsort(dim=1, descending=True, stable=True)[:, :count]
    kept = torch.arange(order.shape[1], device=scores.device) < visible.sum(dim=1)[:, None]
    return Selection(kept.nonzero()[:, 0], order[kept])


def visible_locations(model: TextClassifier, ids: Tensor, layer: int, most: int) -> Tensor:
    """Returns (B, most) bool, on the CPU: which locations there are in each sentence that see a token of its own."""
    places = torch.arange(most)
    exist = places < model.locations(layer, model.frames(ids))[:, None]
    return exist & model.field(layer).sees(places, model.own_tokens(ids))
