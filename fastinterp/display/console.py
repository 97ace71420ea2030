"""What the command line prints: interpretations, measurements and facts, with rich."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from fastinterp.display.figures import decimals, with_interval
from fastinterp.display.screen import Screen
from fastinterp.method.results import Interpretation, Location

SHOWN_PHRASES = 3
STRESSED_SHARE = 0.5  # of the largest contribution of a token: those that have as much are stressed
# First red, second blue, third green, as in the paper's figures; what follows is ours.
LOCATION_STYLES = ("red", "blue", "green", "magenta", "cyan", "yellow")


def location_style(rank: int) -> str:
    """Returns the colour of the location of that rank, 0 for the most salient."""
    return LOCATION_STYLES[rank % len(LOCATION_STYLES)]


def print_interpretation(screen: Screen, interpretation: Interpretation) -> None:
    """Prints the sentence with its receptive fields coloured, and what each location sees and detects."""
    screen.print(_coloured_sentence(interpretation))
    verdict = Text.assemble((interpretation.label, "bold"), f" with probability {interpretation.probability:.3f}")
    screen.print(Text("; ").join([verdict, *map(Text, _notes(interpretation))]))
    for rank, location in enumerate(interpretation.locations):
        screen.print(_heading(location, location_style(rank)))
        screen.print(_answers(location, location_style(rank), screen.is_terminal))
    screen.print()


def _notes(interpretation: Interpretation) -> list[str]:
    notes = []
    if interpretation.versus is not None:
        notes.append(f"explained: {interpretation.target} rather than {interpretation.versus}")
    elif interpretation.target != interpretation.label:
        notes.append(f"explained: {interpretation.target}")
    if interpretation.unknown:
        notes.append(f"unknown to the model: {', '.join(dict.fromkeys(interpretation.unknown))}")
    if interpretation.truncated:
        notes.append(f"cut after {len(interpretation.tokens)} tokens")
    if signs := interpretation.dropped_signs:
        notes.append(f"not read by the tokeniser: {' '.join(signs)} ({sum(signs.values())} characters)")
    if not interpretation.tokens:
        notes.append("no tokens, so nothing to explain")
    return notes


def _heading(location: Location, style: str) -> Text:
    return Text.assemble("location ", (str(location.index), style), f"  saliency {location.score:+.3f}")


def _answers(location: Location, style: str, is_terminal: bool) -> Table:
    """What the location sees, and each answer that was given."""
    rows: list[tuple[str, str | Text]] = [("  sees", _seen(location, style, is_terminal))]
    if location.neighbors is not None:
        words = [Text.assemble(word, (f" {cosine:.2f}", "dim")) for word, cosine in location.neighbors]
        rows.append(("  points to", Text(", ").join(words)))
    if location.position_words is not None:
        words = [Text(word) for word, _ in location.position_words]
        likeness = "" if location.likeness is None else f"  ({location.likeness:.2f} alike{_place(location)})"
        rows.append(("  stands out by", Text.assemble(Text(" ").join(words), (likeness, "dim"))))
    if location.evidence is not None:
        phrases = [Text(f"\u201c{' '.join(each.tokens)}\u201d") for each in location.evidence[:SHOWN_PHRASES]]
        rows.append(("  fires alike on", Text("  ").join(phrases)))
    return _rows(rows)


def _place(location: Location) -> str:
    """How far the words identify the location, where it was compared with others."""
    if location.rank is None:
        return ""
    return ", tells it apart" if location.rank == 1 else f", {location.rank} of {location.rank_of}"


def _seen(location: Location, style: str, is_terminal: bool) -> Text:
    """The tokens of the field; those that carry the score underlined, or between asterisks where nothing can be."""
    scores = location.token_scores or (0.0,) * len(location.tokens)
    carried = max(map(abs, scores), default=0.0) * STRESSED_SHARE
    text = Text()
    for position, (token, score) in enumerate(zip(location.tokens, scores, strict=True)):
        stressed = carried > 0 and abs(score) >= carried
        text.append(" " if position else "")
        if stressed and not is_terminal:
            token = f"*{token}*"
        text.append(token, style=f"{style} bold underline" if stressed else style)
    return text


def _rows(rows: Sequence[tuple[str, str | Text]]) -> Table:
    """Names and values in two columns; a value that is too long goes on below itself."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(Text(name), value)
    return table


