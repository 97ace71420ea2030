"""What an optimised input means in words (Eq. 8)."""

from __future__ import annotations

import torch
from torch import Tensor

from fastinterp.kernels import ops
from fastinterp.models.protocol import TextClassifier
from fastinterp.validation import integer


def nearest_words(model: TextClassifier, vectors: Tensor, neighbors: int = 5) -> list[list[tuple[str, float]]]:
    """Returns for each vector the words of highest cosine in the model's embedding, best first.

    The search is exact; ties go to the word of the lower id. Padding, the unknown word and words whose vector is
    zero are never returned. A zero vector has cosine 0 with every word.

    Args:
        model: the classifier whose vocabulary is searched.
        vectors: (Q, D) float32.
        neighbors: number of words, k.

    Raises:
        ValueError: vectors of another shape or dtype or not finite, or more neighbours than there are words.
    """
    width = model.word_vectors.shape[1]
    if vectors.dim() != 2 or vectors.shape[1] != width or vectors.dtype != torch.float32:
        raise ValueError(
            f"vectors: expected float32 of shape (Q, {width}), got {vectors.dtype} of shape {tuple(vectors.shape)}"
        )
    if vectors.device != model.device:
        raise ValueError(f"vectors: expected on the model's {model.device}, got on {vectors.device}")
    if not torch.isfinite(vectors).all():
        raise ValueError("vectors: expected finite values, got NaN or infinity")
    prepared = model.prepared()
    count = integer("neighbors", neighbors, least=1, most=prepared.searchable)  # the words with a vector
    cosines, indices = ops.cosine_topk(vectors.contiguous(), model.word_vectors, prepared.inverse_norms, count)
    words = model.words
    return [
        [(words[index], cosine) for index, cosine in zip(*row, strict=True)]
        for row in zip(indices.tolist(), cosines.tolist(), strict=True)
    ]
