from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import WORDS, small_model
from hypothesis import given
from hypothesis import strategies as st

from fastinterp import ModelConfig, OptimizationConfig, Vocabulary
from fastinterp.evaluation import controls
from fastinterp.method.background import count_words
from fastinterp.models.conv import ConvTextModel

TEXTS = ["the good film", "", "odd", "a dull slow plot the bad actor good fine", "great great", "nowhere actor"]
FIELDS = st.lists(st.lists(st.sampled_from((*WORDS, "nowhere")), max_size=5), max_size=8)


def visible(model: ConvTextModel, layer: int, text_ids: torch.Tensor) -> int:
    """How many locations of a sentence see a token."""
    tokens = int((text_ids != 0).sum())
    return min(model.length, tokens + model.config.receptive_field(layer)[0]) if tokens else 0


@pytest.mark.parametrize("layer", [0, 1])
def test_random_locations_see_a_token_and_depend_on_the_sentence_alone(model: ConvTextModel, layer: int):
    ids = model.encode(TEXTS)
    counts = torch.zeros(len(TEXTS), model.length)
    for seed in range(100):
        drawn = controls.random_locations(model, ids, layer, 2, seed)
        for row in range(len(TEXTS)):
            mine = drawn.location[drawn.sentence == row]
            assert len(mine) == len(mine.unique()) == min(2, visible(model, layer, ids[row]))
            counts[row, mine] += 1
    for row in range(len(TEXTS)):
        seen = visible(model, layer, ids[row])
        assert not counts[row, seen:].any()
        if seen > 2:
            expected = 100 * 2 / seen
            assert float((counts[row, :seen] - expected).abs().max()) < 5 * expected**0.5
    alone = controls.random_locations(model, ids[3:4], layer, 2, seed=7)
    both = controls.random_locations(model, ids, layer, 2, seed=7)
    assert torch.equal(alone.location, both.location[both.sentence == 3])


@given(FIELDS, st.integers(0, 5))
def test_words_stand_for_tokens_and_are_drawn_from_the_field(fields: list[list[str]], seed: int):
    model = small_model()
    counts = count_words(model, TEXTS)
    for words in (
        controls.random_words(model, fields, seed),
        controls.frequency_matched_words(model, fields, counts, seed),
        controls.nearest_other_words(model, fields),
    ):
        assert [len(each) for each in words] == [len(each) for each in fields]
        assert {word for each in words for word in each} <= set(WORDS)
    for row, field in enumerate(fields):
        assert controls.random_words(model, [field], seed) == [controls.random_words(model, fields, seed)[row]]
        alone = controls.frequency_matched_words(model, [field], counts, seed)
        assert alone == [controls.frequency_matched_words(model, fields, counts, seed)[row]]


def test_random_words_are_any_words():
    model = small_model()
    drawn = [word for seed in range(200) for word in controls.random_words(model, [["good", "film"]], seed)[0]]
    counts = np.array([drawn.count(word) for word in WORDS])
    assert abs(counts - 100 / 3).max() < 28  # 400 draws of twelve words: five standard deviations of 5.5


def test_frequency_matched_words_are_others_of_the_nearest_ranks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(controls, "BAND", 4)
    model = small_model()
    counts = torch.tensor([0, 0, 3, 50, 2, 90, 1, 0, 40, 70, 0, 60, 20, 10])
    ranked = sorted(range(2, 14), key=lambda index: (-int(counts[index]), index))
    for rank, index in enumerate(ranked):
        first = min(max(rank - 2, 0), len(ranked) - 5)
        near = {model.words[other] for other in ranked[first : first + 5]} - {model.words[index]}
        drawn = [
            controls.frequency_matched_words(model, [[model.words[index]]], counts, seed)[0][0] for seed in range(60)
        ]
        assert set(drawn) == near
        assert min(drawn.count(word) for word in near) > 3
    # An unknown token has no rank of its own; its count is that of the unknown word.
    counts[1] = 65
    drawn = {controls.frequency_matched_words(model, [["nowhere"]], counts, seed)[0][0] for seed in range(60)}
    assert drawn == {model.words[index] for index in ranked[0:4]}


