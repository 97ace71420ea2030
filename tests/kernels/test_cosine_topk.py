"""cosine_topk against the reference in float64, over drawn shapes; and what must not change a result."""

from __future__ import annotations

import pytest
import torch
from comparisons import BATCH, assert_batching_changes_nothing, assert_threads_change_nothing, check_operator
from hypothesis import given
from problems import SearchProblem, search_problems

from fastinterp.kernels import ops, reference


@given(search_problems())
def test_cosine_topk_agrees_with_the_reference(processor: str, problem: SearchProblem):
    arguments = [each.to(processor) for each in (problem.queries, problem.vocabulary, problem.inverse_norms)]
    cosines, indices = (each.cpu() for each in ops.cosine_topk(*arguments, problem.k))
    expected, _ = reference.cosine_topk(
        problem.queries.double(), problem.vocabulary.double(), problem.inverse_norms.double(), problem.k
    )
    assert cosines.shape == indices.shape == (len(problem.queries), problem.k)
    torch.testing.assert_close(cosines.double(), expected, rtol=0, atol=2e-6)
    # Every index must stand for its cosine, be distinct and searchable; equal cosines stand in ascending order.
    for query, row, values in zip(problem.queries.double(), indices, cosines, strict=True):
        assert len(set(row.tolist())) == problem.k
        assert (problem.inverse_norms[row] > 0).all()
        words = problem.vocabulary[row].double()
        exact = torch.nn.functional.cosine_similarity(words, query[None], eps=1e-30)
        torch.testing.assert_close(values.double(), exact, rtol=0, atol=2e-6)
        tied = values[1:] == values[:-1]
        assert (row[1:][tied] > row[:-1][tied]).all()
        assert (values[1:] <= values[:-1]).all()


def test_words_with_the_same_vector_tie_to_the_lower_index(processor: str):
    vector = torch.randn(300, generator=torch.Generator().manual_seed(0))
    vocabulary = vector.repeat(1000, 1).to(processor)
    inverse_norms = torch.full((1000,), 1 / float(vector.norm()), device=processor)
    _, indices = ops.cosine_topk(vocabulary[:1], vocabulary, inverse_norms, 64)
    assert indices.tolist() == [list(range(64))]


@pytest.mark.parametrize("count", [1, 40])
def test_words_that_point_where_the_query_points_tie_to_the_lower_index(processor: str, count: int):
    """Rounded cosines differ in their last bit, some past 1; what is returned is in order by cosine, then index."""
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(300, generator=generator)
    vocabulary = (vector * (torch.rand(500, 1, generator=generator) + 0.1)).to(processor)
    inverse_norms = 1 / vocabulary.norm(dim=1)
    cosines, indices = ops.cosine_topk(vocabulary[:count].contiguous(), vocabulary, inverse_norms, 64)
    assert (cosines <= 1).all()
    tied = cosines[:, 1:] == cosines[:, :-1]
    assert (indices[:, 1:][tied] > indices[:, :-1][tied]).all()
    assert tied.any()


def fixed(device: str, rows: slice) -> tuple[torch.Tensor, ...]:
    """The results for some rows of a fixed batch of queries."""
    generator = torch.Generator().manual_seed(3)
    queries = torch.randn(BATCH, 300, generator=generator).to(device)
    vocabulary = torch.randn(501, 300, generator=generator).to(device)
    return ops.cosine_topk(queries[rows], vocabulary, 1 / vocabulary.norm(dim=1), 5)


def test_cosine_topk_does_not_depend_on_the_batch(processor: str):
    assert_batching_changes_nothing(lambda rows: fixed(processor, rows))


def test_cosine_topk_does_not_depend_on_the_number_of_threads(cpu: str, threads):
    assert_threads_change_nothing(threads, lambda rows: fixed(cpu, rows))


def test_cosine_topk_passes_opcheck(processor: str):
    queries, vocabulary = torch.randn(2, 8, device=processor), torch.randn(9, 8, device=processor)
    inverse_norms = torch.ones(9, device=processor)
    check_operator("cosine_topk", queries=queries, vocabulary=vocabulary, inverse_norms=inverse_norms, k=2)


@pytest.mark.parametrize("k", [0, 4])
def test_cosine_topk_refuses_more_words_than_there_are(checking_device: str, k: int):
    inverse_norms = torch.tensor([1.0, 0, 1, 1])
    with pytest.raises(ValueError, match="k: expected 1 to 3"):
        ops.cosine_topk(torch.ones(1, 2), torch.ones(4, 2), inverse_norms, k)
