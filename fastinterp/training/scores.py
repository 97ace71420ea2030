"""Class scores of a batch of token ids without needless work: `ConvTextModel.forward` by a shorter road.

What the plain forward pass computes many times is computed once. A word that stands several times in a batch meets
the first convolution's weights once, and its products are then summed wherever it stands. And the columns behind the
longest sentence are the same for every sentence, and all alike up to the frame's right edge. Both are exact: scores
and gradients equal those of the plain pass but for rounding. Training is where it pays; the plain pass is the one that
can be hooked into and read.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fastinterp.models.conv import ConvTextModel
from fastinterp.text.vocabulary import PAD

_SENTENCES_AT_ONCE = 256  # bounds the memory of a forward pass


def distinct_words(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the words of a batch and where they stand.

    Args:
        ids: (B, L) int64 token ids.

    Returns:
        words: (U,) int64 ids in ascending order, without the padding.
        places: (B, n) int64, n the length of the longest sentence but at least 1: index into `words`, U for padding.
    """
    used = (ids != PAD).any(dim=0).nonzero()
    tokens = ids[:, : int(used[-1]) + 1 if len(used) else 1].contiguous()
    words = tokens[tokens != PAD].unique()
    return words, torch.searchsorted(words, tokens).masked_fill(tokens == PAD, len(words))


def batch_scores(model: ConvTextModel, vectors: Tensor, places: Tensor) -> Tensor:
    """Returns class scores (B, classes), before softmax, of a batch.

    Args:
        model: gives the weights, and whether features are dropped.
        vectors: (U, D) of the batch's words; gradients flow to them.
        places: (B, n) int64, as `distinct_words` returns them.
    """
    maxima = [_maxima(model, end, vectors, places) for end in model.config.ends]
    scores: Tensor = model.linear(model.dropout(torch.cat(maxima, dim=1)))
    return scores


def _maxima(model: ConvTextModel, layer: int, vectors: Tensor, places: Tensor) -> Tensor:
    """Returns the maxima over time (B, C) of a layer, whose convolutions alone are computed; see `batch_scores`."""
    before, after = model.config.receptive_field(layer)
    hidden: Tensor | None = None
    # What a layer holds behind the longest sentence, (1, C, 1 + E): the column that sees padding alone, which is
    # repeated up to the last E, which see the frame's edge.
    tail: Tensor | None = None
    if places.shape[1] + before + 1 + after <= model.length:
        tail = vectors.new_zeros(1, vectors.shape[1], 1)
    else:  # Every column of the last layer may see a token or an edge, so that the whole frame is computed.
        places = functional.pad(places, (0, model.length - places.shape[1]), value=len(vectors))
    layers: list[Any] = [model.convolutions[i] for i in model.config.chain(layer)]
    for weight, bias in ((layer.weight, layer.bias) for layer in layers):
        left, right = (weight.shape[2] - 1) // 2, weight.shape[2] // 2
        # Where a tail follows, a layer has `left` more columns that see a token than the one below.
        behind = right if tail is None else left + right
        if hidden is None:
            framed = functional.pad(places, (left, behind), value=len(vectors))
            hidden = model.activation(_word_convolution(vectors, framed, weight, bias))
        else:
            column = hidden.new_zeros(1, hidden.shape[1], 1) if tail is None else tail[..., :1]
            hidden = functional.pad(hidden, (left, 0))
            hidden = torch.cat([hidden, column.expand(len(hidden), -1, behind)], dim=2)
            hidden = model.activation(functional.conv1d(hidden, weight, bias))
        if tail is not None:
            inner = torch.cat([tail[..., :1].expand(-1, -1, left + right), tail], dim=2)
            tail = model.activation(functional.conv1d(functional.pad(inner, (0, right)), weight, bias))
    assert hidden is not None  # a model has at least one layer
    maxima = hidden.amax(dim=2)
    return maxima if tail is None else torch.maximum(maxima, tail.amax(dim=2))


def class_scores(model: ConvTextModel, ids: Tensor) -> Tensor:
    """Returns class scores (N, classes) on the CPU of token ids (N, L), sentences of like length at once."""
    order = (ids != PAD).sum(dim=1).argsort(stable=True)
    with torch.inference_mode():
        scores = [_scores_of_ids(model, ids[rows].to(model.device)).cpu() for rows in order.split(_SENTENCES_AT_ONCE)]
    return torch.cat(scores)[order.argsort()]


def _scores_of_ids(model: ConvTextModel, ids: Tensor) -> Tensor:
    words, places = distinct_words(ids)
    return batch_scores(model, model.word_vectors[words], places)


def _word_convolution(vectors: Tensor, framed: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Returns the convolution (B, C, m - K + 1) of the words' vectors (U, D) at the places framed (B, m)."""
    channels, width, kernel = weight.shape
    known = torch.cat([vectors, vectors.new_zeros(1, width)])  # the last one is the padding's
    products = (known @ weight.permute(1, 2, 0).reshape(width, kernel * channels)).view(-1, channels)
    windows = framed.unfold(1, kernel, 1) * kernel + torch.arange(kernel, device=framed.device)
    summed = functional.embedding_bag(windows.reshape(-1, kernel), products, mode="sum")
    return (summed.view(len(framed), -1, channels) + bias).transpose(1, 2)
