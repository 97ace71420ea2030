"""The rows that only a thorough table has: other locations, other settings, another model, rankings of tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch

from fastinterp.evaluation.controls import (
    ablations,
    frequency_matched_words,
    random_locations,
    randomized_model,
)
from fastinterp.evaluation.draws import random_scores
from fastinterp.evaluation.explained import FIRES_ALIKE, POINTS_TO, STANDS_OUT, Asked, explain
from fastinterp.evaluation.faithfulness import (
    gradient_times_input,
    highest_tokens,
    random_token_scores,
    random_tokens,
    selected_tokens,
    top_tokens,
)
from fastinterp.evaluation.inversion import invert
from fastinterp.evaluation.reproduction import words_held
from fastinterp.evaluation.rows import AnswerRow, Measurer
from fastinterp.evaluation.said import Answer
from fastinterp.kernels.problems import OptimizationConfig
from fastinterp.method.background import fit_background
from fastinterp.method.places import is_own
from fastinterp.method.starts import mix
from fastinterp.models.protocol import TextClassifier

INVERTED = 300  # locations that are turned back into words, drawn at random
_SHORT = {POINTS_TO: "points to", STANDS_OUT: "stands out by", FIRES_ALIKE: "fires alike on"}


def further_rows(
    model: TextClassifier, measurer: Measurer, texts: Sequence[str], asked: Asked, on_step: Callable[[str], None]
) -> list[AnswerRow]:
    """Returns the rows of all other controls and ablations.

    Args:
        model: the classifier.
        measurer: of the answers to the most salient locations.
        texts: of the table.
        asked: of the most salient locations.
        on_step: called with the name of each step before it.
    """
    plain = replace(asked, contributions=False, inputs=False)
    rows = list(_word_rows(model, measurer, asked))
    rows += _location_rows(model, measurer, texts, plain, on_step)
    rows += _setting_rows(model, measurer, texts, plain, on_step)
    rows += _untrained_rows(model, measurer, texts, plain, on_step)
    if STANDS_OUT in measurer.explained.answers:
        on_step("an inversion")
        rows += _inversion_rows(model, measurer)
    return rows


def faithfulness_rows(model: TextClassifier, measurer: Measurer, everything: bool) -> list[AnswerRow]:
    """Returns how much of the prediction rests on the selected fields' tokens and on the rankings' top tokens.

    Args:
        model: the classifier.
        measurer: of the answers to the most salient locations.
        everything: rankings too, at ERASER's five shares, and gradient x input.
    """
    ids = measurer.explained.ids
    chosen = selected_tokens(model, ids, measurer.layer, measurer.explained.selection)
    rows = [
        measurer.deletion_row("selected fields", [chosen]),
        measurer.deletion_row("random tokens", [random_tokens(model, ids, chosen, measurer.seed)]),
    ]
    scores = measurer.explained.token_scores
    if not everything or scores is None:
        return rows
    gradients, tokens = gradient_times_input(model, ids), is_own(model, ids)
    as_many = highest_tokens(tokens, gradients, chosen.sum(dim=1, keepdim=True))
    rankings = {
        "ranking: contributions": scores,
        "ranking: gradient x input": gradients,
        "ranking: random": random_token_scores(model, ids, measurer.seed),
    }
    rows.append(measurer.deletion_row("gradient x input, as many tokens", [as_many]))
    return rows + [measurer.deletion_row(name, top_tokens(tokens, each)) for name, each in rankings.items()]


def _word_rows(model: TextClassifier, measurer: Measurer, asked: Asked) -> Iterator[AnswerRow]:
    if asked.background is not None:
        words = frequency_matched_words(model, measurer.explained.tokens, asked.background.counts, measurer.seed)
        yield measurer.row("control: equally frequent", Answer(words))


def _location_rows(
    model: TextClassifier, measurer: Measurer, texts: Sequence[str], asked: Asked, on_step: Callable[[str], None]
) -> Iterator[AnswerRow]:
    """The answers to locations that do not matter: random ones, and the least salient."""
    drawn = random_locations(model, measurer.explained.ids, measurer.layer, asked.locations, measurer.seed)
    for name, order, selection in (("random", "most", drawn), ("unsalient", "least", None)):
        on_step(f"the {name} locations")
        others = explain(model, texts, replace(asked, order=order), selection)
        other = replace(measurer, explained=others)
        for answer, said in others.answers.items():
            yield other.row(f"{name}: {_SHORT[answer]}", said)


def _setting_rows(
    model: TextClassifier, measurer: Measurer, texts: Sequence[str], asked: Asked, on_step: Callable[[str], None]
) -> Iterator[AnswerRow]:
    """Eq. 5-8 without a term, and from another start."""
    config, explained = asked.optimization or OptimizationConfig(), measurer.explained
    variants = ablations(config)
    if config.solver == "adam":
        variants["another start"] = replace(config, seed=config.seed + 1)
    else:
        del variants["no L2 term"]  # no optimum is left to go to, and no start to begin from
    for name, variant in variants.items():
        on_step(name)
        only = replace(asked, optimization=variant, answers=())
        found = explain(model, texts, only, explained.selection, explained.activations)
        yield measurer.row(
            f"points to, {name.removesuffix(' term')}", found.answers[POINTS_TO], explained.answers[POINTS_TO]
        )


def _untrained_rows(
    model: TextClassifier, measurer: Measurer, texts: Sequence[str], asked: Asked, on_step: Callable[[str], None]
) -> Iterator[AnswerRow]:
    """What the answers would be if nothing had been learned, read by the model that has (Adebayo et al. 2018)."""
    on_step("an untrained model")
    explained = measurer.explained
    untrained = randomized_model(model, measurer.seed)
    background, trained, index = None, asked.background, asked.index
    if STANDS_OUT in explained.answers and trained is not None and index is not None:
        reference = index.corpus.texts.all()
        background = replace(fit_background(untrained, reference), counts=trained.counts)
    only = replace(asked, answers=(STANDS_OUT,), background=background)
    found = explain(untrained, texts, only, explained.selection)
    for answer, said in found.answers.items():
        # Its own optimised inputs are no answer of this model; only the words are read.
        yield measurer.row(f"untrained: {_SHORT[answer]}", Answer(said.words), explained.answers[answer])


def _inversion_rows(model: TextClassifier, measurer: Measurer) -> Iterator[AnswerRow]:
    explained, whitening = measurer.explained, measurer.whitening
    inputs = explained.answers[STANDS_OUT].inputs
    if inputs is None or whitening is None:
        return
    keys = mix(explained.key, explained.selection.location.cpu())
    rows = random_scores(keys, 1, measurer.seed)[:, 0].argsort()[:INVERTED].sort().values
    tokens = [explained.tokens[row] for row in rows.tolist()]
    words = invert(
        model,
        measurer.layer,
        explained.fields[rows],
        explained.activations[rows.to(explained.activations.device)],
        inputs[rows.to(inputs.device)],
        whitening,
    )
    held = torch.full((len(explained.tokens),), torch.nan, dtype=torch.float64)
    held[rows] = words_held(model, words, tokens)
    yield measurer.held_row("inversion", held)
