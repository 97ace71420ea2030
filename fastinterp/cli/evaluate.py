"""fastinterp evaluate: accuracy and matching rate of a model on texts with labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fastinterp.cli.interpret import to_json
from fastinterp.cli.options import data_options, device_option, interpretation_arguments, interpretation_options
from fastinterp.data.corpora import NAMED_CORPORA, load_corpus, load_table
from fastinterp.data.splits import TextDataset, split
from fastinterp.display.console import print_evaluation
from fastinterp.display.progress import ProgressReport
from fastinterp.display.screen import Screen
from fastinterp.evaluation.accuracy import accuracy
from fastinterp.evaluation.answers_table import measure_answers
from fastinterp.evaluation.training_texts import trained_on
from fastinterp.models.conv import ConvTextModel
from fastinterp.models.storage import load_metrics, load_model


@click.command("evaluate")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("data")
@data_options
@interpretation_options
@device_option
@click.option("--all", "everything", is_flag=True, help="All controls and ablations; takes about ten times as long.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, with every measure.")
def command(
    model: Path,
    data: str,
    text_column: str,
    label_column: str,
    device: str,
    everything: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Measure accuracy of MODEL on DATA, and how far its answers can be trusted.

    Of a named corpus the test part is measured, of your own file every row; of the very file that the model was
    trained on only the tenth that was held out then.
    """
    loaded = load_model(model, device)
    arguments = interpretation_arguments(settings)
    with ProgressReport() as progress:
        progress.show(f"Reading {data}")
        dataset, what = _texts_to_measure(loaded, load_metrics(model), data, text_column, label_column)

        def show(step: str) -> None:
            progress.show(f"Measuring {step}, {len(dataset):,} sentences")

        measured = measure(loaded, dataset, what, **arguments, everything=everything, on_step=show)
    if as_json:
        click.echo(to_json(measured))
    else:
        print_evaluation(Screen(), measured, everything)


def measure(model: ConvTextModel, dataset: TextDataset, what: str, **arguments: Any) -> dict[str, Any]:
    """Returns accuracy and the measures of every answer by name, ready for JSON and for `print_evaluation`.

    Args:
        model: the classifier.
        dataset: texts with labels.
        what: says which texts these are.
        arguments: as `measure_answers`.
    """
    table = measure_answers(model, dataset.texts, **arguments)
    seen = trained_on(model, dataset.texts)
    matching = table.rows[0].estimates["matching"] if table.rows else None
    return {
        "measured_on": what,
        "sentences": len(dataset),
        "trained_on": None if seen is None else int(seen.sum()),
        "accuracy": accuracy(model, dataset),
        "predicted": {name: count for name, count in zip(model.classes, table.predicted, strict=True)},
        "matching_rate": None if matching is None else matching.value,
        "matched": 0 if matching is None or matching.value is None else round(matching.value * matching.count),
        "explained": 0 if matching is None else matching.count,
        **table.to_dict(),
    }


def _texts_to_measure(
    model: ConvTextModel, metrics: dict[str, Any], data: str, text_column: str, label_column: str
) -> tuple[TextDataset, str]:
    """Returns the texts and, for people, which they are."""
    classes = model.config.classes
    if data in NAMED_CORPORA:
        corpus = load_corpus(data)
        if corpus.test.classes != classes:
            raise ValueError(f"data: expected the model's classes {classes}, got {corpus.test.classes}")
        return corpus.test, f"the test part of {data}, {len(corpus.test):,} sentences"
    dataset = load_table(data, text_column, label_column, classes)
    if dataset.fingerprint() == metrics.get("corpus_fingerprint"):
        held_out = split(dataset).test
        return held_out, f"the held-out tenth of the data it was trained on, {len(held_out):,} sentences"
    return dataset, f"every row of {data}, {len(dataset):,} sentences"
