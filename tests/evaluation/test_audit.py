"""The audit: what it counts, what it calls worst, and that it asks of a model only what every model has."""

from __future__ import annotations

import inspect
import json

import pytest
import torch
from conftest import WORDS, small_model
from hypothesis import given
from hypothesis import strategies as st

from fastinterp import ConvTextModel, ModelConfig, Vocabulary, audit
from fastinterp.evaluation.audit import KINDS, WORST
from fastinterp.models.protocol import TextClassifier
from fastinterp.text.scripts import letters_by_script, script_of, scripts_of_words

pytestmark = pytest.mark.filterwarnings("ignore::fastinterp.errors.LostTextWarning")


class OnlyTheProtocol:
    """A model that has what `TextClassifier` asks for and nothing else."""

    def __init__(self, model: ConvTextModel) -> None:
        self._model = model

    def __getattr__(self, name: str) -> object:
        if name.startswith("_") or name not in dict(inspect.getmembers(TextClassifier)):
            raise AttributeError(name)
        return getattr(self._model, name)


TEXTS = [
    "good film",
    "",
    "\u7535\u5f71\u597d\u770b",
    "zz good yy",
    "zz yy",
    "the good film the bad plot the dull actor",
    "the good film the bad plot the dull actor the good film the bad plot",
    "caf\u00e9 film",
    "\u0444\u0438\u043b\u044c\u043c good",
]


def rows(found: object, kind: str) -> list[int]:
    return [each.row for each in found.findings[kind].worst]


def test_each_kind_counts_its_texts_worst_first():
    model = small_model(length=9)
    found = audit(OnlyTheProtocol(model), TEXTS)
    assert list(found.findings) == list(KINDS)
    assert found.texts == len(TEXTS)
    assert rows(found, "empty") == [2, 1]  # four characters were lost, then none
    assert rows(found, "cut") == [6]
    assert found.findings["cut"].worst[0].amount == pytest.approx(6 / 15)
    assert rows(found, "unknown words") == [4, 3, 7]
    assert [each.amount for each in found.findings["unknown words"].worst] == pytest.approx([1, 2 / 3, 1 / 2])
    assert found.unknown_share == pytest.approx((1 + 2 / 3 + 1 / 2) / 7)
    assert rows(found, "dropped characters") == [2, 8, 7]
    assert [each.amount for each in found.findings["dropped characters"].worst] == pytest.approx([1, 5 / 9, 1 / 8])
    assert found.scripts == ("LATIN",)
    assert rows(found, "another script") == [2, 8]
    assert found.findings["another script"].share == pytest.approx(2 / 9)
    assert {1, 2} <= set(rows(found, "rests on padding"))
    assert 4 in rows(found, "rests on unknown words")
    assert found.accuracy is None
    assert found.findings["cut"].accuracy is None


def deciding(vector_of_unknown: float, bias: tuple[float, float]) -> ConvTextModel:
    """A model whose one channel is the largest entry of its words: good 1, fine .2; it speaks for the second class."""
    config = ModelConfig(("neg", "pos"), 6, (1,), (1,), embedding_dimension=1, tokenizer="unicode")
    model = ConvTextModel(config, Vocabulary(("<pad>", "<unk>", "good", "fine", "bad")))
    with torch.no_grad():
        model.embedding.weight.copy_(torch.tensor([[0.0], [vector_of_unknown], [1.0], [0.2], [-1.0]]))
        model.convolutions[0].weight.fill_(1.0)
        model.convolutions[0].bias.fill_(0.5)  # so that padding has an activation
        model.linear.weight.copy_(torch.tensor([[0.0], [1.0]]))
        model.linear.bias.copy_(torch.tensor(bias))
    return model.eval()


