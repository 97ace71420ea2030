"""Locations and all their answers, flat and in one place: what the measures ask of them, found once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from fastinterp.evaluation.answers import field_activations, location_activations
from fastinterp.evaluation.said import Answer, evidence_words, named
from fastinterp.kernels.problems import OptimizationConfig
from fastinterp.method.answers import (
    Answers,
    Batch,
    Settings,
    add_contributions,
    add_evidence,
    add_points_to,
    add_stands_out,
    batch_at,
)
from fastinterp.method.background import Background, Whitening
from fastinterp.method.companions import background_of, index_of
from fastinterp.method.contrast import ContrastConfig
from fastinterp.method.evidence import ActivationIndex
from fastinterp.method.interpretation import SENTENCES_AT_ONCE
from fastinterp.method.locations import Located, locate
from fastinterp.method.places import Fields
from fastinterp.method.position_words import PositionConfig
from fastinterp.method.saliency import Selection, same_width
from fastinterp.method.starts import sentence_keys
from fastinterp.models.protocol import TextClassifier

POINTS_TO, STANDS_OUT, FIRES_ALIKE = "points to (Eq. 5-8)", "stands out by", "fires alike on"


@dataclass(frozen=True, eq=False)
class Explained:
    """N locations of S sentences with their answers, on the CPU.

    Attributes:
        ids: (S, L) int64.
        label: (S,) int64, the predicted class.
        sentence: (N,) int64, row of each location's sentence.
        key: (N,) int64, naming the sentence by its content: copies have one name.
        selection: the locations, on the model's device.
        fields: what they see.
        activations: (N, C) theirs, on the model's device.
        tokens: that each location sees, in the model's words where it has one for a token.
        answers: by name.
        token_scores: (S, L), what each token adds to the scores of its sentence's locations; None where not asked for.
    """

    ids: Tensor
    label: Tensor
    sentence: Tensor
    key: Tensor
    selection: Selection
    fields: Fields
    activations: Tensor
    tokens: list[list[str]]
    answers: dict[str, Answer] = field(default_factory=dict)
    token_scores: Tensor | None = None

    @property
    def class_of_location(self) -> Tensor:
        """(N,) int64, the predicted class of each location's sentence."""
        return self.label[self.sentence]


@dataclass(frozen=True)
class Asked:
    """What is asked of every location.

    Attributes:
        layer: index of the layer.
        locations: m, of each sentence.
        neighbors: k, words of Eq. 8.
        optimization: settings of Eq. 5-8; None where that answer is not asked for.
        answers: which of the other answers are asked for, where the model has what they need.
        background: in place of the one that was saved with the model.
        index: in place of the one that was saved with the model.
        contributions: whether each token's part of the scores is asked for.
        inputs: whether the inputs that stand out are.
        order: which end of the saliency the locations are from.
    """

    layer: int
    locations: int
    neighbors: int
    optimization: OptimizationConfig | None
    answers: tuple[str, ...] = (STANDS_OUT, FIRES_ALIKE)
    background: Background | None = None
    index: ActivationIndex | None = None
    contributions: bool = False
    inputs: bool = False
    order: str = "most"


def explain(
    model: TextClassifier,
    texts: Sequence[str],
    asked: Asked,
    selection: Selection | None = None,
    activations: Tensor | None = None,
) -> Explained:
    """Returns the locations of sentences with all that is asked of them.

    Args:
        model: the classifier.
        texts: S raw texts.
        asked: what.
        selection: the locations, in the order of the sentences; by default those that `asked.order` selects.
        activations: (N, C) of the given locations, where they are known.

    Raises:
        ValueError: no such layer, or m or k out of range.
        ModelError: a background or an index of another model.
    """
    settings = _settings(model, asked)
    parts: list[Explained] = []
    for first in range(0, max(1, len(texts)), SENTENCES_AT_ONCE):
        sentences = texts[first : first + SENTENCES_AT_ONCE]
        given = None if selection is None else _given(selection, activations, first, len(sentences))
        parts.append(_explain_batch(model, sentences, settings, asked.inputs, given))
    return _joined(parts)


def whitening_of(model: TextClassifier, layer: int, background: Background | None = None) -> Whitening | None:
    """Returns how likeness is measured in a layer, by the model's own background if no other is given; None without."""
    background = background_of(model, background)
    return None if background is None else background.layer(model, layer).whitening()


def _settings(model: TextClassifier, asked: Asked) -> Settings:
    background = background_of(model, asked.background)
    if background is not None:
        background.layer(model, asked.layer)
    index = index_of(model, asked.layer, asked.index) if FIRES_ALIKE in asked.answers else None
    if index is not None:
        index.check(model, asked.layer)
    return Settings(
        layer=asked.layer,
        locations=asked.locations,
        neighbors=asked.neighbors,
        optimization=asked.optimization,
        contrast=ContrastConfig() if background is not None and STANDS_OUT in asked.answers else None,
        positions=PositionConfig(),
        background=background,
        index=index,
        compared_with=None,
        contributions=asked.contributions,
        versus=None,
        order=asked.order,
    )