def _coloured_sentence(interpretation: Interpretation) -> Text:
    """Colours each token by the most salient location that sees it."""
    style_of: dict[int, str] = {}
    for rank, location in enumerate(interpretation.locations):
        for token in location.token_indices:
            style_of.setdefault(token, location_style(rank))
    sentence = Text(style="bold")
    for i, word in enumerate(interpretation.tokens):
        sentence.append(" " if i else "")
        sentence.append(word, style=style_of.get(i, "default"))
    return sentence


def print_evaluation(screen: Screen, measured: Mapping[str, Any], everything: bool = False) -> None:
    """Prints accuracy, the measures of every answer beside its controls, and which sentences they were measured on.

    Args:
        screen: where.
        measured: as `measure` gives.
        everything: all measures, in a second table.
    """
    predicted = ", ".join(f"{name} {count:,}" for name, count in measured["predicted"].items())
    accuracy = f"{measured['accuracy']:.3f}"
    screen.print(_rows([("measured on", measured["measured_on"]), ("predicted", predicted), ("accuracy", accuracy)]))
    seen, sentences = measured["trained_on"] or 0, measured["sentences"]
    if seen > sentences / 2:
        screen.say(
            f"The model was trained on {seen:,} of these {sentences:,} texts; expect less of others.",
            style="yellow",
        )
    if sum(count > 0 for count in measured["predicted"].values()) == 1:
        screen.say("The model predicts one class for every text, so that any words match.", style="yellow")
    if not measured["answers"]:
        screen.say("There is no sentence with a token, so no answer to measure.")
        return
    table = _measures_table("matching", "identified", "words", "overlap")
    for row in measured["answers"]:
        if "matching" in row:
            each = [_estimate(row[name]) for name in ("matching", "identified")]
            table.add_row(row["answer"], *each, f"{row['different']:,}", _estimate(row["overlap"], interval=False))
    screen.print()
    screen.print(table)
    screen.print()
    screen.say("matching    sentences that get their class back from the words alone; 95 % interval")
    screen.say("identified  locations that the words tell apart from 99 others of their class; chance is .01")
    screen.say("words       different ones in all; overlap: of what is said of two locations of one class")
    for name, each in measured["faithfulness"].items():
        parts = ", ".join(f"{measure} {_estimate(value, interval=False)}" for measure, value in each.items())
        screen.say(f"{name}: {parts}")
    if everything:
        _print_further_measures(screen, measured["answers"])


# What stands at the head of a column of the second table, and what it is.
_FURTHER = {
    "field_identified": ("input", "optimised inputs that identify their location"),
    "reproduction": ("cosine", "of the activations that the words bring about with the location's own"),
    "field_reproduction": ("input's", "the same of the optimised inputs"),
    "within": ("within", "overlap of what is said of two locations of one sentence"),
    "commonest": ("common", "words among the ten that are said most often of their class"),
    "repeated": ("own", "words that stand in the location's own field"),
    "agreement": ("agree", "overlap with what is said without the change"),
    "held": ("held", "tokens that an inversion of the activations gives back"),
}


_FURTHER_ROWS = (
    ("random", "answers to random locations, of which little should match"),
    ("unsalient", "answers to the least salient locations, of which less should"),
    ("untrained", "answers of a model with random weights, read by this one"),
    ("inversion", "words sought that bring back the activations: what the layer holds"),
)


def _print_further_measures(screen: Screen, answers: Sequence[Mapping[str, Any]]) -> None:
    table = _measures_table(*(head for head, _ in _FURTHER.values()))
    for row in answers:
        table.add_row(row["answer"], *(_estimate(row[name], False) if name in row else "" for name in _FURTHER))
    screen.print()
    screen.print(table)
    screen.print()
    for head, text in (*_FURTHER.values(), *_FURTHER_ROWS):
        screen.say(f"{head:<10}  {text}")


def _measures_table(*heads: str) -> Table:
    return Table("answer", *heads, box=None, padding=(0, 1, 0, 0), header_style="bold")


def _estimate(estimate: Mapping[str, Any], interval: bool = True) -> str:
    if estimate["value"] is None:
        return "-"
    if not interval:
        return decimals(estimate["value"])
    return with_interval(estimate["value"], estimate["low"], estimate["high"])


def print_facts(screen: Screen, facts: Mapping[str, object]) -> None:
    """Prints names and values in two columns."""
    screen.print(_rows([(name, str(value)) for name, value in facts.items()]))
