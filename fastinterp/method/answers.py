"""The answers to what a location detects, one function each, for a batch of sentences whose locations are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fastinterp.kernels.problems import OptimizationConfig, Problems
from fastinterp.method.background import Background
from fastinterp.method.contrast import ContrastConfig, contrast_inputs
from fastinterp.method.contributions import token_scores
from fastinterp.method.evidence import ActivationIndex
from fastinterp.method.locations import ClassChoice, Located, locate
from fastinterp.method.module_path import module_token_scores
from fastinterp.method.optimization import field_edges, optimize_inputs
from fastinterp.method.position_words import PositionConfig, PositionWords, position_words
from fastinterp.method.starts import mix, sentence_keys
from fastinterp.method.words import nearest_words
from fastinterp.models.protocol import Places, ReadSentences, TextClassifier

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
    frames: list[int]  # positions of each sentence
    places: Places
    begin: Tensor  # (N,) the first row of each field that lies inside its frame
    end: Tensor  # (N,) one past the last
    problems: Problems | None  # None of a layer that the module itself explains
    seen: list[range]  # of each location, the tokens of its sentence
    first: list[int]  # the row of each field where these begin

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
    chosen, field, frames = located.chosen, model.field(layer), model.frames(read.ids)
    sentence, location = chosen.sentence.cpu(), chosen.location.cpu()
    begin, end = field_edges(model, layer, chosen.location, frames[sentence].to(chosen.location.device))
    problems = None
    if model.path(layer).name == "kernels":
        stack = model.stack(layer)
        problems = Problems(located.activations.contiguous(), stack.weights, stack.biases, begin, end, stack.activation)
    firsts = field.first(location)
    own = field.ids(read.ids, location, sentence, field.rows(frames))
    tokens, seen = model.own_tokens(read.ids).tolist(), []
    for row, first in zip(sentence.tolist(), firsts.tolist(), strict=True):
        last = first + own.shape[1]
        seen.append(range(max(tokens[row][0], first), min(tokens[row][1], last)))
    rows = [each.start - first for each, first in zip(seen, firsts.tolist(), strict=True)]
    places = Places(chosen.location, frames[sentence], own)
    return Batch(read, located, frames.tolist(), places, begin, end, problems, seen, rows)


def rows_of_tokens(batch: Batch, number: int) -> slice:
    """The rows of a field that hold a token of the sentence."""
    first = batch.first[number]
    return slice(first, first + len(batch.seen[number]))


def add_contributions(model: TextClassifier, batch: Batch, layer: int, answers: Answers) -> None:
    """Adds what each token contributes to the score."""
    gradients, own = batch.located.gradients, model.module_layer(layer)
    if gradients is None:
        return
    # Rows outside the frame hold nothing, not even the vector that a module may have for padding.
    place = torch.arange(batch.places.ids.shape[1], device=model.device)
    inside = (place >= batch.begin[:, None]) & (place < batch.end[:, None])
    inputs = model.word_vectors[batch.places.ids.to(model.device)] * inside[..., None]
    if batch.problems is not None:
        scores = token_scores(batch.problems, inputs, gradients)
    elif own is not None:
        scores = module_token_scores(own, inputs, gradients, batch.located.activations, batch.places)
    for number, answer in enumerate(answers):
        answer["token_scores"] = tuple(scores.tokens[number, rows_of_tokens(batch, number)].tolist())
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
    located, places = batch.located, batch.places
    chosen = located.chosen
    names = sentence_keys(batch.read.ids, torch.tensor(batch.frames, dtype=torch.int64))
    keys = mix(names.to(model.device)[chosen.sentence], chosen.location)
    optimized = optimize_inputs(
        model, located.activations, settings.layer, batch.begin, batch.end, keys, optimization, places
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
    field = batch.places.ids
    own = torch.zeros_like(field)  # without special tokens, which stay as they are
    for number in range(len(own)):
        rows = rows_of_tokens(batch, number)
        own[number, rows] = field[number, rows]
    words = position_words(model, problems, inputs, own, background.counts, whitening, settings.positions, field)
    for number, answer in enumerate(answers):
        rows = rows_of_tokens(batch, number)
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
