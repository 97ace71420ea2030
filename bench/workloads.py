"""The work that is timed: Table-2 models trained on the real corpora, and the problems of their test sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from fastinterp import ConvTextModel, ModelConfig, OptimizationConfig, TrainingConfig, load_corpus, load_model
from fastinterp.datasets import Corpus
from fastinterp.downloads import cache_folder
from fastinterp.optimization import field_edges, random_starts
from fastinterp.saliency import explain_locations
from fastinterp.vectors import DEFAULT_VECTORS
from fastinterp.workflow import train_on_corpus

OPTIMIZATION = {"mr": OptimizationConfig(), "ag_news": OptimizationConfig(l2_weight=0.002, similarity_weight=0.01)}
EPOCHS = {"mr": 20, "ag_news": 3}


def trained_model(name: str) -> ConvTextModel:
    """Returns the Table-2 model of a corpus, trained once and kept in the cache folder."""
    folder: Path = cache_folder() / "bench" / name
    if not folder.is_dir():
        corpus = load_corpus(name)
        shape = ModelConfig.preset(name, corpus.train.classes)
        preset = TrainingConfig.preset(name)
        config = TrainingConfig(preset.learning_rate, preset.batch_size, EPOCHS[name])
        train_on_corpus(corpus, name, shape, config, DEFAULT_VECTORS, folder)
    return load_model(folder)


def corpus(name: str) -> Corpus:
    return load_corpus(name)


def problems(model: ConvTextModel, name: str, count: int, layer: int = 0, steps: int = 1000) -> tuple[Any, ...]:
    """Returns the arguments of `optimize_adam` for the first `count` of the test sentences' locations (m = 3)."""
    ids = model.encode(load_corpus(name).test.texts[: count // 3 + 1])
    _, chosen, activations = explain_locations(model, ids, layer, 3)
    location = chosen.location[:count]
    begin, end = field_edges(model, layer, location)
    before, after = model.config.receptive_field(layer)
    weights, biases = model.convolution_weights(layer)
    config = OPTIMIZATION[name]
    return (
        activations[:count].contiguous(),
        weights,
        biases,
        random_starts(model, torch.arange(len(location)), before + after + 1, config.seed),
        begin,
        end,
        model.config.activation,
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
