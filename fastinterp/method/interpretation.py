"""interpret(): the whole method on raw sentences, and what it returns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fastinterp.kernels.problems import OptimizationConfig
from fastinterp.method.optimization import field_edges, optimize_inputs
from fastinterp.method.saliency import explain_locations
from fastinterp.method.starts import content_keys, mix
from fastinterp.method.words import nearest_words
from fastinterp.models.protocol import TextClassifier
from fastinterp.text.sentences import check_sentences
from fastinterp.text.tokenizer import TokenizedText

# Bounds the memory for activations; results do not depend on it.
SENTENCES_AT_ONCE = 512


class _ComparedByValue:
    """Equality of dataclasses that hold tensors, whose own == gives a tensor."""

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return all(torch.equal(mine, its) if isinstance(mine, Tensor) else mine == its for mine, its in pairs)

    def __hash__(self) -> int:
        return hash(type(self))


@dataclass(frozen=True, eq=False)
class Location(_ComparedByValue):
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


@dataclass(frozen=True, eq=False)
class Interpretation(_ComparedByValue):
    """Why a model predicts a class for one sentence.

    Every tensor owns its memory, so that one result may be kept or pickled without the batch it came from.

    Attributes:
        text: the sentence as it came.
        tokens: its tokens inside the frame, as the model reads them.
        dropped: characters of the whole text that are part of no token, white space apart, and how often each.
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
    dropped: dict[str, int]
    unknown: tuple[str, ...]
    truncated: bool
    label: str
    probability: float
    layer: int
    saliency: Tensor
    locations: tuple[Location, ...]

    @property
    def dropped_signs(self) -> dict[str, int]:
        """Those dropped characters that mean something: letters, marks, digits and symbols beyond ASCII."""
        return TokenizedText(self.tokens, self.dropped).dropped_signs

    def to_dict(self) -> dict[str, object]:
        """Returns the same as plain lists, strings and numbers, ready for JSON."""
        return {
            "text": self.text,
            "tokens": list(self.tokens),
            "dropped": self.dropped,
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
    model: TextClassifier,
    sentences: Iterable[str],
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
        sentences: raw texts, in a list, a generator or a column of a data frame.
        layer: index of the interpreted convolution, 0 for the first.
        locations: m, how many of the most salient locations to explain. A location that sees only padding is never
            one of them, so a short sentence may have fewer.
        neighbors: k, words for each location.
        optimization: settings of the input optimisation; defaults to the paper's for MR and 1,000 steps.

    Raises:
        TypeError: `sentences` is a single string or a table, or holds something else than strings.
        ValueError: no such layer, m or k out of range, or a model with NaN weights.
    """
    texts = check_sentences(sentences)
    config = optimization or OptimizationConfig()
    results: list[Interpretation] = []
    # No texts at all are a batch too, so that the other arguments are checked whatever there is to explain.
    for first in range(0, max(1, len(texts)), SENTENCES_AT_ONCE):
        results += _interpret_batch(
            model, texts[first : first + SENTENCES_AT_ONCE], layer, locations, neighbors, config
        )
    return results


def _interpret_batch(
    model: TextClassifier,
    sentences: Sequence[str],
    layer: int,
    locations: int,
    neighbors: int,
    config: OptimizationConfig,
) -> list[Interpretation]:
    model.prepared()
    read = model.read(sentences)
    texts, ids = read.texts, read.ids
    found, chosen, activations = explain_locations(model, ids, layer, locations)
    begin, end = field_edges(model, layer, chosen.location)
    keys = mix(content_keys(ids).to(model.device)[chosen.sentence], chosen.location)
    optimized = optimize_inputs(model, activations, layer, begin, end, keys, config)
    words = nearest_words(model, optimized.overall, neighbors)
    scores, overall = found.scores.cpu(), optimized.overall.cpu()

    before = model.stack(layer).before
    described: list[list[Location]] = [[] for _ in sentences]
    rows = zip(chosen.sentence.tolist(), chosen.location.tolist(), begin.tolist(), end.tolist(), strict=True)
    for problem, (sentence, location, first, last) in enumerate(rows):
        tokens = texts[sentence].tokens[: model.length]
        seen = range(location - before + first, min(location - before + last, len(tokens)))
        described[sentence].append(
            Location(
                index=location,
                score=float(scores[sentence, location]),
                token_indices=tuple(seen),
                tokens=tuple(tokens[i] for i in seen),
                optimized=overall[problem].clone(),
                neighbors=tuple(words[problem]),
            )
        )
    class_scores = found.class_scores.cpu()
    probabilities, classes = class_scores.softmax(dim=1), class_scores.argmax(dim=1).tolist()
    results = []
    for i, sentence in enumerate(sentences):
        tokens = texts[i].tokens[: model.length]
        results.append(
            Interpretation(
                text=sentence,
                tokens=tokens,
                dropped=texts[i].dropped,
                unknown=tuple(token for token in tokens if not model.is_known(token)),
                truncated=len(texts[i].tokens) > model.length,
                label=model.classes[classes[i]],
                probability=float(probabilities[i, classes[i]]),
                layer=layer,
                saliency=scores[i].clone(),
                locations=tuple(described[i]),
            )
        )
    return results
