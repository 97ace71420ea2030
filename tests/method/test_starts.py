from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from fastinterp.method.starts import content_keys, mix


@given(st.lists(st.lists(st.integers(0, 2**40), min_size=4, max_size=4), max_size=5))
def test_content_keys_mix_the_columns_in_their_order(rows: list[list[int]]):
    ids = torch.tensor(rows, dtype=torch.int64).reshape(-1, 4)
    expected = torch.zeros(len(ids), dtype=torch.int64)
    for column in ids.T:
        expected = mix(expected, column)
    assert torch.equal(content_keys(ids), expected)


def test_keys_depend_on_every_token_and_its_place():
    ids = torch.tensor([[2, 3, 0], [3, 2, 0], [2, 3, 1], [2, 0, 3], [2, 3, 0]])
    keys = content_keys(ids).tolist()
    assert len(set(keys)) == 4
    assert keys[0] == keys[4]
