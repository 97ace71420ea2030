from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from conftest import WORDS, small_model
from hypothesis import given
from hypothesis import strategies as st

from fastinterp.evaluation import faithfulness as module
from fastinterp.evaluation.faithfulness import (
    MEASURES,
    SHARES,
    aopc,
    gradient_times_input,
    highest_tokens,
    keep_tokens,
    random_token_scores,
    random_tokens,
    selected_tokens,
    top_tokens,
)
from fastinterp.method.saliency import explain_locations
from fastinterp.models.conv import ConvTextModel

TEXTS = ["the good film", "", "odd", "a dull slow plot the bad actor good fine", "great great", "nowhere actor"]


def probabilities(model: ConvTextModel, words: list[str]) -> np.ndarray:
    """Softmax in float64 of a sentence of tokens, read alone."""
    scores = model.class_scores(model.token_ids([words])).double().numpy()[0]
    return np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()


@given(st.data())
def test_both_measures_are_drops_of_the_predicted_class_averaged_over_the_rationales(data: st.DataObject):
    model = small_model()
    sentences = data.draw(st.lists(st.lists(st.sampled_from(WORDS), max_size=9), max_size=5))
    ids = model.token_ids(sentences)
    count = data.draw(st.integers(1, 3))
    rationales = [
        torch.tensor(
            [data.draw(st.lists(st.booleans(), min_size=9, max_size=9)) for _ in sentences], dtype=torch.bool
        ).view(-1, 9)
        for _ in range(count)
    ]
    found = aopc(model, ids, rationales)
    assert list(found) == ["aopc_compr", "aopc_suff"]
    for row, words in enumerate(sentences):
        whole = probabilities(model, words)
        label, drops = int(whole.argmax()), {"aopc_compr": [], "aopc_suff": []}
        for rationale in rationales:
            inside = [word for word, named in zip(words, rationale[row].tolist(), strict=False) if named]
            outside = [word for word, named in zip(words, rationale[row].tolist(), strict=False) if not named]
            drops["aopc_compr"].append(whole[label] - probabilities(model, outside)[label])
            drops["aopc_suff"].append(whole[label] - probabilities(model, inside)[label])
        for name, values in drops.items():
            assert float(found[name][row]) == pytest.approx(
                np.mean(values) if words else math.nan, abs=1e-6, nan_ok=True
            )


def test_whole_and_empty_rationales_are_the_ends(model: ConvTextModel):
    ids = model.encode(TEXTS)
    everything, nothing = torch.ones_like(ids, dtype=torch.bool), torch.zeros_like(ids, dtype=torch.bool)
    whole, none = aopc(model, ids, [everything]), aopc(model, ids, [nothing])
    has = ids.any(dim=1)
    assert not whole["aopc_suff"][has].any()
    assert not none["aopc_compr"][has].any()
    assert torch.equal(whole["aopc_compr"][has], none["aopc_suff"][has])
    assert whole["aopc_compr"][~has].isnan().all()


def test_the_measures_say_how_to_be_read_as_ferret_does():
    assert [(each.SHORT_NAME, each.LOWER_IS_BETTER, each.BEST_VALUE) for each in MEASURES] == [
        ("aopc_compr", False, 1),
        ("aopc_suff", True, 0),
    ]
    assert all((each.MIN_VALUE, each.MAX_VALUE) == (-1, 1) for each in MEASURES)


@given(st.lists(st.lists(st.booleans(), max_size=9), min_size=1, max_size=5))
def test_tokens_that_are_kept_move_together(rows: list[list[bool]]):
    ids, kept = torch.zeros(len(rows), 9, dtype=torch.int64), torch.zeros(len(rows), 9, dtype=torch.bool)
    for row, flags in enumerate(rows):
        ids[row, : len(flags)] = torch.arange(len(flags)) + 2
        kept[row, : len(flags)] = torch.tensor(flags, dtype=torch.bool)
    for flags, found in zip(rows, keep_tokens(ids, kept).tolist(), strict=True):
        left = [place + 2 for place, flag in enumerate(flags) if flag]
        assert found == left + [0] * (9 - len(left))


