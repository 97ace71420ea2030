"""What an optimised input means in words (Eq. 8)."""

from __future__ import annotations

import torch
from torch import Tensor

from fastinterp.kernels import ops
from fastinterp.models.conv import ConvTextModel
from fastinterp.text.vocabulary import SPECIAL_WORDS


def nearest_words(model: ConvTextModel, vectors: Tensor, neighbors: int = 5) -> list[list[tuple[str, float]]]:
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
    if vectors.dim() != 2 or vectors.shape[1] != model.config.embedding_dimension or vectors.dtype != torch.float32:
        raise ValueError(
            f"vectors: expected float32 of shape (Q, {model.config.embedding_dimension}), got {vectors.dtype} of "
            f"shape {tuple(vectors.shape)}"
        )
    if vectors.device != model.device:
        raise ValueError(f"vectors: expected on the model's {model.device}, got on {vectors.device}")
    if not torch.isfinite(vectors).all():
        raise ValueError("vectors: expected finite values, got NaN or infinity")
    matrix = model.embedding.weight.detach()
    norms = torch.linalg.vector_norm(matrix, dim=1, dtype=torch.float64)
    norms[: len(SPECIAL_WORDS)] = 0
    inverse_norms = torch.where(norms > 0, 1 / norms, 0).to(torch.float32)
    searchable = int((inverse_norms > 0).sum())
    if not 1 <= neighbors <= searchable:
        raise ValueError(f"neighbors: expected 1 to {searchable}, the words with a vector, got {neighbors}")
    cosines, indices = ops.cosine_topk(vectors.contiguous(), matrix, inverse_norms, neighbors)
    words = model.vocabulary.words
    return [
        [(words[index], cosine) for index, cosine in zip(*row, strict=True)]
        for row in zip(indices.tolist(), cosines.tolist(), strict=True)
    ]
