"""How far each answer can be trusted: measures of all answers of a model on labelled texts, beside their controls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from fastinterp.evaluation.answers import answer_activations, answer_ids
from fastinterp.evaluation.bootstrap import Estimate, bootstrap_mean
from fastinterp.evaluation.controls import mean_of_field_words, nearest_other_words, random_words
from fastinterp.evaluation.faithfulness import aopc, random_tokens, selected_tokens
from fastinterp.evaluation.identification import identification_ranks
from fastinterp.evaluation.matching import matches, words_of_sentences
from fastinterp.evaluation.overlap import different_words, overlap_between
from fastinterp.kernels.problems import OptimizationConfig
from fastinterp.method.companions import background_of
from fastinterp.method.interpretation import interpret
from fastinterp.method.results import Interpretation, Location
from fastinterp.method.saliency import Selection, explain_locations
from fastinterp.models.protocol import TextClassifier


@dataclass(frozen=True)
class AnswerRow:
    """The measures of one answer, or of a control that stands for one.

    Attributes:
        answer: which.
        matching: share of sentences whose class the words alone give back (Table 4).
        identified: share of locations whose own activation is nearest to that of the words, among 100; chance is .01.
        different: how many different words are said in all.
        overlap: mean Jaccard overlap of what is said of two locations of one class.
        repeated: share of the words that stand in the location's own field.
    """

    answer: str
    matching: Estimate
    identified: Estimate
    different: int
    overlap: Estimate
    repeated: Estimate

    def to_dict(self) -> dict[str, object]:
        """Returns the same as plain numbers, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class AnswersTable:
    """The answers of one layer on a set of texts.

    Attributes:
        layer: its index.
        locations: how many locations were explained.
        predicted: how many texts each class was predicted for; where that is one class, matching says nothing.
        rows: of the answers, then of the controls.
        faithfulness: comprehensiveness and sufficiency (ERASER) of the selected fields, and of as many random tokens.
    """

    layer: int
    locations: int
    predicted: tuple[int, ...]
    rows: tuple[AnswerRow, ...]
    faithfulness: dict[str, dict[str, Estimate]]

    def to_dict(self) -> dict[str, object]:
        """Returns the same as plain lists and numbers, ready for JSON."""
        return {
            "layer": self.layer,
            "locations": self.locations,
            "answers": [row.to_dict() for row in self.rows],
            "faithfulness": {
                name: {measure: asdict(estimate) for measure, estimate in each.items()}
                for name, each in self.faithfulness.items()
            },
        }


@dataclass(frozen=True, eq=False)
class _Explained:
    """Locations of sentences that have tokens, flat, and what the measures ask of them."""

    locations: list[Location]
    sentence: Tensor
    label: Tensor
    selection: Selection
    activations: Tensor
    ids: Tensor


def measure_answers(
    model: TextClassifier,
    texts: Sequence[str],
    layer: int = 0,
    locations: int = 3,
    neighbors: int = 5,
    optimization: OptimizationConfig | None = None,
    seed: int = 0,
) -> AnswersTable:
    """Returns the measures of every answer that the model can give, and of controls.

    Args:
        model: the classifier; identification needs a background, and says nothing without one.
        texts: raw texts, at least one of them with a token.
        layer: index of the layer.
        locations: m, of each sentence.
        neighbors: k, words of Eq. 8.
        optimization: settings of Eq. 5-8.
        seed: of distractors, controls and intervals.

    Raises:
        TypeError, ValueError: as `interpret`.
        ModelError: a background or an index of another model.
    """
    found = interpret(model, texts, layer, locations, neighbors, optimization)
    explained = _flatten(model, found, texts, layer, locations)
    tokens = [location.tokens for location in explained.locations]
    first = explained.locations[0] if explained.locations else None
    answers: dict[str, list[list[str]]] = {}
    offsets: dict[str, Tensor] = {}
    if first is not None:
        answers["points to (Eq. 5-8)"] = [[word for word, _ in each.neighbors or ()] for each in explained.locations]
        if first.position_words is not None:
            answers["stands out by"] = [[word for word, _ in each.position_words or ()] for each in explained.locations]
        if first.evidence is not None:
            best = [each.evidence[0] if each.evidence else None for each in explained.locations]
            answers["fires alike on"] = [list(each.tokens) if each else [] for each in best]
            offsets["fires alike on"] = torch.tensor([each.offset if each else 0 for each in best])
        answers["control: field's mean"] = mean_of_field_words(model, tokens, neighbors)
        answers["control: thesaurus"] = nearest_other_words(model, tokens)
        answers["control: random words"] = random_words(model, tokens, seed)
    rows = [_row(model, layer, name, words, offsets.get(name), explained, seed) for name, words in answers.items()]
    predicted = tuple(explained.label.bincount(minlength=len(model.classes)).tolist())
    faithfulness = _faithfulness(model, layer, explained, seed)
    return AnswersTable(layer, len(explained.locations), predicted, tuple(rows), faithfulness)


