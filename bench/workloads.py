"""The work that is timed: Table-2 models trained on the real corpora, and the problems of their test sentences."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from fastinterp import ConvTextModel, ModelConfig, OptimizationConfig, TrainingConfig, load_corpus, load_model
from fastinterp.cli.workflow import train_on_corpus
from fastinterp.data.downloads import cache_folder
from fastinterp.data.splits import Corpus
from fastinterp.data.word_vectors import DEFAULT_VECTORS
from fastinterp.kernels.problems import Problems
from fastinterp.method.saliency import explain_locations
from fastinterp.method.starts import random_starts
from fastinterp.text.kim import tokenize
from fastinterp.text.vocabulary import Vocabulary

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
    if not (folder / "config.json").is_file():
        shape = ModelConfig.preset(name, corpus(name).train.classes)
        train_on_corpus(corpus(name), name, shape, TrainingConfig.preset(name), DEFAULT_VECTORS, folder)
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


def located(classifier: ConvTextModel, name: str, count: int | None, layer: int) -> Problems:
    """Returns the first `count` locations (m = 3) of the corpus's test sentences."""
    texts = corpus(name).test.texts
    ids = classifier.encode(texts if count is None else texts[: count // LOCATIONS + 1])
    return located_in(classifier, ids, count, layer)


def located_in(classifier: ConvTextModel, ids: Tensor, count: int | None, layer: int) -> Problems:
    """Returns the first `count` locations (m = 3) of sentences given as ids."""
    _, chosen, activations = explain_locations(classifier, ids, layer, LOCATIONS)
    field, stack = classifier.field(layer), classifier.stack(layer)
    begin, end = field.edges(chosen.location[:count], classifier.length, field.width)
    return Problems(activations[:count].contiguous(), stack.weights, stack.biases, begin, end, stack.activation)


class AdamWork(NamedTuple):
    """The arguments of `optimize_adam`, of our operator and of every peer."""

    problems: Problems
    start: Tensor
    config: OptimizationConfig

    def take(self, count: int) -> AdamWork:
        return self._replace(problems=self.problems[:count], start=self.start[:count])

    def steps(self, steps: int) -> AdamWork:
        return self._replace(config=dataclasses.replace(self.config, steps=steps))


def adam_work(classifier: ConvTextModel, problems: Problems, name: str, steps: int) -> AdamWork:
    """Returns the work on problems that were found, with the starts that `optimize_inputs` would draw."""
    config = dataclasses.replace(OptimizationConfig.preset(name), steps=steps)
    keys = torch.arange(len(problems), device=classifier.device)
    start = random_starts(keys, classifier.length, problems.field, classifier.word_vectors.shape[1], config.seed)
    return AdamWork(problems, start, config)


def adam_work_of(name: str, count: int, layer: int, steps: int, trained: bool = True) -> AdamWork:
    """Returns the work on the first `count` locations of a corpus's test sentences."""
    classifier = model(name, trained)
    return adam_work(classifier, located(classifier, name, count, layer), name, steps)
