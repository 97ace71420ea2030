"""How far each answer can be trusted: measures of all answers of a model on labelled texts, beside their controls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from fastinterp.evaluation.controls import mean_of_field_words, nearest_other_words, random_words
from fastinterp.evaluation.explained import Answer, Asked, explain, whitening_of
from fastinterp.evaluation.further_rows import faithfulness_rows, further_rows
from fastinterp.evaluation.rows import AnswerRow, Measurer
from fastinterp.kernels.problems import OptimizationConfig
from fastinterp.models.conv import ConvTextModel
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
    """

    layer: int
    locations: int
    predicted: tuple[int, ...]
    rows: tuple[AnswerRow, ...]
    faithfulness: tuple[AnswerRow, ...]

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
    model: ConvTextModel,
    texts: Sequence[str],
    layer: int = 0,
    locations: int = 3,
    neighbors: int = 5,
    optimization: OptimizationConfig | None = None,
    seed: int = 0,
    everything: bool = False,
    on_step: ShowStep = lambda step: None,
) -> AnswersTable:
    """Returns the measures of every answer that the model can give, and of controls.

    Args:
        model: the classifier; identification needs a background, and says nothing without one.
        texts: raw texts, at least one of them with a token.
        layer: index of the layer.
        locations: m, of each sentence.
        neighbors: k, words of Eq. 8.
        optimization: settings of Eq. 5-8.
        seed: of distractors, controls and intervals.
        everything: all controls and ablations too, which explain the texts seven times more.
        on_step: called with the name of each step before it.

    Raises:
        TypeError, ValueError: as `interpret`.
        ModelError: a background or an index of another model.
    """
    listed = check_sentences(texts)
    asked = Asked(
        layer, locations, neighbors, optimization or OptimizationConfig(), contributions=everything, inputs=everything
    )
    on_step("the answers")
    explained = explain(model, listed, asked)
    measurer = Measurer(model, layer, explained, whitening_of(model, layer), seed)
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
    return AnswersTable(layer, len(explained.tokens), predicted, tuple(rows), tuple(faithfulness))
