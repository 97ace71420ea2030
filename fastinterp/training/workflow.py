"""Corpus in, trained and saved model out: what `fastinterp train` and `fastinterp demo` share."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fastinterp.data.corpora import Corpus
from fastinterp.data.word_vectors import DEFAULT_VECTORS, WordVectors, embed_vocabulary, load_vectors, train_vectors
from fastinterp.errors import DownloadError
from fastinterp.models.config import ModelConfig
from fastinterp.models.conv import ConvTextModel
from fastinterp.models.device import check_device
from fastinterp.models.storage import check_output, save
from fastinterp.text.tokenizer import tokenize
from fastinterp.text.vocabulary import Vocabulary
from fastinterp.training import trainer

CORPUS_VECTORS = "corpus"


def choose_vectors(source: str, tokens: list[list[str]], seed: int, screen: Console) -> tuple[WordVectors, str]:
    """Returns word vectors and where they come from; learns them from the corpus where the default is out of reach.

    Args:
        source: as `load_vectors`, or "corpus".
        tokens: the tokenised corpus.
        seed: of Word2Vec.
        screen: says when the fallback is taken.

    Raises:
        DataError: the user named vectors that cannot be read.
    """
    if source != CORPUS_VECTORS:
        try:
            with screen.status(f"Reading word vectors ({source})"):
                return load_vectors(source), source
        except DownloadError as error:
            if source != DEFAULT_VECTORS:
                raise
            screen.print(f"[yellow]{error}. Learning word vectors from the corpus instead.[/]", highlight=False)
    with screen.status("Learning word vectors from the corpus"):
        return train_vectors(tokens, seed=seed), CORPUS_VECTORS


def train_on_corpus(
    corpus: Corpus,
    name: str,
    shape: ModelConfig,
    config: trainer.TrainingConfig,
    vectors: str,
    output: Path,
    device: str = "cpu",
) -> ConvTextModel:
    """Returns a model trained on `corpus`, saved into `output` with its metrics; shows progress on standard error.

    The vocabulary is built over both parts of the corpus, as Kim (2014) does, so that held-out words have their
    vectors.

    Args:
        corpus: train and test texts.
        name: of the corpus, kept in the metrics.
        shape: of the model; its embedding dimension gives way to the vectors'.
        config: how to train.
        vectors: a source of word vectors, or "corpus".
        output: folder of the model.
        device: where to train.

    Raises:
        ValueError: there is no such device.
        ModelError: `output` cannot be written; found out before training.
        DataError: the vectors cannot be read.
    """
    place = check_device(device)
    check_output(output)
    screen = Console(stderr=True)
    tokens = [tokenize(text) for text in corpus.train.texts + corpus.test.texts]
    vocabulary = Vocabulary.build(tokens)
    source, origin = choose_vectors(vectors, tokens, config.seed, screen)
    embedding = embed_vocabulary(vocabulary, source, config.seed)
    screen.print(
        f"{len(corpus.train):,} texts to train, {len(corpus.test):,} held out; {len(vocabulary):,} words, "
        f"{embedding.coverage:.1%} of them with a vector"
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = ConvTextModel(
            dataclasses.replace(shape, embedding_dimension=source.dimension), vocabulary, embedding.matrix
        ).to(place)
    result = _train_with_progress(model, corpus, config, screen)
    metrics = {
        "corpus": name,
        "test_accuracy": trainer.accuracy(model, corpus.test),
        "best_epoch": result.best_epoch,
        "training_losses": result.losses,
        "validation_losses": result.validation_losses,
        "validation_accuracies": result.accuracies,
        "seconds": result.seconds,
        "vectors": origin,
        "vector_coverage": embedding.coverage,
        "training": dataclasses.asdict(config),
        "torch": torch.__version__,
    }
    save(model, output, metrics)
    screen.print(
        f"Test accuracy {metrics['test_accuracy']:.3f} (best epoch {result.best_epoch}, {result.seconds:.0f} s); "
        f"model in {output}",
        highlight=False,
    )
    return model


def _train_with_progress(
    model: ConvTextModel, corpus: Corpus, config: trainer.TrainingConfig, screen: Console
) -> trainer.TrainingResult:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=screen) as bar:
        task = bar.add_task("Training", total=None, state="")

        def show(now: trainer.Progress) -> None:
            accuracy = "" if now.accuracy is None else f"  validation accuracy {now.accuracy:.3f}"
            bar.update(
                task,
                description=f"Epoch {now.epoch} of at most {config.epochs}",
                total=now.batches,
                completed=now.batches_done,
                state=f"loss {now.loss:.3f}{accuracy}",
            )

        return trainer.train_model(model, corpus.train, config, show)
