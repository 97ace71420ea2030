"""The measures of adapted modules, on both paths, against the module itself in float64, a sentence at a time."""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from models.architectures import ARCHITECTURES, OneSigmoid
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn
from torch.nn import functional

from fastinterp import AdaptedModel, OptimizationConfig, adapt, audit, build_index, fit_background, interpret
from fastinterp.data.splits import TextDataset
from fastinterp.evaluation import explained as module
from fastinterp.evaluation.answers import answer_activations, answer_ids, location_activations
from fastinterp.evaluation.answers_table import AnswersTable, measure_answers
from fastinterp.evaluation.explained import FIRES_ALIKE, POINTS_TO, STANDS_OUT, Asked, explain
from fastinterp.evaluation.faithfulness import aopc, gradient_times_input, selected_tokens, top_tokens
from fastinterp.evaluation.matching import matching_rate
from fastinterp.method.background import Background
from fastinterp.method.evidence import ActivationIndex
from fastinterp.method.places import is_own

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
NAMES = [*SPECIAL, *(f"w{i}" for i in range(4, 30))]
CLS, SEP = 2, 3
FAST = OptimizationConfig(steps=4, learning_rate=0.02)
DRAWN = random.Random(3)
# Capitals are other strings than their words, and zzz is no word; the empty text has nothing but special tokens.
TEXTS = [" ".join(DRAWN.choice(["w", "W"]) + str(DRAWN.randint(4, 29)) for _ in range(1 + i % 11)) for i in range(90)]
SENTENCES = ["w5 W6 zzz w7", "", "W9", *TEXTS[4:9]]
PATHS = {
    "strided and dilated": "kernels",
    "average and attention": "module",
    "convolution over a BiLSTM": "module",
}


@dataclass
class Measured:
    """An adapted module with what its answers need, and its float64 twin."""

    model: AdaptedModel
    exact: nn.Module
    background: Background
    index: ActivationIndex

    def rows(self, text: str) -> list[int]:
        """Rows of the embedding, special tokens around."""
        words = [NAMES.index(word) if word in NAMES else 1 for word in text.lower().split()]
        return [CLS, *words, SEP]

    def logits(self, rows: list[int]) -> Tensor:
        """Class scores (2,) of a sentence read alone."""
        ids = torch.tensor([rows])
        return (self.exact.logits if hasattr(self.exact, "logits") else self.exact)(ids)[0]

    def probabilities(self, rows: list[int]) -> np.ndarray:
        return self.logits(rows).softmax(dim=0).detach().numpy()

    def activation(self, rows: list[int], location: int) -> Tensor:
        """Activation (C,) of a location of a sentence."""
        return self.exact.layer(self.exact.embedding(torch.tensor([rows])))[0, location].detach()

    def replaced(self, rows: list[int], location: int, words: list[int]) -> list[int]:
        """The sentence with words in place of those of its own tokens that the location sees."""
        field = self.model.field(0)
        first = location * field.stride - field.before
        width = len(rows) if field.width is None else field.width
        places = range(max(1, first), min(len(rows) - 1, first + width))
        found = list(rows)
        for number, place in enumerate(places):
            found[place] = words[number] if number < len(words) else 0
        return found


def tokenizer() -> Tokenizer:
    found = Tokenizer(models.WordLevel({name: row for row, name in enumerate(NAMES)}, unk_token="[UNK]"))
    found.normalizer = normalizers.Lowercase()
    found.pre_tokenizer = pre_tokenizers.Whitespace()
    found.add_special_tokens(SPECIAL)
    found.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", CLS), ("[SEP]", SEP)])
    return found


@pytest.fixture(scope="module", params=PATHS)
def measured(request: pytest.FixtureRequest) -> Measured:
    architecture = ARCHITECTURES[request.param]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        kind = architecture.kind(len(NAMES)).eval()
    for name, weight in kind.named_parameters():
        if "embedding" not in name:
            weight.data *= 2  # so that both classes are predicted
    model = adapt(kind, layer=architecture.layer, tokenizer=tokenizer(), unknown_id=1, classes=("neg", "pos"))
    assert model.path(0).name == PATHS[request.param]
    background = fit_background(model, TEXTS)
    dataset = TextDataset(tuple(TEXTS), tuple(i % 2 for i in range(len(TEXTS))), ("neg", "pos"))
    index = build_index(model, dataset, background, 0)
    return Measured(model, copy.deepcopy(kind).double(), background, index)


@pytest.fixture(scope="module")
def table(measured: Measured) -> AnswersTable:
    return whole_table(measured)


def whole_table(measured: Measured) -> AnswersTable:
    given = {"background": measured.background, "index": measured.index}
    return measure_answers(
        measured.model, SENTENCES, measured.model.layer_name(0), 2, 3, FAST, everything=True, **given
    )


def estimates(table: AnswersTable, name: str) -> dict:
    return next(each.estimates for each in (*table.rows, *table.faithfulness) if each.answer == name)


