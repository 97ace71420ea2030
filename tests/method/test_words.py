from __future__ import annotations

import pytest
import torch
from conftest import WORDS, small_model

from fastinterp import ConvTextModel, nearest_words


def test_words_of_highest_cosine_come_best_first(model: ConvTextModel):
    vectors = torch.randn(4, 7, generator=torch.Generator().manual_seed(0))
    matrix = model.embedding.weight.detach().double()[2:]
    cosines = torch.nn.functional.cosine_similarity(vectors.double()[:, None], matrix[None], dim=2)
    expected = cosines.topk(5, dim=1)
    for row, values, indices in zip(nearest_words(model, vectors), *expected, strict=True):
        assert [word for word, _ in row] == [WORDS[i] for i in indices]
        assert [cosine for _, cosine in row] == pytest.approx(values.tolist(), abs=1e-6)


def test_padding_unknown_and_zero_words_are_never_returned():
    model = small_model()
    with torch.no_grad():
        model.embedding.weight[4] = 0  # "film"
    words = {word for word, _ in nearest_words(model, model.embedding.weight.detach()[1:2], 11)[0]}
    assert words == set(WORDS) - {"film"}


def test_a_zero_vector_has_cosine_0_with_the_first_words(model: ConvTextModel):
    assert nearest_words(model, torch.zeros(1, 7), 3) == [[("good", 0.0), ("bad", 0.0), ("film", 0.0)]]


@pytest.mark.parametrize(
    ("vectors", "neighbors", "message"),
    [
        (torch.zeros(2, 6), 5, r"vectors: expected float32 of shape \(Q, 7\)"),
        (torch.zeros(2, 7, dtype=torch.float64), 5, "got torch.float64"),
        (torch.full((1, 7), float("nan")), 5, "vectors: expected finite values"),
        (torch.zeros(2, 7), 0, "neighbors: expected 1 to 12"),
        (torch.zeros(2, 7), 13, "neighbors: expected 1 to 12"),
    ],
)
def test_bad_arguments_are_named(model: ConvTextModel, vectors, neighbors: int, message: str):
    with pytest.raises(ValueError, match=message):
        nearest_words(model, vectors, neighbors)