_Given = tuple[Selection, Tensor | None]


def _given(selection: Selection, activations: Tensor | None, first: int, count: int) -> _Given:
    """The locations of some sentences, counted from the first of them, and their activations where they are known."""
    rows = (selection.sentence >= first) & (selection.sentence < first + count)
    part = Selection(selection.sentence[rows] - first, selection.location[rows])
    return part, None if activations is None else activations[rows]


def _explain_batch(
    model: TextClassifier, texts: Sequence[str], settings: Settings, keeps_inputs: bool, given: _Given | None
) -> Explained:
    read = model.read(texts)
    if given is None:
        located = locate(
            model,
            read.ids,
            settings.layer,
            settings.locations,
            order=settings.order,
            with_gradients=settings.contributions,
        )
    else:
        located = _located(model, read.ids, settings.layer, *given)
    batch = batch_at(model, read, located, settings.layer)
    answers: Answers = [{} for _ in batch.sentence]
    said: dict[str, Answer] = {}
    fields = batch.fields
    if settings.optimization is not None:
        inputs = add_points_to(model, batch, answers, settings, settings.optimization)
        field_found = field_activations(model, settings.layer, fields, inputs)
        said[POINTS_TO] = Answer(_words(answers, "neighbors"), None, field_found)
    if settings.contrast is not None and settings.background is not None and batch.problems is not None:
        inputs = add_stands_out(model, batch, answers, settings, settings.contrast, settings.background, batch.problems)
        field_found = field_activations(model, settings.layer, fields, inputs)
        said[STANDS_OUT] = Answer(
            _words(answers, "position_words"), None, field_found, inputs if keeps_inputs else None
        )
    if settings.index is not None:
        add_evidence(batch, answers, replace(settings, neighbors=1), settings.index)
        best = [answer["evidence"][0] if answer["evidence"] else None for answer in answers]
        offset = torch.tensor([each.offset if each else 0 for each in best], dtype=torch.int64)
        said[FIRES_ALIKE] = Answer(evidence_words(model, best), offset)
    tokens = [
        named(model, read.texts[row].tokens[seen.start : seen.stop], read.ids[row, seen.start : seen.stop])
        for row, seen in zip(batch.sentence, batch.seen, strict=True)
    ]
    sentence = located.chosen.sentence.cpu()
    return Explained(
        read.ids,
        torch.tensor(located.targets, dtype=torch.int64),
        sentence,
        sentence_keys(read.ids, model.frames(read.ids))[sentence],
        located.chosen,
        fields,
        located.activations,
        tokens,
        said,
        _token_scores(model, batch, settings.layer, answers) if settings.contributions else None,
    )


def _located(
    model: TextClassifier, ids: Tensor, layer: int, selection: Selection, activations: Tensor | None
) -> Located:
    """Given locations as if they had been selected; no score of theirs is known."""
    class_scores = model.class_scores(ids) if len(ids) else torch.zeros(0, len(model.classes))
    return Located(
        class_scores.new_zeros(ids.shape),
        class_scores,
        class_scores.argmax(dim=1).tolist(),
        selection,
        location_activations(model, ids, layer, selection) if activations is None else activations,
        None,
    )


def _words(answers: Answers, name: str) -> list[list[str]]:
    return [[word for word, _ in answer[name]] for answer in answers]


def _token_scores(model: TextClassifier, batch: Batch, layer: int, answers: Answers) -> Tensor:
    add_contributions(model, batch, layer, answers)
    scores = torch.zeros(batch.read.ids.shape, dtype=torch.float64)
    for row, seen, answer in zip(batch.sentence, batch.seen, answers, strict=True):
        scores[row, seen.start : seen.stop] += torch.tensor(answer["token_scores"], dtype=torch.float64)
    return scores


def _joined(parts: list[Explained]) -> Explained:
    starts = torch.tensor([0, *(len(part.ids) for part in parts)]).cumsum(0).tolist()

    def rows(name: str) -> Tensor:
        return torch.cat([getattr(part, name) for part in parts])

    def columns(name: str) -> Tensor:
        return torch.cat(same_width([getattr(part, name) for part in parts]))

    sentence = torch.cat([part.sentence + start for part, start in zip(parts, starts, strict=False)])
    location = torch.cat([part.selection.location for part in parts])
    answers = {name: Answer.joined([part.answers[name] for part in parts]) for name in parts[0].answers}
    return Explained(
        columns("ids"),
        rows("label"),
        sentence,
        rows("key"),
        Selection(sentence.to(location.device), location),
        Fields.joined([part.fields for part in parts]),
        rows("activations"),
        [tokens for part in parts for tokens in part.tokens],
        answers,
        None if parts[0].token_scores is None else columns("token_scores"),
    )
