"""Corpus in, trained and saved model out: what `fastinterp train` and `fastinterp demo` share."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch

from fastinterp.data.splits import Corpus
from fastinterp.data.word_vectors import DEFAULT_VECTORS, WordVectors, embed_vocabulary, load_vectors, train_vectors
from fastinterp.display.progress import ProgressReport
from fastinterp.errors import DataError, DownloadError
from fastinterp.evaluation.accuracy import accuracy
from fastinterp.evaluation.training_texts import TEXTS_FILE, save_training_texts
from fastinterp.messages import clip
from fastinterp.method.activation_index import LOCATIONS, build_index
from fastinterp.method.background import fit_background
from fastinterp.method.companions import BACKGROUND_FILE, index_file
from fastinterp.method.index_storage import save_index
from fastinterp.method.position_words import LEAST_COUNT
from fastinterp.models.config import ModelConfig
from fastinterp.models.conv import ConvTextModel
from fastinterp.models.device import check_device
from fastinterp.models.storage import check_output, save
from fastinterp.text.choice import make_tokenizer
from fastinterp.text.vocabulary import Vocabulary
from fastinterp.training import trainer

CORPUS_VECTORS = "corpus"
_SHOWN_CLASSES = 12
_LONGEST = 512  # tokens of a frame that is made without being asked for
# Of the tokens. The default vectors are English; of texts in another language they know names and numbers at best.
LEAST_KNOWN = 0.5


def choose_vectors(
    source: str, tokens: list[list[str]], seed: int, progress: ProgressReport
) -> tuple[WordVectors, str]:
    """Returns word vectors and where they come from.

    Learns them from the corpus where the default vectors are out of reach, or have less than half of its tokens.

    Args:
        source: as `load_vectors`, or "corpus".
        tokens: the tokenised corpus.
        seed: of Word2Vec.
        progress: says what is going on, and when the fallback is taken.

    Raises:
        DataError: the user named vectors that cannot be read.
    """
    if source != CORPUS_VECTORS:
        progress.show(f"Reading word vectors ({source})")
        try:
            vectors = load_vectors(source)
            known = _known_share(vectors, tokens)
            if source != DEFAULT_VECTORS or known >= LEAST_KNOWN:
                return vectors, source
            reason = f"{source} has vectors for {known:.0%} of the tokens"
        except DownloadError as error:
            if source != DEFAULT_VECTORS:
                raise
            reason = str(error)
        progress.screen.say(f"{reason}. Learning word vectors from the corpus instead.", style="yellow")
    progress.show("Learning word vectors from the corpus")
    return train_vectors(tokens, seed=seed), CORPUS_VECTORS


def _lengthened(length: int, tokens: list[list[str]]) -> int:
    """Returns the length of the longest text but for the hundredth part that is longest, from `length` to 512."""
    lengths = sorted(map(len, tokens))
    return min(max(length, *lengths[: math.ceil(0.99 * len(lengths))]), _LONGEST)


def _classes_of(corpus: Corpus) -> str:
    """Says which classes there are and how many texts each has; and which of them may be the same."""
    names, counts = corpus.train.classes, Counter(corpus.train.labels)
    listed = ", ".join(f"{clip(name, 40)} {counts[place]:,}" for place, name in enumerate(names[:_SHOWN_CLASSES]))
    more = f" and {len(names) - _SHOWN_CLASSES:,} more" if len(names) > _SHOWN_CLASSES else ""
    folded = Counter(name.casefold() for name in names)
    alike = next((name for name in names if folded[name.casefold()] > 1), None)
    doubt = "" if alike is None else f"; another class differs from {clip(alike, 40)!r} by upper and lower case alone"
    return f"{len(names):,} classes: {listed}{more}{doubt}"


def _least_count(tokens: list[list[str]], progress: ProgressReport) -> int:
    """Returns how often a word must stand in the texts that its vector is learnt from; says how many do not.

    A rarer one would have a vector that tells nothing but the class of the text that it stood in, and would be named as
    what locations point to. Of few texts all words are kept.
    """
    counts = _counted(tokens)
    rare = [word for word, count in counts.items() if count < LEAST_COUNT]
    if sum(counts[word] for word in rare) > (1 - LEAST_KNOWN) * counts.total():
        return 1
    if rare:
        progress.screen.say(
            f"{len(rare):,} of {len(counts):,} words stand fewer than {LEAST_COUNT} times and are read as unknown: too "
            "few to learn what they mean"
        )
    return LEAST_COUNT


def _counted(tokens: list[list[str]]) -> Counter[str]:
    return Counter(token for sentence in tokens for token in sentence)


def _known_share(vectors: WordVectors, tokens: list[list[str]]) -> float:
    counts = _counted(tokens)
    known = sum(count for token, count in counts.items() if vectors.row(token) is not None)
    return known / max(1, counts.total())


def train_on_corpus(
    corpus: Corpus,
    name: str,
    shape: ModelConfig,
    config: trainer.TrainingConfig,
    vectors: str,
    output: Path,
    device: str = "cpu",
    lengthen: bool = False,
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
        lengthen: whether the frame grows, to 512 tokens at most, until 99 % of the texts to train fit.

    Raises:
        ValueError: there is no such device.
        ModelError: `output` cannot be written; found out before training.
        DataError: the vectors cannot be read, or the tokeniser finds no word in the texts.
        TrainingError: training diverges; nothing is saved.
    """
    place = check_device(device)
    check_output(output)
    with ProgressReport() as progress:
        progress.show("Reading the texts")
        tokenizer = make_tokenizer(shape.tokenizer)
        tokens = [list(tokenizer.read(text).tokens) for text in corpus.train.texts + corpus.test.texts]
        _check_tokens(tokens[: len(corpus.train)], corpus, progress)
        if lengthen:
            shape = dataclasses.replace(shape, length=_lengthened(shape.length, tokens[: len(corpus.train)]))
        cut = sum(len(each) > shape.length for each in tokens)
        if cut:
            progress.screen.say(
                f"{cut:,} of {len(tokens):,} texts are cut to {shape.length} tokens; --length changes it"
            )
        source, origin = choose_vectors(vectors, tokens, config.seed, progress)
        vocabulary = Vocabulary.build(tokens, _least_count(tokens, progress) if origin == CORPUS_VECTORS else 1)
        for note in source.notes:
            progress.screen.say(f"Word vectors: {note}")
        embedding = embed_vocabulary(vocabulary, source, config.seed)
        progress.screen.say(
            f"{len(corpus.train):,} texts to train, {len(corpus.test):,} held out; {len(vocabulary):,} words, "
            f"{embedding.coverage:.1%} of them with a vector"
        )
        progress.screen.say(_classes_of(corpus))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            model = ConvTextModel(
                dataclasses.replace(shape, embedding_dimension=source.dimension), vocabulary, embedding.matrix
            ).to(place)

        def show(now: trainer.Progress) -> None:
            reached = "" if now.accuracy is None else f", validation accuracy {now.accuracy:.3f}"
            progress.show(
                f"Epoch {now.epoch} of at most {config.epochs}, batch",
                now.batches_done,
                now.batches,
                f"loss {now.loss:.3f}{reached}",
            )

        result = trainer.train_model(model, corpus.train, config, show)
        progress.show("Measuring the test accuracy")
        metrics = {
            "corpus": name,
            "corpus_fingerprint": corpus.fingerprint,
            "test_accuracy": accuracy(model, corpus.test),
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
        companions = _companions(model, corpus, progress)
        companions[TEXTS_FILE] = functools.partial(save_training_texts, model, corpus.train.texts)
        save(model, output, metrics, companions)
        progress.screen.say(
            f"Test accuracy {metrics['test_accuracy']:.3f} (best epoch {result.best_epoch}, {result.seconds:.0f} s); "
            f"model in {output}"
        )
    return model


def _companions(model: ConvTextModel, corpus: Corpus, progress: ProgressReport) -> dict[str, Callable[[Path], object]]:
    """Measures the background and an index for every layer on the training texts; returns what writes them."""
    progress.show("Measuring what the layers' activations usually are")
    try:
        background = fit_background(model, corpus.train.texts)
    except ValueError as error:
        progress.screen.say(f"No background ({error}); answers that need one are left out")
        return {}
    companions: dict[str, Callable[[Path], object]] = {BACKGROUND_FILE: background.save}
    for layer in range(model.layers):
        progress.show("Indexing the layers", layer, model.layers)
        index = build_index(model, corpus.train, background, layer, min(LOCATIONS, model.length))
        companions[index_file(layer)] = functools.partial(save_index, index)
    return companions


def _check_tokens(tokens: list[list[str]], corpus: Corpus, progress: ProgressReport) -> None:
    """Says how many texts have no token; raises DataError where that is more than half of them."""
    empty = [text for text, words in zip(corpus.train.texts, tokens, strict=True) if not words]
    if not empty:
        return
    said = f"{len(empty):,} of {len(tokens):,} texts to train have no token, such as {empty[0][:40]!r}"
    if len(empty) > len(tokens) / 2:
        raise DataError(f"data: {said}; the tokeniser kim reads ASCII alone, unicode every script")
    progress.screen.say(said)
