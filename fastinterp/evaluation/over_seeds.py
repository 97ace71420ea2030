"""Tables of several trained models as one: the same measures of the same sentences, over the models' seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastinterp.evaluation.bootstrap import SeedsEstimate, SentenceSums, bootstrap_over_seeds
from fastinterp.evaluation.explained import STANDS_OUT, Asked, explain
from fastinterp.evaluation.overlap import agreement
from fastinterp.evaluation.rows import AnswerRow
from fastinterp.method.background import Background
from fastinterp.models.protocol import TextClassifier

_DIGITS = 6  # of a sum in JSON


@dataclass(frozen=True)
class SeedsRow:
    """The measures of one answer over models.

    Attributes:
        answer: which.
        estimates: by the names of `MEASURES`.
        different: of each model, how many different words are said; empty where nothing is said.
    """

    answer: str
    estimates: dict[str, SeedsEstimate]
    different: tuple[int, ...]


def row_record(row: AnswerRow) -> dict[str, Any]:
    """Returns a row as plain lists and numbers, sentence by sentence, for `rows_over_seeds`."""
    sums = {name: sums_record(each) for name, each in row.sums.items()}
    return {"answer": row.answer, "different": row.different, "sums": sums}


def sums_record(sums: SentenceSums) -> list[list[float]]:
    """Returns sums and counts as plain lists."""
    return [[round(each, _DIGITS) for each in sums.sums.tolist()], [int(each) for each in sums.counts.tolist()]]


def sums_of_record(record: Sequence[Sequence[float]]) -> SentenceSums:
    """Returns what `sums_record` was given."""
    sums, counts = (np.asarray(each, dtype=np.float64) for each in record)
    return SentenceSums(sums, counts)


def rows_over_seeds(models: Sequence[Sequence[Mapping[str, Any]]]) -> list[SeedsRow]:
    """Returns the rows that every model has, each measure as its mean over the models.

    Args:
        models: of each model its rows, as `row_record` gives, of the same sentences.
    """
    rows_of = [{row["answer"]: row for row in rows} for rows in models]
    found = []
    for answer, first in rows_of[0].items():
        same = [rows[answer] for rows in rows_of if answer in rows]
        if len(same) < len(models):
            continue
        estimates = {
            measure: bootstrap_over_seeds([sums_of_record(row["sums"][measure]) for row in same])
            for measure in first["sums"]
            if all(measure in row["sums"] for row in same)
        }
        different = tuple(row["different"] for row in same if row["different"] is not None)
        found.append(SeedsRow(answer, estimates, different))
    return found


def background_agreement(
    model: TextClassifier, texts: Sequence[str], other: Background, layer: int, locations: int = 3
) -> SentenceSums:
    """Returns at how many positions "stands out by" says the same word with another background, by sentence.

    Args:
        model: the classifier, with a background of its own.
        texts: raw texts.
        other: fitted to other texts of the same corpus.
        layer: index of the layer.
        locations: m, of each sentence.

    Raises:
        ModelError: another model's background.
    """
    asked = Asked(layer, locations, 1, None, (STANDS_OUT,))
    usual = explain(model, texts, asked)
    again = explain(
        model,
        texts,
        Asked(layer, locations, 1, None, (STANDS_OUT,), other),
        usual.selection,
        usual.activations,
    )
    same = agreement(usual.answers[STANDS_OUT].words, again.answers[STANDS_OUT].words)
    return SentenceSums.of(same, usual.sentence, len(texts))
