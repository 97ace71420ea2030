from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastinterp.evaluation import draws as module
from fastinterp.evaluation.draws import draw_others, random_scores

LOCATIONS = st.lists(st.tuples(st.integers(-5, 5), st.integers(0, 2)), min_size=1, max_size=60)


@given(LOCATIONS, st.integers(1, 20), st.integers(0, 3), st.sampled_from([1, 64, 1 << 22]))
def test_others_are_of_the_class_and_of_other_sentences(
    rows: list[tuple[int, int]], count: int, seed: int, at_once: int
):
    sentence, label = (torch.tensor(column) for column in zip(*rows, strict=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CANDIDATES_AT_ONCE", at_once)
        drawn = draw_others(sentence, label, count, seed).tolist()
    for mine, others in enumerate(drawn):
        pool = {row for row in range(len(rows)) if rows[row][1] == rows[mine][1] and rows[row][0] != rows[mine][0]}
        found = [row for row in others if row >= 0]
        assert len(found) == len(set(found)) == min(count, len(pool))
        assert set(found) <= pool
        assert others[len(found) :] == [-1] * (count - len(found))


@given(st.integers(0, 20), st.integers(0, 3))
def test_a_draw_does_not_depend_on_the_order_of_sentences(order_seed: int, seed: int):
    sentence = torch.randint(-(2**63), 2**63 - 1, (40,), generator=torch.Generator().manual_seed(9))
    label = torch.arange(40) % 2
    order = torch.randperm(40, generator=torch.Generator().manual_seed(order_seed))
    rows = (3 * order[:, None] + torch.arange(3)).flatten()  # a sentence's own locations keep theirs
    straight = draw_others(sentence.repeat_interleave(3), label.repeat_interleave(3), 20, seed)
    shuffled = draw_others(sentence.repeat_interleave(3)[rows], label.repeat_interleave(3)[rows], 20, seed)
    assert torch.equal(rows[shuffled], straight[rows])


def test_every_other_is_as_likely():
    sentence, label = torch.arange(30), torch.zeros(30, dtype=torch.int64)
    hits = torch.zeros(30, 30)
    for seed in range(600):
        drawn = draw_others(sentence, label, 5, seed)
        hits.scatter_add_(1, drawn, torch.ones(drawn.shape))
    assert not hits.diagonal().any()
    # 600 draws with probability 5 / 29 each: mean 103.4, standard deviation 9.25.
    others = hits[~torch.eye(30, dtype=torch.bool)]
    assert float((others - 103.4).abs().max()) < 5 * 9.25
    assert float(((others - 103.4) ** 2).mean()) < 1.3 * 9.25**2


def test_within_one_draw_every_location_is_drawn_as_often():
    drawn = draw_others(torch.arange(30), torch.zeros(30, dtype=torch.int64), 5, seed=0)
    assert drawn.flatten().bincount().tolist() == [5] * 30


def test_random_scores_are_uniform_and_depend_on_nothing_else():
    keys = torch.arange(2000)
    scores = random_scores(keys, 10, seed=4)
    assert scores.dtype == torch.float64
    assert float(scores.min()) >= 0
    assert float(scores.max()) < 1
    # A bin of 20,000 / 16: mean 1,250, standard deviation 34.
    assert float((torch.histc(scores.float(), 16, 0, 1) - 1250).abs().max()) < 5 * 34.3
    assert abs(float(torch.corrcoef(scores.T)[0, 1:].abs().max())) < 0.1
    assert torch.equal(random_scores(keys[7:9], 6, seed=4), scores[7:9, :6])
    assert not torch.equal(random_scores(keys, 10, seed=5), scores)
