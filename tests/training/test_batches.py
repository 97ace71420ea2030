from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from fastinterp.training.batches import batches_of_like_length


def drawn_lengths(count: int, seed: int) -> torch.Tensor:
    return torch.randint(0, 50, (count,), generator=torch.Generator().manual_seed(seed))


@given(st.integers(1, 700), st.integers(1, 40), st.integers(0, 99))
def test_every_row_stands_in_one_batch_of_an_epoch(count: int, batch_size: int, seed: int):
    batches = batches_of_like_length(drawn_lengths(count, seed), batch_size, torch.Generator().manual_seed(seed))
    assert torch.equal(torch.cat(batches).sort().values, torch.arange(count))
    sizes = sorted(len(batch) for batch in batches)
    assert len(sizes) == -(-count // batch_size)
    assert all(size == batch_size for size in sizes[1:])


def test_batches_hold_little_padding_and_are_not_in_order_of_length():
    lengths = drawn_lengths(4096, 0)
    longest = torch.tensor(
        [lengths[batch].max() for batch in batches_of_like_length(lengths, 64, torch.Generator().manual_seed(0))]
    )
    assert longest.sum() * 64 < 1.1 * lengths.sum()
    assert not torch.equal(longest, longest.sort().values)
    assert not torch.equal(longest, longest.sort(descending=True).values)


def test_the_seed_decides_the_batches_and_each_epoch_has_others():
    lengths = drawn_lengths(500, 0)

    def rows(generator: torch.Generator) -> list[list[int]]:
        return [batch.tolist() for batch in batches_of_like_length(lengths, 10, generator)]

    generator = torch.Generator().manual_seed(1)
    first, second = rows(generator), rows(generator)
    assert rows(torch.Generator().manual_seed(1)) == first
    assert rows(torch.Generator().manual_seed(2)) != first
    assert set(map(frozenset, first)).isdisjoint(map(frozenset, second))