def test_a_prediction_rests_on_unknown_words_where_they_turn_it():
    # An activation above .6 is the second class: unknown words have 1.3, `fine` .7, padding .5.
    model = deciding(0.8, (0.6, 0.0))
    found = audit(model, ["bad qq", "fine qq", "bad", "qq", "good"], ["pos", "pos", "neg", "neg", "pos"])
    assert rows(found, "rests on unknown words") == [0, 3]
    first = found.findings["rests on unknown words"].worst[0]
    scores = [torch.tensor([0.6, activation]).softmax(0)[1] for activation in (1.3, 0.5)]
    assert first.amount == pytest.approx(float(scores[0] - scores[1]))
    assert first.predicted == "pos"
    assert found.accuracy == pytest.approx(4 / 5)
    assert found.findings["rests on unknown words"].accuracy == pytest.approx(1 / 2)


def test_a_prediction_rests_on_padding_where_its_tokens_make_it_no_likelier():
    model = deciding(0.0, (0.0, 0.0))  # everything is the second class; only good and fine make it likelier
    found = audit(model, ["good", "bad", "", "bad fine", "qq"])
    assert rows(found, "rests on padding") == [1, 2, 4]
    model = deciding(0.0, (0.9, 0.0))  # padding is the first class, good and nothing else the second
    found = audit(model, ["good", "bad", "fine"])
    assert rows(found, "rests on padding") == [2, 1]
    empty, fine = (float(torch.tensor([0.9, value]).softmax(0)[0]) for value in (0.5, 0.7))
    assert found.findings["rests on padding"].worst[0].amount == pytest.approx(empty - fine)


@given(st.lists(st.text(max_size=8) | st.lists(st.sampled_from([*WORDS, "zz"]), max_size=11).map(" ".join), min_size=1))
def test_counts_shares_and_worst_fit_together(texts: list[str]):
    model = small_model()
    labels = [len(text) % 2 for text in texts]
    found = audit(model, texts, labels)
    predicted = model.class_scores(model.encode(texts)).argmax(dim=1).tolist()
    assert found.accuracy == pytest.approx(sum(a == b for a, b in zip(predicted, labels, strict=True)) / len(texts))
    assert found.findings["empty"].count == sum(not model.tokenizer.read(text).tokens for text in texts)
    for finding in found.findings.values():
        assert len(finding.worst) == min(finding.count, WORST)
        assert finding.share == finding.count / len(texts)
        amounts = [each.amount for each in finding.worst]
        assert amounts == sorted(amounts, reverse=True)
        for each in finding.worst:
            assert each.text == texts[each.row]
            assert each.predicted == model.classes[predicted[each.row]]
    assert set(rows(found, "empty")) <= {row for row, text in enumerate(texts) if not model.tokenizer.read(text).tokens}
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("good film",), TypeError, "sentences: expected a list of strings, got one str"),
        (([],), ValueError, "texts: expected at least one text, got none"),
        ((["good"], ["pos", "neg"]), ValueError, "labels: expected 1, one for each text, got 2"),
        ((["good"], ["fine"]), ValueError, "labels: expected one of neg, pos, got 'fine'"),
        ((["good"], [2]), ValueError, "labels: expected 0 to 1, got 2"),
    ],
)
def test_bad_input_is_one_line(arguments: tuple[object, ...], error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        audit(small_model(), *arguments)


def test_scripts_are_told_by_their_letters():
    letters = "aZ\u00df\u0416\u0645\u0928\u4e2d\u3042\u30ab\ud55c\u0e17\uff21\uff76\u03b1"
    assert [script_of(letter) for letter in letters] == [
        "LATIN", "LATIN", "LATIN", "CYRILLIC", "ARABIC", "DEVANAGARI", "CJK", "HIRAGANA", "KATAKANA", "HANGUL", "THAI",
        "LATIN", "KATAKANA", "GREEK",
    ]  # fmt: skip
    assert [script_of(other) for other in "1.\u064e\U0001f600\ud800 \u0378"] == [None] * 7
    assert letters_by_script("a\u0416\u0416 1") == {"LATIN": 1, "CYRILLIC": 2}
    assert scripts_of_words(["a", "b", "\u4e2d", "1", "<pad>"], 0.25) == {"LATIN", "CJK"}
    assert scripts_of_words([*"abcdefgh", "\u4e2d"], 0.25) == {"LATIN"}
