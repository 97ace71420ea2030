from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from conftest import small_model
from hypothesis import given
from hypothesis import strategies as st

from fastinterp import fit_background
from fastinterp.evaluation.bootstrap import SentenceSums, bootstrap_mean, bootstrap_over_seeds
from fastinterp.evaluation.over_seeds import (
    background_agreement,
    row_record,
    rows_over_seeds,
    sums_of_record,
    sums_record,
)
from fastinterp.evaluation.rows import AnswerRow

VALUES = st.lists(
    st.tuples(st.integers(0, 6), st.sampled_from([0.0, 1.0, 0.5, -2.0, math.nan])), min_size=1, max_size=25
)


def sums_of(rows: list[tuple[int, float]]) -> SentenceSums:
    values, owner = torch.tensor([row[1] for row in rows]), torch.tensor([row[0] for row in rows])
    return SentenceSums.of(values, owner, 7)


@given(st.lists(VALUES, min_size=1, max_size=4), st.integers(0, 5))
def test_every_drawn_model_is_read_at_the_same_drawn_sentences(models: list[list[tuple[int, float]]], seed: int):
    found = bootstrap_over_seeds([sums_of(rows) for rows in models], seed, samples=40, level=0.8)
    groups = [[[v for who, v in rows if who == s and not math.isnan(v)] for s in range(7)] for rows in models]
    groups = [model for model in groups if any(model)]
    assert found.seeds == len(groups)
    if not groups:
        assert found.value is found.low is found.least is None
        return
    means = [sum(map(sum, model)) / sum(map(len, model)) for model in groups]
    assert found.value == pytest.approx(sum(means) / len(means))
    assert (found.least, found.most) == (pytest.approx(min(means)), pytest.approx(max(means)))
    measured = {s for model in groups for s in range(7) if model[s]}
    assert found.count == len(measured)
    if len(measured) < 2:
        assert found.low is None
        return
    sentences, picks = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])
    chosen = picks.integers(len(groups), size=(40, len(groups)))
    redrawn = []
    for draw in range(40):
        rows = sentences.integers(7, size=7)
        ratios = []
        for model in chosen[draw]:
            values = [v for s in rows for v in groups[model][s]]
            ratios += [sum(values) / len(values)] if values else []
        redrawn += [sum(ratios) / len(ratios)] if ratios else []
    np.testing.assert_allclose([found.low, found.high], np.quantile(redrawn, [0.1, 0.9]), atol=1e-9)


def test_models_that_differ_widen_the_interval_that_their_sentences_give():
    generator = torch.Generator().manual_seed(0)
    noise = [torch.rand(400, generator=generator) for _ in range(3)]
    same = bootstrap_over_seeds([SentenceSums.of(each, None, 400) for each in noise])
    apart = bootstrap_over_seeds([SentenceSums.of(each + shift, None, 400) for shift, each in enumerate(noise)])
    assert apart.high - apart.low > 10 * (same.high - same.low)
    assert (apart.least, apart.most) == (pytest.approx(0.5, abs=0.1), pytest.approx(2.5, abs=0.1))
    one = bootstrap_over_seeds([SentenceSums.of(noise[0], None, 400)])
    alone = bootstrap_mean(noise[0])
    assert (one.low, one.high) == (pytest.approx(alone.low, abs=0.005), pytest.approx(alone.high, abs=0.005))


def test_rows_come_back_from_json_and_only_those_that_every_model_has():
    sums = [sums_of([(0, 1.0), (3, 0.25), (3, math.nan)]), sums_of([(1, 0.5)])]
    rows = [AnswerRow.of("a", {"matching": each}, 2 + number, 0) for number, each in enumerate(sums)]
    lonely = AnswerRow.of("b", {"matching": sums[0]}, None, 0)
    records = json.loads(json.dumps([[row_record(rows[0]), row_record(lonely)], [row_record(rows[1])]]))
    (found,) = rows_over_seeds(records)
    assert found.answer == "a"
    assert found.different == (2, 3)
    assert found.estimates["matching"] == bootstrap_over_seeds(sums)
    back = sums_of_record(json.loads(json.dumps(sums_record(sums[0]))))
    assert back.sums.tolist() == sums[0].sums.tolist()
    assert back.counts.tolist() == sums[0].counts.tolist()


def test_what_does_not_fit_is_named():
    one = SentenceSums.of(torch.zeros(3), None, 3)
    for models in ([], [one, SentenceSums.of(torch.zeros(4), None, 4)]):
        with pytest.raises(ValueError, match="models: expected at least one, and as many sentences of each"):
            bootstrap_over_seeds(models)


def test_the_same_background_says_the_same_and_another_model_has_none(tmp_path):
    from fastinterp import load_model, save
    from fastinterp.errors import ModelError
    from fastinterp.method.companions import BACKGROUND_FILE

    texts = ["good film", "odd plot", "a dull slow plot the bad actor", "great great", "slow plot the", "fine odd"] * 5
    model = small_model(2)
    background = fit_background(model, texts)
    save(model, tmp_path / "m", companions={BACKGROUND_FILE: background.save})
    loaded = load_model(tmp_path / "m")
    same = background_agreement(loaded, texts[:6], background, 1, 2)
    assert same.sums.tolist() == same.counts.tolist()
    assert same.counts.sum() == 12
    with pytest.raises(ModelError, match="fitted to another model"):
        background_agreement(loaded, texts[:6], fit_background(small_model(3), texts), 1, 2)
