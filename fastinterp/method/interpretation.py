"""interpret(): the whole method on raw sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, overload

from torch import Tensor, nn

from fastinterp.errors import ModelError
from fastinterp.kernels.problems import OptimizationConfig
from fastinterp.method.answers import (
    Answers,
    Batch,
    Settings,
    add_contributions,
    add_evidence,
    add_points_to,
    add_stands_out,
    read_and_locate,
)
from fastinterp.method.background import Background
from fastinterp.method.companions import background_of, index_of
from fastinterp.method.contrast import ContrastConfig
from fastinterp.method.evidence import ActivationIndex
from fastinterp.method.locations import ClassChoice, class_index
from fastinterp.method.position_words import PositionConfig
from fastinterp.method.results import Interpretation, Location
from fastinterp.models.protocol import TextClassifier
from fastinterp.text.sentences import check_sentences
from fastinterp.text.vocabulary import UNKNOWN
from fastinterp.validation import choice, integer

# Bounds the memory for activations; results do not depend on it.
SENTENCES_AT_ONCE = 512
ANSWERS = ("contributions", "points_to", "stands_out", "fires_alike")


@overload
def interpret(model: TextClassifier, sentences: str, *settings: Any, **named: Any) -> Interpretation: ...


@overload
def interpret(
    model: TextClassifier, sentences: Iterable[str], *settings: Any, **named: Any
) -> list[Interpretation]: ...


def interpret(
    model: TextClassifier,
    sentences: str | Iterable[str],
    layer: int | str | nn.Module = 0,
    locations: int = 3,
    neighbors: int = 5,
    optimization: OptimizationConfig | None = None,
    *,
    answers: Iterable[str] | None = None,
    target: ClassChoice = None,
    versus: str | int | None = None,
    order: str = "most",
    contrast: ContrastConfig | None = None,
    positions: PositionConfig | None = None,
    background: Background | None = None,
    index: ActivationIndex | None = None,
    batch_size: int | None = None,
    show_progress: bool = False,
) -> Interpretation | list[Interpretation]:
    """Returns for each sentence which locations of a layer decide its prediction and what they detect, in words.

    One string gives one result, a list of them a list.

    A sentence's result depends on nothing but the sentence, the model and the settings: not on the other sentences
    of the call nor on the number of threads (where a module itself explains a layer: up to float32's rounding).
    Everything is computed where the model is and returned on the CPU. Tokens that are not in the vocabulary are read as
    one unknown word. A text without tokens has the class that the model gives to padding, and no locations.

    Args:
        model: the classifier.
        sentences: one raw text; or many, in a list, a generator or a column of a data frame.
        layer: index of the interpreted layer, 0 for the first; for an adapted module also its name, or the module.
        locations: m, how many locations to explain. A location that sees only padding is never one of them, so a short
            sentence may have fewer.
        neighbors: k, words and n-grams for each location.
        optimization: settings of Eq. 5-8; defaults to the paper's for MR and 1,000 steps.
        answers: which of "contributions" (what each token adds to the score), "points_to" (Eq. 5-8), "stands_out" (a
            word for each position, by contrast with the background) and "fires_alike" (real n-grams of the index). By
            default all for which the model has what they need; a layer that a module itself explains is not asked
            what it stands out by.
        target: the explained class: None for the predicted one, a name or an index, or an index for each sentence.
        versus: another class; the difference of the two scores is explained.
        order: "most" salient locations first, "least" (what speaks against the class), or "absolute".
        contrast: settings of "stands_out".
        positions: how its words are chosen.
        background: by default the one that was saved with the model; `fit_background` makes one.
        index: by default the one that was saved with the model; `build_index` makes one.
        batch_size: sentences at once, by default 512; it bounds the memory and changes no result.
        show_progress: whether a bar on the terminal shows how far it is.

    Raises:
        TypeError: `sentences` is a table, or holds something else than strings.
        ValueError: no such layer, class, answer or order, m or k out of range, or a model with NaN weights.
        ModelError: an answer that was asked for needs a background or an index that is not there, or another model's.
    """
    texts = [sentences] if isinstance(sentences, str) else check_sentences(sentences)
    place = model.layer_index(layer)  # no such layer is said before anything that the layer lacks
    wanted = None if answers is None else {choice("answers", answer, ANSWERS) for answer in _listed(answers)}
    background = background_of(model, background)
    index = index_of(model, place, index)
    _check_sources(model, place, wanted, background, index)
    fault = _no_contrast(model, place)
    if fault is not None and wanted is not None and "stands_out" in wanted:
        raise ModelError(f"stands_out: expected a layer that the kernels explain, got {fault}")
    stands_out = background is not None and fault is None and (wanted is None or "stands_out" in wanted)
    settings = Settings(
        place,
        locations,
        integer("neighbors", neighbors, least=1, most=model.prepared().searchable),
        (optimization or OptimizationConfig()) if wanted is None or "points_to" in wanted else None,
        (contrast or ContrastConfig()) if stands_out else None,
        positions or PositionConfig(),
        background,
        index if wanted is None or "fires_alike" in wanted else None,
        index if stands_out else None,
        wanted is None or "contributions" in wanted,
        None if versus is None else class_index(model, "versus", versus),
        order,
    )
    each = _target_of_each(target)
    if each is not None and len(each) != len(texts):
        raise ValueError(f"target: expected one class for each of {len(texts)} sentences, got {len(each)}")
    results: list[Interpretation] = []
    # No texts at all are a batch too, so that the other arguments are checked whatever there is to explain.
    size = SENTENCES_AT_ONCE if batch_size is None else integer("batch_size", batch_size, least=1)
    batches = range(0, max(1, len(texts)), size)
    for first in _with_bar(batches) if show_progress else batches:
        part = slice(first, first + size)
        results += _interpret_batch(model, texts[part], settings, target if each is None else each[part])
    return results[0] if isinstance(sentences, str) else results


def _with_bar(batches: range) -> Iterable[int]:
    from rich.console import Console
    from rich.progress import track  # which nobody needs who watches no bar

    return track(batches, "Interpreting", console=Console(stderr=True))


def _no_contrast(model: TextClassifier, layer: int) -> str | None:
    """Returns why a layer cannot be asked what it stands out by, None where it can."""
    path = model.path(layer)
    if path.name == "kernels":
        return None
    return f"{model.layer_name(layer)}, explained by the module itself ({path.reason})"


def _target_of_each(target: ClassChoice) -> list[int] | None:
    """The classes where one was given for each sentence, None where one goes for all."""
    if isinstance(target, Tensor):
        return target.tolist() if target.dim() > 0 else None
    return list(target) if isinstance(target, Sequence) and not isinstance(target, str) else None


def _listed(answers: Iterable[str]) -> list[str]:
    return [answers] if isinstance(answers, str) else list(answers)


def _check_sources(
    model: TextClassifier,
    layer: int,
    wanted: set[str] | None,
    background: Background | None,
    index: ActivationIndex | None,
) -> None:
    """Raises ModelError where an answer that was asked for lacks what it needs, or has that of another model."""
    if background is not None:
        background.layer(model, layer)
    elif wanted is not None and "stands_out" in wanted:
        raise ModelError("background: the model has none; fit_background(model, texts) makes one")
    if index is not None:
        index.check(model, layer)
    elif wanted is not None and "fires_alike" in wanted:
        raise ModelError(f"index: the model has none for layer {layer}; build_index(model, dataset, ...) makes one")


def _interpret_batch(
    model: TextClassifier, sentences: Sequence[str], settings: Settings, target: ClassChoice
) -> list[Interpretation]:
    batch = read_and_locate(model, sentences, settings, target)
    answers: Answers = [{} for _ in batch.sentence]
    if settings.contributions:
        add_contributions(model, batch, settings.layer, answers)
    if settings.optimization is not None:
        add_points_to(model, batch, answers, settings, settings.optimization)
    if settings.contrast is not None and settings.background is not None and batch.problems is not None:
        add_stands_out(model, batch, answers, settings, settings.contrast, settings.background, batch.problems)
    if settings.index is not None:
        add_evidence(batch, answers, settings, settings.index)
    return _results(model, sentences, batch, answers, settings)


def _results(
    model: TextClassifier,
    sentences: Sequence[str],
    batch: Batch,
    answers: Answers,
    settings: Settings,
) -> list[Interpretation]:
    located, texts = batch.located, batch.read.texts
    scores = located.scores.cpu()
    described: list[list[Location]] = [[] for _ in sentences]
    places = zip(batch.sentence, located.chosen.location.tolist(), batch.seen, answers, strict=True)
    for row, location, seen, answer in places:
        tokens, spans = texts[row].tokens, texts[row].spans
        described[row].append(
            Location(
                index=location,
                score=float(scores[row, location]),
                token_indices=tuple(seen),
                tokens=tuple(tokens[i] for i in seen),
                spans=spans[seen.start : seen.stop],
                **answer,
            )
        )
    class_scores = located.class_scores.cpu()
    probabilities, classes = model.probabilities(class_scores), class_scores.argmax(dim=1).tolist()
    counts = model.locations(settings.layer, batch.frames).tolist()
    path, name = model.path(settings.layer), model.layer_name(settings.layer)
    results = []
    for i, sentence in enumerate(sentences):
        tokens = texts[i].tokens[: model.length]
        ids = batch.read.ids[i, : len(tokens)].tolist()
        results.append(
            Interpretation(
                text=sentence,
                tokens=tokens,
                dropped=texts[i].dropped,
                unknown=tuple(token for token, word in zip(tokens, ids, strict=True) if word == UNKNOWN),
                truncated=len(texts[i].tokens) > model.length,
                label=model.classes[classes[i]],
                probability=float(probabilities[i, classes[i]]),
                target=model.classes[located.targets[i]],
                versus=None if settings.versus is None else model.classes[settings.versus],
                order=settings.order,
                layer=settings.layer,
                saliency=scores[i, : counts[i]].clone(),
                locations=tuple(described[i]),
                layer_name=name,
                path=path.name,
                reason=path.reason,
            )
        )
    return results
