"""The answers to what a location detects, one function each, for a batch of sentences whose locations are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from torch import Tensor
from torch.nn import functional

from fastinterp.kernels.problems import OptimizationConfig, Problems
from fastinterp.method.background import Background
from fastinterp.method.contrast import ContrastConfig, contrast_inputs
from fastinterp.method.contributions import token_scores
from fastinterp.method.evidence import ActivationIndex
from fastinterp.method.locations import ClassChoice, Located, locate
from fastinterp.method.module_path import module_token_scores
from fastinterp.method.optimization import optimize_inputs
from fastinterp.method.places import Fields, fields_at
from fastinterp.method.position_words import PositionConfig, PositionWords, position_words
from fastinterp.method.starts import mix, sentence_keys
from fastinterp.method.words import nearest_words
from fastinterp.models.protocol import ReadSentences, TextClassifier
from fastinterp.text.vocabulary import PAD

Answers = list[dict[str, Any]]  # of each location, by the names of `Location`'s fields


@dataclass(frozen=True)
class Settings:
    """What is asked of every sentence. An answer whose settings are None is not given."""

    layer: int
    locations: int
    neighbors: int
    optimization: OptimizationConfig | None
    contrast: ContrastConfig | None
    positions: PositionConfig
    background: Background | None
    index: ActivationIndex | None
    compared_with: ActivationIndex | None  # locations among which words must find their own
    contributions: bool
    versus: int | None
    order: str


@dataclass(eq=False)
class Batch:
    """Sentences read and their locations found, with all that the answers share."""

    read: ReadSentences
    located: Located
    frames: Tensor  # (S,) positions of each sentence
    fields: Fields
    problems: Problems | None  # None of a layer that the module itself explains

    @cached_property
    def rows(self) -> list[slice]:
        """The rows of each field that hold tokens of its sentence."""
        return [slice(*each) for each in zip(self.fields.first.tolist(), self.fields.last.tolist(), strict=True)]

    @cached_property
    def seen(self) -> list[range]:
        """The tokens of its sentence that each location sees."""
        tops = self.fields.top.tolist()
        return [range(top + rows.start, top + rows.stop) for top, rows in zip(tops, self.rows, strict=True)]

    @property
    def sentence(self) -> list[int]:
        """The row of each location's sentence."""
        rows: list[int] = self.located.chosen.sentence.tolist()
        return rows


def read_and_locate(model: TextClassifier, sentences: Sequence[str], settings: Settings, target: ClassChoice) -> Batch:
    """Returns the sentences as the model reads them, with their selected locations."""
    read, layer = model.read(sentences), settings.layer
    located = locate(
        model,
        read.ids,
        layer,
        settings.locations,
        target,
        settings.versus,
        settings.order,
        settings.contributions,
    )
    return batch_at(model, read, located, layer)


def batch_at(model: TextClassifier, read: ReadSentences, located: Located, layer: int) -> Batch:
    """Returns what all answers share, for locations of a layer that are found."""
    fields, problems = fields_at(model, layer, read.ids, located.chosen), None
    if model.path(layer).name == "kernels":
        stack = model.stack(layer)
        begin, end = (each.to(model.device) for each in (fields.begin, fields.end))
        problems = Problems(located.activations.contiguous(), stack.weights, stack.biases, begin, end, stack.activation)
    return Batch(read, located, model.frames(read.ids), fields, problems)


def add_contributions(model: TextClassifier, batch: Batch, layer: int, answers: Answers) -> None:
    """Adds what each token contributes to the score."""
    gradients, own = batch.located.gradients, model.module_layer(layer)
    if gradients is None:
        return
    # Rows outside the frame hold nothing, not even the vector that a module may have for padding.
    places, inside = batch.fields.holding(batch.fields.ids), batch.fields.inside().to(model.device)
    inputs = model.word_vectors[places.ids.to(model.device)] * inside[..., None]
    if batch.problems is not None:
        scores = token_scores(batch.problems, inputs, gradients)
    elif own is not None:
        scores = module_token_scores(own, inputs, gradients, batch.located.activations, places)
    for number, answer in enumerate(answers):
        answer["token_scores"] = tuple(scores.tokens[number, batch.rows[number]].tolist())
        # What special tokens and the vector of padding add is no token's.
        others = float(scores.tokens[number].sum()) - sum(answer["token_scores"])
        answer["rest_score"] = float(scores.rest[number]) + others


