"""docs/reproduction.md: what was measured over several seeds, beside the paper's figures, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from fastinterp.display.figures import decimals, with_interval
from fastinterp.errors import DataError
from fastinterp.evaluation.bootstrap import SeedsEstimate, bootstrap_over_seeds
from fastinterp.evaluation.explained import FIRES_ALIKE, POINTS_TO, STANDS_OUT
from fastinterp.evaluation.over_seeds import SeedsRow, rows_over_seeds, sums_of_record
from fastinterp.files import write_whole
from fastinterp.messages import shown_path

HEADER = """# Reproduction

What `fastinterp reproduce mr` and `fastinterp reproduce ag_news` measured: Yuan, Chen, Hu & Ji (AAAI 2019) beside our
models, then how far each answer can be trusted. Each command writes its own section.

A figure is the mean over models that were trained with different seeds. In brackets stands its 95 % interval by a
bootstrap that draws models and sentences, both with replacement, and reads every drawn model at the same drawn
sentences; in parentheses the lowest and the highest model. Of three models such an interval tends to be too narrow in
what the models add to it, which is why the range stands beside it. [measures.md](measures.md) defines the measures.
"""


class Paper:
    """The paper's figures (Tables 1, 3 and 4) and settings (Table 2)."""

    def __init__(
        self, title: str, words: int, accuracy: float, matching: float, train: int, rate: float, batch: int
    ) -> None:
        self.title, self.words, self.accuracy, self.matching = title, words, accuracy, matching
        self.train, self.learning_rate, self.batch_size = train, rate, batch


PAPER = {
    "mr": Paper("MR", 18_160, 0.7996, 0.934, 9_596, 2e-4, 128),
    "ag_news": Paper("AG's News", 84_252, 0.9205, 0.843, 120_000, 5e-4, 64),
}
# Columns of the first and of the second table of a layer.
_MAIN = {"matching": "matching", "identified": "identified", "field_identified": "optimised input identified"}
_FURTHER = {
    "reproduction": "cosine",
    "field_reproduction": "optimised input's cosine",
    "overlap": "overlap in a class",
    "within": "overlap in a sentence",
    "commonest": "ten commonest words",
    "repeated": "own words",
    "agreement": "agreement with the answer unchanged",
}


def section(
    facts: Mapping[str, Any],
    models: Sequence[Mapping[str, Any]],
    variants: Mapping[str, Sequence[Mapping[str, Any]]],
) -> str:
    """Returns the section of one corpus.

    Args:
        facts: of the corpus and the settings.
        models: of each seed what was trained and measured.
        variants: of each ablation of our training the same.
    """
    paper = PAPER[facts["corpus"]]
    seeds = f"{len(models)} seed{'s' if len(models) > 1 else ''}"
    first_layer = {row.answer: row for row in rows_over_seeds([model["layers"][0]["answers"] for model in models])}
    parts = [
        f"## {paper.title}",
        f"{seeds}; fastinterp {version('fastinterp')}, torch {torch.__version__}; "
        f"`fastinterp reproduce {facts['corpus']} --seeds {len(models)}{' --ablation' if variants else ''}`.",
        "### Beside the paper",
        _beside_paper(paper, facts, models, first_layer),
        "What differs from the paper:",
        "\n".join(f"- {each}" for each in _differences(paper, facts, models)),
    ]
    for tables in zip(*(model["layers"] for model in models), strict=True):
        parts += _layer(tables, facts)
    parts += ["### Does the same answer come again?", _agreement(models, first_layer)]
    if variants:
        parts += ["### Without our additions to the training", _ablation(models, variants)]
    return "\n\n".join(parts) + "\n"


