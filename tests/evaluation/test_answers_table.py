"""The whole table: its rows say what interpret() says, and its figures are those of their definitions."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import WORDS, small_model

from fastinterp import ConvTextModel, OptimizationConfig, build_index, fit_background, interpret, load_model, save
from fastinterp import save_index as write_index
from fastinterp.data.splits import TextDataset
from fastinterp.evaluation import explained as module
from fastinterp.evaluation.answers import field_activations
from fastinterp.evaluation.answers_table import AnswersTable, measure_answers
from fastinterp.evaluation.explained import FIRES_ALIKE, POINTS_TO, STANDS_OUT, Asked, explain, whitening_of
from fastinterp.evaluation.identification import identification_ranks
from fastinterp.evaluation.matching import matches
from fastinterp.evaluation.overlap import overlap_within
from fastinterp.evaluation.rows import MEASURES
from fastinterp.method.companions import BACKGROUND_FILE, index_file
from fastinterp.method.saliency import explain_locations, saliency

FAST = OptimizationConfig(steps=20)
TEXTS = [" ".join(WORDS[(i * 7 + j * j + i // 5) % len(WORDS)] for j in range(1 + i % 9)) for i in range(240)]
SENTENCES = [
    "the good film",
    "",
    "a dull plot , the odd actor is bad",
    "zzz",
    "good good bad film plot film the",
    *TEXTS[:9],
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> ConvTextModel:
    """A model with background and indexes, with weights that let its two classes both be predicted."""
    place: Path = tmp_path_factory.mktemp("table") / "model"
    model = small_model(4)
    dataset = TextDataset(tuple(TEXTS), tuple(i % 2 for i in range(len(TEXTS))), model.classes)
    background = fit_background(model, TEXTS)
    indexes = {
        index_file(layer): functools.partial(write_index, build_index(model, dataset, background, layer))
        for layer in range(2)
    }
    save(model, place, companions={BACKGROUND_FILE: background.save, **indexes})
    return load_model(place)


@pytest.fixture(scope="module")
def table(whole: ConvTextModel) -> AnswersTable:
    return measure_answers(whole, SENTENCES, 1, 2, 3, FAST, everything=True)


def row(table: AnswersTable, name: str):
    return next(each for each in (*table.rows, *table.faithfulness) if each.answer == name)


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("at_once", [3, 512])
def test_what_is_measured_is_what_interpret_says(
    whole: ConvTextModel, layer: int, at_once: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "SENTENCES_AT_ONCE", at_once)
    found = explain(whole, SENTENCES, Asked(layer, 2, 3, FAST, contributions=True))
    results = interpret(whole, SENTENCES, layer, 2, 3, FAST)
    said = [location for each in results for location in each.locations]
    assert found.answers[POINTS_TO].words == [[word for word, _ in each.neighbors] for each in said]
    assert found.answers[STANDS_OUT].words == [[word for word, _ in each.position_words] for each in said]
    assert found.answers[FIRES_ALIKE].words == [list(each.evidence[0].tokens) for each in said]
    assert found.tokens == [list(each.tokens) for each in said]
    assert found.label.tolist() == [whole.classes.index(each.label) for each in results]
    _, chosen, activations = explain_locations(whole, found.ids, layer, 2)
    assert torch.equal(found.sentence, chosen.sentence)
    assert torch.equal(found.selection.location, chosen.location)
    assert torch.equal(found.activations, activations)
    for sentence, each in enumerate(results):
        expected = torch.zeros(whole.length, dtype=torch.float64)
        for location in each.locations:
            expected[list(location.token_indices)] += torch.tensor(location.token_scores, dtype=torch.float64)
        assert torch.allclose(found.token_scores[sentence], expected, atol=1e-6)


def test_figures_are_those_of_their_definitions(whole: ConvTextModel, table: AnswersTable):
    found = explain(whole, SENTENCES, Asked(1, 2, 3, FAST, inputs=True))
    answer = found.answers[STANDS_OUT]
    estimates = row(table, STANDS_OUT).estimates
    said: list[list[str]] = [[] for _ in SENTENCES]
    for words, sentence in zip(answer.words, found.sentence.tolist(), strict=True):
        said[sentence] += words
    assert estimates["matching"].value == pytest.approx(float(matches(whole, found.ids, said, found.label).nanmean()))
    reached = field_activations(whole, 1, found.fields, answer.inputs)
    assert torch.allclose(reached, answer.field, atol=1e-6)
    ranks = identification_ranks(reached, found.activations, found.key, found.class_of_location, whitening_of(whole, 1))
    assert estimates["field_identified"].value == pytest.approx(float(ranks.identified.nanmean()))
    assert estimates["within"].value == pytest.approx(float(overlap_within(answer.words, found.sentence).nanmean()))
    assert table.locations == len(found.tokens)
    pairs = zip(answer.words, found.tokens, strict=True)
    own = [len([word for word in words if word in tokens]) / len(words) for words, tokens in pairs]
    assert estimates["repeated"].value == pytest.approx(sum(own) / len(own))


def test_every_control_and_variant_has_its_row(table: AnswersTable):
    names = [each.answer for each in table.rows]
    assert names[:3] == [POINTS_TO, STANDS_OUT, FIRES_ALIKE]
    assert len(set(names)) == len(names) == 19
    assert [each.answer for each in table.faithfulness] == [
        "selected fields",
        "random tokens",
        "gradient x input, as many tokens",
        "ranking: contributions",
        "ranking: gradient x input",
        "ranking: random",
    ]
    assert {name for each in (*table.rows, *table.faithfulness) for name in each.estimates} == set(MEASURES)
    for each in (*table.rows, *table.faithfulness):
        for estimate in each.estimates.values():
            if estimate.low is not None:
                assert estimate.low <= estimate.value <= estimate.high


def test_a_variant_that_changes_nothing_agrees(whole: ConvTextModel):
    plain = replace(FAST, similarity_weight=0.0, l2_weight=0.0)
    table = measure_answers(whole, SENTENCES, 0, 2, 3, plain, everything=True)
    for name in ("points to, no similarity", "points to, no L2"):
        assert row(table, name).estimates["agreement"].value == 1
        assert row(table, name).estimates["matching"] == row(table, POINTS_TO).estimates["matching"]
    assert row(table, "points to, another start").estimates["agreement"].value < 1


def test_the_solver_without_a_start_has_no_variants_that_need_one(whole: ConvTextModel):
    table = measure_answers(whole, SENTENCES, 0, 2, 3, OptimizationConfig(solver="ccp"), everything=True)
    names = [each.answer for each in table.rows if each.answer.startswith("points to,")]
    assert names == ["points to, no similarity"]


def test_least_salient_locations_have_the_lowest_scores(whole: ConvTextModel):
    found = explain(whole, SENTENCES, Asked(1, 2, 3, None, (), order="least"))
    scores = saliency(whole, found.ids, 1).scores
    most = explain(whole, SENTENCES, Asked(1, whole.length, 3, None, ()))
    for sentence in range(len(SENTENCES)):
        visible = most.selection.location[most.sentence == sentence]
        lowest = sorted(visible.tolist(), key=lambda place: (float(scores[sentence, place]), place))[:2]
        assert found.selection.location[found.sentence == sentence].tolist() == lowest


def test_copies_of_a_sentence_are_no_others(whole: ConvTextModel):
    alone = measure_answers(whole, ["the good film plot"] * 5, 0, 2, 3, FAST)
    assert row(alone, POINTS_TO).estimates["identified"].value is None
    assert row(alone, POINTS_TO).estimates["overlap"].value is None
    assert row(alone, POINTS_TO).estimates["matching"].count == 5


def test_a_figure_is_a_row_of_the_data_frame(table: AnswersTable):
    frame = table.to_dataframe()
    assert list(frame.columns) == ["layer", "answer", "measure", "value", "low", "high", "count"]
    assert not frame.duplicated(["layer", "answer", "measure"]).any()
    plain = json.loads(json.dumps(table.to_dict()))
    figures = {
        (answer["answer"], name): value["value"] if isinstance(value, dict) else value
        for answer in plain["answers"]
        for name, value in answer.items()
        if name != "answer"
    }
    figures |= {(name, m): each[m]["value"] for name, each in plain["faithfulness"].items() for m in each}
    assert len(frame) == len(figures)
    for _, line in frame.iterrows():
        expected = figures[line["answer"], line["measure"]]
        assert line["value"] == expected or (expected is None and line["value"] != line["value"])


def test_a_model_without_background_is_measured_without_identification():
    table = measure_answers(small_model(4), SENTENCES, 0, 2, 3, FAST, everything=True)
    names = {each.answer for each in table.rows}
    assert POINTS_TO in names
    assert not {STANDS_OUT, FIRES_ALIKE, "control: equally frequent"} & names
    assert row(table, POINTS_TO).estimates["identified"].value is None


def test_texts_without_a_token_have_no_rows():
    table = measure_answers(small_model(4), ["", "..."], everything=True, optimization=FAST)
    assert table.rows == ()
    assert row(table, "selected fields").estimates["aopc_compr"].value is None