def _flatten(
    model: TextClassifier, found: Sequence[Interpretation], texts: Sequence[str], layer: int, locations: int
) -> _Explained:
    ids = model.read(list(texts)).ids
    _, selection, activations = explain_locations(model, ids, layer, locations)
    sentence = [row for row, each in enumerate(found) for _ in each.locations]
    label = torch.tensor([model.classes.index(each.label) for each in found], dtype=torch.int64)
    return _Explained(
        [location for each in found for location in each.locations],
        torch.tensor(sentence, dtype=torch.int64),
        label,
        selection,
        activations,
        ids,
    )


def _row(
    model: TextClassifier,
    layer: int,
    name: str,
    words: list[list[str]],
    offset: Tensor | None,
    explained: _Explained,
    seed: int,
) -> AnswerRow:
    said = words_of_sentences(words, explained.sentence, len(explained.label))
    label = explained.label[explained.sentence]
    own = [set(location.tokens) for location in explained.locations]
    shares = [
        sum(word in tokens for word in each) / len(each) if each else math.nan
        for each, tokens in zip(words, own, strict=True)
    ]
    return AnswerRow(
        name,
        bootstrap_mean(matches(model, said, explained.label), seed=seed),
        bootstrap_mean(_identified(model, layer, words, offset, explained, seed), explained.sentence, seed),
        different_words(words),
        bootstrap_mean(overlap_between(words, explained.sentence, label, seed), explained.sentence, seed),
        bootstrap_mean(torch.tensor(shares, dtype=torch.float64), explained.sentence, seed),
    )


def _identified(
    model: TextClassifier,
    layer: int,
    words: list[list[str]],
    offset: Tensor | None,
    explained: _Explained,
    seed: int,
) -> Tensor:
    """Whether the words, read in the field's place, identify each location; NaN where there is no background."""
    background = background_of(model)
    if background is None:
        return torch.full((len(words),), torch.nan, dtype=torch.float64)
    location = explained.selection.location
    ids = answer_ids(model, layer, location, words, offset)
    activations = answer_activations(model, layer, location, ids)
    return identification_ranks(
        activations,
        explained.activations,
        explained.sentence,
        explained.label[explained.sentence],
        background.layer(model, layer).whitening(),
        seed=seed,
    ).identified


def _faithfulness(
    model: TextClassifier, layer: int, explained: _Explained, seed: int
) -> dict[str, dict[str, Estimate]]:
    chosen = selected_tokens(model, explained.ids, layer, explained.selection)
    rationales = {"selected fields": chosen, "random tokens": random_tokens(explained.ids, chosen, seed)}
    return {
        name: {
            measure: bootstrap_mean(values, seed=seed)
            for measure, values in aopc(model, explained.ids, [rationale]).items()
        }
        for name, rationale in rationales.items()
    }
