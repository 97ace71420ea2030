"""fastinterp demo: from nothing to words in one command."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from fastinterp.data.corpora import load_snippets
from fastinterp.data.word_vectors import DEFAULT_VECTORS
from fastinterp.display.console import print_evaluation, print_interpretation
from fastinterp.evaluation.matching import matching_rate
from fastinterp.method.interpretation import interpret
from fastinterp.models.config import ModelConfig
from fastinterp.training.trainer import TrainingConfig, accuracy
from fastinterp.training.workflow import train_on_corpus

SHOWN_SENTENCES = 4
MOST_TOKENS_SHOWN = 14


def run_demo(output: Path, seed: int = 0) -> None:
    """Trains a small model on the snippets, interprets held-out ones and prints their matching rate.

    Args:
        output: folder of the model.
        seed: of the training.

    Raises:
        FastinterpError: the snippets cannot be fetched, or the folder cannot be written.
    """
    screen = Console()
    corpus = load_snippets()
    shape = ModelConfig.preset("mr", corpus.train.classes)
    model = train_on_corpus(corpus, "snippets", shape, TrainingConfig(seed=seed), DEFAULT_VECTORS, output)
    short = [text for text in corpus.test.texts if len(text.split()) <= MOST_TOKENS_SHOWN][:SHOWN_SENTENCES]
    screen.print()
    for interpretation in interpret(model, short):
        print_interpretation(screen, interpretation)
    matching = matching_rate(model, corpus.test.texts)
    print_evaluation(
        screen,
        {
            "accuracy": accuracy(model, corpus.test),
            "sentences": len(corpus.test),
            "matching_rate": matching.rate,
            "matched": matching.matched,
            "explained": matching.total,
        },
    )
    screen.print(f'\nYour own sentence:  [bold]fastinterp interpret {output} "A film I will remember."[/]')
