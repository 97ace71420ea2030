"""fastinterp train: a table or a named corpus in, a model folder out."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from fastinterp.cli.options import data_options, device_option
from fastinterp.cli.workflow import CORPUS_VECTORS, train_on_corpus
from fastinterp.data.corpora import NAMED_CORPORA, load_corpus
from fastinterp.data.word_vectors import DEFAULT_VECTORS
from fastinterp.models.config import ModelConfig
from fastinterp.models.storage import check_output
from fastinterp.text.choice import make_tokenizer
from fastinterp.training.trainer import TrainingConfig


def _integers(context: click.Context, parameter: click.Parameter, listed: str | None) -> tuple[int, ...] | None:
    if listed is None:
        return None
    try:
        return tuple(int(part) for part in listed.split(","))
    except ValueError:
        raise ValueError(f"{parameter.name}: expected integers separated by commas, got {listed!r}") from None


@click.command("train")
@click.argument("data")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Folder of the trained model.")
@click.option(
    "--preset",
    type=click.Choice(["mr", "ag_news", "kim", "table"]),
    help="mr and ag_news: Table 2. kim: widths 3, 4, 5 beside each other (Kim 2014). table: mr's layers, trained "
    "faster. Default: table for a file, a named corpus's own or mr.",
)
@click.option(
    "--vectors",
    default=DEFAULT_VECTORS,
    show_default=True,
    help=f"A file, an installed package of vectors, or {CORPUS_VECTORS!r} to learn them from the data.",
)
@data_options
@click.option(
    "--tokenizer",
    help="kim (the paper's, ASCII alone), unicode (every script), or a pre-tokenizer of the library tokenizers; "
    "default: unicode for a file, kim for a named corpus.",
)
@click.option(
    "--length",
    type=int,
    help="Token positions of the sentence frame; default: the preset's; for a file more, until 99% of its texts fit.",
)
@click.option("--channels", callback=_integers, help="Per layer, such as 128,64,32; default: the preset's.")
@click.option(
    "--kernel-sizes", callback=_integers, help="Per layer, such as 5,5,5; default: 5 everywhere; of kim 3,4,5."
)
@click.option("--epochs", type=int, help="Passes over the data at most; default: the preset's.")
@click.option("--patience", type=int, help="Epochs without a lower validation loss; default: the preset's.")
@click.option("--learning-rate", type=float, help="Default: the preset's.")
@click.option("--batch-size", type=int, help="Default: the preset's.")
@click.option("--seed", default=TrainingConfig.seed, show_default=True)
@click.option("--static", is_flag=True, help="Leave the word vectors as they are (CNN-static of Kim 2014).")
@device_option
def command(
    data: str,
    output: Path,
    preset: str | None,
    vectors: str,
    tokenizer: str | None,
    text_column: str,
    label_column: str,
    length: int | None,
    channels: tuple[int, ...] | None,
    kernel_sizes: tuple[int, ...] | None,
    device: str,
    **training: Any,
) -> None:
    """Train a model on DATA: mr, ag_news, snippets, or a .csv, .tsv or .jsonl file."""
    check_output(output)
    named = data in NAMED_CORPORA
    cut = make_tokenizer(tokenizer or ("kim" if named else "unicode"))
    if preset is None:
        preset = data if data == "ag_news" else "mr" if named else "table"
    given = {name: value for name, value in training.items() if value is not None}
    settings = dataclasses.replace(TrainingConfig.preset(preset), **given)
    corpus = load_corpus(data, text_column, label_column)
    shape = ModelConfig.preset(preset, corpus.train.classes)
    widths = shape.channels if channels is None else channels
    usual = shape.kernel_sizes if shape.branches else (5,) * len(widths)
    kernels = usual if kernel_sizes is None else kernel_sizes
    frame = shape.length if length is None else length
    shape = dataclasses.replace(shape, length=frame, channels=widths, kernel_sizes=kernels, tokenizer=cut)
    train_on_corpus(corpus, data, shape, settings, vectors, output, device, lengthen=length is None and not named)
