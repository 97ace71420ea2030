"""The work that is timed: Table-2 models trained on the real corpora, and the problems of their test sentences."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastinterp import ConvTextModel, ModelConfig, OptimizationConfig, TrainingConfig, load_corpus, load_model
from fastinterp.cli.workflow import train_on_corpus
from fastinterp.data.downloads import cache_folder
from fastinterp.data.splits import Corpus
from fastinterp.data.word_vectors import DEFAULT_VECTORS
from fastinterp.method.optimization import field_edges, random_starts
from fastinterp.method.saliency import explain_locations
from fastinterp.text.tokenizer import tokenize
from fastinterp.text.vocabulary import Vocabulary

OPTIMIZATION = {"mr": OptimizationConfig(), "ag_news": OptimizationConfig(l2_weight=0.002, similarity_weight=0.01)}
EPOCHS = {"mr": 20, "ag_news": 3}
LOCATIONS = 3


@functools.cache
def corpus(name: str) -> Corpus:
    return load_corpus(name)


@functools.cache
def model(name: str, trained: bool = True) -> ConvTextModel:
    """Returns the Table-2 model of a corpus, trained once and kept in the cache folder; or one that knows nothing."""
    if not trained:
        return fresh_model(name)
    folder: Path = cache_folder() / "bench" / name
    if not folder.is_dir():
        shape = ModelConfig.preset(name, corpus(name).train.classes)
        preset = TrainingConfig.preset(name)
        config = TrainingConfig(preset.learning_rate, preset.batch_size, EPOCHS[name])
        train_on_corpus(corpus(name), name, shape, config, DEFAULT_VECTORS, folder)
    return load_model(folder)


def fresh_model(name: str) -> ConvTextModel:
    """Returns an untrained Table-2 model with the corpus's vocabulary."""
    texts = corpus(name).train.texts + corpus(name).test.texts
    vocabulary = Vocabulary.build([tokenize(text) for text in texts])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ConvTextModel(ModelConfig.preset(name, corpus(name).train.classes), vocabulary).eval()


# Table 1's vocabularies, and the mean number of tokens of a sentence.
DRAWN = {"mr": (18_160, 20), "ag_news": (84_252, 45)}


def drawn(name: str, sentences: int) -> tuple[ConvTextModel, Tensor]:
    """Returns an untrained Table-2 model and drawn token ids (B, L): what a machine without the corpora can time."""
    words, mean_length = DRAWN[name]
    vocabulary = Vocabulary(("<pad>", "<unk>", *(f"word{i}" for i in range(words))))
    generator = torch.Generator().manual_seed(0)
    embedding = torch.randn(len(vocabulary), 300, generator=generator) * 0.14  # word2vec's scale
    embedding[0] = 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        shape = ModelConfig.preset(name, [f"class {i}" for i in range(2 if name == "mr" else 4)])
        classifier = ConvTextModel(shape, vocabulary, embedding).eval()
    lengths = (torch.randn(sentences, generator=generator) * mean_length / 3 + mean_length).long()
    lengths = lengths.clamp(1, shape.length)[:, None]
    ids = torch.randint(2, len(vocabulary), (sentences, shape.length), generator=generator)
    return classifier, ids * (torch.arange(shape.length) < lengths)


@dataclass(frozen=True)
class Located:
    """The selected locations of test sentences: activations (B, C), and rows [begin, end) of each field that exist."""

    activations: Tensor
    begin: Tensor
    end: Tensor


def located(classifier: ConvTextModel, name: str, count: int | None, layer: int) -> Located:
    """Returns the first `count` locations (m = 3) of the corpus's test sentences."""
    texts = corpus(name).test.texts
    return located_in(
        classifier, classifier.encode(texts if count is None else texts[: count // LOCATIONS + 1]), count, layer
    )


def located_in(classifier: ConvTextModel, ids: Tensor, count: int | None, layer: int) -> Located:
    """Returns the first `count` locations (m = 3) of sentences given as ids."""
    _, chosen, activations = explain_locations(classifier, ids, layer, LOCATIONS)
    begin, end = field_edges(classifier, layer, chosen.location[:count])
    return Located(activations[:count].contiguous(), begin, end)


def problems(classifier: ConvTextModel, name: str, count: int, layer: int = 0, steps: int = 1000) -> tuple[Any, ...]:
    """Returns the arguments of `optimize_adam` for the first `count` locations of the test sentences."""
    return arguments_of(classifier, located(classifier, name, count, layer), name, layer, steps)


def arguments_of(classifier: ConvTextModel, found: Located, name: str, layer: int, steps: int) -> tuple[Any, ...]:
    """Returns the arguments of `optimize_adam` for locations that were found, on the model's device."""
    before, after = classifier.config.receptive_field(layer)
    weights, biases = classifier.convolution_weights(layer)
    config = OPTIMIZATION[name]
    return (
        found.activations,
        weights,
        biases,
        random_starts(
            classifier, torch.arange(len(found.begin), device=classifier.device), before + after + 1, config.seed
        ),
        found.begin,
        found.end,
        classifier.config.activation,
        steps,
        config.l2_weight,
        config.similarity_weight,
        config.learning_rate,
        config.beta1,
        config.beta2,
        config.epsilon,
    )


def take(arguments: tuple[Any, ...], count: int) -> tuple[Any, ...]:
    """Returns the first `count` of the problems."""
    target, weights, biases, start, begin, end, *rest = arguments
    return (target[:count], weights, biases, start[:count], begin[:count], end[:count], *rest)
