"""What the command line prints: interpretations, measurements and facts, with rich."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from fastinterp.method.interpretation import Interpretation

# First red, second blue, third green, as in the paper's figures; what follows is ours.
LOCATION_STYLES = ("red", "blue", "green", "magenta", "cyan", "yellow")


def location_style(rank: int) -> str:
    """Returns the colour of the location of that rank, 0 for the most salient."""
    return LOCATION_STYLES[rank % len(LOCATION_STYLES)]


def print_interpretation(console: Console, interpretation: Interpretation) -> None:
    """Prints the sentence with its receptive fields coloured, and a table of what each location detects."""
    console.print(_coloured_sentence(interpretation))
    verdict = f"[bold]{escape(interpretation.label)}[/] with probability {interpretation.probability:.3f}"
    notes = []
    if interpretation.unknown:
        notes.append(f"unknown to the model: {escape(', '.join(dict.fromkeys(interpretation.unknown)))}")
    if interpretation.truncated:
        notes.append(f"cut after {len(interpretation.tokens)} tokens")
    if not interpretation.tokens:
        notes.append("no tokens, so nothing to explain")
    console.print("; ".join([verdict, *notes]))
    if interpretation.locations:
        table = Table("location", "saliency", "sees", "detects (cosine)", box=None, padding=(0, 2, 0, 0))
        for rank, location in enumerate(interpretation.locations):
            words = ", ".join(f"{escape(word)} [dim]{cosine:.2f}[/]" for word, cosine in location.neighbors)
            table.add_row(
                f"[{location_style(rank)}]{location.index}[/]",
                f"{location.score:+.3f}",
                Text(" ".join(location.tokens), style=location_style(rank)),
                words,
            )
        console.print(table)
    console.print()


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


def print_evaluation(console: Console, measured: Mapping[str, float]) -> None:
    """Prints accuracy and matching rate of a held-out set."""
    console.print(f"accuracy       {measured['accuracy']:.3f}  on {measured['sentences']:,} held-out sentences")
    console.print(
        f"matching rate  {measured['matching_rate']:.3f}  ({measured['matched']:,} of {measured['explained']:,} "
        "sentences get their class back from the words alone)"
    )


def print_facts(console: Console, facts: Mapping[str, object]) -> None:
    """Prints names and values in two columns."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in facts.items():
        table.add_row(f"[bold]{name}[/]", escape(str(value)))
    console.print(table)