def replace_section(path: Path, corpus: str, text: str | None) -> None:
    """Puts a section between its markers in a Markdown file, which is made where it is missing.

    Args:
        path: the file.
        corpus: whose section.
        text: the section; None to find out only whether the file can be written.

    Raises:
        DataError: one of the markers is missing.
        OSError: the file cannot be read or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    found = path.read_text(encoding="utf-8") if path.exists() else HEADER
    begin, end = (f"<!-- fastinterp reproduce {corpus}: {side} -->" for side in ("begin", "end"))
    if (begin in found) != (end in found) or found.find(begin) > found.find(end):
        raise DataError(f"{shown_path(path)}: expected {begin} and after it {end}, or neither")
    if text is None:
        write_whole(path, found)
        return
    if begin not in found:
        found = f"{found.rstrip()}\n\n{begin}\n{end}\n"
    before, rest = found.split(begin, 1)
    write_whole(path, f"{before}{begin}\n{text}{end}{rest.split(end, 1)[1]}")


def _beside_paper(
    paper: Paper, facts: Mapping[str, Any], models: Sequence[Mapping[str, Any]], answers: Mapping[str, SeedsRow]
) -> str:
    trained = [model["trained"] for model in models]
    accuracy = bootstrap_over_seeds([sums_of_record(each["accuracy"]) for each in trained])
    matching = answers[POINTS_TO].estimates["matching"]
    return _table(
        ["", "paper", "here"],
        [
            ["words (Table 1)", f"{paper.words:,}", f"{trained[0]['words']:,}"],
            ["texts to train", f"{paper.train:,}", f"{facts['train']:,}"],
            ["test accuracy (Table 3)", decimals(paper.accuracy, 4), _cell(accuracy)],
            ["matching rate of Eq. 5-8 (Table 4)", decimals(paper.matching), _cell(matching)],
        ],
    )


def _differences(paper: Paper, facts: Mapping[str, Any], models: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the run did otherwise, in sentences made of its settings."""
    training, trained = facts["training"], models[0]["trained"]
    said = [
        f"Word vectors: {trained['vectors']}, {trained['dimension']} wide, which has {trained['coverage']:.1%} of the "
        "words; the paper's are word2vec's. They are scaled to word2vec's spread."
    ]
    if facts["train"] != paper.train:
        said.append(f"{facts['train']:,} texts to train instead of {paper.train:,}.")
    if facts["corpus"] == "mr":
        said.append("MR has no official split: ours is drawn, stratified by class, the same for every seed.")
    if training["word_dropout"]:
        said.append(f"In training every token is read as the unknown word with probability {training['word_dropout']}.")
    if training["averaging"]:
        said.append(f"The weights kept are a running average with decay {training['averaging']} a step.")
    for name, value in (("learning_rate", paper.learning_rate), ("batch_size", paper.batch_size)):
        if training[name] != value:
            said.append(f"{name.replace('_', ' ').capitalize()} {training[name]} instead of {value}.")
    epochs = sorted(model["trained"]["best_epoch"] for model in models)
    said.append(
        f"{training['validation_share']:.0%} of the training texts choose the epoch, of at most {training['epochs']}; "
        f"best were {', '.join(map(str, epochs))}. Dropout before the linear layer is {facts['dropout']}. The paper "
        "gives neither."
    )
    said.append(f"Eq. 5-7 are climbed by {facts['optimization']['steps']:,} steps of Adam; the paper gives no number.")
    return said


