from __future__ import annotations

import dataclasses
import json
import pickle

import numpy as np
import pytest
import torch
from conftest import small_model

from fastinterp import ConvTextModel, OptimizationConfig, interpret, nearest_words, saliency
from fastinterp.method.interpretation import SENTENCES_AT_ONCE

FAST = OptimizationConfig(steps=20)


def test_every_part_of_an_interpretation_fits_the_others(model: ConvTextModel):
    sentence = "the Good film , the dull plot"
    (found,) = interpret(model, [sentence], layer=1, locations=2, neighbors=3, optimization=FAST)
    assert found.tokens == ("the", "Good", "film", ",", "the", "dull", "plot")
    assert found.unknown == (",",)
    assert not found.truncated
    scores = saliency(model, [sentence], 1)
    probabilities = scores.class_scores.softmax(dim=1)[0]
    assert found.label == model.config.classes[int(probabilities.argmax())]
    assert found.probability == pytest.approx(float(probabilities.max()))
    assert torch.equal(found.saliency, scores.scores[0])
    assert [location.score for location in found.locations] == sorted(scores.scores[0].tolist())[:-3:-1]
    for location in found.locations:
        assert location.score == pytest.approx(float(found.saliency[location.index]))
        # Kernels 3 and 4: two positions before, three after.
        seen = [i for i in range(location.index - 2, location.index + 4) if 0 <= i < 7]
        assert location.token_indices == tuple(seen)
        assert location.tokens == tuple(found.tokens[i] for i in seen)
        assert list(location.neighbors) == nearest_words(model, location.optimized[None], 3)[0]


def test_a_sentence_is_interpreted_the_same_in_any_company(model: ConvTextModel, threads):
    sentences = ["a good film", "dull", "", "zzz", "the the slow actor", "a good film"]
    together = interpret(model, sentences, optimization=FAST)
    threads(1)
    for sentence, one in zip(sentences, together, strict=True):
        (alone,) = interpret(model, [sentence], optimization=FAST)
        assert alone.to_dict() == one.to_dict()


def test_more_sentences_than_one_batch_holds(model: ConvTextModel):
    sentences = [f"good x{i}" for i in range(SENTENCES_AT_ONCE + 3)]
    found = interpret(model, sentences, locations=1, optimization=FAST)
    assert [each.text for each in found] == sentences
    assert found[0].locations[0].optimized.shape == (7,)


def test_the_seed_changes_the_start_and_nothing_else_does(model: ConvTextModel):
    first, again = (interpret(model, ["good film"], optimization=FAST)[0] for _ in range(2))
    other = interpret(model, ["good film"], optimization=OptimizationConfig(steps=20, seed=1))[0]
    assert first.to_dict() == again.to_dict()
    assert not torch.equal(first.locations[0].optimized, other.locations[0].optimized)


@pytest.mark.parametrize("text", ["", "   ", "\u4e2d\u6587 \u2014"])
def test_a_text_without_tokens_has_a_class_and_no_locations(model: ConvTextModel, text: str):
    (found,) = interpret(model, [text], optimization=FAST)
    assert (found.tokens, found.locations) == ((), ())
    assert found.label in model.config.classes


def test_unknown_words_only_are_read_as_one_vector(model: ConvTextModel):
    first, second = interpret(model, ["qqq www", "eee rrr"], optimization=FAST)
    assert first.unknown == ("qqq", "www")
    assert torch.equal(first.saliency, second.saliency)
    assert first.locations[0].neighbors == second.locations[0].neighbors


def test_a_short_sentence_has_fewer_locations_and_a_long_one_is_cut(model: ConvTextModel):
    short, long = interpret(model, ["good", "film " * 12], locations=9, optimization=FAST)
    assert len(short.locations) == 2  # a kernel of 3: locations 0 and 1 see the token
    assert len(long.locations) == 9
    assert long.truncated
    assert long.tokens == ("film",) * 9


