"""interpret(): the whole method on raw sentences, and what it returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fastinterp.method.optimization import OptimizationConfig, field_edges, mix, optimize_inputs
from fastinterp.method.saliency import explain_locations, token_ids
from fastinterp.method.words import nearest_words
from fastinterp.models.conv import ConvTextModel
from fastinterp.text.tokenizer import tokenize

# Bounds the memory for activations; results do not depend on it.
SENTENCES_AT_ONCE = 512


@dataclass(frozen=True)
class Location:
    """One selected location of a hidden layer and what it detects.

    Attributes:
        index: position in the layer, 0 to L - 1.
        score: its saliency (Eq. 3).
        token_indices: positions of the sentence's tokens that it sees.
        tokens: those tokens.
        optimized: (D,) float32, the mean of the optimised receptive field (Eq. 8).
        neighbors: the nearest words and their cosines, best first.
    """

    index: int
    score: float
    token_indices: tuple[int, ...]
    tokens: tuple[str, ...]
    optimized: Tensor
    neighbors: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Interpretation:
    """Why a model predicts a class for one sentence.

    Attributes:
        text: the sentence as it came.
        tokens: its tokens inside the frame, as the model reads them.
        unknown: those of them that are not in the vocabulary; the model sees one vector for all.
        truncated: whether tokens beyond the frame were cut off.
        label: name of the predicted class.
        probability: softmax probability of that class.
        layer: index of the interpreted layer.
        saliency: (L,) float32, the score of every location.
        locations: the selected locations, most salient first; none for a text without tokens.
    """

    text: str
    tokens: tuple[str, ...]
    unknown: tuple[str, ...]
    truncated: bool
    label: str
    probability: float
    layer: int
    saliency: Tensor
    locations: tuple[Location, ...]

    def to_dict(self) -> dict[str, object]:
        """Returns the same as plain lists, strings and numbers, ready for JSON."""
        return {
            "text": self.text,
            "tokens": list(self.tokens),
            "unknown": list(self.unknown),
            "truncated": self.truncated,
            "label": self.label,
            "probability": self.probability,
            "layer": self.layer,
            "saliency": self.saliency.tolist(),
            "locations": [
                {
                    "index": location.index,
                    "score": location.score,
                    "token_indices": list(location.token_indices),
                    "tokens": list(location.tokens),
                    "optimized": location.optimized.tolist(),
                    "neighbors": [{"word": word, "cosine": cosine} for word, cosine in location.neighbors],
                }
                for location in self.locations
            ],
        }


def interpret(
    model: ConvTextModel,
    sentences: Sequence[str],
    layer: int = 0,
    locations: int = 3,
    neighbors: int = 5,
    optimization: OptimizationConfig | None = None,
) -> list[Interpretation]:
    """Returns for each sentence which locations of a layer decide its prediction and what they detect, in words.

    A sentence's result depends on nothing but the sentence, the model and the settings: not on the other sentences
    of the call nor on the number of threads. Everything is computed where the model is and returned on the CPU. Tokens
    that are not in the vocabulary are read as one unknown word. A text without tokens has the class that the model
    gives to padding, and no locations.

    Args:
        model: the classifier.
        sentences: raw texts.
        layer: index of the interpreted convolution, 0 for the first.
        locations: m, how many of the most salient locations to explain. A location that sees only padding is never
            one of them, so a short sentence may have fewer.
        neighbors: k, words for each location.
        optimization: settings of the input optimisation; defaults to the paper's for MR and 1,000 steps.

    Raises:
        TypeError: `sentences` is a single string or holds something else than strings.
        ValueError: no such layer, m or k out of range, or a model with NaN weights.
    """
    token_ids(model, sentences[:0])  # a single string is refused before any work
    model.check_finite()
    config = optimization or OptimizationConfig()
    results: list[Interpretation] = []
    for first in range(0, max(1, len(sentences)), SENTENCES_AT_ONCE):
        results += _interpret_batch(
            model, sentences[first : first + SENTENCES_AT_ONCE], layer, locations, neighbors, config
        )
    return results


def _interpret_batch(
    model: ConvTextModel,
    sentences: Sequence[str],
    layer: int,
    locations: int,
    neighbors: int,
    config: OptimizationConfig,
) -> list[Interpretation]:
    ids = token_ids(model, sentences)
    found, chosen, activations = explain_locations(model, ids, layer, locations)
    begin, end = field_edges(model, layer, chosen.location)
    keys = mix(_content_keys(ids).to(model.device)[chosen.sentence], chosen.location)
    optimized = optimize_inputs(model, activations, layer, begin, end, keys, config)
    words = nearest_words(model, optimized.overall, neighbors)
    scores, overall = found.scores.cpu(), optimized.overall.cpu()

    before, _ = model.config.receptive_field(layer)
    token_lists = [tokenize(sentence) for sentence in sentences]
    described: list[list[Location]] = [[] for _ in sentences]
    rows = zip(chosen.sentence.tolist(), chosen.location.tolist(), begin.tolist(), end.tolist(), strict=True)
    for problem, (sentence, location, first, last) in enumerate(rows):
        tokens = token_lists[sentence][: model.config.length]
        seen = range(location - before + first, min(location - before + last, len(tokens)))
        described[sentence].append(
            Location(
                index=location,
                score=float(scores[sentence, location]),
                token_indices=tuple(seen),
                tokens=tuple(tokens[i] for i in seen),
                optimized=overall[problem],
                neighbors=tuple(words[problem]),
            )
        )
    class_scores = found.class_scores.cpu()
    probabilities, classes = class_scores.softmax(dim=1), class_scores.argmax(dim=1).tolist()
    results = []
    for i, sentence in enumerate(sentences):
        tokens = token_lists[i][: model.config.length]
        results.append(
            Interpretation(
                text=sentence,
                tokens=tuple(tokens),
                unknown=tuple(token for token in tokens if token not in model.vocabulary.index),
                truncated=len(token_lists[i]) > model.config.length,
                label=model.config.classes[classes[i]],
                probability=float(probabilities[i, classes[i]]),
                layer=layer,
                saliency=scores[i],
                locations=tuple(described[i]),
            )
        )
    return results


def _content_keys(ids: Tensor) -> Tensor:
    """Returns one int64 key per sentence (B,) that depends on its token ids alone."""
    keys = torch.zeros(len(ids), dtype=torch.int64)
    for column in ids.T:
        keys = mix(keys, column)
    return keys
