"""What the command line prints: interpretations, measurements and facts, with rich."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from fastinterp.display.screen import Screen
from fastinterp.method.interpretation import Interpretation, Location

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
        screen.print(_answers(location, location_style(rank)))
    screen.print()


def _notes(interpretation: Interpretation) -> list[str]:
    notes = []
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


def _answers(location: Location, style: str) -> Table:
    words = Text(", ").join(Text.assemble(word, (f" {cosine:.2f}", "dim")) for word, cosine in location.neighbors)
    return _rows([("  sees", Text(" ".join(location.tokens), style=style)), ("  detects", words)])


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


def print_evaluation(screen: Screen, measured: Mapping[str, object]) -> None:
    """Prints accuracy and matching rate, and which sentences they were measured on."""
    rate = measured["matching_rate"]
    matching = "there is no sentence with a token" if rate is None else f"{rate:.3f}  {_share(measured)}"
    accuracy = f"{measured['accuracy']:.3f}"
    what = str(measured["measured_on"])
    screen.print(_rows([("measured on", what), ("accuracy", accuracy), ("matching rate", matching)]))


def _share(measured: Mapping[str, object]) -> str:
    return f"({measured['matched']:,} of {measured['explained']:,} sentences get their class back from the words alone)"


def print_facts(screen: Screen, facts: Mapping[str, object]) -> None:
    """Prints names and values in two columns."""
    screen.print(_rows([(name, str(value)) for name, value in facts.items()]))
