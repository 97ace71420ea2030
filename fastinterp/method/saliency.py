"""Which locations of a hidden layer decide a prediction (Eq. 1-3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fastinterp.kernels import ops
from fastinterp.models.protocol import TextClassifier
from fastinterp.text.sentences import check_sentences
from fastinterp.text.vocabulary import PAD
from fastinterp.validation import integer


@dataclass(frozen=True)
class Saliency:
    """The saliency of B sentences at one layer, on the model's device.

    Attributes:
        scores: (B, L) float32, Score_i of every location for the predicted class.
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
        if sentences.dtype != torch.int64 or sentences.dim() != 2 or sentences.shape[1] != model.length:
            raise ValueError(
                f"sentences: expected int64 ids of shape (B, {model.length}), got {sentences.dtype} of shape "
                f"{tuple(sentences.shape)}"
            )
        if sentences.numel() and (sentences.min() < 0 or sentences.max() >= size):
            raise ValueError(f"sentences: expected ids 0 to {size - 1}")
        if ((sentences[:, 1:] != PAD) & (sentences[:, :-1] == PAD)).any():
            raise ValueError("sentences: expected padding behind the tokens, got a token behind padding")
        return sentences
    return model.read(check_sentences(sentences)).ids


def saliency(model: TextClassifier, sentences: Iterable[str] | Tensor, layer: int = 0) -> Saliency:
    """Returns the saliency of every location of a layer for each sentence's predicted class (Eq. 1-3).

    Dropout is never applied: a model in training mode gives the numbers that it gives in evaluation mode.

    Args:
        model: the classifier.
        sentences: B raw texts, or their ids (B, L) int64.
        layer: index of the convolution, 0 for the first.

    Raises:
        ValueError: no such layer, ids outside the vocabulary, or weights that cannot be explained: not float32, NaN,
            or a padding row that is not zero.
        TypeError: `sentences` is a single string.
    """
    ids = token_ids(model, sentences)
    model.prepared()
    parts = [_explain(model, batch, layer, keep_activations=False)[0] for batch in ids.split(_batch_size(model, layer))]
    return _join(parts)


def _batch_size(model: TextClassifier, layer: int) -> int:
    """How many sentences keep word vectors and activations of a batch below 64 MiB."""
    floats = model.length * (model.word_vectors.shape[1] + model.stack(layer).channels)
    return max(1, (1 << 24) // floats)


def _explain(model: TextClassifier, ids: Tensor, layer: int, keep_activations: bool) -> tuple[Saliency, Tensor]:
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
    return Saliency(torch.cat([part.scores for part in parts]), torch.cat([part.class_scores for part in parts]))


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
    for batch in ids.split(_batch_size(model, layer)):
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
    before = model.stack(layer).before
    lengths = (ids != PAD).sum(dim=1).to(scores.device)
    # The last location that sees a token stands `before` positions after it.
    visible = torch.where(lengths > 0, (lengths + before).clamp(max=ids.shape[1]), 0)
    hidden = torch.arange(ids.shape[1], device=scores.device) >= visible[:, None]
    order = scores.masked_fill(hidden, -torch.inf).argsort(dim=1, descending=True, stable=True)[:, :count]
    kept = torch.arange(order.shape[1], device=scores.device) < visible[:, None]
    return Selection(kept.nonzero()[:, 0], order[kept])