def add_points_to(
    model: TextClassifier,
    batch: Batch,
    answers: Answers,
    settings: Settings,
    optimization: OptimizationConfig,
) -> Tensor:
    """Adds the words of Eq. 5-8, "points to"; returns the optimised inputs (N, R, D)."""
    located, fields = batch.located, batch.fields
    names = sentence_keys(batch.read.ids, batch.frames)
    keys = mix(names.to(model.device)[located.chosen.sentence], located.chosen.location)
    optimized = optimize_inputs(
        model,
        located.activations,
        settings.layer,
        fields.begin.to(model.device),
        fields.end.to(model.device),
        keys,
        optimization,
        fields.holding(fields.ids),
    )
    count = min(settings.neighbors + 1, model.prepared().searchable)
    words = nearest_words(model, optimized.overall, count)
    overall = optimized.overall.cpu()
    residuals = [None] * len(answers) if optimized.residual is None else optimized.residual.tolist()
    for number, answer in enumerate(answers):
        kept = words[number][: settings.neighbors]
        answer["optimized"] = overall[number].clone()
        answer["neighbors"] = tuple(kept)
        answer["margin"] = kept[-1][1] - words[number][-1][1] if count > len(kept) else None
        answer["residual"] = residuals[number]
    return optimized.inputs


def add_stands_out(
    model: TextClassifier,
    batch: Batch,
    answers: Answers,
    settings: Settings,
    contrast: ContrastConfig,
    background: Background,
    problems: Problems,
) -> Tensor:
    """Adds a word for each position by contrast, "stands out by"; returns the inputs that stand out (N, R, D).

    Args:
        model: the classifier.
        batch: sentences and their locations.
        answers: of each location, added to.
        settings: of all answers.
        contrast: how the inputs are found.
        background: of the model's layers.
        problems: the batch's, which a layer that the module itself explains does not have.
    """
    layer = settings.layer
    usual = background.layer(model, layer)
    whitening = usual.whitening(contrast.shrinkage)
    below = model.stack(layer).below
    if below is not None:  # the layers that lead to this one, which need not be those of lower indices
        chain = {place: background.layer(model, index) for place, index in enumerate(below)}
        background, layer = replace(background, layers={**chain, len(below): usual}), len(below)
    inputs = contrast_inputs(problems, background, layer, whitening, contrast)
    field = batch.fields.ids
    own = field.masked_fill(~batch.fields.own(), PAD)  # without special tokens, which stay as they are
    words = position_words(model, problems, inputs, own, background.counts, whitening, settings.positions, field)
    for number, (rows, answer) in enumerate(zip(batch.rows, answers, strict=True)):
        pairs = zip(words.ids[number, rows].tolist(), words.cosines[number, rows].tolist(), strict=True)
        answer["position_words"] = tuple((model.words[word], cosine) for word, cosine in pairs)
        answer["likeness"] = float(words.likeness[number])
    index = settings.compared_with
    if index is not None and index.shrinkage == contrast.shrinkage:
        _add_ranks(batch, answers, words, index)
    return inputs


def _add_ranks(batch: Batch, answers: Answers, words: PositionWords, index: ActivationIndex) -> None:
    """Adds the place of each location among a fixed sample of its class, by likeness to what its words give."""
    found = functional.normalize(words.whitened, dim=1)
    for number, (row, answer) in enumerate(zip(batch.sentence, answers, strict=True)):
        sample = index.class_samples[batch.located.targets[row]]
        nearer = int((sample @ found[number] > answer["likeness"] + 1e-6).sum())
        answer["rank"], answer["rank_of"] = nearer + 1, len(sample) + 1


def add_evidence(batch: Batch, answers: Answers, settings: Settings, index: ActivationIndex) -> None:
    """Adds the nearest real n-grams, "fires alike on"."""
    tokens = [batch.read.texts[row].tokens for row in batch.sentence]
    found = index.search(batch.located.activations, min(settings.neighbors, len(index)), tokens)
    for answer, evidence in zip(answers, found, strict=True):
        answer["evidence"] = tuple(evidence)
