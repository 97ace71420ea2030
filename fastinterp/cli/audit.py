"""fastinterp audit: which texts a model cannot have understood, before anything is explained."""

from __future__ import annotations

from pathlib import Path

import click

from fastinterp.cli.interpret import read_lines, to_json
from fastinterp.cli.options import data_options, device_option
from fastinterp.data.corpora import NAMED_CORPORA, load_corpus, load_table
from fastinterp.display.audit import print_audit
from fastinterp.display.progress import ProgressReport
from fastinterp.display.screen import Screen
from fastinterp.errors import DataError
from fastinterp.evaluation.audit import audit
from fastinterp.messages import shown_path
from fastinterp.models.storage import load_model


@click.command("audit")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("data")
@data_options
@device_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object, with the ten worst texts of each kind.")
def command(model: Path, data: str, text_column: str, label_column: str, device: str, as_json: bool) -> None:
    """Say which texts of DATA the model MODEL cannot have understood, and which predictions rest on nothing.

    DATA is a named corpus, of which the test part is looked at, a .csv, .tsv or .jsonl file with labels, or a .txt file
    with a text a line.
    """
    loaded = load_model(model, device)
    with ProgressReport() as progress:
        progress.show(f"Reading {data}")
        texts, labels = _texts(data, text_column, label_column, loaded.classes)
        progress.show(f"Auditing {len(texts):,} texts")
        found = audit(loaded, texts, labels)
    if as_json:
        click.echo(to_json(found.to_dict()))
    else:
        print_audit(Screen(), found)


def _texts(
    data: str, text_column: str, label_column: str, classes: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """Returns the texts, and where there are any, the names of their classes."""
    path = Path(data)
    if data not in NAMED_CORPORA and path.suffix.lower() == ".txt":
        try:
            with path.open("rb") as stream:
                lines = tuple(line for batch in read_lines(stream) for line in batch)
        except OSError as error:
            raise DataError(f"data: {shown_path(path)} cannot be read ({error.strerror})") from error
        if not lines:
            raise DataError(f"data: {shown_path(path)} holds no texts")
        return lines, None
    named = data in NAMED_CORPORA
    dataset = load_corpus(data).test if named else load_table(data, text_column, label_column, classes)
    return dataset.texts, tuple(dataset.classes[label] for label in dataset.labels)
