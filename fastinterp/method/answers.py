"""The answers to what a location detects, one function each, for a batch of sentences whose locations are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional

from fastinterp.kernels.problems import OptimizationConfig, Problems
from fastinterp.method.background import Background
from fastinterp.method.contrast import ContrastConfig, contrast_inputs
from fastinterp.method.contributions import token_scores
from fastinterp.method.evidence import ActivationIndex
from fastinterp.method.fields import ids_in_fields
from fastinterp.method.locations import ClassChoice, Located, locate
from fastinterp.method.optimization import field_edges, optimize_inputs
from fastinterp.method.position_words import PositionConfig, PositionWords, position_words
from fastinterp.method.starts import content_keys, mix
from fastinterp.method.words import nearest_words
from fastinterp.models.protocol import ReadSentences, TextClassifier

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
    problems: Problems
    seen: list[range]  # of each location, the tokens of its sentence
    own: Tensor  # (N, R) ids of the field's tokens, 0 where there is none

    @property
    def sentence(self) -> list[int]:
        """The row of each location's sentence."""
        rows: list[int] = self.located.chosen.sentence.tolist()
        return rows


def read_and_locate(model: TextClassifier, sentences: Sequence[str], settings: Settings, target: ClassChoice) -> Batch:
    """Returns the sentences as the model reads them, with their selected locations."""
    read = model.read(sentences)
    located = locate(
        model,
        read.ids,
        settings.layer,
        settings.locations,
        target,
        settings.versus,
        settings.order,
        settings.contributions,
    )
    return batch_at(model, read, located, settings.layer)


def batch_at(model: TextClassifier, read: ReadSentences, located: Located, layer: int) -> Batch:
    """Returns what all answers share, for locations of a layer that are found."""
    chosen, stack = located.chosen, model.stack(layer)
    begin, end = field_edges(model, layer, chosen.location)
    problems = Problems(located.activations.contiguous(), stack.weights, stack.biases, begin, end, stack.activation)
    own = ids_in_fields(read.ids, chosen.location.cpu(), chosen.sentence.cpu(), stack.before, problems.field)
    seen = []
    for row, location in zip(chosen.sentence.tolist(), chosen.location.tolist(), strict=True):
        count = min(len(read.texts[row].tokens), model.length)
        seen.append(range(max(0, location - stack.before), min(count, location + stack.after + 1)))
    return Batch(read, located, problems, seen, own)


def rows_of_tokens(batch: Batch, number: int) -> slice:
    """The rows of a field that hold a token of the sentence."""
    first = int(batch.problems.begin[number])
    return slice(first, first + len(batch.seen[number]))


def add_contributions(model: TextClassifier, batch: Batch, answers: Answers) -> None:
    """Adds what each token contributes to the score."""
    gradients = batch.located.gradients
    if gradients is None:
        return
    inputs = model.word_vectors[batch.own.to(model.device)]
    scores = token_scores(batch.problems, inputs, gradients)
    for number, answer in enumerate(answers):
        answer["token_scores"] = tuple(scores.tokens[number, rows_of_tokens(batch, number)].tolist())
        answer["rest_score"] = float(scores.rest[number])


def add_points_to(
    model: TextClassifier,
    batch: Batch,
    answers: Answers,
    settings: Settings,
    optimization: OptimizationConfig,
) -> Tensor:
    """Adds the words of Eq. 5-8, "points to"; returns the optimised inputs (N, R, D)."""
    chosen, problems = batch.located.chosen, batch.problems
    keys = mix(content_keys(batch.read.ids).to(model.device)[chosen.sentence], chosen.location)
    optimized = optimize_inputs(
        model, problems.target, settings.layer, problems.begin, problems.end, keys, optimization
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
) -> Tensor:
    """Adds a word for each position by contrast, "stands out by"; returns the inputs that stand out (N, R, D)."""
    whitening = background.layer(model, settings.layer).whitening(contrast.shrinkage)
    inputs = contrast_inputs(batch.problems, background, settings.layer, whitening, contrast)
    words = position_words(model, batch.problems, inputs, batch.own, background.counts, whitening, settings.positions)
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