def _layer(tables: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> list[str]:
    """The tables of one layer."""
    layer, sentences = tables[0]["layer"] + 1, tables[0]["sentences"]
    which = (
        f"all {sentences:,} test sentences"
        if sentences == facts["test"]
        else f"{sentences:,} of the {facts['test']:,} test sentences, drawn at random and the same for every seed"
    )
    rows = rows_over_seeds([table["answers"] for table in tables])
    said = [row for row in rows if "matching" in row.estimates]
    locations = ", ".join(f"{count:,}" for count in sorted({table["locations"] for table in tables}))
    parts = [
        f"### Answers, layer {layer}",
        f"On {which}; {locations} locations. *Different words* depends on how many locations there are. "
        + (_FURTHER_ROWS if len(said) > _FEW_ROWS else ""),
        _table(
            ["answer", *_MAIN.values(), "different words"],
            [[row.answer, *(_cell(row.estimates.get(name)) for name in _MAIN), _words(row)] for row in said],
        ),
        _measures_table(said, _FURTHER),
    ]
    held = [row for row in rows if "held" in row.estimates]
    for row in held:
        parts.append(f"Words that the layer holds ({row.answer}): {_cell(row.estimates['held'])} of the tokens.")
    deleted = rows_over_seeds([table["faithfulness"] for table in tables])
    parts.append(
        _measures_table(
            deleted, {"aopc_compr": "comprehensiveness (more is better)", "aopc_suff": "sufficiency (less)"}
        )
    )
    return parts


def _agreement(models: Sequence[Mapping[str, Any]], answers: Mapping[str, SeedsRow]) -> str:
    records = [model["backgrounds"] for model in models]
    rows = []
    for layer, sums in enumerate(zip(*(record["agreement"] for record in records), strict=True), 1):
        estimate = bootstrap_over_seeds([sums_of_record(each) for each in sums])
        rows.append([f"stands out by, layer {layer}: background of other texts", _cell(estimate)])
    if (start := answers.get("points to, another start")) is not None:
        cell = _cell(start.estimates["agreement"])
        rows.append(["points to, layer 1: another random start (overlap of the words)", cell])
    return (
        "*Stands out by* draws no random number, so that another seed of the method changes nothing: agreement 1 by "
        "construction. What can change is the sample of texts that the background was measured on. Share of positions "
        f"with the same word when it is drawn anew, on {records[0]['sentences']:,} sentences:\n\n"
        + _table(["", "agreement"], rows)
    )


def _ablation(models: Sequence[Mapping[str, Any]], variants: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    rows = []
    for name, each in {"as above": models[: len(next(iter(variants.values())))], **variants}.items():
        accuracy = bootstrap_over_seeds([sums_of_record(model["trained"]["accuracy"]) for model in each])
        answers = {row.answer: row for row in rows_over_seeds([model["layers"][0]["answers"] for model in each])}
        cells = [_cell(answers[answer].estimates[measure]) if answer in answers else "" for answer, measure in _ABLATED]
        rows.append([name, str(len(each)), _cell(accuracy), *cells])
    heads = ["", "seeds", "test accuracy", *(f"{answer}: {measure}" for answer, measure in _ABLATED)]
    return _table(heads, rows)


_FEW_ROWS = 6  # of a layer that was not measured with every control
_FURTHER_ROWS = (
    "*random* and *unsalient* are other locations: random ones, and the least salient; *no similarity*, *no L2* and "
    "*another start* are Eq. 5-8 with that change; *untrained* are answers of a model with random weights, read by the "
    "trained one."
)
_ABLATED = (
    (POINTS_TO, "matching"),
    (STANDS_OUT, "matching"),
    (STANDS_OUT, "identified"),
    (FIRES_ALIKE, "identified"),
)


def _measures_table(rows: Iterable[SeedsRow], columns: Mapping[str, str]) -> str:
    """A table of those columns that any of the rows fills."""
    listed = list(rows)
    used = {name: head for name, head in columns.items() if any(name in row.estimates for row in listed)}
    return _table(
        ["", *used.values()], [[row.answer, *(_cell(row.estimates.get(name)) for name in used)] for row in listed]
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(estimate: SeedsEstimate | None) -> str:
    if estimate is None or estimate.value is None:
        return ""
    text = with_interval(estimate.value, estimate.low, estimate.high)
    if estimate.seeds > 1 and estimate.least is not None and estimate.most is not None:
        text += f" ({decimals(estimate.least)} to {decimals(estimate.most)})"
    return text


def _words(row: SeedsRow) -> str:
    if not row.different:
        return ""
    mean = f"{sum(row.different) / len(row.different):,.0f}"
    return mean if len(row.different) == 1 else f"{mean} ({min(row.different):,} to {max(row.different):,})"
