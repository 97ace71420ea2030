"""All answers of interpret() together, for a model that was saved with its background and indexes."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest
import torch
from conftest import WORDS, small_model

from fastinterp import (
    ConvTextModel,
    ModelError,
    OptimizationConfig,
    build_index,
    fit_background,
    interpret,
    load_model,
    save,
    save_index,
)
from fastinterp.data.splits import TextDataset
from fastinterp.method.companions import BACKGROUND_FILE, index_file
from fastinterp.method.interpretation import ANSWERS

FAST = OptimizationConfig(steps=20)
TEXTS = [" ".join(WORDS[(i * 7 + j * j + i // 5) % len(WORDS)] for j in range(1 + i % 9)) for i in range(240)]
SENTENCES = ["the good film", "", "a dull plot , the odd actor is bad", "zzz", "good good bad film plot film the"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("answers") / "model"
    model = small_model(4)
    dataset = TextDataset(tuple(TEXTS), tuple(i % 2 for i in range(len(TEXTS))), model.classes)
    background = fit_background(model, TEXTS)
    indexes = {
        index_file(layer): functools.partial(save_index, build_index(model, dataset, background, layer))
        for layer in range(2)
    }
    save(model, place, companions={BACKGROUND_FILE: background.save, **indexes})
    return place


@pytest.mark.parametrize("layer", [0, 1])
def test_a_saved_model_gives_every_answer(folder: Path, layer: int):
    found = interpret(load_model(folder), SENTENCES, layer, locations=2, neighbors=3, optimization=FAST)
    for each in found:
        assert bool(each.locations) == bool(each.tokens)
        for location in each.locations:
            assert len(location.neighbors) == 3
            assert len(location.position_words) == len(location.token_scores) == len(location.tokens)
            assert sum(location.token_scores) + location.rest_score == pytest.approx(location.score, abs=1e-5)
            assert -1 <= location.likeness <= 1
            assert 1 <= location.rank <= location.rank_of == 100
            assert 1 <= len(location.evidence) <= 3
            assert location.margin >= 0
            assert all(other.text != each.text for other in location.evidence)
        json.dumps(each.to_dict(), allow_nan=False)


@pytest.mark.parametrize("layer", [0, 1])
def test_no_answer_depends_on_the_company_or_on_the_threads(folder: Path, layer: int, threads):
    model = load_model(folder)
    together = interpret(model, SENTENCES, layer, optimization=FAST)
    threads(1)
    for sentence, one in zip(SENTENCES, together, strict=True):
        (alone,) = interpret(model, [sentence], layer, optimization=FAST)
        assert alone == one


def test_a_model_without_companions_gives_the_answers_that_need_none(folder: Path):
    (location, *_) = interpret(small_model(4), SENTENCES[:1], optimization=FAST)[0].locations
    assert location.neighbors is not None
    assert location.token_scores is not None
    assert (location.position_words, location.evidence, location.rank) == (None, None, None)


@pytest.mark.parametrize("answer", ANSWERS)
def test_one_answer_alone_is_the_same_as_among_the_others(folder: Path, answer: str):
    model = load_model(folder)
    (every,) = interpret(model, SENTENCES[:1], optimization=FAST)
    (one,) = interpret(model, SENTENCES[:1], optimization=FAST, answers=[answer])
    fields = {
        "contributions": ("token_scores", "rest_score"),
        "points_to": ("optimized", "neighbors", "margin", "residual"),
        "stands_out": ("position_words", "likeness", "rank", "rank_of"),
        "fires_alike": ("evidence",),
    }
    for location, among in zip(one.locations, every.locations, strict=True):
        for name, names in fields.items():
            for field in names:
                mine, its = getattr(location, field), getattr(among, field)
                if name != answer:
                    assert mine is None
                else:
                    assert torch.equal(mine, its) if isinstance(mine, torch.Tensor) else mine == its


def test_what_is_missing_or_of_another_model_is_one_line(folder: Path):
    plain = small_model(4)
    with pytest.raises(ModelError, match="^background: the model has none; fit_background"):
        interpret(plain, SENTENCES, answers=["stands_out"])
    with pytest.raises(ModelError, match="^index: the model has none for layer 1; build_index"):
        interpret(plain, SENTENCES, 1, answers=["fires_alike"])
    with pytest.raises(ValueError, match="^answers: expected one of contributions, points_to, .*, got 'words'"):
        interpret(plain, SENTENCES, answers=["words"])
    for layer in (2, -1):
        with pytest.raises(ValueError, match=f"^layer: expected 0 to 1, got {layer}"):
            interpret(load_model(folder), SENTENCES, layer)
    changed = load_model(folder)
    with torch.no_grad():
        changed.linear.weight += 1
    with pytest.raises(ModelError, match="another model"):
        interpret(changed, SENTENCES)
    interpret(changed, SENTENCES, optimization=FAST, background=fit_background(changed, TEXTS), index=rebuilt(changed))


def rebuilt(model: ConvTextModel):
    dataset = TextDataset(tuple(TEXTS), tuple(i % 2 for i in range(len(TEXTS))), model.classes)
    return build_index(model, dataset, fit_background(model, TEXTS), 0)


def test_another_class_is_explained_when_asked_for(folder: Path):
    model = load_model(folder)
    (found,) = interpret(model, SENTENCES[:1], optimization=FAST, target="pos", versus="neg", order="least")
    assert (found.target, found.versus, found.order) == ("pos", "neg", "least")
    scores = [location.score for location in found.locations]
    assert scores == sorted(scores)
    each = interpret(model, SENTENCES, optimization=FAST, target=["neg", "pos", 0, 1, "neg"])
    assert [one.target for one in each] == ["neg", "pos", "neg", "pos", "neg"]