def test_token_counts_are_those_of_the_corpus(model: ConvTextModel):
    counts = count_words(model, TEXTS)
    tokens = [token for text in TEXTS for token in text.split()]
    for index, word in enumerate(model.words):
        expected = tokens.count(word) if index > 1 else (tokens.count("a") + tokens.count("nowhere")) * index
        assert int(counts[index]) == expected


def test_the_mean_of_the_field_is_decoded_without_optimisation(model: ConvTextModel):
    vectors = model.word_vectors.double().numpy()
    for field in (["good", "film"], ["the"], ["bad", "bad", "plot", "odd"]):
        mean = np.mean([vectors[model.words.index(token)] for token in field], axis=0)
        cosines = vectors[2:] @ mean / np.linalg.norm(vectors[2:], axis=1)
        expected = [model.words[2 + index] for index in np.argsort(-cosines)[:3]]
        assert controls.mean_of_field_words(model, [field], 3) == [expected]


def test_the_nearest_other_word_is_the_nearest_other_word(model: ConvTextModel):
    vectors = model.word_vectors.double().numpy()
    found = controls.nearest_other_words(model, [list(WORDS[:6]), list(WORDS[6:])])
    for token, word in zip(WORDS, found[0] + found[1], strict=True):
        own = vectors[model.words.index(token)]
        cosines = vectors[2:] @ own / np.linalg.norm(vectors[2:], axis=1)
        cosines[model.words.index(token) - 2] = -np.inf
        assert word == model.words[2 + int(cosines.argmax())]


def test_a_randomized_model_has_other_weights_and_the_same_words(model: ConvTextModel):
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    state = torch.random.get_rng_state()
    drawn = controls.randomized_model(model, seed=5)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not drawn.training
    again, other = controls.randomized_model(model, seed=5), controls.randomized_model(model, seed=6)
    for name, weight in drawn.state_dict().items():
        assert torch.equal(model.state_dict()[name], before[name])
        assert torch.equal(again.state_dict()[name], weight)
        kept = name == "embedding.weight"
        assert torch.equal(weight, before[name]) == kept
        assert torch.equal(other.state_dict()[name], weight) == kept
        if not kept:  # torch's own initialisation: uniform, within 1 / sqrt(fan in)
            owner = drawn.get_submodule(name.rsplit(".", 1)[0])
            assert float(weight.abs().max()) <= owner.weight[0].numel() ** -0.5
    with torch.no_grad():
        drawn.embedding.weight += 1
    assert torch.equal(model.word_vectors, before["embedding.weight"])


def test_ablations_leave_out_one_term():
    found = controls.ablations(OptimizationConfig.preset("ag_news"))
    assert {name: (each.l2_weight, each.similarity_weight) for name, each in found.items()} == {
        "no similarity term": (0.002, 0.0),
        "no L2 term": (0.0, 0.01),
    }


def test_what_does_not_fit_is_named(model: ConvTextModel):
    with pytest.raises(ValueError, match=r"counts: expected one for each of 14 words, got \(3,\)"):
        controls.frequency_matched_words(model, [["good"]], torch.zeros(3, dtype=torch.int64))
    config = ModelConfig(("neg", "pos"), 9, (6,), (3,), 7)
    lonely = ConvTextModel(config, Vocabulary(("<pad>", "<unk>", "good"))).eval()
    counts = torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ValueError, match="model: expected words that have a vector, at least 2, got 1"):
        controls.frequency_matched_words(lonely, [["good"]], counts)
    with pytest.raises(ValueError, match="at least 2, got 1"):
        controls.nearest_other_words(lonely, [["good"]])
    empty = ConvTextModel(config, Vocabulary(("<pad>", "<unk>"))).eval()
    with pytest.raises(ValueError, match="at least 1, got 0"):
        controls.random_words(empty, [["good"]])