def test_no_sentences_give_no_interpretations(model: ConvTextModel):
    assert interpret(model, []) == []


def test_dictionaries_are_json(model: ConvTextModel):
    (found,) = interpret(model, ["good film"], optimization=FAST)
    fields = json.loads(json.dumps(found.to_dict()))
    assert fields["locations"][0]["neighbors"][0].keys() == {"word", "cosine"}
    assert len(fields["saliency"]) == 9


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"sentences": b"good film"}, TypeError, "sentences: expected a list of strings"),
        ({"sentences": [b"good"]}, TypeError, "sentences: expected strings, got bytes"),
        ({"layer": 2}, ValueError, "layer: expected 0 to 1"),
        ({"locations": 10}, ValueError, "locations: expected 1 to 9, got 10"),
        ({"locations": 0}, ValueError, "locations: expected 1 to 9, got 0"),
        ({"neighbors": 13}, ValueError, "neighbors: expected 1 to 12"),
    ],
)
def test_bad_arguments_are_named(model: ConvTextModel, arguments: dict, kind: type, message: str):
    with pytest.raises(kind, match=message):
        interpret(model, **{"sentences": ["good film"], "optimization": FAST, **arguments})


def test_bad_arguments_are_named_even_without_sentences(model: ConvTextModel):
    with pytest.raises(ValueError, match="layer"):
        interpret(model, [], layer=5)


def test_nan_weights_are_named():
    model = small_model()
    with torch.no_grad():
        model.convolutions[1].bias[0] = float("nan")
    with pytest.raises(ValueError, match="model: convolutions.1.bias holds NaN"):
        interpret(model, ["good"])


def test_a_result_owns_its_memory(model: ConvTextModel):
    many = interpret(model, ["good film"] * 64, optimization=FAST)
    (one,) = interpret(model, ["good film"], optimization=FAST)
    assert abs(len(pickle.dumps(many[5])) - len(pickle.dumps(one))) < 100
    assert many[5].saliency.untyped_storage().nbytes() == 4 * model.config.length


def test_results_compare_by_value(model: ConvTextModel):
    first, again, other = (interpret(model, [text], optimization=FAST)[0] for text in ("good", "good", "bad"))
    assert first == again
    assert hash(first) == hash(again)
    assert first.locations[0] == again.locations[0]
    assert first != other
    assert first != "good"
    assert dataclasses.replace(first, saliency=first.saliency + 1) != first


class Table:
    """What matters of a data frame: it has columns, and iterating over it gives their names."""

    columns = ("review",)

    def __iter__(self):
        return iter(self.columns)


@pytest.mark.parametrize(
    ("sentences", "message"),
    [
        (b"good film", "expected a list of strings, got one bytes"),
        (
            Table(),
            r"expected a list of strings, got a Table; pass the column that holds the texts, such as frame\['text'\]",
        ),
        ({"good": 1}, "expected a list of strings, got dict"),
        ({"good", "bad"}, "expected a list of strings, got set"),
        (None, "expected a list of strings, got NoneType"),
        (7, "expected a list of strings, got int"),
        (["good", None], "expected strings, got NoneType at position 1"),
        (["good", float("nan")], "expected strings, got float at position 1"),
        ([["good"]], "expected strings, got list at position 0"),
    ],
)
def test_what_is_no_list_of_strings_is_refused_by_name(model: ConvTextModel, sentences: object, message: str):
    with pytest.raises(TypeError, match=f"^sentences: {message}"):
        interpret(model, sentences, optimization=FAST)


def test_generators_tuples_and_arrays_of_strings_are_taken(model: ConvTextModel):
    sentences = ["good film", "bad plot"]
    expected = interpret(model, sentences, optimization=FAST)
    for same in (tuple(sentences), iter(sentences), (text for text in sentences), np.array(sentences, dtype=object)):
        assert interpret(model, same, optimization=FAST) == expected