@given(st.integers(0, 40), st.integers(0, 100), st.booleans())
def test_top_tokens_are_the_best_of_each_share(length: int, seed: int, ties: bool):
    ids = torch.zeros(1, 40, dtype=torch.int64)
    ids[0, :length] = 5
    scores = torch.randn(1, 40, generator=torch.Generator().manual_seed(seed))
    scores = scores.round() if ties else scores
    order = sorted(range(length), key=lambda place: (-float(scores[0, place]), place))
    for share, found in zip(SHARES, top_tokens(ids != 0, scores), strict=True):
        count = -(-length * round(share * 100) // 100)
        assert found[0].nonzero()[:, 0].tolist() == sorted(order[:count])


def test_rounding_adds_no_token():
    ids, scores = torch.full((1, 100), 5), torch.zeros(1, 100)
    assert [int(found.sum()) for found in top_tokens(ids != 0, scores, [0.55, 0.07, 1])] == [55, 7, 100]


def test_so_many_tokens_of_highest_score_are_named():
    ids = torch.tensor([[4, 5, 6, 0], [7, 0, 0, 0]])
    scores = torch.tensor([[0.1, 0.3, 0.2, 9.0], [-1.0, 9.0, 9.0, 9.0]])
    found = highest_tokens(ids != 0, scores, torch.tensor([[2], [3]]))
    assert found.tolist() == [[False, True, True, False], [True, False, False, False]]


def test_random_tokens_are_as_many_and_depend_on_the_sentence_alone(model: ConvTextModel):
    ids = model.encode(TEXTS * 3)
    rationale = (torch.rand(ids.shape, generator=torch.Generator().manual_seed(0)) < 0.5) & (ids != 0)
    drawn = random_tokens(model, ids, rationale, seed=1)
    assert torch.equal(drawn.sum(dim=1), rationale.sum(dim=1))
    assert not (drawn & (ids == 0)).any()
    assert torch.equal(random_tokens(model, ids[3:4], rationale[3:4], seed=1), drawn[3:4])
    assert torch.equal(random_token_scores(model, ids)[:6], random_token_scores(model, ids)[6:12])
    many = ids[3].repeat(400, 1)
    half = torch.zeros_like(many, dtype=torch.bool)
    half[:, :3] = True
    seeds = torch.stack([random_tokens(model, many[:1], half[:1], seed)[0] for seed in range(900)]).double().mean(0)
    np.testing.assert_allclose(seeds.numpy(), 3 / 9, atol=0.08)  # five standard deviations


@pytest.mark.parametrize("layer", [0, 1])
def test_selected_tokens_are_those_that_a_selected_location_sees(model: ConvTextModel, layer: int):
    ids = model.encode(TEXTS)
    _, chosen, _ = explain_locations(model, ids, layer, 2)
    before, after = model.config.receptive_field(layer)
    expected = torch.zeros_like(ids, dtype=torch.bool)
    for sentence, location in zip(chosen.sentence.tolist(), chosen.location.tolist(), strict=True):
        for place in range(max(0, location - before), min(model.length, location + after + 1)):
            expected[sentence, place] |= bool(ids[sentence, place] != 0)
    assert torch.equal(selected_tokens(model, ids, layer, chosen), expected)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "identity", "tanh"])
@pytest.mark.parametrize("at_once", [1, 1 << 24])
def test_gradient_times_input_is_a_difference_quotient(activation: str, at_once: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_FLOATS_AT_ONCE", at_once)
    with torch.inference_mode():  # where no gradient can be taken, nor of weights that were made here
        model = small_model(3, activation=activation)
        ids = model.encode(TEXTS)
        found = gradient_times_input(model, ids)
    assert not found[ids == 0].any()
    twin = small_model(3, activation=activation).double()
    step = 1e-6
    for row, sentence in enumerate(ids):
        label = int(model.class_scores(sentence[None]).argmax())
        vectors = twin.word_vectors
        for place in range(int((sentence != 0).sum())):
            moved = []
            for sign in (1, -1):
                hidden = vectors[sentence].clone()
                hidden[place] *= 1 + sign * step
                hidden = hidden.T[None]
                for convolution, kernel in zip(twin.convolutions, twin.config.kernel_sizes, strict=True):
                    hidden = convolution(hidden)
                    hidden = twin.activation(hidden[..., 1:] if kernel % 2 == 0 else hidden)
                moved.append(float(twin.linear(hidden.amax(dim=2))[0, label].detach()))
            assert float(found[row, place]) == pytest.approx((moved[0] - moved[1]) / (2 * step), abs=1e-5)


def test_no_sentences_are_measured_as_none(model: ConvTextModel):
    ids = model.encode([])
    assert gradient_times_input(model, ids).shape == (0, 9)
    assert aopc(model, ids, top_tokens(ids != 0, torch.zeros(0, 9)))["aopc_suff"].shape == (0,)


def test_what_does_not_fit_is_named(model: ConvTextModel):
    ids = model.encode(TEXTS)
    with pytest.raises(ValueError, match="rationales: expected at least one"):
        aopc(model, ids, [])
    with pytest.raises(ValueError, match=r"rationales: expected bool of shape \(6, 9\), got torch.float32"):
        aopc(model, ids, [torch.zeros(6, 9)])
    with pytest.raises(ValueError, match=r"scores: expected numbers of shape \(6, 9\), got \(6, 8\) or NaN"):
        top_tokens(ids != 0, torch.zeros(6, 8))
    with pytest.raises(ValueError, match=r"scores: expected numbers of shape \(6, 9\), got \(6, 9\) or NaN"):
        top_tokens(ids != 0, torch.full((6, 9), torch.nan))
    with pytest.raises(ValueError, match="shares: expected at most 1, got 1.5"):
        top_tokens(ids != 0, torch.zeros(6, 9), [1.5])
    with pytest.raises(ValueError, match="shares: expected more than 0, got 0"):
        top_tokens(ids != 0, torch.zeros(6, 9), [0])
