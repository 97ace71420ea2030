"""The work that is timed: Table-2 models trained on the real corpora, and the problems of their test sentences."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastinterp import ConvTextModel, ModelConfig, OptimizationConfig, TrainingConfig, load_corpus, load_model
from fastinterp.datasets import Corpus
from fastinterp.downloads import cache_folder
from fastinterp.optimization import field_edges, random_starts
from fastinterp.saliency import explain_locations
from fastinterp.text import Vocabulary, tokenize
from fastinterp.vectors import DEFAULT_VECTORS
from fastinterp.workflow import train_on_corpus

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


@dataclass(frozen=True)
class Located:
    """The selected locations of test sentences: activations (B, C), and rows [begin, end) of each field that exist."""

    activations: Tensor
    begin: Tensor
    end: Tensor


def located(classifier: ConvTextModel, name: str, count: int | None, layer: int) -> Located:
    """Returns the first `count` locations (m = 3) of the corpus's test sentences."""
    texts = corpus(name).test.texts
    ids = classifier.encode(texts if count is None else texts[: count // LOCATIONS + 1])
    _, chosen, activations = explain_locations(classifier, ids, layer, LOCATIONS)
    begin, end = field_edges(classifier, layer, chosen.location[:count])
    return Located(activations[:count].contiguous(), begin, end)


def problems(classifier: ConvTextModel, name: str, count: int, layer: int = 0, steps: int = 1000) -> tuple[Any, ...]:
    """Returns the arguments of `optimize_adam` for the first `count` locations of the test sentences."""
    found = located(classifier, name, count, layer)
    before, after = classifier.config.receptive_field(layer)
    weights, biases = classifier.convolution_weights(layer)
    config = OPTIMIZATION[name]
    return (
        found.activations,
        weights,
        biases,
        random_starts(classifier, torch.arange(len(found.begin)), before + after + 1, config.seed),
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
