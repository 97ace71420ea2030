"""How far each answer can be trusted: measures of all answers of a model on labelled texts, beside their controls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from torch import nn

from fastinterp.evaluation.controls import mean_of_field_words, nearest_other_words, random_words
from fastinterp.evaluation.explained import FIRES_ALIKE, STANDS_OUT, Asked, explain, whitening_of
from fastinterp.evaluation.further_rows import faithfulness_rows, further_rows
from fastinterp.evaluation.rows import AnswerRow, Measurer
from fastinterp.evaluation.said import Answer
from fastinterp.kernels.problems import OptimizationConfig
from fastinterp.method.background import Background
from fastinterp.method.companions import background_of, index_of
from fastinterp.method.evidence import ActivationIndex
from fastinterp.models.protocol import TextClassifier
from fastinterp.text.sentences import check_sentences

if TYPE_CHECKING:
    import pandas

ShowStep = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class AnswersTable:
    """The answers of one layer on a set of texts.

    Attributes:
        layer: its index.
        locations: how many locations were explained.
        predicted: how many texts each class was predicted for; where that is one class, matching says nothing.
        rows: of the answers, then of the controls.
        faithfulness: rows with comprehensiveness and sufficiency (ERASER) of tokens.
        unmeasured: what could not be measured and why, a line each.
    """

    layer: int
    locations: int
    predicted: tuple[int, ...]
    rows: tuple[AnswerRow, ...]
    faithfulness: tuple[AnswerRow, ...]
    unmeasured: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Returns the same as plain lists and numbers, ready for JSON."""
        return {
            "layer": self.layer,
            "locations": self.locations,
            "answers": [row.to_dict() for row in self.rows],
            "faithfulness": {
                row.answer: {measure: asdict(each) for measure, each in row.estimates.items()}
                for row in self.faithfulness
            },
            "unmeasured": list(self.unmeasured),
        }

    def to_dataframe(self) -> pandas.DataFrame:
        """Returns a figure a row: layer, answer, measure, value, low, high and count; needs pandas.

        Raises:
            ImportError: pandas is not installed.
        """
        import pandas

        figures: list[dict[str, object]] = []
        for row in (*self.rows, *self.faithfulness):
            named = {"layer": self.layer, "answer": row.answer}
            figures += [{**named, "measure": name, **asdict(each)} for name, each in row.estimates.items()]
            if row.different is not None:
                figures.append({**named, "measure": "different", "value": row.different, "count": self.locations})
        columns = ["layer", "answer", "measure", "value", "low", "high", "count"]
        return pandas.DataFrame(figures, columns=columns).astype({"value": float, "low": float, "high": float})


def measure_answers(
    model: TextClassifier,
    texts: Sequence[str],
    layer: int | str | nn.Module = 0,
    locations: int = 3,
    neighbors: int = 5,
    optimization: OptimizationConfig | None = None,
    seed: int = 0,
    everything: bool = False,
    on_step: ShowStep = lambda step: None,
    *,
    background: Background | None = None,
    index: ActivationIndex | None = None,
) -> AnswersTable:
    """Returns the measures of every answer that the model can give, and of controls.

    Args:
        model: the classifier, ours or an adapted one; what cannot be measured of it, `AnswersTable.unmeasured` says.
        texts: raw texts, at least one of them with a token.
        layer: index of the layer; of an adapted module also its name, or the module.
        locations: m, of each sentence.
        neighbors: k, words of Eq. 8.
        optimization: settings of Eq. 5-8.
        seed: of distractors, controls and intervals.
        everything: all controls and ablations too, which explain the texts seven times more.
        on_step: called with the name of each step before it.
        background: identification needs one; by default the one that was saved with the model.
        index: by default the one that was saved with the model.

    Raises:
        TypeError, ValueError: as `interpret`.
        ModelError: a background or an index of another model.
    """
    listed, place = check_sentences(texts), model.layer_index(layer)
    asked = Asked(
        place,
        locations,
        neighbors,
        optimization or OptimizationConfig(),
        background=background_of(model, background),
        index=index_of(model, place, index),
        contributions=everything,
        inputs=everything,
    )
    on_step("the answers")
    explained = explain(model, listed, asked)
    measurer = Measurer(model, place, explained, whitening_of(model, place, asked.background), seed)
    rows = [measurer.row(name, answer) for name, answer in explained.answers.items()] if explained.tokens else []
    if explained.tokens:
        on_step("the controls")
        rows += [
            measurer.row("control: field's mean", Answer(mean_of_field_words(model, explained.tokens, neighbors))),
            measurer.row("control: thesaurus", Answer(nearest_other_words(model, explained.tokens))),
            measurer.row("control: random words", Answer(random_words(model, explained.tokens, seed))),
        ]
    if explained.tokens and everything:
        rows += further_rows(model, measurer, listed, asked, on_step)
    on_step("the tokens")
    faithfulness = faithfulness_rows(model, measurer, everything)
    predicted = tuple(explained.label.bincount(minlength=len(model.classes)).tolist())
    unmeasured = tuple(_unmeasured(model, asked))
    return AnswersTable(place, len(explained.tokens), predicted, tuple(rows), tuple(faithfulness), unmeasured)


def _unmeasured(model: TextClassifier, asked: Asked) -> Iterator[str]:
    """Says a line for each answer or measure that the model, the layer or what was given does not allow."""
    path, name = model.path(asked.layer), model.layer_name(asked.layer)
    if asked.background is None:
        yield "identified: expected a background, got none; fit_background(model, texts) makes one"
    if path.name != "kernels":
        yield (
            f"{STANDS_OUT}: expected a layer that the kernels explain, got {name}, explained by the module itself "
            f"({path.reason})"
        )
    if asked.index is None:
        yield f"{FIRES_ALIKE}: expected an index, got none; build_index(model, dataset, background) makes one"