def test_every_location_has_the_activation_that_it_has_in_its_sentence(measured: Measured):
    found = explain(measured.model, SENTENCES, Asked(0, 3, 1, None, ()))
    again = location_activations(measured.model, found.ids, 0, found.selection)
    assert len(again) > 15
    places = zip(found.sentence.tolist(), found.selection.location.tolist(), strict=True)
    expected = torch.stack([measured.activation(measured.rows(SENTENCES[row]), place) for row, place in places])
    torch.testing.assert_close(again.double(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.activations, again, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("count", [0, 1, 3, 12])
def test_an_answer_stands_where_the_own_tokens_of_the_field_stood(measured: Measured, count: int):
    found = explain(measured.model, SENTENCES, Asked(0, 3, 1, None, ()))
    words = [[f"w{4 + (number * 5 + place) % 26}" for place in range(count)] for number in range(len(found.tokens))]
    read = answer_activations(measured.model, 0, found.fields, answer_ids(measured.model, found.fields, words))
    places = zip(found.sentence.tolist(), found.selection.location.tolist(), words, strict=True)
    expected = []
    for row, place, each in places:
        rows = measured.replaced(measured.rows(SENTENCES[row]), place, [NAMES.index(word) for word in each])
        expected.append(measured.activation(rows, place))
    torch.testing.assert_close(read.double(), torch.stack(expected), rtol=1e-4, atol=1e-5)


def test_tokens_are_named_as_the_model_names_them(measured: Measured):
    found = explain(measured.model, ["w5 W6 zzz w7"], Asked(0, 9, 1, None, ()))
    assert {word for tokens in found.tokens for word in tokens} == {"w5", "w6", "zzz", "w7"}
    answer = explain(measured.model, SENTENCES, Asked(0, 2, 1, None, (FIRES_ALIKE,), index=measured.index)).answers
    assert {word for words in answer[FIRES_ALIKE].words for word in words} <= set(NAMES)


def test_deletion_leaves_special_tokens_and_gives_a_shorter_frame(measured: Measured):
    model = measured.model
    ids = model.read(SENTENCES).ids
    own = is_own(model, ids)
    rationales = top_tokens(own, torch.rand(ids.shape, generator=torch.Generator().manual_seed(1)), [0.2, 0.5])
    found = aopc(model, ids, rationales)
    for number, text in enumerate(SENTENCES):
        rows = measured.rows(text)
        assert own[number].nonzero()[:, 0].tolist() == list(range(1, len(rows) - 1))
        whole = measured.probabilities(rows)
        label, drops = int(whole.argmax()), {"aopc_compr": [], "aopc_suff": []}
        for rationale in rationales:
            named = rationale[number].tolist()
            for name, wanted in (("aopc_compr", False), ("aopc_suff", True)):
                inside = [row for place, row in enumerate(rows[1:-1], 1) if named[place] == wanted]
                drops[name].append(whole[label] - measured.probabilities([CLS, *inside, SEP])[label])
        for name, values in drops.items():
            expected = np.mean(values) if text else np.nan
            assert float(found[name][number]) == pytest.approx(expected, abs=1e-5, nan_ok=True)


def test_gradient_times_input_goes_through_the_module(measured: Measured):
    with torch.inference_mode():
        ids = measured.model.read(SENTENCES).ids
        found = gradient_times_input(measured.model, ids)
    assert gradient_times_input(measured.model, ids[:0]).shape == (0, ids.shape[1])
    for number, text in enumerate(SENTENCES):
        rows = measured.rows(text)
        kept: list[Tensor] = []
        handle = measured.exact.embedding.register_forward_hook(
            lambda part, given, output, kept=kept: kept.append(output)
        )
        score = measured.logits(rows).max()
        handle.remove()
        (gradient,) = torch.autograd.grad(score, kept[0])
        expected = (gradient * kept[0]).sum(dim=2)[0].detach()
        expected[[0, -1]] = 0
        padded = functional.pad(expected, (0, ids.shape[1] - len(rows)))
        torch.testing.assert_close(found[number].double(), padded, rtol=1e-3, atol=1e-5)


def test_selected_tokens_are_those_of_the_sentence_that_a_location_sees(measured: Measured):
    found = explain(measured.model, SENTENCES, Asked(0, 2, 1, None, ()))
    expected = torch.zeros(found.ids.shape, dtype=torch.bool)
    field = measured.model.field(0)
    for row, place in zip(found.sentence.tolist(), found.selection.location.tolist(), strict=True):
        tokens = len(measured.rows(SENTENCES[row]))
        first, width = place * field.stride - field.before, tokens if field.width is None else field.width
        expected[row, max(1, first) : max(1, min(tokens - 1, first + width))] = True
    assert torch.equal(selected_tokens(measured.model, found.ids, 0, found.selection), expected)


def test_figures_of_the_table_are_those_of_the_module(measured: Measured, table: AnswersTable):
    found = explain(measured.model, SENTENCES, Asked(0, 2, 3, FAST, background=measured.background))
    answer = found.answers[POINTS_TO]
    cosines, said = [], [[] for _ in SENTENCES]
    for row, place, words in zip(found.sentence.tolist(), found.selection.location.tolist(), answer.words, strict=True):
        rows, ids = measured.rows(SENTENCES[row]), [NAMES.index(word) for word in words]
        reached = measured.activation(measured.replaced(rows, place, ids), place)
        cosines.append(float(functional.cosine_similarity(reached, measured.activation(rows, place), dim=0)))
        said[row] += ids
    figures = estimates(table, POINTS_TO)
    assert figures["reproduction"].value == pytest.approx(np.mean(cosines), abs=1e-4)
    same = [
        int(measured.probabilities([CLS, *ids, SEP]).argmax() == measured.probabilities(measured.rows(text)).argmax())
        for text, ids in zip(SENTENCES, said, strict=True)
        if text
    ]
    assert figures["matching"].value == pytest.approx(np.mean(same))
    assert figures["matching"].count == len(same) == len(SENTENCES) - 1
    rate = matching_rate(measured.model, SENTENCES, 0, 2, 3, FAST)
    assert (rate.matched, rate.total) == (sum(same), len(same))
    for measure in ("identified", "field_identified", "field_reproduction"):
        assert 0 <= figures[measure].value <= 1


def test_what_cannot_be_measured_is_said_in_a_line(measured: Measured, table: AnswersTable):
    names = [each.answer for each in table.rows]
    kernels = measured.model.path(0).name == "kernels"
    assert names[:2] == [POINTS_TO, STANDS_OUT if kernels else FIRES_ALIKE]
    assert (STANDS_OUT in names) == ("inversion" in names) == kernels
    assert {
        FIRES_ALIKE,
        "control: equally frequent",
        "untrained: points to",
        "random: points to",
        "points to, no L2",
    } <= set(names)
    assert len(table.faithfulness) == 6
    assert ("untrained: stands out by" in names) == kernels
    assert len(table.unmeasured) == (0 if kernels else 1)
    if not kernels:
        assert table.unmeasured[0].startswith("stands out by: expected a layer that the kernels explain, got ")
    plain = measure_answers(measured.model, SENTENCES[:2], 0, 1, 1, FAST)
    assert estimates(plain, POINTS_TO)["identified"].value is None
    given = {line.split(":")[0]: line for line in plain.unmeasured}
    assert given["identified"] == "identified: expected a background, got none; fit_background(model, texts) makes one"
    assert "fires alike on" in given


def test_nothing_depends_on_the_other_sentences_of_a_batch(
    measured: Measured, table: AnswersTable, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "SENTENCES_AT_ONCE", 2)
    again = whole_table(measured)
    assert [each.answer for each in again.rows] == [each.answer for each in table.rows]
    for one, other in zip((*table.rows, *table.faithfulness), (*again.rows, *again.faithfulness), strict=True):
        assert one.different == other.different
        for name, each in one.estimates.items():
            assert other.estimates[name].count == each.count
            assert other.estimates[name].value == pytest.approx(each.value, abs=1e-4)


def test_the_audit_counts_own_tokens_and_leaves_special_ones(measured: Measured):
    found = audit(measured.model, SENTENCES)
    unknown = found.findings["unknown words"]
    assert [(each.row, each.amount) for each in unknown.worst] == [(0, 1 / 4)]
    assert [each.row for each in found.findings["empty"].worst] == [1]
    whole, left = (measured.probabilities(measured.rows(text)) for text in ("w5 W6 zzz w7", "w5 W6 w7"))
    label = int(whole.argmax())
    rests = [whole[label] - left[label]] if label != left.argmax() else []
    worst = found.findings["rests on unknown words"].worst
    assert [each.row for each in worst] == [0] * len(rests)
    assert [each.amount for each in worst] == pytest.approx(rests, abs=1e-5)


def test_probabilities_are_those_of_a_single_output():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        part = OneSigmoid(len(NAMES)).eval()
    model = adapt(part, layer="convs.2", tokenizer=tokenizer(), unknown_id=1, classes=("neg", "pos"))
    ids = model.read(TEXTS[5:9]).ids
    tokens = is_own(model, ids)
    found = aopc(model, ids, [tokens])["aopc_compr"]
    for number, text in enumerate(TEXTS[5:9]):
        rows = [CLS, *(NAMES.index(word) for word in text.lower().split()), SEP]
        with torch.no_grad():
            whole, none = (float(part(torch.tensor([each]))) for each in (rows, [CLS, SEP, 0, 0]))
        expected = whole - none if whole > 0.5 else none - whole
        assert float(found[number]) == pytest.approx(expected, abs=1e-5)
    empty = audit(model, [*TEXTS[5:9], ""]).findings["rests on padding"]
    assert empty.worst[-1].row == 4


def test_texts_without_a_token_of_their_own_have_no_rows(measured: Measured):
    assert interpret(measured.model, "", optimization=FAST).locations == ()
    empty = measure_answers(measured.model, ["", " "], everything=True, optimization=FAST)
    assert empty.rows == ()
    assert estimates(empty, "selected fields")["aopc_compr"].value is None
